// Finds a compiler driver, which knows the system's start files and libraries, and runs it.
#include "cli/link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "runtime/files.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/environment.h"

extern char** environ;

namespace gradc::cli {

namespace {

bool runs(const std::string& path) {
  return access(path.c_str(), X_OK) == 0 && !std::filesystem::is_directory(path);
}

// Finds the program of that name: a path, or a file in one of PATH's folders.
std::string find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return runs(name) ? name : "";
  const char* path = environment("PATH");
  std::istringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    const std::string candidate = (folder.empty() ? "." : folder) + "/" + name;
    if (runs(candidate)) return candidate;
  }
  return "";
}

// The GNU triple of Linux on the architecture: the prefix of its cross compilers' names.
const char* gnu_triple(codegen::Architecture architecture) {
  return architecture == codegen::Architecture::x86_64 ? "x86_64-linux-gnu" : "aarch64-linux-gnu";
}

std::string find_linker(codegen::Architecture architecture) {
  if (const char* chosen = environment("GRADC_LINKER"); chosen && *chosen) {
    std::string found = find_program(chosen);
    if (found.empty())
      throw RunError(kExitRunFailed,
                     fmt::format("GRADC_LINKER names '{}', which is no program here", chosen));
    return found;
  }
  if (architecture != codegen::host_architecture()) {
    const std::string cross = fmt::format("{}-g++", gnu_triple(architecture));
    std::string package = fmt::format("g++-{}", gnu_triple(architecture));
    std::replace(package.begin(), package.end(), '_', '-');
    std::string found = find_program(cross);
    if (found.empty())
      throw RunError(
          kExitRunFailed,
          fmt::format("linking for {} needs a C++ compiler for it: no {} is in the PATH. Install it "
                      "(Debian: {}), or name one in GRADC_LINKER; --emit=lib needs none",
                      codegen::name(architecture), cross, package));
    return found;
  }
  for (const char* name : {"c++", "g++", "clang++", "clang++-19"})
    if (std::string found = find_program(name); !found.empty()) return found;
  throw RunError(
      kExitRunFailed,
      "linking needs a C++ compiler: no c++, g++ or clang++ is in the PATH. Install one (Debian: g++), or "
      "name one in GRADC_LINKER; --emit=lib needs none");
}

}  // namespace

TemporaryDirectory::TemporaryDirectory() {
  std::error_code error;
  const std::filesystem::path base = std::filesystem::temp_directory_path(error);
  path_ = (error ? std::filesystem::path("/tmp") : base) / "gradc-XXXXXX";
  if (!mkdtemp(path_.data()))
    throw RunError(kExitRunFailed, fmt::format("cannot make a folder for intermediate files ({}): {}", path_,
                                               std::strerror(errno)));
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryDirectory::write(const std::string& name, std::string_view content) const {
  std::string file = path(name);
  std::ofstream out(file, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  if (!out) throw RunError(kExitRunFailed, fmt::format("cannot write '{}': {}", file, std::strerror(errno)));
  return file;
}

std::string standalone_library(codegen::Architecture architecture) {
  const bool other = architecture != codegen::host_architecture();
  const std::string file = fmt::format("lib/gradc/{}libgradc_standalone.a",
                                       other ? fmt::format("{}/", gnu_triple(architecture)) : "");
  std::error_code error;
  const std::filesystem::path tool = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path library = tool.parent_path().parent_path() / file;
  if (error || !std::filesystem::exists(library, error)) {
    if (other)
      throw RunError(
          kExitRunFailed,
          fmt::format("the runtime library for {} is not there: {}; in gradc's source folder `./dev "
                      "build --cross` makes it; --emit=obj, llvm and asm need none",
                      codegen::name(architecture), library.string()));
    throw RunError(kExitRunFailed,
                   fmt::format("the runtime library is not there: {}; it comes with gradc, as "
                               "../{} of the tool",
                               library.string(), file));
  }
  return library.string();
}

void link(const LinkRequest& request) {
  const std::string linker = find_linker(request.architecture);
  const TemporaryDirectory folder;
  const std::string said = folder.path("linker.txt"), made = folder.path("output");
  std::vector<std::string> arguments = {linker, "-o", made};
  arguments.insert(arguments.end(), request.objects.begin(), request.objects.end());
  for (const std::string& symbol : request.need) arguments.push_back("-Wl,-u," + symbol);
  if (request.kind == LinkKind::object) {
    arguments.insert(arguments.end(), {"-r", "-nostdlib"});
  } else {
    for (const char* option : {"-static-libstdc++", "-static-libgcc", "-Wl,--gc-sections", "-Wl,-z,now",
                               "-Wl,-z,relro", "-Wl,-z,noexecstack", "-pthread"})
      arguments.emplace_back(option);
#ifdef __SANITIZE_ADDRESS__  // so is the runtime library, which then needs the sanitizers' own
    arguments.emplace_back("-fsanitize=address,undefined");
#endif
    if (request.kind == LinkKind::shared) {
      std::string script = "{ global:";
      for (const std::string& symbol : request.keep) {
        script += fmt::format(" {};", symbol);
        arguments.push_back("-Wl,-u," + symbol);  // makes the linker take the library member that defines it
      }
      arguments.insert(arguments.end(),
                       {"-shared", "-Wl,-z,defs",
                        "-Wl,--version-script," + folder.write("symbols", script + " local: *; };\n")});
    }
    if (request.fully_static) arguments.emplace_back("-static");
    if (request.strip) arguments.emplace_back("-s");
    arguments.emplace_back("-lm");
  }

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, said.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawn(&child, linker.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed)
    throw RunError(kExitRunFailed,
                   fmt::format("cannot run the linker '{}': {}", linker, std::strerror(failed)));
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    std::ifstream in(said, std::ios::binary);
    std::ostringstream text;
    text << in.rdbuf();
    std::string message = text.str();
    if (message.size() > 4000) message.resize(4000);
    throw RunError(kExitRunFailed,
                   fmt::format("linking '{}' with {} failed:\n{}", request.output, linker, message));
  }
  const std::vector<uint8_t> bytes = runtime::read_file(made, "linked program");
  runtime::OutputFile out(request.output, "linked program");
  out.write(bytes.data(), bytes.size());
  out.commit();
  if (request.kind == LinkKind::object) return;
  std::error_code error;
  std::filesystem::permissions(request.output,
                               std::filesystem::perms::owner_exec | std::filesystem::perms::group_exec |
                                   std::filesystem::perms::others_exec,
                               std::filesystem::perm_options::add, error);
  if (error)
    throw RunError(kExitRunFailed,
                   fmt::format("cannot make '{}' executable: {}", request.output, error.message()));
}

}  // namespace gradc::cli
