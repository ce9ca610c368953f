// The infix operators, on static values and on tensors.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string_view>

#include "frontend/emitter.h"
#include "frontend/error_codes.h"
#include "ir/tensor/op_def.h"

namespace gradc::frontend {

namespace {

struct TensorOperator {
  const char* text;
  const char* op;
  const char* verb;  // "these shapes do not ..."
};
constexpr TensorOperator kTensorOperators[] = {{"+", "add", "add"},
                                               {"-", "sub", "subtract"},
                                               {"*", "mul", "multiply"},
                                               {"/", "div", "divide"},
                                               {"^", "pow", "combine"},
                                               {"==", "eq", "compare"},
                                               {"!=", "ne", "compare"},
                                               {"<", "lt", "compare"},
                                               {"<=", "le", "compare"},
                                               {">", "gt", "compare"},
                                               {">=", "ge", "compare"},
                                               {"and", "logical_and", "combine"},
                                               {"or", "logical_or", "combine"}};

bool is_comparison(const std::string& op) {
  return op == "==" || op == "!=" || op == "<" || op == "<=" || op == ">" || op == ">=";
}

// Where two shapes that do not broadcast differ, in words.
std::string difference(const Shape& a, const Shape& b) {
  for (size_t i = 1; i <= std::min(a.size(), b.size()); ++i) {
    const int64_t x = a[a.size() - i], y = b[b.size() - i];
    if (x == y || x == 1 || y == 1) continue;
    if (a.size() == 3 && b.size() == 3 && i == 3) return fmt::format("channels {} and {} differ", x, y);
    return fmt::format("extents {} and {} differ{}", x, y,
                       a.size() > 1 || b.size() > 1
                           ? i == 1 ? " on the last axis" : fmt::format(" on axis {} from the end", i)
                           : "");
  }
  return "the shapes differ";
}

bool integer_power(int64_t base, int64_t exponent, int64_t& out) {
  out = 1;
  if (exponent > 64 && base >= -1 && base <= 1) exponent = exponent % 2 + 2;  // the same value in few rounds
  for (int64_t i = 0; i < exponent; ++i)
    if (__builtin_mul_overflow(out, base, &out)) return false;
  return true;
}

// Whether it swaps the last two axes and leaves those before them as they are.
bool swaps_last_axes(const Op& op) {
  if (!op.is("transpose")) return false;
  std::vector<int64_t> order = op.attributes.integers("permutation");
  std::swap(order[order.size() - 1], order[order.size() - 2]);
  return std::is_sorted(order.begin(), order.end());
}

}  // namespace

Value Emitter::unary(const std::string& op, const Value& a, const Expr& site) {
  if (op == "not") {
    if (a.is(ValueKind::boolean)) return Value::of(!a.boolean);
    if (a.is_tensor()) return emit("logical_not", {a.tensor}, {}, site.span, "`not`");
  } else {
    if (a.is(ValueKind::number)) return Value::of(-a.number);
    if (a.is(ValueKind::integer)) {
      int64_t result = 0;
      if (!__builtin_sub_overflow(int64_t{0}, a.integer, &result)) return Value::of(result);
      error(codes::arithmetic, site.span, "this integer overflows 64 bits");
      return {};
    }
    if (a.is_tensor()) return emit("neg", {a.tensor}, {}, site.span, "`-`");
  }
  error(codes::wrong_kind, site.span, fmt::format("`{}` does not apply to {}", op, describe(a)));
  return {};
}

Value Emitter::static_binary(const std::string& op, const Value& a, const Value& b, const Expr& site) {
  if (op == "==") return Value::of(equal(a, b));
  if (op == "!=") return Value::of(!equal(a, b));
  if ((op == "and" || op == "or") && a.is(ValueKind::boolean) && b.is(ValueKind::boolean))
    return Value::of(op == "and" ? a.boolean && b.boolean : a.boolean || b.boolean);
  if (op == "+" && a.is(ValueKind::list) && b.is(ValueKind::list)) {
    if (!within_limit(a.weight + b.weight - 2, "this list", site.span)) return {};
    List joined = *a.list;
    joined.insert(joined.end(), b.list->begin(), b.list->end());
    return Value::of(std::move(joined));
  }
  if (op == "+" && a.is(ValueKind::string) && b.is(ValueKind::string)) {
    if (a.text.size() + b.text.size() <= static_cast<size_t>(kMaxList)) return Value::of(a.text + b.text);
    error(codes::limit, site.span, fmt::format("this string has more than {} characters", kMaxList));
    return {};
  }
  const bool integers = a.is(ValueKind::integer) && b.is(ValueKind::integer);
  if (op == ".." && integers) {
    Value v = a;
    v.kind = ValueKind::range;
    v.end = b.integer;
    int64_t length = 0;
    if (__builtin_sub_overflow(v.end, v.integer, &length)) {
      error(codes::limit, site.span, "this range is longer than any limit");
      return {};
    }
    return v;
  }
  if (!a.is_static_number() || !b.is_static_number() || op == ".." || op == "@" || op == "and" ||
      op == "or") {
    Diagnostic& d = error(codes::wrong_kind, site.span,
                          fmt::format("`{}` does not apply to {} and {}", op, describe(a), describe(b)));
    if (a.is(ValueKind::definition) || b.is(ValueKind::definition))
      d.helps.push_back("is an argument list `(...)` missing?");
    return {};
  }
  return static_arithmetic(op, a, b, site);
}

Value Emitter::static_arithmetic(const std::string& op, const Value& a, const Value& b, const Expr& site) {
  const double x = a.as_number(), y = b.as_number();
  if (op == "<") return Value::of(x < y);
  if (op == "<=") return Value::of(x <= y);
  if (op == ">") return Value::of(x > y);
  if (op == ">=") return Value::of(x >= y);
  if ((op == "/" || op == "//" || op == "%") && y == 0) {
    error(codes::arithmetic, site.span, fmt::format("division by zero: {} {} 0", print(a), op));
    return {};
  }
  const auto overflow = [&] {
    error(codes::arithmetic, site.span, fmt::format("{} {} {} overflows 64 bits", print(a), op, print(b)));
    return Value{};
  };
  if (a.is(ValueKind::integer) && b.is(ValueKind::integer) && op != "/" && !(op == "^" && b.integer < 0)) {
    const int64_t i = a.integer, j = b.integer;
    int64_t r = 0;
    bool fits = true;
    if (op == "+") fits = !__builtin_add_overflow(i, j, &r);
    if (op == "-") fits = !__builtin_sub_overflow(i, j, &r);
    if (op == "*") fits = !__builtin_mul_overflow(i, j, &r);
    if (op == "^") fits = integer_power(i, j, r);
    if (op == "//" || op == "%") {
      if (i == INT64_MIN && j == -1) return overflow();
      // Rounds down, and the remainder has the divisor's sign, as in Python.
      int64_t q = i / j, m = i % j;
      if (m != 0 && (m < 0) != (j < 0)) {
        --q;
        m += j;
      }
      r = op == "//" ? q : m;
    }
    return fits ? Value::of(r) : overflow();
  }
  double r = 0;
  if (op == "+") r = x + y;
  if (op == "-") r = x - y;
  if (op == "*") r = x * y;
  if (op == "/") r = x / y;
  if (op == "//") r = std::floor(x / y);
  if (op == "%") r = x - y * std::floor(x / y);
  if (op == "^") r = std::pow(x, y);
  if (std::isfinite(r)) return Value::of(r);
  error(codes::arithmetic, site.span, fmt::format("{} {} {} is not a finite number", print(a), op, print(b)));
  return {};
}

Value Emitter::binary(const std::string& op, const Value& a, const Value& b, const Expr& site) {
  if (!a.is_tensor() && !b.is_tensor()) return static_binary(op, a, b, site);
  if (op == "@") return matmul(a, b, site);
  const TensorOperator* known = nullptr;
  for (const TensorOperator& t : kTensorOperators)
    if (op == t.text) known = &t;
  const std::string shown = fmt::format("`{}`", op);
  if (!known) {
    Diagnostic& d = error(codes::wrong_kind, site.span,
                          fmt::format("{} does not apply to {} and {}", shown, describe(a), describe(b)),
                          op == ".." ? "the ends of a range must be known when compiling" : "");
    if (op == "//") d.helps.push_back("write `floor(a / b)`");
    return {};
  }
  // A static boolean folds the operation: the result is that boolean or the tensor.
  if (op == "and" || op == "or") {
    const Value& fixed = a.is_tensor() ? b : a;
    if (fixed.is(ValueKind::boolean)) return fixed.boolean == (op == "or") ? fixed : a.is_tensor() ? a : b;
  }
  if (op == "^" && a.is_tensor() && b.is_static_number()) {
    if (b.as_number() == 1) return a;
    if (b.as_number() == 2) return emit("mul", {a.tensor, a.tensor}, {}, site.span, shown);
  }
  std::vector<Value> values{a, b};
  std::vector<Op*> operands;
  if (!unify(values, operands, site.span, shown)) return {};
  if (operands[0]->type.dtype == DType::boolean && is_comparison(op)) {
    // Truth values compare as numbers do.
    for (Op*& o : operands) o = cast(o, DType::i32, site.span);
    if (!operands[0] || !operands[1]) return {};
  }
  const Type &x = operands[0]->type, &y = operands[1]->type;
  Shape joined;
  if (broadcast_shapes(x.shape, y.shape, joined))
    return emit(known->op, std::move(operands), {}, site.span, shown);
  Diagnostic& d =
      error(codes::shapes, site.span,
            fmt::format("these shapes do not {}: {} and {}", known->verb, user_type(x), user_type(y)),
            difference(x.shape, y.shape))
          .expect(user_type(x), user_type(y));
  for (size_t i = 0; i < 2 && site.operands.size() == 2; ++i) {
    const Expr& operand = *site.operands[i];
    if (operand.kind != ExprKind::name || (program().in_prelude(operand.span) && d.span != site.span))
      continue;
    if (const Binding* bound = find(operand.text);
        bound && bound->span.valid() && bound->span.file == d.span.file && !(bound->span == d.span))
      d.related.push_back(
          {bound->span,
           fmt::format("{}, from here", user_type(values[i].is_tensor() ? values[i].tensor->type : x))});
  }
  if (x.rank() == 3 && y.rank() == 3 && x.shape[0] != y.shape[0])
    d.helps.push_back(
        "project one to the other's shape, for example with `conv2d(x, channels, kernel=1, stride=2)`");
  return {};
}

namespace {

constexpr std::string_view kStack = "abcdefgh";

}  // namespace

// Appends letters for the stack axes (all but the last two), aligned from the right as in broadcasting. An
// axis of extent 1 that broadcasts is left out of the operand. False after an error.
bool Emitter::name_stack(MatmulSide& side, const MatmulSide& other, const Shape& facing_stack, size_t stack,
                         const Expr& site) {
  const size_t own = side.stacked(), others = facing_stack.size();
  Shape kept;
  for (size_t i = 0; i < own; ++i) {
    const size_t axis = stack - own + i;
    const int64_t extent = side.shape[i];
    const int64_t facing = axis >= stack - others ? facing_stack[axis - (stack - others)] : 1;
    if (extent != facing && extent != 1 && facing != 1) {
      const bool left = &side < &other;  // both are of one array
      error(codes::shapes, site.span,
            fmt::format("these shapes do not multiply: {} and {}", user_type((left ? side : other).op->type),
                        user_type((left ? other : side).op->type)),
            fmt::format("the stacks {} and {} differ", extent, facing))
          .expect(fmt::format("a stack of {}", extent), std::to_string(facing));
      return false;
    }
    if (extent == 1 && facing != 1) continue;
    side.letters += kStack[axis];
    kept.push_back(extent);
  }
  kept.insert(kept.end(), side.shape.begin() + static_cast<std::ptrdiff_t>(own), side.shape.end());
  if (kept == side.shape) return true;
  side.op = emit("reshape", {side.op}, {{"shape", kept}}, site.span, "`@`").tensor;
  side.shape = std::move(kept);
  return side.op != nullptr;
}

// NumPy's matmul on the shapes of one example, as an einsum in which `n` is the batch.
Value Emitter::matmul(const Value& a, const Value& b, const Expr& site) {
  for (const Value* v : {&a, &b}) {
    if (v->is_tensor() && v->tensor->type.dtype == DType::f32 && v->tensor->type.rank() > 0) continue;
    error(codes::wrong_kind, site.span,
          fmt::format("`@` multiplies f32 tensors with at least one axis, not {}", describe(*v)))
        .expect("f32 tensors with at least one axis", describe(*v));
    return {};
  }
  MatmulSide sides[2] = {{a.tensor, a.tensor->type.shape, {}}, {b.tensor, b.tensor->type.shape, {}}};
  MatmulSide &x = sides[0], &y = sides[1];
  const size_t xr = x.shape.size(), yr = y.shape.size();
  const int64_t left = x.shape[xr - 1], right = yr == 1 ? y.shape[0] : y.shape[yr - 2];
  if (left != right) {
    error(
        codes::shapes, site.span,
        fmt::format("these shapes do not multiply: {} and {}", user_type(x.op->type), user_type(y.op->type)),
        fmt::format("the inner extents {} and {} differ", left, right))
        .expect(fmt::format("an inner extent of {}", left), std::to_string(right))
        .helps.push_back(
            "`a @ b` sums over the last axis of a and the last but one of b (the only one of a vector)");
    return {};
  }
  const size_t stack = std::max(x.stacked(), y.stacked());
  const auto stack_of = [](const MatmulSide& s) {
    return Shape(s.shape.begin(), s.shape.begin() + static_cast<std::ptrdiff_t>(s.stacked()));
  };
  const Shape of_x = stack_of(x), of_y = stack_of(y);  // copies, since name_stack() removes axes
  if (!name_stack(x, y, of_y, stack, site) || !name_stack(y, x, of_x, stack, site)) return {};
  std::string shared;
  for (size_t i = 0; i < stack; ++i)
    if (x.letters.find(kStack[i]) != std::string::npos || y.letters.find(kStack[i]) != std::string::npos)
      shared += kStack[i];
  // The free axis of a weight is `o`, that of its other operand `i`: "nik,ok->nio".
  const char row = x.op->type.batched && yr > 1 ? 'i' : 'o', column = row == 'i' ? 'o' : 'j';
  const auto add_letters = [](MatmulSide& s, size_t rank, char first, char second) {
    // A transpose is skipped: its operand is read with the letters swapped.
    if (rank >= 2 && swaps_last_axes(*s.op)) {
      s.op = s.op->operands[0];
      std::swap(first, second);
    }
    s.letters += rank == 1 ? std::string(1, first) : std::string{first, second};
  };
  std::string result = shared;
  if (xr > 1) result += row;
  if (yr > 1) result += column;
  add_letters(x, xr, xr == 1 ? 'k' : row, 'k');
  add_letters(y, yr, 'k', column);
  if (y.op->type.batched && !x.op->type.batched) std::swap(x, y);
  const auto with_batch = [](const MatmulSide& s) { return (s.op->type.batched ? "n" : "") + s.letters; };
  const std::string spec =
      fmt::format("{},{}->{}{}", with_batch(x), with_batch(y), x.op->type.batched ? "n" : "", result);
  return emit("einsum", {x.op, y.op}, {{"spec", spec}}, site.span, "`@`");
}

Value Emitter::select(const Value& c, const Value& a, const Value& b, Span span) {
  if (c.poisoned() || a.poisoned() || b.poisoned()) return {};
  if (c.is(ValueKind::boolean)) return c.boolean ? a : b;
  if (!c.is_tensor() || c.tensor->type.dtype != DType::boolean) {
    must_be(c, span, "the condition of `select`", "true or false")
        .helps.push_back("as in `select(x > 0, x, 0)`");
    return {};
  }
  std::vector<Value> values{a, b};
  std::vector<Op*> operands;
  if (!unify(values, operands, span, "`select`")) return {};
  return emit("select", {c.tensor, operands[0], operands[1]}, {}, span, "`select`");
}

}  // namespace gradc::frontend
