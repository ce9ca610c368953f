// What the check's Monte Carlo bound excuses: rounding, and not the choice of an ill-conditioned formula.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "cli/check/compare.h"
#include "compiler/evaluate_ops.h"
#include "ir/tensor/op_def.h"

namespace gradc::cli::rounding_test {
namespace {

using interpreter::Tensor;

// The variance of images around 1000 is a sum of squares of deviations: it moves by single precision's
// rounding of it, not of the squares of 1000.
TEST(Rounding, ExcusesNoCancellationInAVariance) {
  Function f("f");
  Builder b(f);
  const Type type{DType::f32, true, {3, 4, 4}};
  Op* x = f.add_input("x", type);
  Op* variance = b.create("batch_var", {x}, {{"axes", std::vector<int64_t>{1, 2}}});
  f.outputs = {{"y", variance}};
  f.renumber();
  std::mt19937_64 random(1);
  std::normal_distribution<double> normal(1000, 1);
  interpreter::RunInput input;
  input.context.rows = 16;
  Tensor& values = input.inputs["x"] = interpreter::make_tensor(type, 16);
  for (double& v : values.data) v = static_cast<float>(normal(random));
  const Tensor right = interpreter::run(f, input).outputs.at("y");
  RoundingBound bound(right);
  for (uint64_t run = 1; run <= 6; ++run)
    compiler::rounding_run(f, input, run, [&](const Op& op, const Tensor& moved) {
      if (&op == variance) bound.add_run(moved, compiler::rounding_size(run));
    });
  const auto off_by = [&](double relative) {
    Tensor other = right;
    for (double& v : other.data) v *= 1 + relative;
    return other;
  };
  EXPECT_TRUE(bound.covers(off_by(1e-8), 8));
  EXPECT_FALSE(bound.covers(off_by(1e-4), 8));
}

// x^2 - x^2 / 2 of 1e20: infinity less infinity in f32, 5e39 in double. Its neighbour is held to its rounding.
TEST(Rounding, ExcusesWhatIsBeyondTheRangeOfFloats) {
  Function f("f");
  Builder b(f);
  const Type type{DType::f32, false, {2}};
  Op* x = f.add_input("x", type);
  Op* square = b.mul(x, x);
  Op* half = b.mul(square, b.constant(0.5));
  Op* difference = b.create("sub", {square, half});
  f.outputs = {{"y", difference}};
  f.renumber();
  interpreter::RunInput input;
  Tensor& values = input.inputs["x"] = interpreter::make_tensor(type, 1);
  values.data.data()[0] = 1e20;
  values.data.data()[1] = 3;
  const Tensor right = interpreter::run(f, input).outputs.at("y");
  RoundingBound bound(right);
  for (uint64_t run = 1; run <= 6; ++run)
    compiler::rounding_run(f, input, run, [&](const Op& op, const Tensor& moved) {
      if (&op == difference) bound.add_run(moved, compiler::rounding_size(run));
    });
  Tensor native = right;
  native.data.data()[0] = NAN;
  EXPECT_TRUE(bound.covers(native, 8));
  native.data.data()[1] *= 1.001;
  EXPECT_FALSE(bound.covers(native, 8));
}

}  // namespace
}  // namespace gradc::cli::rounding_test
