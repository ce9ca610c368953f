#include "ir/loop/integer_values.h"

#include <algorithm>

namespace gradc::loop {

namespace {

// d times a quotient is at most `rest`, whose newest atom `limit` bounds by others. The result is that bound on the
// quotient, which for integers is sharper than both inequalities together: 2 q <= i and i <= 2 k + 1 give q <= k.
std::optional<Linear> without_newest(const Linear& remainder, const Linear& rest, const Linear& limit) {
  const int64_t c = rest.terms.back().second, d = limit.coefficient(rest.terms.back().first);
  if (d == 0 || (c > 0) == (d > 0)) return std::nullopt;
  return remainder * std::abs(d) + limit * std::abs(c);
}

}  // namespace

Linear IntegerValues::opaque(Type t, int64_t low, int64_t high) {
  if (t.scalar == Scalar::i1 || t.scalar == Scalar::i8)
    low = std::max<int64_t>(low, 0), high = std::min<int64_t>(high, 1);
  if (t.scalar == Scalar::i32)
    low = std::max<int64_t>(low, INT32_MIN), high = std::min<int64_t>(high, INT32_MAX);
  return Linear::atom(atoms_.add(low, high));
}

void IntegerValues::leave(const Scope& s) {
  if (facts_.size() == s.facts && truths_.size() == s.truths) return;
  facts_.resize(s.facts);
  truths_.resize(s.truths);
  aliases_.resize(s.aliases);
  memo_.clear();
}

bool IntegerValues::possible(size_t from) const {
  for (size_t i = from; i < facts_.size(); ++i)
    if (atoms_.least_by_ranges(facts_[i] * -1 - 1) >= 0) return false;
  return true;
}

// Also the consequences of a bound on the newest atom for the others.
void IntegerValues::fact(const Linear& sum) {
  Linear f = tightened(sum);
  facts_.push_back(f);
  for (int i = 0; i < 2 && f.terms.size() > 1; ++i) {
    const auto [atom, c] = f.terms.back();
    const int64_t at = c > 0 ? atoms_.high(atom) : atoms_.low(atom);
    if (at >= kUnbounded || at <= -kUnbounded) return;
    f.terms.pop_back();
    f = tightened(f + c * at);
    facts_.push_back(f);
  }
}

void IntegerValues::assume(const Expr& e, bool holds) {
  truths_.emplace_back(e.get(), holds);
  switch (e->kind) {
    case ExprKind::constant:
      if ((e->integer != 0) != holds) facts_.push_back(Linear::of(-1));  // never
      return;
    case ExprKind::variable: {
      truths_.emplace_back(e->variable.get(), holds);
      for (const Selected& s : selected_)
        if (s.condition == e->variable.get()) aliases_.emplace_back(s.value, holds ? s.yes : s.no);
      if (const auto it = conditions_.find(e->variable.get()); it != conditions_.end())
        assume(it->second, holds);
      return;
    }
    case ExprKind::broadcast: return assume(e->args[0], holds);
    case ExprKind::unary:
      if (e->unary == UnaryOp::logical_not) assume(e->args[0], !holds);
      return;
    case ExprKind::binary:
      if ((e->binary == BinaryOp::bit_and && holds) || (e->binary == BinaryOp::bit_or && !holds))
        for (const Expr& a : e->args) assume(a, holds);
      return;
    case ExprKind::compare:
      if (!e->args[0]->type.is_float()) compared(e->compare, eval(e->args[0]), eval(e->args[1]), holds);
      return;
    default: return;
  }
}

void IntegerValues::compared(CompareOp op, const Linear& a, const Linear& b, bool holds) {
  const auto less = [&](const Linear& x, const Linear& y) { fact(y - x - 1); };
  const auto not_less = [&](const Linear& x, const Linear& y) { fact(x - y); };
  switch (op) {
    case CompareOp::lt: return holds ? less(a, b) : not_less(a, b);
    case CompareOp::ge: return holds ? not_less(a, b) : less(a, b);
    case CompareOp::gt: return holds ? less(b, a) : not_less(b, a);
    case CompareOp::le: return holds ? not_less(b, a) : less(b, a);
    case CompareOp::eq:
    case CompareOp::ne:
      if (holds != (op == CompareOp::eq)) return;
      not_less(a, b);
      not_less(b, a);
      return;
  }
}

Linear IntegerValues::eval(const Expr& e) {
  if (const auto it = memo_.find(e.get()); it != memo_.end()) return it->second;
  Linear value;
  try {
    value = compute(*e);
  } catch (const TooLarge&) {
    value = opaque(e->type);
  }
  // 32-bit values wrap where they do not fit; a value from memory may be any.
  if (e->type.scalar == Scalar::i32 && !value.is_constant() && e->kind != ExprKind::variable &&
      e->kind != ExprKind::load &&
      (atoms_.least(value, facts_) < INT32_MIN || atoms_.greatest(value, facts_) > INT32_MAX))
    value = opaque(e->type);
  return memo_[e.get()] = value;
}

Linear IntegerValues::compute(const ExprData& e) {
  switch (e.kind) {
    case ExprKind::constant: return Linear::of(e.integer);
    case ExprKind::variable: {
      const auto it = known_.find(e.variable.get());
      if (it == known_.end() || e.variable->is_mutable) return opaque(e.type);
      Linear value = it->second;
      for (const auto& [atom, same] : aliases_)
        if (const int64_t c = value.coefficient(atom)) value = value - Linear::atom(atom, c) + same * c;
      return value;
    }
    case ExprKind::broadcast: return eval(e.args[0]);
    case ExprKind::ramp: return eval(e.args[0]) + Linear::atom(kLaneAtom, static_cast<int64_t>(e.number));
    case ExprKind::cast:
      return !e.args[0]->type.is_float() && e.args[0]->type.scalar != Scalar::i1 ? eval(e.args[0])
                                                                                 : opaque(e.type);
    case ExprKind::binary: return binary(e);
    case ExprKind::select: return select(e);
    case ExprKind::unary:
      return e.unary == UnaryOp::neg && !e.args[0]->type.is_float() ? eval(e.args[0]) * -1 : opaque(e.type);
    default: return opaque(e.type);
  }
}

Linear IntegerValues::binary(const ExprData& e) {
  if (e.type.scalar == Scalar::i1) return opaque(e.type);
  const Linear a = eval(e.args[0]), b = eval(e.args[1]);
  switch (e.binary) {
    case BinaryOp::add: return a + b;
    case BinaryOp::sub: return a - b;
    case BinaryOp::mul:
      if (b.is_constant()) return a * b.constant;
      if (a.is_constant()) return b * a.constant;
      return opaque(e.type);
    case BinaryOp::div:
      if (b.is_constant() && b.constant > 0) return quotient(a, b.constant);
      return opaque(e.type, 0);
    case BinaryOp::rem:
      if (b.is_constant() && b.constant > 0) return a - quotient(a, b.constant) * b.constant;
      return opaque(e.type, 0);
    case BinaryOp::shift_left:
      return b.is_constant() && b.constant < 32 ? a * (int64_t{1} << b.constant) : opaque(e.type);
    case BinaryOp::min: return extreme(e.type, a, b, 1);
    case BinaryOp::max: return extreme(e.type, a, b, -1);
    default: return opaque(e.type);
  }
}

// A quotient of operands that are not negative, as loop IR requires.
Linear IntegerValues::quotient(const Linear& a, int64_t d) {
  Linear whole, rest;
  whole.constant = a.constant >= 0 ? a.constant / d : -((-a.constant + d - 1) / d);
  rest.constant = a.constant - whole.constant * d;
  for (const auto& [atom, c] : a.terms)
    if (c % d == 0)
      whole.terms.emplace_back(atom, c / d);
    else
      rest.terms.emplace_back(atom, c);
  if (rest.is_constant()) return whole;
  if (atoms_.proves(rest, facts_) && atoms_.proves(rest * -1 + (d - 1), facts_)) return whole;
  const auto [it, fresh] = quotients_.try_emplace({rest.constant, rest.terms, d}, 0);
  if (fresh) {
    const int64_t low = atoms_.least(rest), high = atoms_.greatest(rest);
    divisions_.push_back({atoms_.size(), rest, d});
    it->second = atoms_.add(low <= -kUnbounded ? low
                            : low >= 0         ? low / d
                                               : -((-low + d - 1) / d),
                            high >= kUnbounded ? high
                            : high >= 0        ? high / d
                                               : -((-high) / d));
    const Linear remainder = rest - Linear::atom(it->second, d);
    for (const Linear& limit : atoms_.required(rest.terms.back().first))
      if (const auto cut = without_newest(remainder, rest, limit)) atoms_.require(*cut);
    atoms_.require(remainder);
    atoms_.require(remainder * -1 + (d - 1));
  }
  const Linear remainder = rest - Linear::atom(it->second, d);
  for (size_t i = 0, end = facts_.size(); i < end; ++i)
    if (const auto cut = without_newest(remainder, rest, facts_[i])) facts_.push_back(tightened(*cut));
  return whole + Linear::atom(it->second);
}

Linear IntegerValues::with_remainders(Linear sum, bool free) {
  for (auto division = divisions_.rbegin(); division != divisions_.rend(); ++division) {
    if (sum.coefficient(division->quotient) == 0) continue;
    const auto [newest, c] = division->rest.terms.back();
    const int64_t m = sum.coefficient(newest) / c;
    const bool all =
        m != 0 && std::all_of(division->rest.terms.begin(), division->rest.terms.end(),
                              [&](const auto& t) { return sum.coefficient(t.first) == m * t.second; });
    if (!all) continue;
    int& number = free ? division->free_remainder : division->remainder;
    if (number < 0) {
      number = atoms_.add(0, division->by - 1);
      const Linear remainder = division->rest - Linear::atom(division->quotient, division->by);
      if (!free) atoms_.require(remainder - Linear::atom(number));
      if (!free) atoms_.require(Linear::atom(number) - remainder);
    }
    sum = sum - division->rest * m + Linear::atom(division->quotient, m * division->by) +
          Linear::atom(number, m);
  }
  return sum;
}

// The minimum (sign 1) or maximum (sign -1).
Linear IntegerValues::extreme(Type type, const Linear& a, const Linear& b, int64_t sign) {
  const Linear above = (b - a) * sign;  // at least 0 where it is a
  if (atoms_.least(above, facts_, 0) >= 0) return a;
  if (atoms_.least(above * -1, facts_, 0) >= 0) return b;
  // The same operands give the same symbol.
  std::vector<int64_t> key{sign};
  for (const Linear* sum : {&a, &b}) {
    key.push_back(sum->constant);
    for (const auto& [atom, c] : sum->terms) key.insert(key.end(), {atom, c});
    key.push_back(-1);
  }
  if (const auto it = extremes_.find(key); it != extremes_.end()) return it->second;
  return extremes_[key] = new_extreme(type, a, b, sign);
}

Linear IntegerValues::new_extreme(Type type, const Linear& a, const Linear& b, int64_t sign) {
  if (sign == 1 && !range_.by_panels() && range_.splits()) {
    if (a == range_.hi() && b.is_constant()) return range_.end_below(b.constant);
    if (b == range_.hi() && a.is_constant()) return range_.end_below(a.constant);
  }
  const int64_t low_a = atoms_.least(a), low_b = atoms_.least(b), high_a = atoms_.greatest(a),
                high_b = atoms_.greatest(b);
  const Linear value = sign == 1 ? opaque(type, std::min(low_a, low_b), std::min(high_a, high_b))
                                 : opaque(type, std::max(low_a, low_b), std::max(high_a, high_b));
  atoms_.require((a - value) * sign);
  atoms_.require((b - value) * sign);
  atoms_.require_one(value.terms.back().first, (value - a) * sign, (value - b) * sign);
  return value;
}

Linear IntegerValues::select(const ExprData& e) {
  const Expr& condition = e.args[0];
  for (const auto& [what, holds] : truths_)
    if (what == condition.get() ||
        (condition->kind == ExprKind::variable && what == condition->variable.get()))
      return eval(e.args[holds ? 1 : 2]);
  const Linear yes = eval(e.args[1]), no = eval(e.args[2]);
  if (yes == no) return yes;
  const Scope scope = here();
  const auto range = [&](const Linear& value, bool holds) {
    assume(condition, holds);
    const std::pair<int64_t, int64_t> r{atoms_.least(value, facts_), atoms_.greatest(value, facts_)};
    leave(scope);
    return r;
  };
  const auto a = range(yes, true), b = range(no, false);
  const Linear value = opaque(e.type, std::min(a.first, b.first), std::max(a.second, b.second));
  if (condition->kind == ExprKind::variable)
    selected_.push_back({condition->variable.get(), value.terms.back().first, yes, no});
  return value;
}

}  // namespace gradc::loop
