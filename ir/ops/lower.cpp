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

Scalar memory_scalar_of(DType t) { return t == DType::boolean ? Scalar::i8 : scalar_of(t); }

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

namespace {

// The inputs of Philox that all numbers of a value share; counters are 32-bit arithmetic in the lanes.
class Words {
 public:
  Words(const ScalarContext& c, uint32_t stream)
      : b_(c.b),
        c1_(c.batched ? c.b.let("counter1", loop::cast(Scalar::i32, c.element)) : i32_constant(0)),
        stream_(i32_constant(stream)) {
    const auto& p = b_.predefined();
    key_ = b_.let("key", loop::binary(BinaryOp::bit_xor, loop::ref(p.seed_lo),
                                      loop::ref(p.seed_hi) * i32_constant(0x9E3779B9u)));
  }
  // Word `word` of the counters.
  Expr operator()(int word, const Expr& counter) const {
    const auto& p = b_.predefined();
    return loop::philox(word, counter, c1_, stream_, loop::ref(p.step_hi), key_, loop::ref(p.step_lo));
  }

 private:
  loop::Builder& b_;
  Expr c1_, stream_, key_;
};

// The first counter of the block of 32 positions that holds r: a block has 8 counters.
Expr first_counter(const Expr& r) {
  return loop::cast(Scalar::i32, loop::binary(BinaryOp::div, r, loop::index(32)) * loop::index(8));
}

// Words of positions r, r + 1, ... where r is a multiple of the lanes (4, 8 or 16), so that all are in one
// block: 4 or 8 counters with one word of each, or, for 16 lanes, 8 counters with two consecutive words.
Expr aligned_word(const ScalarContext& c, const Words& words, const Expr& r) {
  const int lanes = c.type.lanes, counters = std::min(lanes, 8);
  const Expr within = loop::binary(BinaryOp::rem, r, loop::index(8));  // of a block's counters
  const Expr first = lanes < 8 ? first_counter(r) + loop::cast(Scalar::i32, within) : first_counter(r);
  const Expr counter = c.b.let("counter", loop::ramp(first, 1, counters));
  const Expr word = c.b.let("word", loop::binary(BinaryOp::rem, r, loop::index(32)) / loop::index(8));
  Expr result;
  for (int i = 4 - lanes / counters; i >= 0; i -= lanes / counters) {
    const Expr w = lanes == 16 ? loop::concat(words(i, counter), words(i + 1, counter)) : words(i, counter);
    const Expr chosen = loop::broadcast(loop::compare(CompareOp::eq, word, loop::index(i)), lanes);
    result = result ? loop::select(chosen, w, result) : w;
  }
  return result;
}

// Words of positions r, r + 1, ... for any r.
Expr word_anywhere(const ScalarContext& c, const Words& words, const Expr& r) {
  // With l = r % 32 + lane, a lane's position has the counter r / 32 * 8 + l / 32 * 8 + l % 8 and the word
  // l / 8 % 4.
  const Expr low = loop::cast(Scalar::i32, loop::binary(BinaryOp::rem, r, loop::index(32)));
  const Expr l = c.type.lanes == 1 ? low : loop::ramp(low, 1, c.type.lanes);
  const Expr l_block = loop::binary(BinaryOp::shift_left,
                                    loop::binary(BinaryOp::shift_right, l, i32_constant(5)), i32_constant(3));
  const Expr counter =
      c.b.let("counter", (first_counter(r) + l_block) + loop::binary(BinaryOp::bit_and, l, i32_constant(7)));
  const Expr word =
      c.b.let("word", loop::binary(BinaryOp::bit_and, loop::binary(BinaryOp::shift_right, l, i32_constant(3)),
                                   i32_constant(3)));
  Expr result = words(3, counter);
  for (int i = 2; i >= 0; --i)
    result = loop::select(loop::compare(CompareOp::eq, word, i32_constant(static_cast<uint32_t>(i))),
                          words(i, counter), result);
  return result;
}

}  // namespace

Expr random_word_expr(const ScalarContext& c, uint32_t stream) {
  const Words words(c, stream);
  // Lane 0 is position r of the counted axis: rows when batched, else elements.
  Expr r = c.batched ? c.row : c.element;
  if (c.batched && !c.from_row_zero) r = loop::ref(c.b.predefined().row_offset) + r;
  const bool aligned = c.aligned && (!c.batched || c.offset_aligned);
  const int lanes = c.type.lanes;
  return fit(aligned && (lanes == 4 || lanes == 8 || lanes == 16) ? aligned_word(c, words, r)
                                                                  : word_anywhere(c, words, r),
             c);
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
