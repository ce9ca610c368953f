// A data set made by code: handwritten-looking digits, so that training needs no file. Knows nothing of
// training.
#pragma once
#include <cstdint>
#include <vector>

namespace gradc::runtime {

inline constexpr int kDigitSide = 28;
inline constexpr int kDigitPixels = kDigitSide * kDigitSide;

struct DigitImages {
  std::vector<uint8_t> images;  // count x 28 x 28, 0 background to 255 ink
  std::vector<int32_t> labels;  // count, 0 to 9
};

// Examples 0..count-1 of split `split` (0 training, 1 test) for `seed`. An example depends on (seed, split,
// index) alone and is made in integer arithmetic, so that every machine draws the same bits.
DigitImages make_synthetic_digits(uint64_t seed, uint32_t split, int64_t count);

}  // namespace gradc::runtime
