#include "tests/cli/emulator.h"

#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace gradc::test {

namespace {

// In PATH's folders; empty: nowhere.
std::string find_program(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');)
    if (std::filesystem::exists(folder + "/" + name)) return folder + "/" + name;
  return "";
}

std::string emulator() {
  const std::string found = find_program("qemu-aarch64");
  return found.empty() ? find_program("qemu-aarch64-static") : found;
}

}  // namespace

std::string aarch64_compiler() { return find_program("aarch64-linux-gnu-gcc"); }

std::string missing_for_aarch64() {
#if defined(__aarch64__)
  return "this machine is aarch64 itself, and the other tests run its code";
#else
  if (aarch64_compiler().empty()) return "no compiler for aarch64 is here (Debian: g++-aarch64-linux-gnu)";
  if (emulator().empty()) return "nothing here runs programs for aarch64 (Debian: qemu-user)";
  return "";
#endif
}

ToolResult run_aarch64(std::vector<std::string> command, const std::string& folder, const std::string& cpu) {
  std::vector<std::string> whole = {emulator()};
  // The C library of multiarch, or, where there is none, the cross compiler's. Where both are, -L would mix
  // one's loader with the other's library.
  if (!std::filesystem::exists("/lib/ld-linux-aarch64.so.1"))
    whole.insert(whole.end(), {"-L", "/usr/aarch64-linux-gnu"});
  if (!cpu.empty()) whole.insert(whole.end(), {"-cpu", cpu});
  whole.insert(whole.end(), command.begin(), command.end());
  return run_bare(whole, folder);
}

}  // namespace gradc::test
