// Operators that move elements without computing: transpose, slice, pad, concat, and reshape. Each maps a
// position in the result to the position of its source; it must not know how the memory is laid out.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/gemm.h"
#include "ir/ops/lower.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;
using Position = std::vector<Expr>;

Expr always() { return loop::constant_int({loop::Scalar::i1, 1}, 1); }
Expr both(Expr a, Expr b) {
  return loop::is_constant(a, 1) ? b : loop::binary(BinaryOp::bit_and, std::move(a), std::move(b));
}
double never(const Op&) { return 0; }
size_t at(int64_t i) { return static_cast<size_t>(i); }

// Row-major strides of an example.
std::vector<int64_t> strides(const Shape& shape) {
  std::vector<int64_t> s(shape.size(), 1);
  for (size_t i = shape.size(); i-- > 1;) s[i - 1] = s[i] * shape[i];
  return s;
}

// Calls visit(flat index, position on every axis) for each position of a shape.
template <class F>
void for_each_position(const Shape& shape, F&& visit) {
  std::vector<int64_t> position(shape.size(), 0);
  for (int64_t flat = 0;; ++flat) {
    visit(flat, position);
    size_t a = shape.size();
    while (a > 0 && ++position[a - 1] == shape[a - 1]) position[--a] = 0;
    if (a == 0) return;
  }
}

// --- transpose

InferResult infer_transpose(Types t, const Attributes& a) {
  const auto& order = a.integers("permutation");
  std::vector<int64_t> sorted = order, wanted(t[0].shape.size());
  std::sort(sorted.begin(), sorted.end());
  std::iota(wanted.begin(), wanted.end(), 0);
  if (sorted != wanted) {
    return InferResult::fail(fmt::format(
        "`permutation` {} does not name each of the {} axes of {} once (the batch is not counted)",
        to_string(order), t[0].rank(), to_string(t[0])));
  }
  Shape shape;
  for (const int64_t axis : order) shape.push_back(t[0].shape[at(axis)]);
  return InferResult::ok(t[0].with_shape(std::move(shape)));
}

OpDef transpose() {
  OpDef def =
      Def("transpose", OpKind::indexing,
          "x with its example axes in another order: axis i of the result is axis permutation[i] of x.");
  def.operands = {{"x", "any type"}};
  def.attributes = {required("permutation", AttributeKind::integers, "each example axis once")};
  def.infer = infer_transpose;
  def.position = [](const Op& op, int, std::span<const Expr> position, Expr& condition) {
    condition = always();
    const auto& order = op.attributes.integers("permutation");
    Position from(position.size());
    for (size_t i = 0; i < order.size(); ++i) from[at(order[i])] = position[i];
    return from;
  };
  def.otherwise = never;
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    std::vector<int64_t> shape = in[0]->type.shape;
    std::vector<int> order = {0};
    shape.insert(shape.begin(), rows_of(op.type, c));
    for (const int64_t axis : op.attributes.integers("permutation"))
      order.push_back(static_cast<int>(axis) + 1);
    const auto moved = permuted(in[0]->data.data(), shape, order);
    std::copy(moved.begin(), moved.end(), out.data.data());
    return out;
  };
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    const auto& order = op->attributes.integers("permutation");
    std::vector<int64_t> inverse(order.size());
    for (size_t i = 0; i < order.size(); ++i) inverse[at(order[i])] = static_cast<int64_t>(i);
    return {b.create("transpose", {g}, {{"permutation", ints(inverse)}})};
  };
  def.cost = cost_free;
  def.samples = {{{batched({3, 5})}, {{"permutation", ints({1, 0})}}},
                 {{batched({2, 3, 4})}, {{"permutation", ints({2, 0, 1})}}},
                 {{plain({5, 7})}, {{"permutation", ints({1, 0})}}},
                 {{plain({2, 3, 4}, DType::f64)}, {{"permutation", ints({1, 2, 0})}}},
                 {{batched({3})}, {{"permutation", ints({0})}}}};
  return def;
}

// --- slice

