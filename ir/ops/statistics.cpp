// Mean and variance over the batch and over space, for batch normalisation. Composites; it must not know what
// uses them.
//
// A sum of squared deviations from an estimate of the mean loses as many digits as the square of (distance of
// the estimate / standard deviation) has. So no estimate from outside the data is used (Chan, Golub and
// LeVeque 1983, "Algorithms for computing the sample variance"):
//   images      reduce_squared_deviations: one pass, around values of the data (passes/kernels/partial_sums.h)
//   all others  two passes, the second also correcting the mean: m = sum x / n, e = sum (x - m) / n,
//               mean = m + e, variance = sum (x - m)^2 / n - e^2 (equation 1.7)
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
  return InferResult::ok(std::move(result));
}

// Whether a one-pass kernel computes the sum: channels of images, over the batch and over space.
bool of_images(const Type& x, const Attributes& a) {
  return x.rank() == 3 && a.integers("axes") == std::vector<int64_t>{1, 2};
}

// The number of averaged elements: rows times the averaged extents.
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

// result = sum of f(x, element of the result).
template <class F>
interpreter::Tensor evaluate_sum(const Op& op, Operands in, Context& c, F&& f) {
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
  return out;
}

double sharing_one(const Op& op, Operands in, const Context& c) {
  return static_cast<double>(c.rows) * static_cast<double>(in[0]->type.elements() / op.type.elements());
}

interpreter::Tensor evaluate_mean(const Op& op, Operands in, Context& c) {
  interpreter::Tensor out = evaluate_sum(op, in, c, [](double x, int64_t) { return x; });
  for (double& v : out.data) v /= sharing_one(op, in, c);
  return out;
}

interpreter::Tensor evaluate_squared_deviations(const Op& op, Operands in, Context& c) {
  const interpreter::Tensor mean = evaluate_mean(op, in, c);
  const double* m = mean.data.data();
  return evaluate_sum(op, in, c, [m](double x, int64_t i) { return (x - m[i]) * (x - m[i]); });
}

AttributeSpec axes_spec() {
  return optional("axes", AttributeKind::integers, ints({}),
                  "the example axes that are averaged along with the batch, [1, 2] for channels of [C, H, "
                  "W]; they stay with extent 1");
}

OpDef batch_mean() {
  OpDef def = Def("batch_mean", OpKind::composite,
                  "The mean of x over the rows of the batch and over the given axes.");
  def.operands = {{"x", "f32 or f64, batched"}};
  def.attributes = {axes_spec()};
  def.infer = infer_statistics;
  def.decompose = [](Builder& b, Op* op) {
    Op* x = op->operands[0];
    Op* mean = average(b, op, x);
    return of_images(x->type, op->attributes) ? mean : b.add(mean, average(b, op, b.sub(x, mean)));
  };
  def.evaluate = evaluate_mean;
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    return {broadcast_to(b, b.div(g, element_count(b, op)), op->operands[0]->type)};
  };
  def.cost = cost_per_input;
  def.samples = {{{batched({6})}, {{"axes", ints({})}}},
                 {{batched({3, 5, 4})}, {{"axes", ints({1, 2})}}, -2, 2, 37},
                 {{batched({})}, {{"axes", ints({})}}},
                 {{batched({3, 2}, DType::f64)}, {{"axes", ints({1})}}},
                 {{batched({3, 5, 4})}, {{"axes", ints({1, 2})}}, 1000, 1001, 37}};
  return def;
}

// A mean of squares has no cancellation between its terms, so its relative rounding error depends on x alone.
OpDef batch_var() {
  OpDef def = Def("batch_var", OpKind::composite,
                  "The biased variance over the rows of the batch and over the given axes: the mean of (x - "
                  "batch_mean(x))^2. Computed around values of x, so that no offset of x costs digits (Chan, "
                  "Golub and LeVeque 1983).");
  def.operands = {{"x", "f32 or f64, batched"}};
  def.attributes = {axes_spec()};
  def.infer = infer_statistics;
  def.decompose = [](Builder& b, Op* op) {
    Op* x = op->operands[0];
    if (of_images(x->type, op->attributes))
      return b.div(b.create("reduce_squared_deviations", {x}), element_count(b, op));
    // The first mean and the mean of the differences are also batch_mean's: common subexpressions.
    Op *d = b.sub(x, average(b, op, x)), *e = average(b, op, d);
    return b.create("relu", {b.sub(average(b, op, b.mul(d, d)), b.mul(e, e))});
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = evaluate_squared_deviations(op, in, c);
    for (double& v : out.data) v /= sharing_one(op, in, c);
    return out;
  };
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    Op* x = op->operands[0];
    Op* mean = b.create("batch_mean", {x}, op->attributes);
    return {b.mul(b.sub(x, mean), b.mul(b.div(g, element_count(b, op)), 2.0))};
  };
  def.cost = [](const Op& op) {
    return simple_cost(op, 3 * static_cast<double>(op.operands[0]->type.elements()));
  };
  def.samples = {{{batched({6})}, {{"axes", ints({})}}},
                 {{batched({3, 5, 4})}, {{"axes", ints({1, 2})}}, -2, 2, 37},
                 {{batched({3, 2}, DType::f64)}, {{"axes", ints({1})}}},
                 {{batched({5})}, {{"axes", ints({})}}, 1000, 1001, 37},
                 {{batched({3, 5, 4})}, {{"axes", ints({1, 2})}}, 1000, 1001, 37}};
  return def;
}

OpDef reduce_squared_deviations() {
  OpDef def =
      Def("reduce_squared_deviations", OpKind::reduction,
          "The sum of (x - mean)^2 over the batch and over space for each channel of images, mean being "
          "that of the channel: one pass over x in chunks, each around a value of its own, combined by their "
          "counts, means and sums (Chan, Golub and LeVeque 1983, equation 2.1).");
  def.operands = {{"x", "f32 or f64, batched, [channels, height, width]"}};
  def.attributes = {
      optional("axes", AttributeKind::integers, ints({1, 2}), "height and width: [1, 2]"),
      optional("batch", AttributeKind::boolean, true, "true: over the batch too"),
      optional("keep", AttributeKind::boolean, true, "true: height and width stay with extent 1")};
  def.infer = [](Types t, const Attributes& a) {
    if (!of_images(t[0], a) || !a.boolean("batch") || !a.boolean("keep"))
      return InferResult::fail(fmt::format(
          "{} is summed over these axes; only [channels, height, width] over the batch and axes 1 and 2, "
          "which stay, works here",
          to_string(t[0])));
    return infer_statistics(t, a);
  };
  def.combiner = loop::BinaryOp::add;
  def.squared_deviations = true;
  def.images = true;
  def.evaluate = evaluate_squared_deviations;
  def.no_gradient = "it is made by decomposition, after differentiation";
  def.cost = [](const Op& op) {
    return simple_cost(op, 3 * static_cast<double>(op.operands[0]->type.elements()));
  };
  def.samples = {{{batched({3, 5, 4})}, {}, -2, 2, 37},
                 {{batched({3, 5, 4})}, {}, 1000, 1001, 37},
                 {{batched({2, 1, 3})}, {}, -2, 2, 2},
                 {{batched({5, 2, 2}, DType::f64)}, {}, -2, 2, 37}};
  return def;
}

}  // namespace

void register_statistics(std::vector<OpDef>& defs) {
  defs.push_back(batch_mean());
  defs.push_back(batch_var());
  defs.push_back(reduce_squared_deviations());
}

}  // namespace gradc
