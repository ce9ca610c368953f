// Elementwise operators of one operand: arithmetic, activations, conversions. The record of each is its whole
// definition; it must not know how kernels are built around it.
#include <cmath>
#include <numbers>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/lower.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;

using GradientFn = std::vector<Op*> (*)(Builder&, Op*, Op*);
using Grads = std::vector<Op*>;

std::vector<OpSample> unary_samples(double low, double high, bool integers) {
  std::vector<OpSample> samples = {{{batched({3, 5})}, {}, low, high},
                                   {{batched({})}, {}, low, high, 33},
                                   {{plain({7})}, {}, low, high},
                                   {{plain({})}, {}, low, high},
                                   {{batched({2, 3, 1, 3}, DType::f64)}, {}, low, high, 3}};
  if (integers) samples.push_back({{batched({3}, DType::i32)}, {}, 0, 9});
  return samples;
}

struct UnaryParts {
  decltype(OpDef::infer) infer = infer_floats;
  decltype(OpDef::scalar) scalar = nullptr;
  decltype(OpDef::evaluate) evaluate = nullptr;
  GradientFn gradient = nullptr;
  decltype(OpDef::cost) cost = nullptr;
  double low = -2, high = 2;
};

OpDef unary(std::string name, std::string doc, UnaryParts parts) {
  OpDef def = Def(std::move(name), OpKind::elementwise, std::move(doc));
  def.operands = {{"x", parts.infer == infer_floats ? "f32 or f64" : "f32, f64 or i32"}};
  def.infer = parts.infer;
  def.scalar = parts.scalar;
  def.evaluate = parts.evaluate;
  def.gradient = parts.gradient;
  def.cost = parts.cost;
  def.samples = unary_samples(parts.low, parts.high, parts.infer == infer_numbers);
  return def;
}

Op* operand(Op* op) { return op->operands[0]; }

double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
double softplus(double x) {
  return std::isnan(x) ? x : std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x)));
}
int64_t bits(double x) { return std::bit_cast<int64_t>(x); }
double from_bits(int64_t choice) { return std::bit_cast<double>(choice); }

