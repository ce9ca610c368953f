// Elementwise arithmetic of two broadcast operands. It must not know how kernels are built around it.
#include <cmath>
#include <functional>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/lower.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;

std::vector<OpSample> binary_samples(double low, double high, bool integers) {
  std::vector<OpSample> samples = {
      {{batched({3, 5}), batched({3, 5})}, {}, low, high},
      {{batched({3, 5}), plain({5})}, {}, low, high},
      {{plain({3, 1}), batched({1, 5})}, {}, low, high},
      {{batched({}), batched({4})}, {}, low, high},
      {{plain({}), plain({7})}, {}, low, high},
      {{plain({2, 3}), plain({})}, {}, low, high},
      {{batched({2, 3, 3}, DType::f64), plain({2, 1, 1}, DType::f64)}, {}, low, high, 3}};
  if (integers) samples.push_back({{batched({3}, DType::i32), plain({}, DType::i32)}, {}, 0, 9});
  return samples;
}

OpDef binary(std::string name, std::string doc, bool integers, double low = -2, double high = 2) {
  OpDef def = Def(std::move(name), OpKind::elementwise, std::move(doc));
  def.operands = {{"a", integers ? "f32, f64 or i32" : "f32 or f64"}, {"b", "the same element type"}};
  def.infer = integers ? infer_numbers : infer_floats;
  def.samples = binary_samples(low, high, integers);
  return def;
}

// Integers wrap at 32 bits; `exact` works on 64-bit integers.
template <auto real, auto exact>
interpreter::Tensor evaluate_number(const Op& op, Operands in, Context& c) {
  if (op.type.dtype != DType::i32) return evaluate<2, real>(op, in, c);
  return evaluate<2, [](double a, double b) {
    return wrap(exact(static_cast<int64_t>(a), static_cast<int64_t>(b)));
  }>(op, in, c);
}

Op* first(Op* op) { return op->operands[0]; }
Op* second(Op* op) { return op->operands[1]; }

// Whether an operand is a constant, possibly broadcast: at a tie the other operand does not share the
// gradient with it.
bool is_bound(const Op* op) {
  while (op->is("broadcast") || op->is("reshape") || op->is("cast")) op = op->operands[0];
  return op->is("constant");
}

// The gradient of min and max goes to the chosen operand. At a tie each gets half, but a constant takes
// nothing from the other: `max(x, 0)` then has the slopes 0 and 1 alone, as torch.clamp, and `min(x, 0)`,
// which only keeps a branch finite, passes the whole gradient at 0.
Grads extremum_gradient(Builder& b, Op* op, Op* g, const char* wins, const char* wins_or_ties) {
  if (!g->type.is_float()) return {nullptr, nullptr};
  Op *x = first(op), *y = second(op), *none = zero(b, g);
  const auto share = [&](Op* mine, Op* other) {
    if (is_bound(other)) return b.select(b.compare(wins_or_ties, mine, other), g, none);
    return b.select(b.compare(wins, mine, other), g,
                    b.select(b.compare("eq", mine, other), b.mul(g, 0.5), none));
  };
  return {share(x, y), share(y, x)};
}

// min and max, recording the decision that the gradient makes: the first, the second, or half of each.
template <auto wins>
interpreter::Tensor evaluate_extremum(const Op& op, Operands in, Context& c) {
  enum : int64_t { take_first, take_second, take_both };
  const int64_t tie = is_bound(op.operands[1])   ? take_first
                      : is_bound(op.operands[0]) ? take_second
                                                 : take_both;
  Chooser chooser(op, c, value_count(op, c));
  return map_indexed<2>(op, in, c, [&](int64_t i, const std::array<double, 2>& v) {
    const auto [x, y] = v;
    const int64_t choice = chooser(i, std::isnan(x)   ? take_first
                                      : std::isnan(y) ? take_second
                                      : wins(x, y)    ? take_first
                                      : wins(y, x)    ? take_second
                                                      : tie);
    return choice == take_first ? x : choice == take_second || x == y ? y : x / 2 + y / 2;
  });
}

Op* power(Builder& b, Op* x, Op* exponent, double e) {
  if (e == 1) return x;
  if (e == 2) return b.mul(x, x);
  if (e == 0.5) return b.create("sqrt", {x});
  return b.create("pow", {x, exponent});
}