InferResult infer_slice(Types t, const Attributes& a) {
  const Type& x = t[0];
  const size_t rank = x.shape.size();
  for (const char* key : {"begin", "end", "step"}) {
    const size_t count = a.integers(key).size();
    if (count == 0 && std::string_view(key) == "step") continue;
    if (count != rank)
      return InferResult::fail(
          fmt::format("`{}` has {} entries, but {} has {} axes", key, count, to_string(x), rank));
  }
  Shape shape;
  for (size_t i = 0; i < rank; ++i) {
    const int64_t begin = a.integers("begin")[i], end = a.integers("end")[i];
    const int64_t step = a.integers("step").empty() ? 1 : a.integers("step")[i];
    if (begin < 0 || end > x.shape[i] || begin >= end) {
      return InferResult::fail(fmt::format("{} to {} is no part of axis {} of {}, which has the extent {}",
                                           begin, end, i, to_string(x), x.shape[i]));
    }
    if (step < 1)
      return InferResult::fail(fmt::format("`step` is {} on axis {}; it must be at least 1", step, i));
    shape.push_back((end - begin - 1) / step + 1);
  }
  return InferResult::ok(x.with_shape(std::move(shape)));
}

int64_t entry(const Op& op, const char* key, size_t i, int64_t otherwise) {
  const auto& list = op.attributes.integers(key);
  return list.empty() ? otherwise : list[i];
}

Grads slice_gradient(Builder& b, Op* op, Op* g) {
  const Shape& from = op->operands[0]->type.shape;
  std::vector<int64_t> low, high, interior;
  for (size_t i = 0; i < from.size(); ++i) {
    const int64_t begin = op->attributes.integers("begin")[i], step = entry(*op, "step", i, 1);
    low.push_back(begin);
    interior.push_back(step - 1);
    high.push_back(from[i] - (begin + (op->type.shape[i] - 1) * step + 1));
  }
  return {b.create("pad", {g},
                   {{"low", ints(low)}, {"high", ints(high)}, {"interior", ints(interior)}, {"value", 0.0}})};
}

OpDef slice() {
  OpDef def =
      Def("slice", OpKind::indexing,
          "The elements of x from begin up to, not including, end, every step-th, on each example axis.");
  def.operands = {{"x", "any type"}};
  def.attributes = {
      required("begin", AttributeKind::integers, "first position on each axis"),
      required("end", AttributeKind::integers, "position after the last on each axis"),
      optional("step", AttributeKind::integers, ints({}), "distance on each axis, at least 1; empty: 1")};
  def.infer = infer_slice;
  def.position = [](const Op& op, int, std::span<const Expr> position, Expr& condition) {
    condition = always();
    Position from;
    for (size_t i = 0; i < position.size(); ++i) {
      from.push_back(position[i] * loop::index(entry(op, "step", i, 1)) +
                     loop::index(op.attributes.integers("begin")[i]));
    }
    return from;
  };
  def.otherwise = never;
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    const auto stride = strides(in[0]->type.shape);
    const int64_t to_example = op.type.elements(), from_example = in[0]->type.elements();
    for_each_position(op.type.shape, [&](int64_t flat, const std::vector<int64_t>& position) {
      int64_t from = 0;
      for (size_t i = 0; i < position.size(); ++i)
        from += (op.attributes.integers("begin")[i] + position[i] * entry(op, "step", i, 1)) * stride[i];
      for (int64_t r = 0; r < rows_of(op.type, c); ++r)
        out.data.data()[r * to_example + flat] = in[0]->data.data()[r * from_example + from];
    });
    return out;
  };
  def.gradient = slice_gradient;
  def.cost = cost_free;
  def.samples = {
      {{batched({7})}, {{"begin", ints({2})}, {"end", ints({6})}}},
      {{batched({5, 9})}, {{"begin", ints({0, 1})}, {"end", ints({5, 8})}, {"step", ints({2, 3})}}},
      {{plain({40})}, {{"begin", ints({3})}, {"end", ints({38})}, {"step", ints({1})}}},
      {{plain({3, 4}, DType::f64)}, {{"begin", ints({1, 0})}, {"end", ints({2, 4})}}}};
  return def;
}

// --- pad

