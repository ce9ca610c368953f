// Loop IR expressions shared by the scalar lowerings: constants, widening, selects and random words.
#include "ir/ops/lower.h"

#include <algorithm>
#include <cmath>

#include "support/check.h"

namespace gradc::ops {

using loop::Scalar;

Scalar scalar_of(DType t) {
  switch (t) {
    case DType::f32: return Scalar::f32;
    case DType::f64: return Scalar::f64;
    case DType::i32: return Scalar::i32;
    case DType::boolean: return Scalar::i1;
  }
  return Scalar::f32;
}

Expr number(Scalar scalar, double value) {
  const loop::Type type{scalar, 1};
  if (type.is_float()) return loop::constant(type, value);
  return loop::constant_int(type, static_cast<int64_t>(value));
}

Expr fit(Expr e, const ScalarContext& c) { return loop::broadcast(std::move(e), c.type.lanes); }

Expr cast_to(Scalar scalar, Expr e) {
  if (e->type.scalar == scalar) return e;
  if (scalar == Scalar::i1) return loop::compare(CompareOp::ne, e, number(e->type.scalar, 0));
  return loop::cast(scalar, std::move(e));
}

namespace {

Expr i32_constant(uint32_t v) { return loop::constant_int({Scalar::i32, 1}, static_cast<int32_t>(v)); }

}  // namespace

Expr random_word_expr(const ScalarContext& c, uint32_t stream) {
  // Lane 0 is place r of the counted axis (rows when batched, else elements). With l = r % 64 + lane, lane's
  // place has the counter r / 64 * 16 + l / 64 * 16 + l % 16 and the word l / 16 % 4: 32-bit arithmetic in
  // the lanes.
  const Expr r = c.batched ? c.row : c.element;
  const Expr low = loop::cast(Scalar::i32, loop::binary(BinaryOp::rem, r, loop::index(64)));
  const Expr l = c.type.lanes == 1 ? low : loop::ramp(low, 1, c.type.lanes);
  const Expr block =
      loop::cast(Scalar::i32, loop::binary(BinaryOp::div, r, loop::index(64)) * loop::index(16));
  const Expr l_block = loop::binary(BinaryOp::shift_left,
                                    loop::binary(BinaryOp::shift_right, l, i32_constant(6)), i32_constant(4));
  const auto& p = c.b.predefined();
  const Expr c0 =
      c.b.let("counter", (block + l_block) + loop::binary(BinaryOp::bit_and, l, i32_constant(15)));
  const Expr c1 = c.batched ? c.b.let("counter1", loop::cast(Scalar::i32, c.element)) : i32_constant(0);
  const Expr k0 = c.b.let("key", loop::binary(BinaryOp::bit_xor, loop::ref(p.seed_lo),
                                              loop::ref(p.seed_hi) * i32_constant(0x9E3779B9u)));
  const Expr which =
      c.b.let("word", loop::binary(BinaryOp::bit_and, loop::binary(BinaryOp::shift_right, l, i32_constant(4)),
                                   i32_constant(3)));
  Expr result;
  for (int word = 3; word >= 0; --word) {
    Expr w = loop::philox(word, c0, c1, i32_constant(stream), loop::ref(p.step_hi), k0, loop::ref(p.step_lo));
    result = word == 3 ? w
                       : loop::select(
                             loop::compare(CompareOp::eq, which, i32_constant(static_cast<uint32_t>(word))),
                             w, result);
  }
  return fit(result, c);
}

Expr uniform_expr(Expr word, Scalar scalar) {
  const Expr bits = loop::binary(BinaryOp::shift_right, std::move(word), i32_constant(8));
  return loop::binary(BinaryOp::mul, loop::cast(scalar, bits), number(scalar, 0x1p-24));
}

Expr bernoulli_expr(Expr word, double keep) {
  const double threshold = std::ceil(keep * 0x1p32);  // word < keep * 2^32 exactly when word < threshold
  if (threshold >= 0x1p32) return loop::constant_int({Scalar::i1, 1}, 1);
  // Unsigned comparison through signed numbers: both sides moved by 2^31.
  const Expr moved = loop::binary(BinaryOp::bit_xor, std::move(word), i32_constant(0x80000000u));
  return loop::compare(CompareOp::lt, moved, i32_constant(static_cast<uint32_t>(threshold) ^ 0x80000000u));
}

}  // namespace gradc::ops
