// A data set of random numbers, of any shape: for benchmarks and experiments. Knows nothing of training.
#pragma once
#include <cstdint>
#include <vector>

namespace gradc::runtime {

struct RandomExamples {
  std::vector<float> images;    // count x elements, standard normal
  std::vector<int32_t> labels;  // count, uniform in 0..classes - 1
};

// Examples 0..count-1 of split `split` (0 training, 1 test) for `seed`, of `elements` numbers each. An example
// depends on (seed, split, index) alone. The arithmetic is IEEE double precision without the C library's
// functions, so that every machine makes the same bits.
RandomExamples make_random_examples(uint64_t seed, uint32_t split, int64_t count, int64_t elements,
                                    int64_t classes);

// The standard normal quantile at (word + 1/2) / 2^32, to float's precision: -6.3 to 6.3, rising with word.
float normal_from_word(uint32_t word);

}  // namespace gradc::runtime
