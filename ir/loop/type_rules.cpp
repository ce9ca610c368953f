// Names and typing rules of loop IR; knows nothing of statements, text or LLVM.
#include "ir/loop/type_rules.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace gradc::loop {
namespace {

constexpr std::array<std::string_view, 6> scalar_names = {"i1", "i8", "i32", "i64", "f32", "f64"};
constexpr std::array<std::string_view, 18> unary_names = {
    "neg",   "abs",  "sqrt",    "rsqrt",    "floor", "round", "exp", "expm1", "log",
    "log1p", "tanh", "sigmoid", "softplus", "erf",   "sin",   "cos", "not",   "is_finite"};
constexpr std::array<std::string_view, 13> binary_names = {"+",   "-", "*", "/", "%",  "min", "max",
                                                           "pow", "&", "|", "^", "<<", ">>"};
constexpr std::array<std::string_view, 6> compare_names = {"<", "<=", ">", ">=", "==", "!="};
static_assert(unary_names.size() == static_cast<size_t>(UnaryOp::is_finite) + 1 &&
              binary_names.size() == static_cast<size_t>(BinaryOp::shift_right) + 1 &&
              compare_names.size() == static_cast<size_t>(CompareOp::ne) + 1);
constexpr std::array<std::string_view, 37> reserved_names = {
    "for",        "to",       "step",     "unroll",     "let",        "var",   "if",         "else",
    "block",      "prefetch", "inf",      "nan",        "true",       "false", "program",    "kernel",
    "call",       "read",     "write",    "read_write", "allocation", "min",   "max",        "pow",
    "fma",        "ramp",     "select",   "broadcast",  "philox",     "at",    "reduce_add", "reduce_min",
    "reduce_max", "zip_low",  "zip_high", "concat",     "where"};

std::string unary_error(UnaryOp op, Type a) {
  if (op == UnaryOp::logical_not) return a.scalar == Scalar::i1 ? "" : "`not` takes i1, not " + to_string(a);
  if (op == UnaryOp::neg || op == UnaryOp::abs) {
    if (a.is_float() || a.is_integer()) return {};
  } else if (a.is_float()) {
    return {};
  }
  return fmt::format("`{}` does not take {}", name(op), to_string(a));
}

std::string binary_error(BinaryOp op, Type a, Type b) {
  if (a != b)
    return fmt::format("`{}` has operands of types {} and {}", name(op), to_string(a), to_string(b));
  bool ok = false;
  switch (op) {
    case BinaryOp::add:
    case BinaryOp::sub:
    case BinaryOp::mul:
    case BinaryOp::div:
    case BinaryOp::min:
    case BinaryOp::max: ok = a.is_float() || a.is_integer(); break;
    case BinaryOp::rem:
    case BinaryOp::shift_left:
    case BinaryOp::shift_right: ok = a.is_integer(); break;
    case BinaryOp::pow: ok = a.is_float(); break;
    case BinaryOp::bit_and:
    case BinaryOp::bit_or:
    case BinaryOp::bit_xor: ok = a.is_integer() || a.scalar == Scalar::i1; break;
  }
  return ok ? "" : fmt::format("`{}` does not take {}", name(op), to_string(a));
}

std::string load_error(const ExprData& e) {
  if (!e.buffer) return "a load needs a buffer";
  const Type i = e.args[0]->type;
  if (i.scalar != Scalar::i64 && i.scalar != Scalar::i32)
    return "an index must be i64 (or i32), not " + to_string(i);
  const Scalar s = e.buffer->scalar == Scalar::i8 ? Scalar::i1 : e.buffer->scalar;
  if (e.type.scalar != s) {
    return fmt::format("a load from `{}` gives {}, not {}", e.buffer->name, name(s), to_string(e.type));
  }
  if (i.lanes != 1 && i.lanes != e.type.lanes) {
    return fmt::format("an index of {} lanes gathers as many, not {}", i.lanes, e.type.lanes);
  }
  if (e.args.size() == 2 && e.args[1]->type != Type{Scalar::i1, e.type.lanes}) {
    return fmt::format("the mask of a load of {} is {}", to_string(e.type), to_string(e.args[1]->type));
  }
  return {};
}

std::string philox_error(const ExprData& e) {
  if (e.number != 0 && e.number != 1 && e.number != 2 && e.number != 3) return "philox has words 0 to 3";
  for (size_t i = 0; i < e.args.size(); ++i) {
    const Type t = e.args[i]->type;
    if (t.scalar != Scalar::i32) return "philox takes i32, not " + to_string(t);
    if (i > 0 && t.lanes != 1) return "only philox's first counter may have lanes";
  }
  return {};
}

}  // namespace

