// gather, which reads rows of a table at indices, and scatter_add, which adds rows into a table and is its
// gradient. It must not know how memory is laid out.
#include <cmath>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;

// The extents of a value around some of its axes: `outer` elements before them, `inner` after them.
struct Cut {
  int64_t outer = 1, inner = 1;
};
Cut cut(const Shape& shape, size_t axis, size_t axes) {
  Cut c;
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i < axis) c.outer *= shape[i];
    if (i >= axis + axes) c.inner *= shape[i];
  }
  return c;
}

int64_t row_of(const interpreter::Tensor& t, int64_t row) {
  return t.type.batched ? row * t.type.elements() : 0;
}

// For each row and each element of the index that lies in the table: visit(offset in the table, offset in
// `rows`, inner), a run of `inner` elements.
template <class F>
void for_each_named(const interpreter::Tensor& table, const interpreter::Tensor& index,
                    const interpreter::Tensor& rows, size_t axis, int64_t count, F&& visit) {
  const Cut c = cut(table.type.shape, axis, 1);
  const int64_t extent = table.type.shape[axis], positions = index.type.elements();
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t o = 0; o < c.outer; ++o) {
      for (int64_t p = 0; p < positions; ++p) {
        const double at = index.data.data()[row_of(index, r) + p];
        if (!(at >= 0 && at < static_cast<double>(extent))) continue;
        visit(row_of(table, r) + (o * extent + static_cast<int64_t>(at)) * c.inner,
              row_of(rows, r) + (o * positions + p) * c.inner, c.inner);
      }
    }
  }
}

size_t axis_of(const Attributes& a) { return static_cast<size_t>(a.integer("axis")); }

OpDef gather() {
  OpDef def = Def("gather", OpKind::contraction,
                  "The elements of x at the positions that an index names along an axis, which the index's "
                  "axes replace: y[.., i, ..] = x[.., index[i], ..]; 0 where the index lies outside. The "
                  "gradient adds g up where its elements came from.");
  def.loop_nest = LoopNest::gather;
  def.operands = {{"x", "f32 or f64"}, {"index", "i32, of any shape"}};
  def.exact = true;
  def.attributes = {
      optional("axis", AttributeKind::integer, integer(0), "the example axis of x; negative: from the end")};
  def.epilogue = false;
  def.infer = [](Types t, const Attributes& a) {
    if (InferResult r = infer_floats(t.first(1), a); !r.error.empty()) return r;
    if (std::string e = check_index(t[1]); !e.empty()) return InferResult::fail(e);
    if (std::string e = check_axis(a, "axis", t[0]); !e.empty()) return InferResult::fail(e);
    Type result{t[0].dtype, t[0].batched || t[1].batched, t[0].shape};
    const auto at = result.shape.erase(result.shape.begin() + a.integer("axis"));
    result.shape.insert(at, t[1].shape.begin(), t[1].shape.end());
    return InferResult::ok(std::move(result));
  };
  def.index = [](const Op& op) { return IndexUse{1, op.operands[0]->type.shape[axis_of(op.attributes)]}; };
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    const Type& x = op->operands[0]->type;
    return {b.create("scatter_add", {g, op->operands[1]},
                     {{"axis", op->attributes.integer("axis")},
                      {"extent", x.shape[axis_of(op->attributes)]},
                      {"batched", x.batched}}),
            nullptr};
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    for_each_named(*in[0], *in[1], out, axis_of(op.attributes), rows_of(op.type, c),
                   [&](int64_t from, int64_t to, int64_t count) {
                     std::copy_n(in[0]->data.data() + from, count, out.data.data() + to);
                   });
    return out;
  };
  def.cost = cost_free;
  const DType i32 = DType::i32;
  def.samples = {{{plain({7, 3}), batched({4}, i32)}, {{"axis", integer(0)}}, -2, 9, 37},
                 {{plain({5}), batched({}, i32)}, {{"axis", integer(0)}}, -2, 5},
                 {{batched({6, 2}), batched({4}, i32)}, {{"axis", integer(0)}}, -2, 7},
                 {{batched({2, 5, 3}), plain({4}, i32)}, {{"axis", integer(1)}}, -2, 5},
                 {{batched({2, 3, 5}), batched({2}, i32)}, {{"axis", integer(-1)}}, -2, 6, 37},
                 {{plain({6, 5}), plain({2, 2}, i32)}, {{"axis", integer(0)}}, -2, 6},
                 {{plain({3, 4}, DType::f64), batched({2, 3}, i32)}, {{"axis", integer(1)}}, -2, 4},
                 // One index an example: the result has the table's other axes alone.
                 {{plain({3, 8}), batched({}, i32)}, {{"axis", integer(0)}}, -2, 4, 37},
                 {{plain({10, 6}), batched({}, i32)}, {{"axis", integer(0)}}, -2, 11, 37},
                 {{plain({130, 2, 3}), batched({}, i32)}, {{"axis", integer(0)}}, -2, 131, 70},
                 {{plain({5, 70}), batched({}, i32)}, {{"axis", integer(1)}}, -2, 71},
                 {{plain({3, 70}), plain({}, i32)}, {{"axis", integer(0)}}, -2, 3},
                 {{batched({4, 3}), batched({}, i32)}, {{"axis", integer(0)}}, -2, 5}};
  return def;
}