Grads pow_gradient(Builder& b, Op* op, Op* g) {
  Op *x = first(op), *e = second(op);
  if (e->is("constant")) {
    const double exponent = e->attributes.number("value");
    if (exponent == 0) return {nullptr, nullptr};
    if (exponent == 1) return {g, nullptr};
    Op* down = b.constant(exponent - 1, e->type.dtype);
    Op* slope = b.mul(power(b, x, down, exponent - 1), exponent);
    if (exponent > 1) return {times(b, g, slope), nullptr};
    if (exponent >= 0.5) g = norm_gradient(b, x, g);
    return {through_pole(b, g, [&](Op* h) { return b.mul(h, slope); }), nullptr};
  }
  Op* none = zero(b, g);
  Op* slope = b.mul(e, b.create("pow", {x, b.add(e, -1.0)}));
  const auto product = [&](Op* f) { return through_pole(b, g, [&](Op* h) { return b.mul(h, f); }); };
  Op* dx = product(b.select(b.compare("eq", e, none), none, slope));
  Op* growth = b.select(b.compare("eq", x, none), none, b.mul(op, b.create("log", {x})));
  return {dx, product(growth)};
}

}  // namespace

void register_binary(std::vector<OpDef>& defs) {
  OpDef add = binary("add", "a + b.", true);
  add.commutative = true;
  add.scalar = scalar_binary<BinaryOp::add>;
  add.evaluate =
      evaluate_number<[](double a, double b) { return a + b; }, [](int64_t a, int64_t b) { return a + b; }>;
  add.gradient = [](Builder&, Op*, Op* g) -> Grads { return {g, g}; };
  defs.push_back(std::move(add));

  OpDef sub = binary("sub", "a - b.", true);
  sub.scalar = scalar_binary<BinaryOp::sub>;
  sub.evaluate =
      evaluate_number<[](double a, double b) { return a - b; }, [](int64_t a, int64_t b) { return a - b; }>;
  sub.gradient = [](Builder& b, Op*, Op* g) -> Grads {
    return {g, through(b, g, [&](Op* h) { return b.neg(h); })};
  };
  defs.push_back(std::move(sub));

  OpDef mul = binary("mul", "a b.", true);
  mul.commutative = true;
  mul.scalar = scalar_binary<BinaryOp::mul>;
  mul.evaluate =
      evaluate_number<[](double a, double b) { return a * b; }, [](int64_t a, int64_t b) { return a * b; }>;
  mul.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    return {times(b, g, second(op)), times(b, g, first(op))};
  };
  defs.push_back(std::move(mul));

  OpDef div = binary("div", "a / b; infinite or NaN where b is 0. Gradients g / b and -g (a / b) / b.", false,
                     0.5, 2);
  div.scalar = scalar_binary<BinaryOp::div>;
  div.evaluate = evaluate<2, [](double a, double b) { return a / b; }>;
  div.gradient = [](Builder& b, Op* y, Op* g) -> Grads {
    const bool pole = !second(y)->is("constant");
    return {through(
                b, g, [&](Op* h) { return b.div(h, second(y)); }, pole),
            through(b, g, [&](Op* h) { return b.neg(b.div(b.mul(h, y), second(y))); }, pole)};
  };
  div.cost = cost_per_element<4>;
  defs.push_back(std::move(div));

  OpDef pow = binary("pow",
                     "a to the power b; NaN for a negative a with a fractional b. Gradients g b a^(b-1) (0 "
                     "where b is 0) and g y log a (0 "
                     "where a is 0).",
                     false, 0.3, 2);
  pow.scalar = scalar_binary<BinaryOp::pow>;
  pow.evaluate = evaluate<2, [](double a, double b) { return std::pow(a, b); }>;
  pow.gradient = pow_gradient;
  pow.cost = cost_per_element<20>;
  defs.push_back(std::move(pow));

  OpDef min = binary("min",
                     "The smaller of a and b; NaN if either is NaN. The gradient goes to the smaller; at a "
                     "tie half to each, or all to the other one where one is a constant.",
                     true);
  min.commutative = true;
  min.scalar = scalar_binary<BinaryOp::min>;
  min.exact = true;
  min.evaluate = evaluate_extremum<std::less<>{}>;
  min.gradient = [](Builder& b, Op* op, Op* g) -> Grads { return extremum_gradient(b, op, g, "lt", "le"); };
  defs.push_back(std::move(min));

  OpDef max = binary(
      "max",
      "The larger of a and b; NaN if either is NaN. The gradient goes to the larger; at a tie half to each, "
      "or all to the other one where one is a constant.",
      true);
  max.commutative = true;
  max.scalar = scalar_binary<BinaryOp::max>;
  max.exact = true;
  max.evaluate = evaluate_extremum<std::greater<>{}>;
  max.gradient = [](Builder& b, Op* op, Op* g) -> Grads { return extremum_gradient(b, op, g, "gt", "ge"); };
  defs.push_back(std::move(max));
}

}  // namespace gradc
