// Shared inference, checks, costs and gradient steps of the primitives.
#include "ir/ops/common.h"

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

Op* broadcast_to(Builder& b, Op* x, const Type& type) {
  if (x->type.shape == type.shape && x->type.batched == type.batched) return x;
  return b.create("broadcast", {x}, {{"shape", ints(type.shape)}, {"batched", type.batched}});
}

}  // namespace gradc::ops