InferResult infer_pad(Types t, const Attributes& a) {
  const Type& x = t[0];
  const size_t rank = x.shape.size();
  for (const char* key : {"low", "high", "interior"}) {
    if (a.integers(key).empty() && std::string_view(key) == "interior") continue;
    if (std::string e = check_list(a, key, rank, 0, kMaxElements); !e.empty()) return InferResult::fail(e);
  }
  if (!is_number(x.dtype))
    return InferResult::fail(fmt::format("{} cannot be padded; only numbers can", to_string(x)));
  if (x.dtype == DType::i32) {
    const double v = a.number("value");
    if (!(v == std::trunc(v) && v >= -0x1p31 && v < 0x1p31)) {
      return InferResult::fail(fmt::format("`value` is {}, not a whole number within i32", v));
    }
  }
  Shape shape;
  for (size_t i = 0; i < rank; ++i) {
    const int64_t gap = a.integers("interior").empty() ? 0 : a.integers("interior")[i];
    if (gap > kMaxElements / x.shape[i])
      return InferResult::fail(fmt::format("`interior` {} is too large", gap));
    shape.push_back(a.integers("low")[i] + x.shape[i] + (x.shape[i] - 1) * gap + a.integers("high")[i]);
  }
  return InferResult::ok(x.with_shape(std::move(shape)));
}

Position pad_position(const Op& op, int, std::span<const Expr> position, Expr& condition) {
  condition = always();
  Position from;
  for (size_t i = 0; i < position.size(); ++i) {
    const int64_t low = op.attributes.integers("low")[i], high = op.attributes.integers("high")[i],
                  step = entry(op, "interior", i, 0) + 1;
    const int64_t extent = op.operands[0]->type.shape[i];
    Expr p = position[i];
    if (low > 0) condition = both(condition, loop::compare(CompareOp::ge, p, loop::index(low)));
    if (high > 0)
      condition =
          both(condition, loop::compare(CompareOp::lt, p, loop::index(low + (extent - 1) * step + 1)));
    p = p - loop::index(low);
    if (step > 1) {
      // Remainder and quotient need a number from 0; below `low` the condition is false already.
      p = loop::binary(BinaryOp::max, p, loop::index(0));
      condition = both(
          condition,
          loop::compare(CompareOp::eq, loop::binary(BinaryOp::rem, p, loop::index(step)), loop::index(0)));
      p = loop::binary(BinaryOp::div, p, loop::index(step));
    }
    from.push_back(p);
  }
  return from;
}

Grads pad_gradient(Builder& b, Op* op, Op* g) {
  std::vector<int64_t> begin, end, step;
  const Shape& shape = op->operands[0]->type.shape;
  for (size_t i = 0; i < shape.size(); ++i) {
    step.push_back(entry(*op, "interior", i, 0) + 1);
    begin.push_back(op->attributes.integers("low")[i]);
    end.push_back(begin[i] + (shape[i] - 1) * step[i] + 1);
  }
  return {b.create("slice", {g}, {{"begin", ints(begin)}, {"end", ints(end)}, {"step", ints(step)}})};
}

OpDef pad() {
  OpDef def = Def(
      "pad", OpKind::indexing,
      "x with a constant put before, after and, by `interior`, between its elements on each example axis.");
  def.operands = {{"x", "f32, f64 or i32"}};
  def.attributes = {required("low", AttributeKind::integers, "how many before, on each axis"),
                    required("high", AttributeKind::integers, "how many after, on each axis"),
                    optional("interior", AttributeKind::integers, ints({}),
                             "how many between two neighbours, on each axis; empty: 0"),
                    optional("value", AttributeKind::number, 0.0, "the constant")};
  def.infer = infer_pad;
  def.position = pad_position;
  def.otherwise = [](const Op& op) { return op.attributes.number("value"); };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    const int64_t rows = rows_of(op.type, c), to_example = op.type.elements(),
                  from_example = in[0]->type.elements();
    std::fill_n(out.data.data(), rows * to_example, op.attributes.number("value"));
    const auto stride = strides(op.type.shape);
    for_each_position(in[0]->type.shape, [&](int64_t flat, const std::vector<int64_t>& position) {
      int64_t to = 0;
      for (size_t i = 0; i < position.size(); ++i)
        to +=
            (op.attributes.integers("low")[i] + position[i] * (entry(op, "interior", i, 0) + 1)) * stride[i];
      for (int64_t r = 0; r < rows; ++r)
        out.data.data()[r * to_example + to] = in[0]->data.data()[r * from_example + flat];
    });
    return out;
  };
  def.gradient = pad_gradient;
  def.cost = cost_free;
  def.samples = {{{batched({5})}, {{"low", ints({2})}, {"high", ints({1})}, {"value", 0.5}}},
                 {{batched({3, 4})}, {{"low", ints({0, 2})}, {"high", ints({1, 0})}}},
                 {{plain({11})}, {{"low", ints({1})}, {"high", ints({0})}, {"interior", ints({2})}}},
                 {{batched({2, 3}, DType::f64)},
                  {{"low", ints({1, 0})}, {"high", ints({2, 0})}, {"interior", ints({1, 1})}}}};
  return def;
}

