// Random numbers of one example's preparation: a stream for each seed, epoch, example and method, counter
// based (support/philox.h), so that they depend on nothing else. Knows nothing of what they are for.
#pragma once
#include <cstddef>
#include <cstdint>

#include "support/philox.h"

namespace gradc::runtime {

// The run (by its seed) and epoch that an example is prepared for.
struct EpochKey {
  uint64_t seed = 0;
  uint64_t epoch = 0;
};

class Draws {
 public:
  // `example` is the row of its table; `method` is the method's index in its list.
  Draws(const EpochKey& key, int64_t example, size_t method);

  uint32_t word();
  double uniform() { return uniform_from_word(word()); }  // [0, 1)
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  int64_t below(int64_t count);  // 0..count - 1
  double normal();               // standard
  double gamma(double shape);    // scale 1
  double beta(double alpha);     // Beta(alpha, alpha)

 private:
  PhiloxWords counter_, words_{};
  uint32_t key0_, key1_;
  uint32_t used_ = 4;  // words of the block
};

}  // namespace gradc::runtime
