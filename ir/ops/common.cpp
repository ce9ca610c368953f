// Shared inference, checks, costs and gradient steps of the primitives.
#include "ir/ops/common.h"

#include <algorithm>
#include <cmath>

namespace gradc::ops {

int64_t bytes(const Type& t) {
  const int64_t size = t.dtype == DType::f64 ? 8 : t.dtype == DType::boolean ? 1 : 4;
  return size * t.elements();
}

namespace {

// "extents 16 and 32 differ" for the first pair, from the right, that does not broadcast.
std::string difference(const Shape& a, const Shape& b) {
  for (size_t i = 1; i <= std::min(a.size(), b.size()); ++i) {
    const int64_t x = a[a.size() - i], y = b[b.size() - i];
    if (x != y && x != 1 && y != 1) {
      const std::string where = i == 1 ? "the last axis" : fmt::format("axis {} from the right", i);
      return fmt::format("on {} the extents {} and {} differ", where, x, y);
    }
  }
  return "their shapes differ";
}

}  // namespace

std::string check_index(const Type& index) {
  if (index.dtype == DType::i32) return {};
  return fmt::format("the index is {}, not i32; convert it with cast", to_string(index));
}

InferResult join(const Type& a, const Type& b, DType result) {
  Type type{result, a.batched || b.batched, {}};
  if (!broadcast_shapes(a.shape, b.shape, type.shape)) {
    return InferResult::fail(fmt::format("{} and {} do not fit together: {}", to_string(a), to_string(b),
                                         difference(a.shape, b.shape)));
  }
  return InferResult::ok(std::move(type));
}

InferResult join_all(Types types, DType result) {
  Type type = types[0];
  for (size_t i = 1; i < types.size(); ++i) {
    InferResult r = join(type, types[i], result);
    if (!r.error.empty()) return r;
    type = std::move(r.type);
  }
  return InferResult::ok(type.with(result));
}

namespace {

InferResult infer_one_dtype(Types t, bool integers) {
  for (const Type& type : t) {
    if (!(integers ? is_number(type.dtype) : type.is_float())) {
      return InferResult::fail(fmt::format("the operand is {}, but only {} work here; convert it with cast",
                                           to_string(type), integers ? "numbers" : "f32 and f64"));
    }
    if (type.dtype != t[0].dtype) {
      return InferResult::fail(fmt::format("{} and {} have different element types; convert one with cast",
                                           to_string(t[0]), to_string(type)));
    }
  }
  return join_all(t, t[0].dtype);
}

}  // namespace

InferResult infer_floats(Types t, const Attributes&) { return infer_one_dtype(t, false); }
InferResult infer_numbers(Types t, const Attributes&) { return infer_one_dtype(t, true); }
InferResult infer_same(Types t, const Attributes&) { return InferResult::ok(t[0]); }

std::string check_between(const Attributes& a, const std::string& name, double low, bool low_included,
                          double high, bool high_included) {
  const double v = a.number(name);
  const bool fits = (low_included ? v >= low : v > low) && (high_included ? v <= high : v < high);
  if (fits) return {};
  if (std::isinf(high)) {
    return fmt::format("`{}` must be finite and {} {}, not {}", name, low_included ? "at least" : "above",
                       low, v);
  }
  return fmt::format("`{}` must lie in {}{}, {}{}, not {}", name, low_included ? "[" : "(", low, high,
                     high_included ? "]" : ")", v);
}

std::string check_list(const Attributes& a, const std::string& name, size_t count, int64_t low,
                       int64_t high) {
  const auto& list = a.integers(name);
  if (list.size() != count) return fmt::format("`{}` must have {} entries, not {}", name, count, list.size());
  for (const int64_t v : list) {
    if (v < low || v > high)
      return fmt::format("`{}` has {}; entries must lie between {} and {}", name, v, low, high);
  }
  return {};
}

std::string check_shape(const Attributes& a, const std::string& name) {
  const auto& shape = a.integers(name);
  if (shape.size() > static_cast<size_t>(kMaxRank))
    return fmt::format("`{}` has {} axes; at most {} are possible", name, shape.size(), kMaxRank);
  int64_t elements = 1;
  for (const int64_t extent : shape) {
    if (extent < 1) return fmt::format("`{}` is {}; every extent must be at least 1", name, to_string(shape));
    if (extent > kMaxElements / elements) {
      return fmt::format("`{}` is {}, more than the {} elements that are possible", name, to_string(shape),
                         kMaxElements);
    }
    elements *= extent;
  }
  return {};
}

std::string check_axis(const Attributes& a, const std::string& name, const Type& type) {
  const int64_t axis = a.integer(name);
  if (axis >= 0 && axis < type.rank()) return {};
  if (type.rank() == 0)
    return fmt::format("{} has no axis (only one number{})", to_string(type),
                       type.batched ? " for each example" : "");
  return fmt::format("`{}` is {}, but {} has the axes 0 to {} (the batch is not counted)", name, axis,
                     to_string(type), type.rank() - 1);
}

Cost simple_cost(const Op& op, double flop) {
  Cost cost{flop, static_cast<double>(bytes(op.type))};
  for (const Op* operand : op.operands) cost.bytes += static_cast<double>(bytes(operand->type));
  return cost;
}

Cost cost_per_input(const Op& op) {
  return simple_cost(op, static_cast<double>(op.operands.at(0)->type.elements()));
}
Cost cost_free(const Op& op) { return simple_cost(op, 0); }

bool is_constant(const Op* op, double value) {
  return op->is("constant") && op->attributes.number("value") == value;
}

namespace {

constexpr int kFarthest = 8;  // greatest depth of a search through operands

// A mask of reduce_sum's operand as one of its result; null where it varies along a reduced axis.
Op* reduced_mask(Builder& b, Op* sum, Op* where) {
  if (sum->attributes.boolean("batch") && where->type.batched) return nullptr;
  const size_t missing = sum->operands[0]->type.shape.size() - where->type.shape.size();
  const bool keep = sum->attributes.boolean("keep");
  Shape shape = where->type.shape;
  auto axes = sum->attributes.integers("axes");
  std::sort(axes.rbegin(), axes.rend());
  for (const int64_t axis : axes) {
    const auto at = static_cast<size_t>(axis);
    if (at < missing) continue;
    if (shape[at - missing] != 1) return nullptr;
    if (!keep) shape.erase(shape.begin() + static_cast<std::ptrdiff_t>(at - missing));
  }
  return shape == where->type.shape ? where : b.reshape(where, shape);
}

class Masks {
 public:
  Masks(Builder& b, bool far) : b_(b), far_(far) {}

