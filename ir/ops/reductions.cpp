// Reductions over example axes and over the batch. It must not know in which order generated code sums.
#include <cmath>
#include <functional>
#include <limits>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;
constexpr double kNone = 2147483647;  // no position: greater than every other

InferResult infer_reduce(Types t, const Attributes& a) {
  const Type& x = t[0];
  if (!is_number(x.dtype)) {
    return InferResult::fail(fmt::format(
        "the operand is {}, but only numbers can be reduced; convert it with cast", to_string(x)));
  }
  const auto& axes = a.integers("axes");
  const bool keep = a.boolean("keep"), batch = a.boolean("batch");
  if (batch && !x.batched) return InferResult::fail(fmt::format("{} has no batch to reduce", to_string(x)));
  Type result{x.dtype, x.batched && !batch, {}};
  std::vector<bool> gone(x.shape.size(), false);
  for (const int64_t axis : axes) {
    if (axis < 0 || axis >= x.rank()) {
      return InferResult::fail(
          fmt::format("there is no axis {} in {}, which has {} (the batch is not counted)", axis,
                      to_string(x), x.rank()));
    }
    if (gone[static_cast<size_t>(axis)])
      return InferResult::fail(fmt::format("axis {} is named twice", axis));
    gone[static_cast<size_t>(axis)] = true;
  }
  for (size_t i = 0; i < x.shape.size(); ++i) {
    if (!gone[i]) result.shape.push_back(x.shape[i]);
    if (gone[i] && keep) result.shape.push_back(1);
  }
  return InferResult::ok(std::move(result));
}

// The result's shape with the reduced axes kept as extents of 1.
Shape kept_shape(const Op& op) {
  Shape shape = op.operands[0]->type.shape;
  for (const int64_t axis : op.attributes.integers("axes")) shape[static_cast<size_t>(axis)] = 1;
  return shape;
}

// Calls visit(result index, operand index) for every operand element, in logical order (rows first).
template <class F>
void for_each_reduced(const Op& op, const interpreter::Tensor& x, int64_t rows, F&& visit) {
  // A walk over the operand in which the result is the broadcast side.
  interpreter::Tensor shape_only;
  shape_only.type = {op.type.dtype, op.type.batched, kept_shape(op)};
  const interpreter::Tensor* sides[] = {&shape_only};
  const auto axes = walk_axes(x.type, rows, sides);
  const WalkAxis inner = axes.back();
  for_each_run(axes, [&](int64_t at, const std::array<int64_t, kMaxOperands>& offset) {
    for (int64_t i = 0; i < inner.extent; ++i) visit(offset[0] + i * inner.stride[0], at + i);
  });
}

interpreter::Tensor evaluate_sum(const Op& op, Operands in, Context& c) {
  interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
  double* result = out.data.data();
  const double* x = in[0]->data.data();
  for_each_reduced(op, *in[0], c.rows, [&](int64_t to, int64_t from) { result[to] += x[from]; });
  if (op.type.dtype == DType::i32) {
    for (int64_t i = 0; i < value_count(op, c); ++i) result[i] = wrap(static_cast<int64_t>(result[i]));
  }
  return out;
}

// The first extremum in logical order, or the first NaN.
template <auto better>
interpreter::Tensor evaluate_reduced_extremum(const Op& op, Operands in, Context& c) {
  interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
  const double* x = in[0]->data.data();
  const int64_t count = value_count(op, c);
  std::vector<int64_t> best(static_cast<size_t>(count), -1);
  for_each_reduced(op, *in[0], c.rows, [&](int64_t to, int64_t from) {
    int64_t& b = best[static_cast<size_t>(to)];
    if (b < 0 || better(x[from], x[b]) || (std::isnan(x[from]) && !std::isnan(x[b]))) b = from;
  });
  Chooser chooser(op, c, count);
  for (int64_t i = 0; i < count; ++i) out.data.data()[i] = x[chooser(i, best[static_cast<size_t>(i)])];
  return out;
}

// The gradient broadcast to the operand: reduced axes return with extent 1 and are repeated.
Op* spread(Builder& b, Op* op, Op* g) {
  return broadcast_to(b, b.reshape(g, kept_shape(*op)), op->operands[0]->type);
}

