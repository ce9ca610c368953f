// The targets that are linked in, and libFuzzer's entry for an executable that holds one.
#include "tests/fuzz/target.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <stdexcept>
#include <system_error>

namespace gradc::fuzz {
namespace {

std::vector<Target>& registered() {
  static std::vector<Target> all;
  return all;
}

}  // namespace

const std::vector<Target>& targets() {
  std::sort(registered().begin(), registered().end(),
            [](const Target& a, const Target& b) { return a.name < b.name; });
  return registered();
}

Registration::Registration(std::string name, void (*run)(Bytes input)) {
  registered().push_back({std::move(name), run});
}

void require(bool holds, std::string_view what) {
  if (!holds) throw std::logic_error(std::string(what));
}

MemoryFile::MemoryFile(Bytes input) : file_(memfd_create("fuzz", MFD_CLOEXEC)) {
  for (size_t done = 0; file_ >= 0 && done < input.size();) {
    const ssize_t count = write(file_, input.data() + done, input.size() - done);
    if (count <= 0) throw std::system_error(errno, std::generic_category(), "memfd");
    done += static_cast<size_t>(count);
  }
  if (file_ < 0) throw std::system_error(errno, std::generic_category(), "memfd");
  path_ = "/proc/self/fd/" + std::to_string(file_);
}

MemoryFile::~MemoryFile() { close(file_); }

}  // namespace gradc::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const gradc::fuzz::Target target = gradc::fuzz::targets().at(0);
  target.run({data, size});
  return 0;
}