void add_arithmetic(std::vector<OpDef>& defs) {
  defs.push_back(unary("neg", "-x.",
                       {.infer = infer_numbers,
                        .scalar =
                            [](const Op&, Args a, const ScalarContext& c) {
                              return fit(a[0]->type.is_float() ? loop::unary(UnaryOp::neg, a[0])
                                                               : number(a[0]->type.scalar, 0) - a[0],
                                         c);
                            },
                        .evaluate = evaluate<1, [](double x) { return -x; }>,
                        .gradient = [](Builder& b, Op*, Op* g) -> Grads {
                          return {through(b, g, [&](Op* h) { return b.neg(h); })};
                        }}));
  defs.back().exact = true;
  defs.push_back(unary("exp", "e^x.",
                       {.scalar = scalar_unary<UnaryOp::exp>,
                        .evaluate = evaluate<1, [](double x) { return std::exp(x); }>,
                        .gradient = [](Builder& b, Op* y, Op* g) -> Grads { return {times(b, g, y)}; },
                        .cost = cost_per_element<8>}));
  defs.push_back(
      unary("expm1", "e^x - 1, exact near 0. Gradient g (y + 1).",
            {.scalar = scalar_unary<UnaryOp::expm1>,
             .evaluate = evaluate<1, [](double x) { return std::expm1(x); }>,
             .gradient = [](Builder& b, Op* y, Op* g) -> Grads { return {times(b, g, b.add(y, 1.0))}; },
             .cost = cost_per_element<10>}));
  defs.push_back(unary("log", "The natural logarithm of x: NaN below 0, -infinity at 0.",
                       {.scalar = scalar_unary<UnaryOp::log>,
                        .evaluate = evaluate<1, [](double x) { return std::log(x); }>,
                        .gradient = [](Builder& b, Op* y, Op* g) -> Grads {
                          return {through_pole(b, g, [&](Op* h) { return b.div(h, operand(y)); })};
                        },
                        .cost = cost_per_element<8>,
                        .low = 0.2,
                        .high = 3}));
  defs.push_back(unary("log1p", "log(1 + x), exact near 0.",
                       {.scalar = scalar_unary<UnaryOp::log1p>,
                        .evaluate = evaluate<1, [](double x) { return std::log1p(x); }>,
                        .gradient = [](Builder& b, Op* y, Op* g) -> Grads {
                          return {
                              through_pole(b, g, [&](Op* h) { return b.div(h, b.add(operand(y), 1.0)); })};
                        },
                        .cost = cost_per_element<10>,
                        .low = -0.7,
                        .high = 3}));
  defs.push_back(
      unary("sqrt",
            "The square root of x: NaN below 0. Its gradient g / (2 y) is infinite at 0, but 0 where "
            "x is a sum of squares, of which the root is a norm.",
            {.scalar = scalar_unary<UnaryOp::sqrt>,
             .evaluate = evaluate<1, [](double x) { return std::sqrt(x); }>,
             .gradient = [](Builder& b, Op* y, Op* g) -> Grads {
               return {through_pole(b, norm_gradient(b, operand(y), g),
                                    [&](Op* h) { return b.div(b.mul(h, 0.5), y); })};
             },
             .cost = cost_per_element<4>,
             .low = 0.2,
             .high = 3}));
  defs.push_back(unary("rsqrt", "1 / sqrt(x). Gradient -g y^3 / 2.",
                       {.scalar = scalar_unary<UnaryOp::rsqrt>,
                        .evaluate = evaluate<1, [](double x) { return 1 / std::sqrt(x); }>,
                        .gradient = [](Builder& b, Op* y, Op* g) -> Grads {
                          Op* slope = b.mul(b.mul(y, b.mul(y, y)), -0.5);
                          return {through_pole(b, g, [&](Op* h) { return b.mul(h, slope); })};
                        },
                        .cost = cost_per_element<4>,
                        .low = 0.2,
                        .high = 3}));
  defs.push_back(unary("erf", "The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x.",
                       {.scalar = scalar_unary<UnaryOp::erf>,
                        .evaluate = evaluate<1, [](double x) { return std::erf(x); }>,
                        .gradient = [](Builder& b, Op* y, Op* g) -> Grads {
                          Op* x = operand(y);
                          return {
                              times(b, g, b.mul(b.exp(b.neg(b.mul(x, x))), 2 * std::numbers::inv_sqrtpi))};
                        },
                        .cost = cost_per_element<12>}));
  defs.back().range = {{-1, 1}};
  defs.push_back(unary("sin", "The sine of x in radians.",
                       {.scalar = scalar_unary<UnaryOp::sin>,
                        .evaluate = evaluate<1, [](double x) { return std::sin(x); }>,
                        .gradient = [](Builder& b, Op* y, Op* g) -> Grads {
                          return {times(b, g, b.create("cos", {operand(y)}))};
                        },
                        .cost = cost_per_element<12>}));
  defs.push_back(unary("cos", "The cosine of x in radians.",
                       {.scalar = scalar_unary<UnaryOp::cos>,
                        .evaluate = evaluate<1, [](double x) { return std::cos(x); }>,
                        .gradient = [](Builder& b, Op* y, Op* g) -> Grads {
                          return {times(b, g, b.neg(b.create("sin", {operand(y)})))};
                        },
                        .cost = cost_per_element<12>}));
}

