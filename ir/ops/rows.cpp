// Folding of an axis into the rows, and back. It must not know which values are folded, or why.
#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;

// Row-major order of both types is the same, so their values are, too.
OpDef relayout(const char* name, const char* doc) {
  OpDef def = Def(name, OpKind::contraction, doc);
  def.loop_nest = LoopNest::fold_rows;
  def.operands = {{"x", "any type with a batch"}};
  def.epilogue = false;
  def.by_row = false;
  def.exact = true;
  def.call = CallForm::none;
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows * op.type.rows);
    std::copy(in[0]->data.begin(), in[0]->data.end(), out.data.begin());
    return out;
  };
  def.cost = cost_free;
  return def;
}

OpDef fold_rows() {
  OpDef def =
      relayout("fold_rows",
               "x with its first axis folded into the rows: row L i + j of the result, L being the axis's "
               "extent, is element j of example i. What works on the positions of a sequence one by one then "
               "has L times as many rows to fill vectors with.");
  def.infer = [](Types t, const Attributes&) {
    const Type& x = t[0];
    if (!x.batched || x.rows != 1)
      return InferResult::fail(fmt::format("{} has no batch of one row an example", to_string(x)));
    if (x.shape.empty() || x.shape[0] < 2)
      return InferResult::fail(fmt::format("{} has no first axis of an extent above 1", to_string(x)));
    return InferResult::ok({x.dtype, true, Shape(x.shape.begin() + 1, x.shape.end()), x.shape[0]});
  };
  def.gradient = [](Builder& b, Op*, Op* g) -> Grads { return {b.create("unfold_rows", {g})}; };
  def.samples = {{{batched({5, 3})}, {}},
                 {{batched({7})}, {}, -2, 2, 37},
                 {{batched({32, 2, 3})}, {}, -2, 2, 3},
                 {{batched({3, 40}, DType::i32)}, {}, 0, 9, 1}};
  return def;
}

OpDef unfold_rows() {
  OpDef def =
      relayout("unfold_rows", "x with the rows of an example as the first axis: the inverse of fold_rows.");
  def.infer = [](Types t, const Attributes&) {
    const Type& x = t[0];
    if (!x.batched || x.rows == 1)
      return InferResult::fail(fmt::format("{} has no rows to unfold", to_string(x)));
    Shape shape = x.shape;
    shape.insert(shape.begin(), x.rows);
    return InferResult::ok({x.dtype, true, std::move(shape)});
  };
  def.gradient = [](Builder& b, Op*, Op* g) -> Grads { return {b.create("fold_rows", {g})}; };
  const auto folded = [](Shape shape, int64_t rows) {
    return Type{DType::f32, true, std::move(shape), rows};
  };
  def.samples = {
      {{folded({3}, 5)}, {}}, {{folded({}, 7)}, {}, -2, 2, 37}, {{folded({2, 3}, 32)}, {}, -2, 2, 3}};
  return def;
}

}  // namespace

void register_rows(std::vector<OpDef>& defs) {
  defs.push_back(fold_rows());
  defs.push_back(unfold_rows());
}

}  // namespace gradc
