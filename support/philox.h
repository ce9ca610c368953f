// The one definition of gradc's random numbers: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers:
// as easy as 1, 2, 3"), counter based, so that a number depends on its position alone, never on threads, layout or
// order of evaluation.
#pragma once
#include <array>
#include <cstdint>

namespace gradc {

using PhiloxWords = std::array<uint32_t, 4>;

// One block: four words from a 128-bit counter and a 64-bit key.
PhiloxWords philox4x32_10(const PhiloxWords& counter, uint32_t key0, uint32_t key1);

// The random word of element `element` (logical order within the example) of global row `row`, for an op's
// `stream`. Unbatched values use row = flat index and element = 0. Rows come in blocks of 32, 8 counters of
// four words each, so that a vector of the 64-bit products of Philox makes the words of a whole panel of
// examples, and its counters share their upper words: counter = (row / 32 * 8 + row % 8, element, stream,
// micro_step high word), word = row / 8 % 4, key = (seed low ^ seed high * 0x9E3779B9, micro_step low word).
uint32_t random_word(uint64_t seed, uint64_t micro_step, uint32_t stream, uint64_t row, uint64_t element);

// [0, 1), 24 bits: exact in float.
inline double uniform_from_word(uint32_t word) { return (word >> 8) * 0x1p-24; }
// True with probability keep (0..1): word < keep * 2^32.
inline bool bernoulli_from_word(uint32_t word, double keep) {
  return static_cast<double>(word) < keep * 0x1p32;
}

}  // namespace gradc