void add_kinked(std::vector<OpDef>& defs) {
  defs.push_back(
      unary("abs", "|x|. Gradient g sign(x), so 0 at 0.",
            {.infer = infer_numbers,
             .scalar =
                 [](const Op&, Args a, const ScalarContext& c) {
                   if (a[0]->type.is_float()) return fit(loop::unary(UnaryOp::abs, a[0]), c);
                   const Expr zero = number(a[0]->type.scalar, 0);
                   return fit(loop::select(loop::compare(CompareOp::lt, a[0], zero), zero - a[0], a[0]), c);
                 },
             // Records the slope of the gradient, which is 0 at 0.
             .evaluate =
                 evaluate_kinked<1, [](double x) -> int64_t { return x < 0    ? -1
                                                                     : x == 0 ? 0
                                                                              : 1; },
                                 [](int64_t slope, double x) { return slope == 0  ? 0
                                                                      : slope < 0 ? -x
                                                                                  : x; }>,
             .gradient = [](Builder& b, Op* y, Op* g) -> Grads {
               return {times(b, g, b.create("sign", {operand(y)}))};
             }}));
  defs.back().exact = true;
  defs.push_back(unary(
      "sign", "-1, 0 or 1 as x is below, at or above 0; NaN stays NaN.",
      {.infer = infer_numbers,
       .scalar =
           [](const Op&, Args a, const ScalarContext& c) {
             const auto s = a[0]->type.scalar;
             const Expr zero = number(s, 0);
             return fit(
                 loop::select(loop::compare(CompareOp::gt, a[0], zero), number(s, 1),
                              loop::select(loop::compare(CompareOp::lt, a[0], zero), number(s, -1), a[0])),
                 c);
           },
       .evaluate =
           evaluate_kinked<1, [](double x) -> int64_t { return bits(x > 0   ? 1.0
                                                                    : x < 0 ? -1.0
                                                                            : x); },
                           [](int64_t choice, double) { return from_bits(choice); }>}));
  defs.back().no_gradient = "it is constant but for its steps";
  defs.back().exact = true;
  defs.push_back(
      unary("floor", "The greatest whole number not above x.",
            {.scalar = scalar_unary<UnaryOp::floor>,
             .evaluate = evaluate_kinked<1, [](double x) -> int64_t { return bits(std::floor(x)); },
                                         [](int64_t choice, double) { return from_bits(choice); }>}));
  defs.back().no_gradient = "it is constant but for its steps";
  defs.back().exact = true;
  defs.push_back(
      unary("relu", "max(0, x); NaN stays NaN. Gradient g where the result is above 0, else 0 (so 0 at 0).",
            {.infer = infer_numbers,
             .scalar =
                 [](const Op&, Args a, const ScalarContext& c) {
                   const Expr zero = number(a[0]->type.scalar, 0);
                   return fit(loop::select(loop::compare(CompareOp::gt, zero, a[0]), zero, a[0]), c);
                 },
             // Off at 0, since the gradient is 0 there.
             .evaluate = evaluate_kinked<1, [](double x) -> int64_t { return x <= 0; },
                                         [](int64_t off, double x) { return off ? 0 : x; }>,
             .gradient = [](Builder& b, Op* y, Op* g) -> Grads { return {b.create("relu_grad", {g, y})}; }}));
  defs.back().exact = true;

  OpDef relu_grad = Def("relu_grad", OpKind::elementwise,
                        "The gradient of relu: g where relu's result y is above 0, else 0.");
  relu_grad.call = CallForm::none;
  relu_grad.operands = {{"g", "gradient of the result"}, {"y", "relu's result"}};
  relu_grad.infer = infer_numbers;
  relu_grad.exact = true;
  relu_grad.scalar = [](const Op&, Args a, const ScalarContext& c) {
    const Expr zero = number(a[0]->type.scalar, 0);
    return fit(loop::select(loop::compare(CompareOp::gt, a[1], zero), a[0], zero), c);
  };
  relu_grad.evaluate = evaluate_kinked<2, [](double, double y) -> int64_t { return 0 < y; },
                                       [](int64_t on, double g, double) { return on ? g : 0; }>;
  relu_grad.gradient = [](Builder& b, Op* op, Op* h) -> Grads {
    return {b.create("relu_grad", {h, op->operands[1]}), nullptr};
  };
  relu_grad.samples = {{{batched({3, 5}), batched({3, 5})}, {}},
                       {{plain({7}), plain({7})}, {}},
                       {{batched({4}, DType::f64), batched({4}, DType::f64)}, {}}};
  defs.push_back(std::move(relu_grad));
}