OpDef scatter_add() {
  OpDef def = Def(
      "scatter_add", OpKind::contraction,
      "A table of zeros to which the rows of x are added where an index names them: y[.., index[i], ..] += "
      "x[.., i, ..], and nothing where the index lies outside. Without a batch the examples' rows are added "
      "too. Sums are in the order of the examples, then of the index, for any number of threads.");
  def.loop_nest = LoopNest::scatter_add;
  def.operands = {{"x", "f32 or f64, with the index's axes in place of the table's"}, {"index", "i32"}};
  def.attributes = {
      required("axis", AttributeKind::integer, "the first axis of x that is the index's, and the table's"),
      required("extent", AttributeKind::integer, "of the table along the axis, at least 1"),
      required("batched", AttributeKind::boolean, "whether each example has a table of its own")};
  def.epilogue = false;
  def.infer = [](Types t, const Attributes& a) {
    if (InferResult r = infer_floats(t.first(1), a); !r.error.empty()) return r;
    if (std::string e = check_index(t[1]); !e.empty()) return InferResult::fail(e);
    const auto axis = a.integer("axis"), rank = static_cast<int64_t>(t[1].shape.size());
    const Shape& shape = t[0].shape;
    if (axis < 0 || axis > t[0].rank() - rank ||
        !std::equal(t[1].shape.begin(), t[1].shape.end(), shape.begin() + axis))
      return InferResult::fail(fmt::format("{} does not have the axes of the index {} at axis {}",
                                           to_string(t[0]), to_string(t[1]), axis));
    if (a.integer("extent") < 1)
      return InferResult::fail(fmt::format("`extent` is {}; it must be at least 1", a.integer("extent")));
    if (a.boolean("batched") && !t[0].batched)
      return InferResult::fail(
          fmt::format("{} has no batch, but each example is to have a table", to_string(t[0])));
    if (t[1].batched && !t[0].batched)
      return InferResult::fail(fmt::format("{} has no batch, but its index has", to_string(t[0])));
    Type result{t[0].dtype, a.boolean("batched"), shape};
    const auto at = result.shape.erase(result.shape.begin() + axis, result.shape.begin() + axis + rank);
    result.shape.insert(at, a.integer("extent"));
    return InferResult::ok(std::move(result));
  };
  def.index = [](const Op& op) { return IndexUse{1, op.attributes.integer("extent")}; };
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    return {b.create("gather", {g, op->operands[1]}, {{"axis", op->attributes.integer("axis")}}), nullptr};
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    for_each_named(out, *in[1], *in[0], axis_of(op.attributes), rows_of(in[0]->type, c),
                   [&](int64_t to, int64_t from, int64_t count) {
                     for (int64_t i = 0; i < count; ++i)
                       out.data.data()[to + i] += in[0]->data.data()[from + i];
                   });
    return out;
  };
  def.cost = cost_per_input;
  const DType i32 = DType::i32;
  const auto attributes = [](int64_t axis, int64_t extent, bool is_batched) {
    return Attributes{{"axis", integer(axis)}, {"extent", integer(extent)}, {"batched", is_batched}};
  };
  def.samples = {{{batched({4, 3}), batched({4}, i32)}, attributes(0, 7, false), -2, 9, 37},
                 {{batched({4, 3}), batched({4}, i32)}, attributes(0, 130, false), -2, 140, 70},
                 {{batched({}), batched({}, i32)}, attributes(0, 5, false), -2, 5},
                 {{batched({4, 2}), batched({4}, i32)}, attributes(0, 6, true), -2, 7},
                 {{batched({2, 4, 3}), plain({4}, i32)}, attributes(1, 5, true), -2, 5},
                 {{batched({2, 3, 2}), batched({2}, i32)}, attributes(2, 5, true), -2, 6, 37},
                 {{batched({2, 3, 2}), plain({3}, i32)}, attributes(1, 4, false), -2, 4},
                 {{plain({2, 2, 5}), plain({2, 2}, i32)}, attributes(0, 6, false), -2, 6},
                 {{batched({3, 2, 3}, DType::f64), batched({2, 3}, i32)}, attributes(1, 4, false), -2, 4},
                 // One index an example.
                 {{batched({8}), batched({}, i32)}, attributes(0, 3, false), -2, 4, 37},
                 {{batched({6}), batched({}, i32)}, attributes(0, 10, false), -2, 11, 37},
                 {{batched({2, 3}), batched({}, i32)}, attributes(0, 130, false), -2, 131, 70},
                 {{batched({70}), batched({}, i32)}, attributes(1, 5, false), -2, 6},
                 {{batched({2, 3}), batched({}, i32)}, attributes(1, 5, false), -2, 6},
                 {{batched({4, 3}), batched({}, i32)}, attributes(0, 5, true), -2, 6}};
  return def;
}

}  // namespace

void register_gather(std::vector<OpDef>& defs) {
  defs.push_back(gather());
  defs.push_back(scatter_add());
}

}  // namespace gradc
