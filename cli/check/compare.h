// Compares a native tensor with the reference's, element by element; knows nothing of programs.
#pragma once
#include <cstdint>
#include <vector>

#include "ir/interpreter/interpreter.h"

namespace gradc::cli {

struct Comparison {
  double max_absolute = 0;
  double max_relative = 0;  // |native - reference| / max(|reference|, root mean square of the reference)
  int64_t beyond = 0;       // elements whose relative error is beyond the tolerance
};

// Integers and booleans must agree exactly (their relative error is 0 or infinite). A reference beyond the
// range of a float agrees with an infinite native value, and NaN with NaN.
Comparison compare(const interpreter::Tensor& native, const interpreter::Tensor& reference, double tolerance);

// Most Monte Carlo runs for one comparison; the first that explains a difference ends them. A decision that native
// code takes otherwise goes that way in every second run, about: 32 runs miss one of a thousand such elements once in
// four million times.
inline constexpr uint64_t kRoundingRuns = 32;

// How far f32 code may rightly be from the reference: grows with each Monte Carlo run that is put in. Where a run
// leaves the range of f32 anything is right: NaN, say, of two infinities.
class RoundingBound {
 public:
  explicit RoundingBound(const interpreter::Tensor& reference);
  // Roundings were `size` times as large as they may be: a distance counts for that much less.
  void add_run(const interpreter::Tensor& perturbed, double size);
  // Whether every element is within `factor` times the larger of its own spread and that of nine elements
  // in ten.
  bool covers(const interpreter::Tensor& native, double factor) const;

 private:
  interpreter::Tensor reference_;
  std::vector<double> spread_;
};

}  // namespace gradc::cli