void add_activations(std::vector<OpDef>& defs) {
  defs.push_back(unary("tanh", "The hyperbolic tangent. Gradient g (1 - y^2).",
                       {.scalar = scalar_unary<UnaryOp::tanh>,
                        .evaluate = evaluate<1, [](double x) { return std::tanh(x); }>,
                        .gradient = [](Builder& b, Op* y, Op* g) -> Grads {
                          return {times(b, g, b.sub(b.constant(1, y->type.dtype), b.mul(y, y)))};
                        },
                        .cost = cost_per_element<10>}));
  defs.back().range = {{-1, 1}};
  defs.push_back(unary("sigmoid", "1 / (1 + e^-x), without overflow. Gradient g y (1 - y).",
                       {.scalar = scalar_unary<UnaryOp::sigmoid>,
                        .evaluate = evaluate<1, [](double x) { return sigmoid(x); }>,
                        .gradient = [](Builder& b, Op* y, Op* g) -> Grads {
                          return {times(b, g, b.mul(y, b.sub(b.constant(1, y->type.dtype), y)))};
                        },
                        .cost = cost_per_element<10>}));
  defs.back().range = {{0, 1}};
  defs.push_back(unary("softplus", "log(1 + e^x) as max(x, 0) + log1p(e^-|x|). Gradient g sigmoid(x).",
                       {.scalar = scalar_unary<UnaryOp::softplus>,
                        .evaluate = evaluate<1, [](double x) { return softplus(x); }>,
                        .gradient = [](Builder& b, Op* y, Op* g) -> Grads {
                          return {times(b, g, b.create("sigmoid", {operand(y)}))};
                        },
                        .cost = cost_per_element<18>}));
}

InferResult infer_cast(Types t, const Attributes& a) {
  DType to;
  if (!parse_dtype(a.text("to"), to)) {
    return InferResult::fail(
        fmt::format("there is no element type \"{}\"; there are f32, f64, i32 and bool", a.text("to")));
  }
  return InferResult::ok(t[0].with(to));
}

double to_i32(double x) {
  if (std::isnan(x)) return 0;
  return std::clamp(std::trunc(x), -0x1p31, 0x1p31 - 1);
}