  Op* of(Op* g, int steps) {
    if (steps == 0) return nullptr;
    if (g->is("select")) return of_select(g, steps);
    if (!far_) return nullptr;
    if (g->is("relu_grad"))
      return both(b_.compare("gt", g->operands[1], b_.constant(0, g->operands[1]->type.dtype)),
                  of(g->operands[0], steps - 1));
    if (g->is("neg") || g->is("broadcast") || g->is("div")) return of(g->operands[0], steps - 1);
    if (g->is("mul")) return both(of(g->operands[0], steps - 1), of(g->operands[1], steps - 1));
    if (g->is("add") || g->is("sub")) {
      Op* first = of(g->operands[0], steps - 1);
      Op* second = first ? of(g->operands[1], steps - 1) : nullptr;
      return second ? b_.create("logical_or", {first, second}) : nullptr;
    }
    if (g->is("reshape")) {
      Op* where = of(g->operands[0], steps - 1);
      if (!where || where->type.shape.empty()) return where;
      return where->type.shape == g->operands[0]->type.shape ? b_.reshape(where, g->type.shape) : nullptr;
    }
    if (g->is("reduce_sum")) {
      Op* where = of(g->operands[0], steps - 1);
      return where ? reduced_mask(b_, g, where) : nullptr;
    }
    return nullptr;
  }

 private:
  Op* both(Op* a, Op* b) { return a && b ? b_.create("logical_and", {a, b}) : a ? a : b; }

  Op* of_select(Op* g, int steps) {
    Op *c = g->operands[0], *yes = g->operands[1], *no = g->operands[2];
    const bool never_yes = is_constant(yes, 0), never_no = is_constant(no, 0);
    Op* where_yes = never_yes ? nullptr : of(yes, steps - 1);
    Op* where_no = never_no ? nullptr : of(no, steps - 1);
    const auto otherwise = [&] { return b_.create("logical_not", {c}); };
    if (never_no) return both(c, where_yes);
    if (never_yes) return both(otherwise(), where_no);
    if (!where_yes && !where_no) return nullptr;
    return b_.create("logical_or", {both(c, where_yes), both(otherwise(), where_no)});
  }

  Builder& b_;
  const bool far_;
};

}  // namespace

Op* nonzero(Builder& b, Op* g, bool far) { return Masks(b, far).of(g, kFarthest); }

namespace {

// Whether two operations are the same expression: a common subexpression that is not merged yet.
bool same_value(const Op* a, const Op* b, int steps) {
  if (a == b) return true;
  if (steps == 0 || a->def != b->def || a->def->random || !(a->attributes == b->attributes) ||
      a->operands.size() != b->operands.size() || a->operands.empty())
    return false;
  for (size_t i = 0; i < a->operands.size(); ++i)
    if (!same_value(a->operands[i], b->operands[i], steps - 1)) return false;
  return true;
}

}  // namespace

bool is_sum_of_squares(const Op* x) {
  if (x->is("mul")) {
    const Op *a = x->operands[0], *b = x->operands[1];
    if (same_value(a, b, kFarthest)) return true;
    const auto scales = [](const Op* s) { return s->is("constant") && s->attributes.number("value") > 0; };
    return (scales(a) && is_sum_of_squares(b)) || (scales(b) && is_sum_of_squares(a));
  }
  if (x->is("pow")) {
    const Op* e = x->operands[1];
    return e->is("constant") && e->attributes.number("value") >= 2 &&
           std::fmod(e->attributes.number("value"), 2) == 0;
  }
  if (x->is("add")) return is_sum_of_squares(x->operands[0]) && is_sum_of_squares(x->operands[1]);
  if (x->is("div"))
    return x->operands[1]->is("constant") && x->operands[1]->attributes.number("value") > 0 &&
           is_sum_of_squares(x->operands[0]);
  if (x->is("batch_var")) return true;
  return (x->is("reduce_sum") || x->is("broadcast") || x->is("reshape")) && is_sum_of_squares(x->operands[0]);
}

Op* norm_gradient(Builder& b, Op* x, Op* g) {
  if (!is_sum_of_squares(x)) return g;
  Op* none = b.constant(0, g->type.dtype);
  return b.select(b.compare("eq", x, b.constant(0, x->type.dtype)), none, g);
}

Op* broadcast_to(Builder& b, Op* x, const Type& type) {
  if (x->type.shape == type.shape && x->type.batched == type.batched) return x;
  return b.create("broadcast", {x}, {{"shape", ints(type.shape)}, {"batched", type.batched}});
}

}  // namespace gradc::ops