std::string_view name(AccessScope scope) {
  switch (scope) {
    case AccessScope::anything: return "anything";
    case AccessScope::own_axis0: return "axis0";
    case AccessScope::own_panels: return "panels";
    case AccessScope::panel: return "panel";
  }
  return "?";
}
std::string_view name(Scalar s) { return scalar_names[static_cast<size_t>(s)]; }
std::string_view name(UnaryOp op) { return unary_names[static_cast<size_t>(op)]; }
std::string_view name(BinaryOp op) { return binary_names[static_cast<size_t>(op)]; }
std::string_view name(CompareOp op) { return compare_names[static_cast<size_t>(op)]; }

int bytes(Scalar s) {
  switch (s) {
    case Scalar::i1:
    case Scalar::i8: return 1;
    case Scalar::i32:
    case Scalar::f32: return 4;
    case Scalar::i64:
    case Scalar::f64: return 8;
  }
  return 0;
}

std::string to_string(Type t) {
  return t.lanes == 1 ? std::string(name(t.scalar)) : fmt::format("{}x{}", name(t.scalar), t.lanes);
}

std::optional<Scalar> scalar_named(std::string_view name) {
  const auto it = std::find(scalar_names.begin(), scalar_names.end(), name);
  if (it == scalar_names.end()) return std::nullopt;
  return static_cast<Scalar>(it - scalar_names.begin());
}

std::optional<UnaryOp> unary_named(std::string_view name) {
  const auto it = std::find(unary_names.begin(), unary_names.end(), name);
  if (it == unary_names.end()) return std::nullopt;
  return static_cast<UnaryOp>(it - unary_names.begin());
}

bool is_reserved(std::string_view name) {
  return scalar_named(name) || unary_named(name) ||
         std::find(reserved_names.begin(), reserved_names.end(), name) != reserved_names.end();
}

double canonical(Scalar s, double value) {
  return s == Scalar::f32 ? static_cast<double>(static_cast<float>(value)) : value;
}

int64_t canonical(Scalar s, int64_t value) {
  if (s == Scalar::i1) return value != 0;
  if (s == Scalar::i32) return static_cast<int32_t>(static_cast<uint32_t>(value));
  return value;
}

Type result_type(const ExprData& e) {
  switch (e.kind) {
    case ExprKind::constant:
    case ExprKind::broadcast:
    case ExprKind::ramp:
    case ExprKind::cast: return e.type;
    case ExprKind::variable: return e.variable->type;
    case ExprKind::load: return e.type.with(e.buffer->scalar == Scalar::i8 ? Scalar::i1 : e.buffer->scalar);
    case ExprKind::unary:
      return e.unary == UnaryOp::is_finite ? e.args[0]->type.with(Scalar::i1) : e.args[0]->type;
    case ExprKind::binary:
    case ExprKind::zip:
    case ExprKind::fma: return e.args[0]->type;
    case ExprKind::compare: return e.args[0]->type.with(Scalar::i1);
    case ExprKind::select: return e.args[1]->type;
    case ExprKind::reduce: return e.args[0]->type.with_lanes(1);
    case ExprKind::concat: return e.args[0]->type.with_lanes(2 * e.args[0]->type.lanes);
    case ExprKind::philox: return e.args[0]->type.with(Scalar::i32);
  }
  return e.type;
}

