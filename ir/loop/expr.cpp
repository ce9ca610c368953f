// Typed constructors of loop IR expressions, with folding of constants and of index arithmetic; knows nothing
// of statements.
#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/loop/type_rules.h"
#include "support/check.h"

namespace gradc::loop {
namespace {

Expr finish(ExprData e) {
  const std::string error = type_error(e);
  GRADC_CHECK(error.empty(), "{}", error);
  return std::make_shared<const ExprData>(std::move(e));
}

bool is_constant(const Expr& e) { return e->kind == ExprKind::constant; }

// Broadcasts every one-lane operand to the widest operand's lanes.
void widen(std::initializer_list<Expr*> operands) {
  int lanes = 1;
  for (const Expr* e : operands) lanes = std::max<int>(lanes, (*e)->type.lanes);
  for (Expr* e : operands) *e = broadcast(*e, lanes);
}

int64_t wrap(uint64_t v) { return static_cast<int64_t>(v); }

// Arithmetic wraps as in generated code; null where nothing can be folded (division by zero).
Expr fold_integers(BinaryOp op, Type t, int64_t a, int64_t b) {
  const auto ua = static_cast<uint64_t>(a), ub = static_cast<uint64_t>(b);
  const uint64_t bits = t.scalar == Scalar::i32 ? 32 : 64;
  switch (op) {
    case BinaryOp::add: return constant_int(t, wrap(ua + ub));
    case BinaryOp::sub: return constant_int(t, wrap(ua - ub));
    case BinaryOp::mul: return constant_int(t, wrap(ua * ub));
    case BinaryOp::div: return a < 0 || b <= 0 ? nullptr : constant_int(t, a / b);
    case BinaryOp::rem: return a < 0 || b <= 0 ? nullptr : constant_int(t, a % b);
    case BinaryOp::min: return constant_int(t, std::min(a, b));
    case BinaryOp::max: return constant_int(t, std::max(a, b));
    case BinaryOp::bit_and: return constant_int(t, a & b);
    case BinaryOp::bit_or: return constant_int(t, a | b);
    case BinaryOp::bit_xor: return constant_int(t, a ^ b);
    case BinaryOp::shift_left: return ub >= bits ? nullptr : constant_int(t, wrap(ua << ub));
    case BinaryOp::shift_right: {
      const uint64_t value = bits == 32 ? static_cast<uint32_t>(ua) : ua;
      return ub >= bits ? nullptr : constant_int(t, wrap(value >> ub));
    }
    case BinaryOp::pow: break;
  }
  return nullptr;
}

// f32 through double is exact for these four: 53 bits are more than twice 24 (Figueroa 1995).
Expr fold_floats(BinaryOp op, Type t, double a, double b) {
  switch (op) {
    case BinaryOp::add: return constant(t, a + b);
    case BinaryOp::sub: return constant(t, a - b);
    case BinaryOp::mul: return constant(t, a * b);
    case BinaryOp::div: return constant(t, a / b);
    default: return nullptr;
  }
}

// Identities of integers and masks with a constant on the right.
Expr simplify_integer(BinaryOp op, const Expr& a, const Expr& b) {
  const int64_t c = b->integer;
  const Type t = a->type;
  switch (op) {
    case BinaryOp::add:
    case BinaryOp::sub:
      if (c == 0) return a;
      if (a->kind == ExprKind::binary && is_constant(a->args[1]) &&
          (a->binary == BinaryOp::add || a->binary == BinaryOp::sub)) {  // (x + p) + q = x + (p + q)
        const auto signed_part = [](BinaryOp o, int64_t v) {
          return static_cast<uint64_t>(o == BinaryOp::add ? v : wrap(-static_cast<uint64_t>(v)));
        };
        return binary(
            BinaryOp::add, a->args[0],
            constant_int(t, wrap(signed_part(a->binary, a->args[1]->integer) + signed_part(op, c))));
      }
      break;
    case BinaryOp::mul:
      if (c == 1) return a;
      if (c == 0) return b;
      if (a->kind == ExprKind::binary && a->binary == BinaryOp::mul && is_constant(a->args[1]))
        return binary(BinaryOp::mul, a->args[0], fold_integers(BinaryOp::mul, t, a->args[1]->integer, c));
      break;
    case BinaryOp::div:
      if (c == 1) return a;
      break;
    case BinaryOp::rem:
      if (c == 1) return constant_int(t, 0);
      break;
    case BinaryOp::shift_left:
    case BinaryOp::shift_right:
    case BinaryOp::bit_xor:
      if (c == 0) return a;
      break;
    case BinaryOp::bit_and:
      if (c == 0) return b;
      if (t.scalar == Scalar::i1) return a;
      break;
    case BinaryOp::bit_or:
      if (c == 0) return a;
      if (t.scalar == Scalar::i1) return b;
      break;
    default: break;
  }
  return nullptr;
}

bool commutes(BinaryOp op) {
  return op == BinaryOp::add || op == BinaryOp::mul || op == BinaryOp::bit_and || op == BinaryOp::bit_or ||
         op == BinaryOp::bit_xor || op == BinaryOp::min || op == BinaryOp::max;
}

}  // namespace

Expr constant(Type type, double value) {
  if (!type.is_float()) return constant_int(type, static_cast<int64_t>(value));
  return finish({.kind = ExprKind::constant, .type = type, .number = canonical(type.scalar, value)});
}

Expr constant_int(Type type, int64_t value) {
  if (type.is_float()) return constant(type, static_cast<double>(value));
  return finish({.kind = ExprKind::constant, .type = type, .integer = canonical(type.scalar, value)});
}

Expr index(int64_t value) { return constant_int({Scalar::i64, 1}, value); }

Expr ref(const Variable& v) {
  GRADC_CHECK(v, "reference to no variable");
  return finish({.kind = ExprKind::variable, .type = v->type, .variable = v});
}

Expr load(const Buffer& b, Expr index, int lanes, Expr mask) {
  GRADC_CHECK(b && index, "load needs a buffer and an index");
  GRADC_CHECK(lanes >= 1 && lanes <= max_lanes, "{} lanes", lanes);
  const Scalar s = b->scalar == Scalar::i8 ? Scalar::i1 : b->scalar;
  ExprData e{.kind = ExprKind::load, .type = {s, static_cast<uint16_t>(lanes)}, .buffer = b};
  e.args.push_back(std::move(index));
  if (mask) e.args.push_back(broadcast(std::move(mask), lanes));
  return finish(std::move(e));
}

Expr gather(const Buffer& b, Expr vector_index, Expr mask) {
  GRADC_CHECK(vector_index, "gather needs an index");
  const int lanes = vector_index->type.lanes;
  return load(b, std::move(vector_index), lanes, std::move(mask));
}

Expr broadcast(Expr a, int lanes) {
  if (a->type.lanes == lanes) return a;
  GRADC_CHECK(lanes >= 1 && lanes <= max_lanes, "{} lanes", lanes);
  const Type t = a->type.with_lanes(lanes);
  if (is_constant(a) && a->type.lanes == 1) {
    ExprData e = *a;
    e.type = t;
    return finish(std::move(e));
  }
  return finish({.kind = ExprKind::broadcast, .type = t, .args = {std::move(a)}});
}

Expr ramp(Expr base, int64_t stride, int lanes) {
  if (lanes == 1) return base;
  if (stride == 0) return broadcast(std::move(base), lanes);
  GRADC_CHECK(lanes >= 1 && lanes <= max_lanes, "{} lanes", lanes);
  const Type t = base->type.with_lanes(lanes);
  return finish(
      {.kind = ExprKind::ramp, .type = t, .number = static_cast<double>(stride), .args = {std::move(base)}});
}

Expr unary(UnaryOp op, Expr a) {
  if (is_constant(a)) {
    if (op == UnaryOp::logical_not && a->type.scalar == Scalar::i1) return constant_int(a->type, !a->integer);
    if (op == UnaryOp::neg && a->type.is_integer())
      return constant_int(a->type, wrap(-static_cast<uint64_t>(a->integer)));
    if (op == UnaryOp::neg && a->type.is_float()) return constant(a->type, -a->number);
  }
  ExprData e{.kind = ExprKind::unary, .unary = op};
  e.type = op == UnaryOp::is_finite ? a->type.with(Scalar::i1) : a->type;
  e.args.push_back(std::move(a));
  return finish(std::move(e));
}

Expr binary(BinaryOp op, Expr a, Expr b) {
  widen({&a, &b});
  const Type t = a->type;
  if (t == b->type) {
    if (is_constant(a) && is_constant(b)) {
      Expr folded = t.is_float() ? fold_floats(op, t, a->number, b->number)
                                 : fold_integers(op, t, a->integer, b->integer);
      if (folded) return folded;
    }
    if (!t.is_float() && commutes(op) && is_constant(a)) std::swap(a, b);
    if (!t.is_float() && is_constant(b))
      if (Expr simpler = simplify_integer(op, a, b)) return simpler;
    if (t.is_float() && op == BinaryOp::mul) {  // exact also for NaN, infinities and -0; x + 0 is not
      if (is_constant(b) && b->number == 1) return a;
      if (is_constant(a) && a->number == 1) return b;
    }
    if (t.is_float() && op == BinaryOp::div && is_constant(b) && b->number == 1) return a;
  }
  ExprData e{.kind = ExprKind::binary, .type = t, .binary = op};
  e.args = {std::move(a), std::move(b)};
  return finish(std::move(e));
}

Expr compare(CompareOp op, Expr a, Expr b) {
  widen({&a, &b});
  const Type t = a->type.with(Scalar::i1);
  if (is_constant(a) && is_constant(b) && a->type == b->type) {
    return constant_int(
        t, a->type.is_float() ? holds(op, a->number, b->number) : holds(op, a->integer, b->integer));
  }
  ExprData e{.kind = ExprKind::compare, .type = t, .compare = op};
  e.args = {std::move(a), std::move(b)};
  return finish(std::move(e));
}

Expr select(Expr c, Expr a, Expr b) {
  widen({&c, &a, &b});
  if (is_constant(c) && a->type == b->type && c->type.scalar == Scalar::i1) return c->integer ? a : b;
  const Type t = a->type;
  ExprData e{.kind = ExprKind::select, .type = t};
  e.args = {std::move(c), std::move(a), std::move(b)};
  return finish(std::move(e));
}

Expr fma(Expr a, Expr b, Expr c) {
  widen({&a, &b, &c});
  const Type t = a->type;
  ExprData e{.kind = ExprKind::fma, .type = t};
  e.args = {std::move(a), std::move(b), std::move(c)};
  return finish(std::move(e));
}

Expr cast(Scalar to, Expr a) {
  const Type from = a->type, t = a->type.with(to);
  if (from == t) return a;
  if (to == Scalar::i1) return compare(CompareOp::ne, a, constant_int(from, 0));
  if (is_constant(a)) {
    if (!from.is_float()) return constant_int(t, a->integer);
    if (t.is_float()) return constant(t, a->number);
    if (std::abs(a->number) < 0x1p31) return constant_int(t, static_cast<int64_t>(a->number));
  }
  return finish({.kind = ExprKind::cast, .type = t, .args = {std::move(a)}});
}

Expr reduce(BinaryOp combiner, Expr a) {
  if (a->type.lanes == 1) return a;
  const Type t = a->type.with_lanes(1);
  return finish({.kind = ExprKind::reduce, .type = t, .binary = combiner, .args = {std::move(a)}});
}

Expr zip(bool upper, Expr a, Expr b) {
  const Type t = a->type;
  ExprData e{.kind = ExprKind::zip, .type = t, .integer = upper};
  e.args = {std::move(a), std::move(b)};
  return finish(std::move(e));
}

Expr concat(Expr a, Expr b) {
  ExprData e{.kind = ExprKind::concat, .type = a->type.with_lanes(2 * a->type.lanes)};
  e.args = {std::move(a), std::move(b)};
  return finish(std::move(e));
}

Expr philox(int word, Expr c0, Expr c1, Expr c2, Expr c3, Expr k0, Expr k1) {
  ExprData e{.kind = ExprKind::philox, .type = c0->type, .number = static_cast<double>(word)};
  e.args = {std::move(c0), std::move(c1), std::move(c2), std::move(c3), std::move(k0), std::move(k1)};
  return finish(std::move(e));
}

bool is_constant(const Expr& e, int64_t value) {
  return e->kind == ExprKind::constant && !e->type.is_float() &&
         e->integer == canonical(e->type.scalar, value);
}

}  // namespace gradc::loop
