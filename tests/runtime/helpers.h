// What the runtime's tests share: temporary folders, files, and what an error must say.
#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "support/experiment.h"

namespace gradc::runtime::test {

class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  std::vector<std::string> files() const;  // names, sorted

 private:
  std::string path_;
};

// A normalisation or augmentation of a field, as a model names it.
inline DataMethod method(std::string name, std::map<std::string, RecordValue> options = {},
                         std::string field = "image") {
  return {.field = std::move(field), .name = std::move(name), .options = std::move(options)};
}

using Bytes = std::vector<uint8_t>;
void write_bytes(const std::string& path, const Bytes& bytes);
Bytes read_bytes(const std::string& path);
std::string read_text(const std::string& path);
Bytes gzip(const Bytes& bytes);

// An IDX file of unsigned bytes; a header that lies can be given by `shape`.
Bytes idx_bytes(uint8_t type, const std::vector<uint32_t>& shape, const Bytes& data);

// Runs `run`, which must throw RunError with this exit code and all these pieces in its message. Returns the
// message.
std::string expect_error(int exit_code, const std::vector<std::string>& pieces,
                         const std::function<void()>& run);

// By how many bytes the process's resident memory grew at most while `run` ran; empty where that cannot be
// measured: under a sanitizer, which keeps what was freed, or where /proc lets no one reset the peak.
std::optional<int64_t> peak_memory(const std::function<void()>& run);

// A generator for fuzzing, the same numbers in every run.
class Noise {
 public:
  explicit Noise(uint64_t seed) : state_(seed * 2 + 1) {}
  uint32_t operator()(uint32_t below) {
    state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<uint32_t>((state_ >> 33) % below);
  }

 private:
  uint64_t state_;
};

// One of several small damages: bytes changed, cut, inserted, repeated, or set to edge values.
Bytes damaged(const Bytes& original, Noise& noise);

}  // namespace gradc::runtime::test
