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

// The greatest number of Monte Carlo runs for one comparison; the first that explains a difference ends them. A
// decision that differs in native code also differs in about every second run: 32 runs miss one of a thousand such
// elements once in four million times.
inline constexpr uint64_t kRoundingRuns = 32;

// The distance that correct f32 code may have from the reference: grows with each Monte Carlo run that is added. Where
// a run leaves the range of f32 every value is accepted, as NaN may result from two infinities.
class RoundingBound {
 public:
  explicit RoundingBound(const interpreter::Tensor& reference);
  // The run's roundings were `size` times too large: its distances are divided by that.
  void add_run(const interpreter::Tensor& perturbed, double size);
  // Whether every element is within `factor` times the larger of its own spread and that of nine elements
  // in ten.
  bool covers(const interpreter::Tensor& native, double factor) const;

 private:
  interpreter::Tensor reference_;
  std::vector<double> spread_;
};

}  // namespace gradc::cli