void add_conversions(std::vector<OpDef>& defs) {
  OpDef cast = Def("cast", OpKind::elementwise,
                   "x as another element type. Floats to i32 drop the fraction (outside i32's range the "
                   "result is unspecified); to bool: x "
                   "differs from 0; from bool: 0 and 1. Gradients pass between floats only.");
  cast.operands = {{"x", "any type"}};
  cast.attributes = {required("to", AttributeKind::text, "the element type wanted: f32, f64, i32 or bool")};
  cast.infer = infer_cast;
  cast.scalar = [](const Op&, Args a, const ScalarContext& c) {
    return fit(cast_to(c.type.scalar, a[0]), c);
  };
  cast.evaluate = [](const Op& op, Operands in, Context& c) {
    const DType to = op.type.dtype;
    if (to == DType::boolean)
      return evaluate_kinked<1, [](double x) -> int64_t { return x != 0; },
                             [](int64_t on, double) { return double(on); }>(op, in, c);
    if (to == DType::i32) {
      return evaluate_kinked<1, [](double x) -> int64_t { return static_cast<int64_t>(to_i32(x)); },
                             [](int64_t v, double) { return double(v); }>(op, in, c);
    }
    return evaluate<1, [](double x) { return x; }>(op, in, c);
  };
  cast.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    if (!operand(op)->type.is_float() || !op->type.is_float()) return {nullptr};
    return {b.cast(g, operand(op)->type.dtype)};
  };
  cast.cost = cost_free;
  cast.exact = true;
  cast.samples = {{{batched({3, 5})}, {{"to", text("f64")}}},
                  {{plain({7}, DType::f64)}, {{"to", text("f32")}}},
                  {{batched({3})}, {{"to", text("i32")}}, -5, 5},
                  {{batched({3}, DType::i32)}, {{"to", text("f32")}}, 0, 5},
                  {{batched({5}, DType::boolean)}, {{"to", text("f32")}}, 0, 2},
                  {{batched({5}, DType::i32)}, {{"to", text("bool")}}, 0, 3}};
  defs.push_back(std::move(cast));

  OpDef stop = Def("stop_gradient", OpKind::elementwise, "x, with no gradient flowing back.");
  stop.operands = {{"x", "any type"}};
  stop.infer = infer_same;
  stop.scalar = [](const Op&, Args a, const ScalarContext& c) { return fit(a[0], c); };
  // Constant for gradients: both sides of a central difference replay the value recorded at the point.
  stop.evaluate = evaluate_kinked<1, [](double x) -> int64_t { return bits(x); },
                                  [](int64_t choice, double) { return from_bits(choice); }>;
  stop.no_gradient = "stopping the gradient is what it is for";
  stop.cost = cost_free;
  stop.exact = true;
  stop.samples = {{{batched({3, 5})}, {}}, {{plain({7})}, {}}};
  defs.push_back(std::move(stop));

  OpDef logical_not = Def("logical_not", OpKind::elementwise, "True where x is false.");
  logical_not.operands = {{"x", "bool"}};
  logical_not.infer = [](Types t, const Attributes&) {
    if (t[0].dtype == DType::boolean) return InferResult::ok(t[0]);
    return InferResult::fail(fmt::format(
        "the operand is {}, but only bool works here; compare it with something first", to_string(t[0])));
  };
  logical_not.scalar = scalar_unary<UnaryOp::logical_not>;
  logical_not.evaluate = evaluate<1, [](double x) { return x == 0 ? 1.0 : 0.0; }>;
  logical_not.no_gradient = "booleans are not differentiable";
  logical_not.samples = {{{batched({3, 5}, DType::boolean)}, {}, 0, 2},
                         {{plain({7}, DType::boolean)}, {}, 0, 2}};
  defs.push_back(std::move(logical_not));

  OpDef broadcast = Def("broadcast", OpKind::elementwise,
                        "x repeated to a larger shape as broadcasting does (aligned at the right), and over "
                        "the batch when it gets one.");
  broadcast.call = CallForm::qualified;
  broadcast.operands = {{"x", "any type"}};
  broadcast.attributes = {
      required("shape", AttributeKind::integers, "the example shape wanted"),
      required("batched", AttributeKind::boolean, "whether the result has one value for each example")};
  broadcast.cheap = true;
  broadcast.infer = [](Types t, const Attributes& a) {
    if (std::string e = check_shape(a, "shape"); !e.empty()) return InferResult::fail(e);
    const Type wanted{t[0].dtype, a.boolean("batched"), a.integers("shape")};
    Shape joined;
    if (!broadcast_shapes(t[0].shape, wanted.shape, joined) || joined != wanted.shape ||
        (t[0].batched && !wanted.batched)) {
      return InferResult::fail(fmt::format("{} does not repeat to {}", to_string(t[0]), to_string(wanted)));
    }
    return InferResult::ok(wanted);
  };
  broadcast.scalar = [](const Op&, Args a, const ScalarContext& c) { return fit(a[0], c); };
  broadcast.evaluate = evaluate<1, [](double x) { return x; }>;
  broadcast.gradient = [](Builder&, Op*, Op* g) -> Grads { return {g}; };
  broadcast.cost = cost_free;
  broadcast.exact = true;
  broadcast.samples = {{{plain({3, 1})}, {{"shape", ints({2, 3, 5})}, {"batched", true}}},
                       {{batched({})}, {{"shape", ints({5})}, {"batched", true}}},
                       {{plain({})}, {{"shape", ints({2, 3})}, {"batched", false}}},
                       {{plain({1, 4})}, {{"shape", ints({3, 4})}, {"batched", false}}}};
  defs.push_back(std::move(broadcast));
}

}  // namespace

void register_unary(std::vector<OpDef>& defs) {
  add_arithmetic(defs);
  add_activations(defs);
  add_kinked(defs);
  add_conversions(defs);
}

}  // namespace gradc