// True at the first element, in logical order, that equals the result (NaN included), false elsewhere. Rows
// first: the first row that holds the extremum, then the first such position in that row.
Op* first_extremum(Builder& b, Op* op) {
  Op* x = op->operands[0];
  const auto& axes = op->attributes.integers("axes");
  const bool batch = op->attributes.boolean("batch");
  Op* extremum = b.reshape(op, kept_shape(*op));
  Op* here = b.compare("eq", x, extremum);
  here = b.create("logical_or", {here, b.compare("ne", x, x)});
  Op* none = b.constant(kNone, DType::i32);
  if (batch) {
    Op* row = b.create("row_index", {});
    Op* first_row = b.create("reduce_min", {b.select(here, row, none)},
                             {{"axes", ints(axes)}, {"batch", true}, {"keep", true}});
    here = b.create("logical_and", {here, b.compare("eq", row, first_row)});
  }
  int64_t stride = 1;
  Op* position = nullptr;
  for (size_t i = axes.size(); i-- > 0;) {
    const int64_t extent = x->type.shape[static_cast<size_t>(axes[i])];
    if (extent == 1) continue;
    Op* along =
        b.create("iota", {}, {{"shape", ints(x->type.shape)}, {"axis", axes[i]}, {"dtype", text("i32")}});
    if (stride != 1) along = b.mul(along, static_cast<double>(stride));
    position = position == nullptr ? along : b.add(position, along);
    stride *= extent;
  }
  if (position == nullptr) return here;
  Op* first = b.create("reduce_min", {b.select(here, position, none)},
                       {{"axes", ints(axes)}, {"batch", batch}, {"keep", true}});
  return b.create("logical_and", {here, b.compare("eq", position, first)});
}

Grads extremum_gradient(Builder& b, Op* op, Op* g) {
  return {b.select(first_extremum(b, op), spread(b, op, g), zero(b, g))};
}

std::vector<OpSample> reduce_samples(bool integers) {
  const auto with = [](std::vector<int64_t> axes, bool batch, bool keep) {
    return Attributes{{"axes", ints(std::move(axes))}, {"batch", batch}, {"keep", keep}};
  };
  std::vector<OpSample> samples = {{{batched({3, 5})}, with({1}, false, false)},
                                   {{batched({3, 5})}, with({0}, false, true)},
                                   {{batched({3, 5})}, with({}, true, false)},
                                   {{batched({3, 2, 5})}, with({1, 2}, true, true), -2, 2, 67},
                                   {{batched({})}, with({}, true, false), -2, 2, 33},
                                   {{batched({7})}, with({0}, true, false)},
                                   {{plain({7})}, with({0}, false, false)},
                                   {{plain({2, 3, 5})}, with({0, 2}, false, false)},
                                   {{batched({4}, DType::f64)}, with({0}, false, false)}};
  if (integers) samples.push_back({{batched({3}, DType::i32)}, with({0}, false, false), 0, 9});
  return samples;
}

OpDef reduction(std::string name, std::string doc, loop::BinaryOp combiner, double identity) {
  OpDef def = Def(std::move(name), OpKind::reduction, std::move(doc));
  def.operands = {{"x", "f32, f64 or i32"}};
  def.attributes = {
      optional("axes", AttributeKind::integers, ints({}),
               "the example axes that are reduced, each once, 0 being the first"),
      optional("batch", AttributeKind::boolean, false, "whether the batch is reduced too"),
      optional("keep", AttributeKind::boolean, false, "whether reduced axes stay, with extent 1")};
  def.combiner = combiner;
  def.identity = identity;
  def.infer = infer_reduce;
  def.cost = cost_per_input;
  def.samples = reduce_samples(true);
  return def;
}

}  // namespace

void register_reductions(std::vector<OpDef>& defs) {
  OpDef sum = reduction("reduce_sum", "The sum over the given axes.", loop::BinaryOp::add, 0);
  sum.evaluate = evaluate_sum;
  sum.gradient = [](Builder& b, Op* op, Op* g) -> Grads { return {spread(b, op, g)}; };
  defs.push_back(std::move(sum));

  OpDef max = reduction(
      "reduce_max",
      "The greatest element over the given axes; NaN if one is NaN. The gradient goes to the first greatest.",
      loop::BinaryOp::max, -kInfinity);
  max.evaluate = evaluate_reduced_extremum<std::greater<>{}>;
  max.gradient = extremum_gradient;
  defs.push_back(std::move(max));

  OpDef min = reduction(
      "reduce_min",
      "The least element over the given axes; NaN if one is NaN. The gradient goes to the first least.",
      loop::BinaryOp::min, kInfinity);
  min.evaluate = evaluate_reduced_extremum<std::less<>{}>;
  min.gradient = extremum_gradient;
  defs.push_back(std::move(min));
}

}  // namespace gradc