// --- concat

InferResult infer_concat(Types t, const Attributes& a) {
  if (std::string e = check_axis(a, "axis", t[0]); !e.empty()) return InferResult::fail(e);
  const size_t axis = at(a.integer("axis"));
  Type result = t[0];
  for (size_t k = 1; k < t.size(); ++k) {
    if (t[k].dtype != result.dtype) {
      return InferResult::fail(fmt::format("{} and {} have different element types; convert one with cast",
                                           to_string(t[0]), to_string(t[k])));
    }
    Shape shape = t[k].shape;
    if (shape.size() == result.shape.size()) shape[axis] = t[0].shape[axis];
    if (shape != t[0].shape) {
      return InferResult::fail(
          fmt::format("{} and {} differ in more than axis {}", to_string(t[0]), to_string(t[k]), axis));
    }
    result.shape[axis] += t[k].shape[axis];
    result.batched = result.batched || t[k].batched;
  }
  return InferResult::ok(std::move(result));
}

int64_t concat_offset(const Op& op, int operand) {
  int64_t offset = 0;
  for (int k = 0; k < operand; ++k)
    offset += op.operands[at(k)]->type.shape[at(op.attributes.integer("axis"))];
  return offset;
}

OpDef concat() {
  OpDef def = Def("concat", OpKind::indexing, "The operands one after the other along an axis.");
  def.operands = {{"x", "any type; every operand has the same extents but on the axis"}};
  def.variadic = true;
  def.attributes = {required("axis", AttributeKind::integer,
                             "the example axis, 0 being the first; negative: from the end")};
  def.infer = infer_concat;
  def.position = [](const Op& op, int operand, std::span<const Expr> position, Expr& condition) {
    const size_t axis = at(op.attributes.integer("axis"));
    const bool last = at(operand) + 1 == op.operands.size();
    const int64_t offset = concat_offset(op, operand);
    // Conditions of earlier operands are tested first, so the upper bound alone decides.
    condition =
        last ? always()
             : loop::compare(CompareOp::lt, position[axis], loop::index(concat_offset(op, operand + 1)));
    Position from(position.begin(), position.end());
    from[axis] = position[axis] - loop::index(offset);
    return from;
  };
  def.otherwise = never;
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    const size_t axis = at(op.attributes.integer("axis"));
    int64_t inner = 1, outer = 1;
    for (size_t i = 0; i < op.type.shape.size(); ++i) {
      if (i < axis) outer *= op.type.shape[i];
      if (i > axis) inner *= op.type.shape[i];
    }
    const int64_t run_out = inner * op.type.shape[axis];
    for (size_t k = 0, offset = 0; k < in.size(); offset += at(in[k]->type.shape[axis]), ++k) {
      const int64_t run = inner * in[k]->type.shape[axis];
      for (int64_t r = 0; r < rows_of(op.type, c); ++r) {
        for (int64_t o = 0; o < outer; ++o) {
          const double* from = in[k]->data.data() + ((in[k]->type.batched ? r * outer : 0) + o) * run;
          std::copy_n(from, run,
                      out.data.data() + (r * outer + o) * run_out + static_cast<int64_t>(offset) * inner);
        }
      }
    }
    return out;
  };
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    const size_t axis = at(op->attributes.integer("axis"));
    Grads grads;
    for (size_t k = 0; k < op->operands.size(); ++k) {
      std::vector<int64_t> begin(op->type.shape.size(), 0), end = op->type.shape;
      begin[axis] = concat_offset(*op, static_cast<int>(k));
      end[axis] = concat_offset(*op, static_cast<int>(k) + 1);
      grads.push_back(b.create("slice", {g}, {{"begin", ints(begin)}, {"end", ints(end)}}));
    }
    return grads;
  };
  def.cost = cost_free;
  def.samples = {{{batched({3}), batched({5})}, {{"axis", integer(0)}}},
                 {{batched({2, 3}), batched({4, 3}), plain({1, 3})}, {{"axis", integer(0)}}},
                 {{plain({2, 3}), plain({2, 8})}, {{"axis", integer(-1)}}},
                 {{batched({4}, DType::f64)}, {{"axis", integer(0)}}}};
  return def;
}

