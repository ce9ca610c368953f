// Limits of data, which the frontend reports with a location and the runtime enforces for records.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace gradc {

inline constexpr int64_t kMaxRandomRank = 4;                  // axes of one example of the source `random`
inline constexpr int64_t kMaxRandomBytes = int64_t{8} << 30;  // of one of its splits: images and labels

inline constexpr int64_t kMaxPcaElements = 4096;  // of a field whose principal components are taken
inline constexpr int64_t kMaxMixedClasses =
    100000;  // of labels that mixup and cutmix turn into probabilities

// Bytes of one example of `random`: an f32 for each element and an i32 label. Empty where they exceed kMaxRandomBytes;
// extents are at least 1.
inline std::optional<int64_t> random_example_bytes(const std::vector<int64_t>& shape) {
  int64_t bytes = 4;
  for (const int64_t extent : shape) {
    if (extent > kMaxRandomBytes / bytes) return {};
    bytes *= extent;
  }
  if (bytes > kMaxRandomBytes - 4) return {};
  return bytes + 4;
}

}  // namespace gradc
