// Composites for classification: log_softmax, argmax, pick, one_hot. Each is replaced by reductions and
// elementwise operators after differentiation; it must not know how those are fused.
#include <cmath>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;

AttributeSpec axis_spec() {
  return optional("axis", AttributeKind::integer, integer(-1),
                  "the example axis, 0 being the first; negative: from the end");
}

Attributes reduce_axis(const Op& op, bool keep) {
  return {{"axes", ints({op.attributes.integer("axis")})}, {"batch", false}, {"keep", keep}};
}

Op* positions(Builder& b, const Shape& shape, int64_t axis) {
  return b.create("iota", {}, {{"shape", ints(shape)}, {"axis", axis}, {"dtype", text("i32")}});
}

// The extents of a value around an axis: `outer` elements before it (rows included), `inner` after it.
struct AxisCut {
  int64_t outer, extent, inner;
};
AxisCut cut(const Type& type, int64_t axis, int64_t rows) {
  AxisCut c{type.batched ? rows : 1, type.shape[static_cast<size_t>(axis)], 1};
  for (int64_t i = 0; i < type.rank(); ++i) {
    if (i < axis) c.outer *= type.shape[static_cast<size_t>(i)];
    if (i > axis) c.inner *= type.shape[static_cast<size_t>(i)];
  }
  return c;
}

interpreter::Tensor evaluate_log_softmax(const Op& op, Operands in, Context& c) {
  interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
  const AxisCut k = cut(op.type, op.attributes.integer("axis"), c.rows);
  for (int64_t o = 0; o < k.outer; ++o) {
    for (int64_t i = 0; i < k.inner; ++i) {
      const double* x = in[0]->data.data() + o * k.extent * k.inner + i;
      double* y = out.data.data() + o * k.extent * k.inner + i;
      double most = x[0], sum = 0;
      for (int64_t j = 1; j < k.extent; ++j) {
        if (x[j * k.inner] > most || std::isnan(x[j * k.inner])) most = x[j * k.inner];
      }
      for (int64_t j = 0; j < k.extent; ++j) sum += std::exp(x[j * k.inner] - most);
      for (int64_t j = 0; j < k.extent; ++j) y[j * k.inner] = x[j * k.inner] - most - std::log(sum);
    }
  }
  return out;
}

OpDef log_softmax() {
  OpDef def = Def("log_softmax", OpKind::composite,
                  "x - log(sum exp(x)) along an axis, computed as z - log(sum exp(z)) with z = x - max(x), "
                  "so that nothing overflows. Gradient g - "
                  "exp(y) sum(g).");
  def.operands = {{"x", "f32 or f64"}};
  def.attributes = {axis_spec()};
  def.infer = [](Types t, const Attributes& a) {
    if (InferResult r = infer_floats(t, a); !r.error.empty()) return r;
    const std::string e = check_axis(a, "axis", t[0]);
    return e.empty() ? InferResult::ok(t[0]) : InferResult::fail(e);
  };
  def.decompose = [](Builder& b, Op* op) {
    Op* x = op->operands[0];
    Op* z = b.sub(x, b.create("reduce_max", {x}, reduce_axis(*op, true)));
    return b.sub(z, b.create("log", {b.create("reduce_sum", {b.exp(z)}, reduce_axis(*op, true))}));
  };
  def.gradient = [](Builder& b, Op* y, Op* g) -> Grads {
    return {b.sub(g, b.mul(b.exp(y), b.create("reduce_sum", {g}, reduce_axis(*y, true))))};
  };
  def.evaluate = evaluate_log_softmax;
  def.cost = [](const Op& op) { return simple_cost(op, 20 * static_cast<double>(op.type.elements())); };
  def.samples = {{{batched({10})}, {{"axis", integer(0)}}},
                 {{batched({3, 5, 2})}, {{"axis", integer(1)}}},
                 {{plain({7})}, {{"axis", integer(-1)}}},
                 {{batched({4, 6}, DType::f64)}, {{"axis", integer(1)}}, -30, 30}};
  return def;
}

OpDef argmax() {
  OpDef def =
      Def("argmax", OpKind::composite,
          "The position (i32) of the greatest element along an axis: the first one, or the first NaN.");
  def.operands = {{"x", "f32, f64 or i32"}};
  def.attributes = {axis_spec()};
  def.infer = [](Types t, const Attributes& a) {
    if (InferResult r = infer_numbers(t, a); !r.error.empty()) return r;
    if (std::string e = check_axis(a, "axis", t[0]); !e.empty()) return InferResult::fail(e);
    Type result = t[0].with(DType::i32);
    result.shape.erase(result.shape.begin() + a.integer("axis"));
    return InferResult::ok(std::move(result));
  };
  def.decompose = [](Builder& b, Op* op) {
    Op* x = op->operands[0];
    Op* most = b.create("reduce_max", {x}, reduce_axis(*op, true));
    Op* here = b.create("logical_or", {b.compare("eq", x, most), b.compare("ne", x, x)});
    Op* position = b.select(here, positions(b, x->type.shape, op->attributes.integer("axis")),
                            b.constant(2147483647, DType::i32));
    return b.create("reduce_min", {position}, reduce_axis(*op, false));
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    const AxisCut k = cut(in[0]->type, op.attributes.integer("axis"), c.rows);
    Chooser chooser(op, c, k.outer * k.inner);
    for (int64_t o = 0; o < k.outer; ++o) {
      for (int64_t i = 0; i < k.inner; ++i) {
        const double* x = in[0]->data.data() + o * k.extent * k.inner + i;
        int64_t best = 0;
        for (int64_t j = 1; j < k.extent; ++j) {
          const double v = x[j * k.inner], most = x[best * k.inner];
          if (v > most || (std::isnan(v) && !std::isnan(most))) best = j;
        }
        out.data.data()[o * k.inner + i] = static_cast<double>(chooser(o * k.inner + i, best));
      }
    }
    return out;
  };
  def.no_gradient = "positions are not differentiable";
  def.cost = cost_per_input;
  def.samples = {{{batched({10})}, {{"axis", integer(0)}}},
                 {{batched({3, 5, 2})}, {{"axis", integer(1)}}},
                 {{plain({7})}, {{"axis", integer(-1)}}},
                 {{batched({6}, DType::i32)}, {{"axis", integer(0)}}, 0, 3}};
  return def;
}

