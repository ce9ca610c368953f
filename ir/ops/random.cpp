// Random numbers, each a function of seed, micro-step, stream, row and element alone (support/philox.h), and
// dropout, which makes its mask from them. It must not know how streams are numbered.
#include <cmath>
#include <limits>
#include <numbers>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/lower.h"
#include "ir/ops/registry.h"
#include "support/philox.h"

namespace gradc {
namespace {

using namespace ops;
constexpr uint32_t kAngleStream = 0x80000000u;  // Box-Muller's second word

uint32_t stream_of(const Op& op) { return static_cast<uint32_t>(op.attributes.integer("stream")); }

AttributeSpec stream_spec() {
  return required("stream", AttributeKind::integer,
                  "which sequence of random words, 0 to 2^31 - 1; equal streams give equal numbers");
}
AttributeSpec keep_spec() { return required("keep", AttributeKind::number, "probability of a 1, in [0, 1]"); }

std::string check_stream(const Attributes& a) {
  const int64_t stream = a.integer("stream");
  if (stream >= 0 && stream < int64_t{1} << 31) return {};
  return fmt::format("`stream` is {}; it must lie between 0 and 2^31 - 1", stream);
}

InferResult infer_random(const Attributes& a, std::string error) {
  if (error.empty()) error = check_stream(a);
  if (error.empty()) error = check_shape(a, "shape");
  if (!error.empty()) return InferResult::fail(std::move(error));
  return InferResult::ok({DType::f32, a.boolean("batched"), a.integers("shape")});
}

OpDef random_source(std::string name, std::string doc) {
  OpDef def = Def(std::move(name), OpKind::source, std::move(doc));
  def.random = true;
  def.cheap = true;
  def.no_gradient = "it has no operand";
  return def;
}

void add_place(OpDef& def) {
  def.attributes.push_back(stream_spec());
  def.attributes.push_back(required("shape", AttributeKind::integers, "the example shape wanted"));
  def.attributes.push_back(
      required("batched", AttributeKind::boolean, "whether each example gets its own numbers"));
}

std::vector<OpSample> random_samples(const Attributes& own) {
  std::vector<OpSample> samples;
  for (const auto& [shape, is_batched, rows] : {std::tuple{Shape{3, 5}, true, 5},
                                                {Shape{}, true, 70},
                                                {Shape{67}, false, 1},
                                                {Shape{2, 3}, false, 1}}) {
    Attributes a = own;
    a.set("stream", integer(7));
    a.set("shape", shape);
    a.set("batched", is_batched);
    samples.push_back({{}, a, -2, 2, rows});
  }
  return samples;
}

// result[i] = f(random word of element i, i).
template <class F>
interpreter::Tensor fill_random(const Op& op, Context& c, F&& f) {
  interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
  const int64_t count = value_count(op, c);
  for (int64_t i = 0; i < count; ++i) out.data.data()[i] = f(random_word_at(op.type, c, stream_of(op), i), i);
  return out;
}

OpDef bernoulli() {
  OpDef def = random_source(
      "bernoulli", "1 with probability keep, else 0: 1 where a random 32-bit word is below keep 2^32.");
  def.attributes = {keep_spec()};
  add_place(def);
  def.infer = [](Types, const Attributes& a) {
    return infer_random(a, check_between(a, "keep", 0, true, 1, true));
  };
  def.scalar = [](const Op& op, Args, const ScalarContext& c) {
    return fit(cast_to(c.type.scalar,
                       bernoulli_expr(random_word_expr(c, stream_of(op)), op.attributes.number("keep"))),
               c);
  };
  def.evaluate = [](const Op& op, Operands, Context& c) {
    const double keep = op.attributes.number("keep");
    return fill_random(op, c,
                       [&](uint32_t word, int64_t) { return bernoulli_from_word(word, keep) ? 1.0 : 0.0; });
  };
  def.cost = cost_per_element<30>;
  def.samples = random_samples({{"keep", 0.7}});
  return def;
}

OpDef uniform() {
  OpDef def =
      random_source("uniform", "Uniform numbers: low + (high - low) u, u = (word >> 8) 2^-24 in [0, 1).");
  def.attributes = {optional("low", AttributeKind::number, 0.0, "least value"),
                    optional("high", AttributeKind::number, 1.0, "upper end")};
  add_place(def);
  def.infer = [](Types, const Attributes& a) {
    std::string error = check_between(a, "low", -kInfinity, false, kInfinity, false);
    if (error.empty()) error = check_between(a, "high", a.number("low"), true, kInfinity, false);
    return infer_random(a, std::move(error));
  };
  def.scalar = [](const Op& op, Args, const ScalarContext& c) {
    const double low = op.attributes.number("low"), high = op.attributes.number("high");
    const Expr u = uniform_expr(random_word_expr(c, stream_of(op)), c.type.scalar);
    return fit(u * number(c.type.scalar, high - low) + number(c.type.scalar, low), c);
  };
  def.evaluate = [](const Op& op, Operands, Context& c) {
    const double low = op.attributes.number("low"), high = op.attributes.number("high");
    return fill_random(op, c,
                       [&](uint32_t word, int64_t) { return low + (high - low) * uniform_from_word(word); });
  };
  def.cost = cost_per_element<30>;
  def.samples = random_samples({{"low", -1.0}, {"high", 3.0}});
  return def;
}

OpDef normal() {
  OpDef def = random_source("normal",
                            "Normal numbers by Box and Muller (1958): mean + std sqrt(-2 log u) cos(2 pi v), "
                            "u = ((word >> 8) + 1) 2^-24 in (0, "
                            "1] from the stream, v in [0, 1) from the stream with its top bit set.");
  def.cheap = false;
  def.attributes = {optional("mean", AttributeKind::number, 0.0, "mean"),
                    optional("std", AttributeKind::number, 1.0, "standard deviation, >= 0")};
  add_place(def);
  def.infer = [](Types, const Attributes& a) {
    std::string error = check_between(a, "mean", -kInfinity, false, kInfinity, false);
    if (error.empty()) error = check_between(a, "std", 0, true, kInfinity, false);
    return infer_random(a, std::move(error));
  };
  def.scalar = [](const Op& op, Args, const ScalarContext& c) {
    const auto s = c.type.scalar;
    const Expr u = uniform_expr(random_word_expr(c, stream_of(op)), s) + number(s, 0x1p-24);
    const Expr v = uniform_expr(random_word_expr(c, stream_of(op) | kAngleStream), s);
    const Expr radius = loop::unary(UnaryOp::sqrt, loop::unary(UnaryOp::log, u) * number(s, -2));
    const Expr wave = loop::unary(UnaryOp::cos, v * number(s, 2 * std::numbers::pi));
    return fit(
        radius * wave * number(s, op.attributes.number("std")) + number(s, op.attributes.number("mean")), c);
  };
  def.evaluate = [](const Op& op, Operands, Context& c) {
    const double mean = op.attributes.number("mean"), deviation = op.attributes.number("std");
    return fill_random(op, c, [&](uint32_t word, int64_t i) {
      const double u = uniform_from_word(word) + 0x1p-24;
      const double v = uniform_from_word(random_word_at(op.type, c, stream_of(op) | kAngleStream, i));
      return mean + deviation * std::sqrt(-2 * std::log(u)) * std::cos(2 * std::numbers::pi * v);
    });
  };
  def.cost = cost_per_element<90>;
  def.samples = random_samples({{"mean", 0.5}, {"std", 2.0}});
  return def;
}

OpDef dropout() {
  OpDef def = Def("dropout", OpKind::elementwise,
                  "Inverted dropout (Srivastava et al. 2014): x / keep with probability keep, else 0. "
                  "The mask is not stored: the gradient "
                  "recomputes it from the stream.");
  def.operands = {{"x", "f32 or f64"}};
  def.attributes = {required("keep", AttributeKind::number, "probability that an element stays, in (0, 1]"),
                    stream_spec()};
  def.random = true;
  def.infer = [](Types t, const Attributes& a) {
    std::string error = check_between(a, "keep", 0, false, 1, true);
    if (error.empty()) error = check_stream(a);
    return error.empty() ? infer_floats(t, a) : InferResult::fail(std::move(error));
  };
  def.scalar = [](const Op& op, Args a, const ScalarContext& c) {
    const double keep = op.attributes.number("keep");
    const auto s = c.type.scalar;
    return fit(loop::select(bernoulli_expr(random_word_expr(c, stream_of(op)), keep),
                            a[0] * number(s, 1 / keep), number(s, 0)),
               c);
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    const double keep = op.attributes.number("keep");
    return map_indexed<1>(op, in, c, [&](int64_t i, const std::array<double, 1>& x) {
      return bernoulli_from_word(random_word_at(op.type, c, stream_of(op), i), keep) ? x[0] * (1 / keep)
                                                                                     : 0.0;
    });
  };
  def.gradient = [](Builder& b, Op* op, Op* g) -> std::vector<Op*> {
    return {b.create("dropout", {g}, op->attributes)};
  };
  def.cost = cost_per_element<31>;
  def.samples = {{{batched({3, 5})}, {{"keep", 0.5}, {"stream", integer(3)}}},
                 {{batched({})}, {{"keep", 0.8}, {"stream", integer(4)}}, -2, 2, 70},
                 {{plain({67})}, {{"keep", 0.3}, {"stream", integer(3)}}},
                 {{batched({7}, DType::f64)}, {{"keep", 1.0}, {"stream", integer(3)}}}};
  return def;
}

}  // namespace

void register_random(std::vector<OpDef>& defs) {
  defs.push_back(bernoulli());
  defs.push_back(uniform());
  defs.push_back(normal());
  defs.push_back(dropout());
}

}  // namespace gradc
