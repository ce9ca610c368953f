// Batch normalisation as one elementwise operator on given statistics, with its closed-form gradient (Ioffe
// and Szegedy 2015). It must not know how the statistics are gathered.
#include <cmath>
#include <limits>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/lower.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;

std::string check_eps(const Attributes& a) {
  return check_between(a, "eps", 0, false, std::numeric_limits<double>::infinity(), false);
}

// The operands after the first `free` are unbatched, of one shape that broadcasts into x, and of x's element
// type.
std::string check_channels(const Type& x, Types channels) {
  if (!x.is_float()) return fmt::format("x is {}, but only f32 and f64 work here", to_string(x));
  for (const Type& t : channels) {
    Shape joined;
    if (t.dtype != x.dtype || t.batched || t.shape != channels[0].shape ||
        !broadcast_shapes(x.shape, t.shape, joined) || joined != x.shape) {
      return fmt::format(
          "statistics, gamma and beta of {} must be unbatched {} of one shape that repeats to {}, but one is "
          "{}",
          to_string(x), name(x.dtype), to_string(x.shape), to_string(t));
    }
  }
  return {};
}

InferResult infer_batch_norm(Types t, const Attributes& a) {
  std::string error = check_channels(t[0], t.subspan(1));
  if (error.empty()) error = check_eps(a);
  if (error.empty() && a.boolean("training") && !t[0].batched) {
    error = fmt::format("{} has no batch to take statistics over while training", to_string(t[0]));
  }
  return error.empty() ? InferResult::ok(t[0]) : InferResult::fail(std::move(error));
}

Expr normalised(const Op& op, Args a, const ScalarContext& c) {
  const auto s = c.type.scalar;
  const Expr scale = loop::unary(UnaryOp::rsqrt, a[2] + number(s, op.attributes.number("eps"))) * a[3];
  return (a[0] - a[1]) * scale + a[4];
}

double batch_norm_at(const std::array<double, 5>& v, double eps) {
  return (v[0] - v[1]) / std::sqrt(v[2] + eps) * v[3] + v[4];
}

std::vector<OperandSpec> batch_norm_operands() {
  return {{"x", "f32 or f64"},
          {"mean", "unbatched, repeats to x, as the others"},
          {"var", "variance"},
          {"gamma", "scale"},
          {"beta", "shift"}};
}
std::vector<AttributeSpec> batch_norm_attributes() {
  return {
      required("eps", AttributeKind::number, "added to the variance, above 0 (PyTorch: 1e-5)"),
      required(
          "training", AttributeKind::boolean,
          "whether mean and var are those of this batch, so that the gradient of x goes through them too")};
}

Op* standardised(Builder& b, Op* x, Op* mean, Op* inverse_deviation) {
  return b.mul(b.sub(x, mean), inverse_deviation);
}

// The number of elements that share one mean: rows times space.
Op* sharing(Builder& b, const Type& x, const Type& mean) {
  const auto space = static_cast<double>(x.elements() / mean.elements());
  Op* rows = b.create("row_count", {});
  if (space != 1) rows = b.mul(rows, space);
  return x.dtype == DType::f32 ? rows : b.cast(rows, x.dtype);
}

Grads batch_norm_gradient(Builder& b, Op* op, Op* g) {
  Op *x = op->operands[0], *mean = op->operands[1], *var = op->operands[2], *gamma = op->operands[3];
  const double eps = op->attributes.number("eps");
  Op* inverse_deviation = b.create("rsqrt", {b.add(var, eps)});
  Op* dbeta = b.sum_to(g, gamma->type);
  Op* dgamma = b.sum_to(b.mul(g, standardised(b, x, mean, inverse_deviation)), gamma->type);
  if (op->attributes.boolean("training")) {
    Op* dx =
        b.create("batch_norm_grad", {g, x, mean, var, gamma, dgamma, dbeta, sharing(b, x->type, mean->type)},
                 {{"eps", eps}});
    return {dx, nullptr, nullptr, dgamma, dbeta};
  }
  Op* slope = b.mul(gamma, inverse_deviation);
  Op* dmean = b.neg(b.mul(dbeta, slope));
  // d/dvar of (x - mean) (var + eps)^-1/2 is -1/2 (x - mean) (var + eps)^-3/2.
  Op* dvar = b.mul(b.mul(dgamma, gamma), b.mul(b.mul(inverse_deviation, inverse_deviation), -0.5));
  return {b.mul(g, slope), dmean, dvar, dgamma, dbeta};
}

std::vector<OpSample> batch_norm_samples() {
  const auto sample = [](Shape x, Shape channel, bool is_batched, bool training, DType d = DType::f32) {
    OpSample s{{Type{d, is_batched, std::move(x)}}, {{"eps", 1e-5}, {"training", training}}, 0.2, 3};
    for (int i = 0; i < 4; ++i) s.operands.push_back(plain(channel, d));
    return s;
  };
  return {sample({6}, {6}, true, false),
          sample({3, 5, 4}, {3, 1, 1}, true, false),
          sample({6}, {6}, false, false),
          sample({6}, {6}, true, true),
          sample({3, 5, 4}, {3, 1, 1}, true, true),
          sample({4}, {4}, true, true, DType::f64)};
}