Shape with_last(Shape shape, int64_t extent) {
  shape.push_back(extent);
  return shape;
}

// True where the last axis' position is the index.
Op* at_index(Builder& b, Op* index, int64_t extent) {
  Op* column = b.reshape(index, with_last(index->type.shape, 1));
  return b.compare("eq", positions(b, {extent}, 0), column);
}

OpDef pick() {
  OpDef def = Def("pick", OpKind::composite,
                  "The element of x at an index along the last axis; 0 where the index lies outside. The "
                  "gradient is one_hot(index) g.");
  def.operands = {{"x", "f32, f64 or i32"}, {"index", "i32, the shape of x without its last axis"}};
  def.exact = true;
  def.infer = [](Types t, const Attributes& a) {
    if (InferResult r = infer_numbers(t.first(1), a); !r.error.empty()) return r;
    if (std::string e = check_index(t[1]); !e.empty()) return InferResult::fail(e);
    if (t[0].rank() == 0)
      return InferResult::fail(fmt::format("{} has no axis to pick from", to_string(t[0])));
    Type result = t[0];
    result.shape.pop_back();
    if (result.shape != t[1].shape) {
      return InferResult::fail(
          fmt::format("{} needs an index of shape {} (its own without the last axis), not {}",
                      to_string(t[0]), to_string(result.shape), to_string(t[1])));
    }
    result.batched = t[0].batched || t[1].batched;
    return InferResult::ok(std::move(result));
  };
  def.decompose = [](Builder& b, Op* op) {
    Op* x = op->operands[0];
    Op* chosen = b.select(at_index(b, op->operands[1], x->type.shape.back()), x, zero(b, x));
    return b.create("reduce_sum", {chosen},
                    {{"axes", ints({x->type.rank() - 1})}, {"batch", false}, {"keep", false}});
  };
  def.index = [](const Op& op) { return IndexUse{1, op.operands[0]->type.shape.back()}; };
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    Op* column = b.reshape(g, with_last(g->type.shape, 1));
    return {b.select(at_index(b, op->operands[1], op->operands[0]->type.shape.back()), column, zero(b, g)),
            nullptr};
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    const int64_t extent = in[0]->type.shape.back(), count = value_count(op, c), one = op.type.elements();
    for (int64_t i = 0; i < count; ++i) {
      const double index = in[1]->data.data()[in[1]->type.batched ? i : i % one];
      const int64_t row = in[0]->type.batched ? i : i % one;
      if (index >= 0 && index < static_cast<double>(extent)) {
        out.data.data()[i] = in[0]->data.data()[row * extent + static_cast<int64_t>(index)];
      }
    }
    return out;
  };
  def.cost = cost_per_input;
  const DType i32 = DType::i32;
  def.samples = {{{batched({10}), batched({}, i32)}, {}, -2, 10},
                 {{batched({3, 5}), batched({3}, i32)}, {}, -2, 7},
                 {{plain({5}), batched({}, i32)}, {}, -2, 5},
                 {{plain({4, 3}, DType::f64), plain({4}, i32)}, {}, -2, 3}};
  return def;
}

OpDef one_hot() {
  OpDef def =
      Def("one_hot", OpKind::composite,
          "A new last axis (f32) with 1 at the index and 0 elsewhere; all 0 where the index lies outside.");
  def.operands = {{"index", "i32"}};
  def.exact = true;
  def.attributes = {required("depth", AttributeKind::integer, "the new axis' extent, at least 1")};
  def.infer = [](Types t, const Attributes& a) {
    if (std::string e = check_index(t[0]); !e.empty()) return InferResult::fail(e);
    const int64_t depth = a.integer("depth");
    if (depth < 1) return InferResult::fail(fmt::format("`depth` is {}; it must be at least 1", depth));
    return InferResult::ok({DType::f32, t[0].batched, with_last(t[0].shape, depth)});
  };
  def.decompose = [](Builder& b, Op* op) {
    return b.cast(at_index(b, op->operands[0], op->attributes.integer("depth")), DType::f32);
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    const int64_t depth = op.attributes.integer("depth"), count = value_count(op, c) / depth;
    for (int64_t i = 0; i < count; ++i) {
      const double index = in[0]->data.data()[i];
      if (index >= 0 && index < static_cast<double>(depth))
        out.data.data()[i * depth + static_cast<int64_t>(index)] = 1;
    }
    return out;
  };
  def.no_gradient = "its operand is an integer";
  def.samples = {{{batched({}, DType::i32)}, {{"depth", integer(10)}}, 0, 12},
                 {{batched({3}, DType::i32)}, {{"depth", integer(5)}}, 0, 5},
                 {{plain({7}, DType::i32)}, {{"depth", integer(3)}}, 0, 4}};
  return def;
}

}  // namespace

void register_softmax(std::vector<OpDef>& defs) {
  defs.push_back(log_softmax());
  defs.push_back(argmax());
  defs.push_back(pick());
  defs.push_back(one_hot());
}

}  // namespace gradc