// --- reshape

// The fields that both forms share; they suffice for a view.
OpDef reshape(const char* name, OpKind kind, const char* doc) {
  OpDef def = Def(name, kind, doc);
  def.operands = {{"x", "any type"}};
  def.attributes = {
      required("shape", AttributeKind::integers, "the example shape wanted, with as many elements")};
  def.infer = [](Types t, const Attributes& a) {
    if (std::string e = check_shape(a, "shape"); !e.empty()) return InferResult::fail(e);
    Type result = t[0].with_shape(a.integers("shape"));
    if (result.elements() != t[0].elements()) {
      return InferResult::fail(fmt::format("{} has {} elements{}, but the shape {} has {}", to_string(t[0]),
                                           t[0].elements(), t[0].batched ? " for each example" : "",
                                           to_string(result.shape), result.elements()));
    }
    return InferResult::ok(std::move(result));
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    std::copy_n(in[0]->data.data(), value_count(op, c), out.data.data());
    return out;
  };
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    return {b.reshape(g, op->operands[0]->type.shape)};
  };
  def.cost = cost_free;
  def.samples = {{{batched({3, 4})}, {{"shape", ints({12})}}},
                 {{batched({})}, {{"shape", ints({1, 1})}}},
                 {{plain({7})}, {{"shape", ints({7, 1})}}},
                 {{plain({2, 3, 4}, DType::f64)}, {{"shape", ints({4, 6})}}},
                 {{batched({2, 3, 4})}, {{"shape", ints({24})}}}};
  return def;
}

// Position of the operand's element with the same flat index in logical order.
Position same_number(const Op& op, std::span<const Expr> position) {
  const Shape &to = op.type.shape, &from = op.operands[0]->type.shape;
  Expr number = loop::index(0);
  for (size_t i = 0; i < to.size(); ++i) number = number * loop::index(to[i]) + position[i];
  Position result(from.size());
  for (size_t i = from.size(); i-- > 0;) {
    result[i] = i == 0 ? number : loop::binary(loop::BinaryOp::rem, number, loop::index(from[i]));
    number = number / loop::index(from[i]);
  }
  return result;
}

OpDef reshape_copy() {
  OpDef def = reshape("reshape_copy", OpKind::indexing,
                      "A reshape that copies: it replaces reshape where the orders in memory differ.");
  def.position = [](const Op& op, int, std::span<const Expr> position, Expr& condition) {
    condition = always();
    return same_number(op, position);
  };
  def.otherwise = never;
  return def;
}

// --- after

OpDef after() {
  OpDef def = Def("after", OpKind::view,
                  "x itself, for uses that run only after the value `made`. It defers the recomputation in "
                  "backward of values that forward computed (pass recompute).");
  def.operands = {{"x", "any type"}, {"made", "any type"}};
  def.by_row = false;  // of `made` only the time matters
  def.infer = [](Types t, const Attributes&) { return InferResult::ok(t[0]); };
  def.evaluate = [](const Op&, Operands in, Context&) { return *in[0]; };
  def.gradient = [](Builder&, Op*, Op* g) -> Grads { return {g, nullptr}; };
  def.cost = cost_free;
  def.samples = {{{batched({3}), batched({5})}}, {{plain({2, 3}), batched({})}}};
  return def;
}

}  // namespace

void register_indexing(std::vector<OpDef>& defs) {
  defs.push_back(transpose());
  defs.push_back(slice());
  defs.push_back(pad());
  defs.push_back(concat());
  defs.push_back(
      reshape("reshape", OpKind::view, "The same elements in the same order under another example shape."));
  defs.push_back(reshape_copy());
  defs.push_back(after());
}

}  // namespace gradc
