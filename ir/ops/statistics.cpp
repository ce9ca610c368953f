// Mean and variance over the batch and over space, for batch normalisation. Composites; it must not know what
// uses them.
#include <vector>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;

InferResult infer_statistics(Types t, const Attributes& a) {
  const Type& x = t[0];
  if (!x.is_float())
    return InferResult::fail(fmt::format("the operand is {}, but only f32 and f64 work here", to_string(x)));
  if (!x.batched) return InferResult::fail(fmt::format("{} has no batch to average over", to_string(x)));
  Type result{x.dtype, false, x.shape};
  std::vector<bool> seen(x.shape.size(), false);
  for (const int64_t axis : a.integers("axes")) {
    if (axis < 0 || axis >= x.rank()) {
      return InferResult::fail(
          fmt::format("there is no axis {} in {}, which has {} (the batch is not counted)", axis,
                      to_string(x), x.rank()));
    }
    if (seen[static_cast<size_t>(axis)])
      return InferResult::fail(fmt::format("axis {} is named twice", axis));
    seen[static_cast<size_t>(axis)] = true;
    result.shape[static_cast<size_t>(axis)] = 1;
  }
  for (size_t i = 1; i < t.size(); ++i)
    if (t[i] != result)
      return InferResult::fail(fmt::format("the mean of {} over these axes is {}, not {}", to_string(x),
                                           to_string(result), to_string(t[i])));
  return InferResult::ok(std::move(result));
}

// rows times the averaged extents.
Op* element_count(Builder& b, Op* op) {
  const Type& x = op->operands[0]->type;
  const auto space = static_cast<double>(x.elements() / op->type.elements());
  Op* rows = b.create("row_count", {});
  if (space != 1) rows = b.mul(rows, space);
  return x.dtype == DType::f32 ? rows : b.cast(rows, x.dtype);
}

Op* average(Builder& b, Op* op, Op* summand) {
  return b.div(b.reduce_sum(summand, op->attributes.integers("axes"), true, true), element_count(b, op));
}

// result = sum of f(x, mean element) / count.
template <class F>
interpreter::Tensor evaluate_average(const Op& op, Operands in, Context& c, F&& f) {
  interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
  double* result = out.data.data();
  const double* x = in[0]->data.data();
  const interpreter::Tensor* sides[] = {&out};
  const auto axes = walk_axes(in[0]->type, c.rows, sides);
  const WalkAxis inner = axes.back();
  for_each_run(axes, [&](int64_t at, const std::array<int64_t, kMaxOperands>& offset) {
    for (int64_t i = 0; i < inner.extent; ++i) {
      const int64_t to = offset[0] + i * inner.stride[0];
      result[to] += f(x[at + i], to);
    }
  });
  const int64_t count = op.type.elements();
  const double n = static_cast<double>(c.rows) * static_cast<double>(in[0]->type.elements() / count);
  for (int64_t i = 0; i < count; ++i) result[i] /= n;
  return out;
}

AttributeSpec axes_spec() {
  return optional("axes", AttributeKind::integers, ints({}),
                  "the example axes that are averaged along with the batch, [1, 2] for channels of [C, H, "
                  "W]; they stay with extent 1");
}

}  // namespace

void register_statistics(std::vector<OpDef>& defs) {
  OpDef mean =
      Def("batch_mean", OpKind::composite,
          "The mean of x over the rows of the batch and over the given axes: with `near`, computed as near + "
          "mean of (x - near).");
  mean.operands = {{"x", "f32 or f64, batched"}, {"near", "optional: a guess of the mean, unbatched"}};
  mean.optional_operands = 1;
  mean.attributes = {axes_spec()};
  mean.infer = infer_statistics;
  mean.decompose = [](Builder& b, Op* op) {
    Op* x = op->operands[0];
    if (op->operands.size() == 1) return average(b, op, x);
    Op* near = op->operands[1];
    return b.add(near, average(b, op, b.sub(x, near)));
  };
  mean.evaluate = [](const Op& op, Operands in, Context& c) {
    return evaluate_average(op, in, c, [](double x, int64_t) { return x; });
  };
  mean.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    Grads result{broadcast_to(b, b.div(g, element_count(b, op)), op->operands[0]->type)};
    result.resize(op->operands.size());  // the guess changes nothing
    return result;
  };
  mean.cost = cost_per_input;
  mean.samples = {{{batched({6})}, {{"axes", ints({})}}},
                  {{batched({3, 5, 4})}, {{"axes", ints({1, 2})}}, -2, 2, 37},
                  {{batched({})}, {{"axes", ints({})}}},
                  {{batched({3, 2}, DType::f64)}, {{"axes", ints({1})}}},
                  {{batched({3, 5, 4}), plain({3, 1, 1})}, {{"axes", ints({1, 2})}}, -2, 2, 37}};
  defs.push_back(std::move(mean));

  OpDef variance = Def("batch_var", OpKind::composite,
                       "The biased variance, mean of (x - mean)^2 over the rows of the batch and over the "
                       "given axes. With `near` it "
                       "takes one pass over x together with batch_mean: mean of (x - near)^2, less (mean - "
                       "near)^2, and at least 0; "
                       "rounding then grows with the square of (mean - near) over the standard deviation "
                       "(Chan, Golub and LeVeque "
                       "1983).");
  variance.operands = {{"x", "f32 or f64, batched"},
                       {"mean", "batch_mean of x over the same axes"},
                       {"near", "optional: batch_mean's"}};
  variance.optional_operands = 1;
  variance.attributes = {axes_spec()};
  variance.infer = infer_statistics;
  variance.decompose = [](Builder& b, Op* op) {
    if (op->operands.size() == 3) {
      Op *near = op->operands[2], *d = b.sub(op->operands[0], near), *shift = b.sub(op->operands[1], near);
      return b.create("relu", {b.sub(average(b, op, b.mul(d, d)), b.mul(shift, shift))});
    }
    Op* away = b.sub(op->operands[0], op->operands[1]);
    return average(b, op, b.mul(away, away));
  };
  variance.evaluate = [](const Op& op, Operands in, Context& c) {
    const double* m = in[1]->data.data();
    return evaluate_average(op, in, c, [m](double x, int64_t i) { return (x - m[i]) * (x - m[i]); });
  };
  variance.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    Op* dx = b.mul(b.sub(op->operands[0], op->operands[1]), b.mul(b.div(g, element_count(b, op)), 2.0));
    Grads result{dx, b.neg(b.reduce_sum(dx, op->attributes.integers("axes"), true, true))};
    result.resize(op->operands.size());
    return result;
  };
  variance.cost = [](const Op& op) {
    return simple_cost(op, 3 * static_cast<double>(op.operands[0]->type.elements()));
  };
  variance.samples = {{{batched({6}), plain({6})}, {{"axes", ints({})}}},
                      {{batched({3, 5, 4}), plain({3, 1, 1})}, {{"axes", ints({1, 2})}}, -2, 2, 37},
                      {{batched({3, 2}, DType::f64), plain({3, 1}, DType::f64)}, {{"axes", ints({1})}}}};
  // No sample with `near`: it is the same value only where `mean` is the mean; the models' tests have it.
  defs.push_back(std::move(variance));
}

}  // namespace gradc
