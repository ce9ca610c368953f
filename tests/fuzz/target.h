// What a fuzz target is: a reader of the project on bytes from anywhere. Shared by libFuzzer's executables
// (one for each file of targets/) and the test that replays the corpus (all of them in one). Knows no format.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::fuzz {

using Bytes = std::span<const uint8_t>;

// Reads any bytes and returns: what a user may get wrong ends in the reader's own errors,
// which `run` takes. Anything it throws is a finding, as a crash, a sanitizer's report and a limit of time or
// memory are.
struct Target {
  std::string name;  // of its file, of its folder in corpus/ and of its dictionary
  void (*run)(Bytes input) = nullptr;
};

// Those linked in, by name.
const std::vector<Target>& targets();

// A file of targets/ defines one: `const Registration registration("npy", run);`.
struct Registration {
  Registration(std::string name, void (*run)(Bytes input));
};

// A property that a target promises; throws std::logic_error where it does not hold.
void require(bool holds, std::string_view what);

inline std::string_view text_of(Bytes input) {
  return {reinterpret_cast<const char*>(input.data()), input.size()};
}
inline std::vector<uint8_t> vector_of(Bytes input) { return {input.begin(), input.end()}; }

// Runs a reader; its RunError with exit code 2, 4 or 5 (a wrong argument, wrong data, weights that are not finite)
// is an answer. False then.
template <class Read>
bool accepts(Read&& read) {
  try {
    read();
    return true;
  } catch (const RunError& error) {
    require(error.exit_code == kExitUsage || error.exit_code == kExitDataError ||
                error.exit_code == kExitCheckFailed,
            error.what());
    require(!std::string_view(error.what()).empty(), "an error says what is wrong");
    return false;
  }
}

// A regular file in memory with these bytes, for readers that take a path.
class MemoryFile {
 public:
  explicit MemoryFile(Bytes input);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  int file_ = -1;
  std::string path_;
};

}  // namespace gradc::fuzz