OpDef batch_norm_grad() {
  OpDef def = Def("batch_norm_grad", OpKind::elementwise,
                  "The gradient of training-mode batch_norm in x: gamma r (g - dbeta / N - xhat dgamma / N) "
                  "with r = rsqrt(var + eps), xhat = (x - "
                  "mean) r and N elements sharing one mean (Ioffe and Szegedy 2015).");
  def.call = CallForm::none;
  def.operands = {{"g", "gradient of the result"},
                  {"x", "batch_norm's x"},
                  {"mean", "mean of this batch"},
                  {"var", "variance of this batch"},
                  {"gamma", "scale"},
                  {"dgamma", "sum of g xhat over the elements that share a mean"},
                  {"dbeta", "sum of g over them"},
                  {"count", "how many elements share a mean, a scalar"}};
  def.attributes = {required("eps", AttributeKind::number, "batch_norm's eps")};
  def.infer = [](Types t, const Attributes& a) {
    if (t[0] != t[1])
      return InferResult::fail(
          fmt::format("g is {} and x is {}; they must be equal", to_string(t[0]), to_string(t[1])));
    std::string error = check_channels(t[0], t.subspan(2, 5));
    if (error.empty()) error = check_eps(a);
    if (error.empty() && t[7] != Type{t[0].dtype, false, {}})
      error = fmt::format("count is {}, not a scalar {}", to_string(t[7]), name(t[0].dtype));
    return error.empty() ? InferResult::ok(t[0]) : InferResult::fail(std::move(error));
  };
  def.scalar = [](const Op& op, Args a, const ScalarContext& c) {
    const auto s = c.type.scalar;
    // Per channel: scale = gamma r, offset = dbeta / N, slope = r dgamma / N; per element scale (g - offset -
    // (x - mean) slope).
    const Expr r = loop::unary(UnaryOp::rsqrt, a[3] + number(s, op.attributes.number("eps")));
    const Expr per = number(s, 1) / a[7];
    return fit((a[0] - a[6] * per - (a[1] - a[2]) * (r * a[5] * per)) * (a[4] * r), c);
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    const double eps = op.attributes.number("eps");
    return map_indexed<8>(op, in, c, [eps](int64_t, const std::array<double, 8>& v) {
      const double r = 1 / std::sqrt(v[3] + eps), xhat = (v[1] - v[2]) * r;
      return v[4] * r * (v[0] - v[6] / v[7] - xhat * v[5] / v[7]);
    });
  };
  def.no_gradient = "it is made by differentiation, which is done once";
  def.cost = cost_per_element<8>;
  for (const DType d : {DType::f32, DType::f64}) {
    OpSample flat{{batched({6}, d), batched({6}, d)}, {{"eps", 1e-5}}, 0.5, 3};
    OpSample space{{batched({3, 5, 4}, d), batched({3, 5, 4}, d)}, {{"eps", 1e-5}}, 0.5, 3};
    for (int i = 0; i < 5; ++i) {
      flat.operands.push_back(plain({6}, d));
      space.operands.push_back(plain({3, 1, 1}, d));
    }
    flat.operands.push_back(plain({}, d));
    space.operands.push_back(plain({}, d));
    def.samples.push_back(flat);
    def.samples.push_back(space);
  }
  return def;
}

}  // namespace

void register_normalization(std::vector<OpDef>& defs) {
  OpDef plain_norm = Def("batch_norm", OpKind::elementwise,
                         "gamma (x - mean) rsqrt(var + eps) + beta (Ioffe and Szegedy 2015). While training, "
                         "mean and var are taken as functions of "
                         "x: the gradient of x is the closed form of batch_norm_grad and none flows into "
                         "mean and var. Else the chain rule.");
  plain_norm.operands = batch_norm_operands();
  plain_norm.attributes = batch_norm_attributes();
  plain_norm.infer = infer_batch_norm;
  plain_norm.scalar = [](const Op& op, Args a, const ScalarContext& c) {
    return fit(normalised(op, a, c), c);
  };
  plain_norm.evaluate = [](const Op& op, Operands in, Context& c) {
    const double eps = op.attributes.number("eps");
    return map_indexed<5>(op, in, c,
                          [eps](int64_t, const std::array<double, 5>& v) { return batch_norm_at(v, eps); });
  };
  plain_norm.gradient = batch_norm_gradient;
  plain_norm.cost = cost_per_element<4>;
  plain_norm.samples = batch_norm_samples();
  defs.push_back(std::move(plain_norm));

  OpDef with_relu = Def("batch_norm_relu", OpKind::elementwise, "relu of batch_norm, in one pass over x.");
  with_relu.call = CallForm::none;
  with_relu.operands = batch_norm_operands();
  with_relu.attributes = batch_norm_attributes();
  with_relu.infer = infer_batch_norm;
  with_relu.scalar = [](const Op& op, Args a, const ScalarContext& c) {
    const Expr y = normalised(op, a, c), zero = number(c.type.scalar, 0);
    return fit(loop::select(loop::compare(CompareOp::gt, zero, y), zero, y), c);
  };
  with_relu.evaluate = [](const Op& op, Operands in, Context& c) {
    const double eps = op.attributes.number("eps");
    Chooser chooser(op, c, value_count(op, c));
    return map_indexed<5>(op, in, c, [&](int64_t i, const std::array<double, 5>& v) {
      const double y = batch_norm_at(v, eps);
      return chooser(i, y <= 0) ? 0 : y;
    });
  };
  with_relu.no_gradient = "it is made by fusion, after differentiation";
  with_relu.cost = cost_per_element<5>;
  with_relu.samples = batch_norm_samples();
  defs.push_back(std::move(with_relu));

  defs.push_back(batch_norm_grad());
}

}  // namespace gradc