namespace {

// By kind: the least and greatest number of operands.
constexpr std::array<std::pair<size_t, size_t>, 15> kArity = {{{0, 0},
                                                               {0, 0},
                                                               {1, 2},
                                                               {1, 1},
                                                               {1, 1},
                                                               {1, 1},
                                                               {2, 2},
                                                               {2, 2},
                                                               {3, 3},
                                                               {3, 3},
                                                               {1, 1},
                                                               {1, 1},
                                                               {2, 2},
                                                               {2, 2},
                                                               {6, 6}}};

// What holds for expressions of every kind.
std::string common_error(const ExprData& e) {
  const auto [low, high] = kArity[static_cast<size_t>(e.kind)];
  if (e.args.size() < low || e.args.size() > high) return fmt::format("{} operands", e.args.size());
  for (const Expr& a : e.args)
    if (!a) return "an operand is missing";
  if (e.type.lanes < 1 || e.type.lanes > max_lanes) return fmt::format("{} lanes", e.type.lanes);
  if (e.type.scalar == Scalar::i8) return "i8 is only for buffers";
  return {};
}

std::string reduce_error(const ExprData& e) {
  const Type operand = e.args[0]->type;
  if (e.binary != BinaryOp::add && e.binary != BinaryOp::min && e.binary != BinaryOp::max)
    return fmt::format("reduce cannot combine by `{}`", name(e.binary));
  if ((operand.lanes & (operand.lanes - 1)) != 0)
    return fmt::format("reduce needs a power of two of lanes, not {}", operand.lanes);
  return binary_error(e.binary, operand, operand);
}

}  // namespace

std::string type_error(const ExprData& e) {
  std::string error = common_error(e);
  if (!error.empty()) return error;
  const auto arg = [&](size_t i) { return e.args[i]->type; };
  switch (e.kind) {
    case ExprKind::constant: break;
    case ExprKind::variable:
      if (!e.variable) return "a reference needs a variable";
      break;
    case ExprKind::load: error = load_error(e); break;
    case ExprKind::broadcast:
      if (arg(0).lanes != 1 || arg(0).scalar != e.type.scalar || e.type.lanes < 2)
        return fmt::format("broadcast from {} to {}", to_string(arg(0)), to_string(e.type));
      break;
    case ExprKind::ramp:
      if (!e.type.is_integer() || arg(0) != e.type.with_lanes(1) || e.type.lanes < 2)
        return fmt::format("ramp from {} to {}", to_string(arg(0)), to_string(e.type));
      // So that the double is exact, and its multiples fit 64 bits.
      if (!(std::abs(e.number) <= 0x1p52))
        return fmt::format("a ramp's stride lies within 2^52, not {}", e.number);
      break;
    case ExprKind::unary: error = unary_error(e.unary, arg(0)); break;
    case ExprKind::binary: error = binary_error(e.binary, arg(0), arg(1)); break;
    case ExprKind::compare:
      if (arg(0) != arg(1))
        return fmt::format("`{}` compares {} with {}", name(e.compare), to_string(arg(0)), to_string(arg(1)));
      break;
    case ExprKind::select:
      if (arg(1) != arg(2) || arg(0) != arg(1).with(Scalar::i1))
        return fmt::format("select({}, {}, {})", to_string(arg(0)), to_string(arg(1)), to_string(arg(2)));
      break;
    case ExprKind::fma:
      if (!arg(0).is_float() || arg(0) != arg(1) || arg(0) != arg(2))
        return fmt::format("fma({}, {}, {})", to_string(arg(0)), to_string(arg(1)), to_string(arg(2)));
      break;
    case ExprKind::cast:
      if (e.type.scalar == Scalar::i1 || arg(0).lanes != e.type.lanes)
        return fmt::format("cast from {} to {}", to_string(arg(0)), to_string(e.type));
      break;
    case ExprKind::reduce: error = reduce_error(e); break;
    case ExprKind::zip:
      if (arg(0) != arg(1) || arg(0).lanes % 2 != 0 || (e.integer != 0 && e.integer != 1))
        return fmt::format("zip of {} and {}", to_string(arg(0)), to_string(arg(1)));
      break;
    case ExprKind::concat:
      if (arg(0) != arg(1)) return fmt::format("concat of {} and {}", to_string(arg(0)), to_string(arg(1)));
      break;
    case ExprKind::philox: error = philox_error(e); break;
  }
  if (!error.empty()) return error;
  if (result_type(e) != e.type) {
    return fmt::format("the type is {} where {} was expected", to_string(e.type), to_string(result_type(e)));
  }
  return {};
}

}  // namespace gradc::loop
