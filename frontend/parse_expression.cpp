// Expressions, by precedence climbing. From loosest to tightest: |>, or, and, not, comparisons, .., + -, * /
// // % @, unary -, ^, postfix.
#include <algorithm>

#include "frontend/error_codes.h"
#include "frontend/parser_impl.h"

namespace gradc::frontend {

namespace {

struct Operator {
  const char* text;
  int precedence;
};
constexpr int kPipe = 1, kNot = 4, kComparison = 5, kRange = 6, kUnary = 9, kPower = 10;
constexpr Operator kOperators[] = {{"|>", kPipe},
                                   {"or", 2},
                                   {"and", 3},
                                   {"==", kComparison},
                                   {"!=", kComparison},
                                   {"<", kComparison},
                                   {"<=", kComparison},
                                   {">", kComparison},
                                   {">=", kComparison},
                                   {"..", kRange},
                                   {"+", 7},
                                   {"-", 7},
                                   {"*", 8},
                                   {"/", 8},
                                   {"//", 8},
                                   {"%", 8},
                                   {"@", 8},
                                   {"^", kPower}};

const Operator* find_operator(const Token& t) {
  if (t.kind != TokenKind::symbol && t.kind != TokenKind::keyword) return nullptr;
  for (const Operator& o : kOperators)
    if (t.text == o.text) return &o;
  return nullptr;
}

}  // namespace

ExprPtr Parser::run_expression() {
  try {
    Grouping group(*this, true);
    ExprPtr e = expression();
    if (!at_end()) fail("the end of the value");
    return e;
  } catch (const Recover&) {
    return nullptr;
  }
}

ExprPtr Parser::node(ExprKind kind, Span span) {
  auto e = std::make_unique<Expr>();
  e->kind = kind;
  e->span = span;
  return e;
}

ExprPtr Parser::finish(ExprPtr e, Span span) {
  e->span = span;
  int height = 0;
  for (const ExprPtr& o : e->operands) height = std::max(height, o->height);
  for (const Argument& a : e->arguments) height = std::max(height, a.value->height);
  e->height = height + 1;
  if (e->height > kMaxNesting)
    reject(codes::too_deep, e->text_span.valid() ? e->text_span : e->span,
           fmt::format("this expression is more than {} operations deep", kMaxNesting),
           "give parts of it names of their own");
  return e;
}

ExprPtr Parser::binary(int lowest) {
  Nesting nesting(*this);
  ExprPtr left = prefix();
  int last = 0;  // precedence of the operator before, to refuse a < b < c and x |> f + y
  while (const Operator* o = find_operator(current())) {
    if (o->precedence < lowest) break;
    // A line that begins with |> goes on; one that begins with another operator does not, as `-x` and `[..]`
    // may begin statements.
    if (current().line_start && !grouped_ && o->precedence != kPipe) break;
    if (last == kPipe && o->precedence != kPipe)
      reject(codes::syntax, current().span, fmt::format("`{}` after a pipe", o->text),
             "put the pipe in parentheses: `(x |> f) + y`", "what does this apply to?");
    if (o->precedence == last && (last == kComparison || last == kRange))
      reject(codes::syntax, current().span, fmt::format("`{}` does not chain", o->text),
             last == kRange ? "a range has two ends: `a..b`" : "write `a < b and b < c`");
    const Token op = advance();
    if (o->precedence == kPipe) {
      left = pipe_stage(std::move(left));
    } else {
      ExprPtr right = binary(o->precedence == kPower ? kUnary : o->precedence + 1);
      ExprPtr e = node(ExprKind::binary, op.span);
      e->text = op.text;
      e->text_span = op.span;
      const Span span = join(left->span, right->span);
      e->operands.push_back(std::move(left));
      e->operands.push_back(std::move(right));
      left = finish(std::move(e), span);
    }
    last = o->precedence;
  }
  return left;
}

ExprPtr Parser::prefix() {
  if (!at("-") && !at("not")) return postfix();
  const Token op = advance();
  ExprPtr e = node(ExprKind::unary, op.span);
  e->text = op.text;
  e->text_span = op.span;
  ExprPtr operand = binary(op.text == "-" ? kUnary : kNot);
  const Span span = join(op.span, operand->span);
  e->operands.push_back(std::move(operand));
  return finish(std::move(e), span);
}

ExprPtr Parser::pipe_stage(ExprPtr left) {
  Nesting nesting(*this);
  const Token& first = current();
  if (first.kind != TokenKind::name) fail("a layer or function after `|>`, as in `x |> relu`");
  ExprPtr e = node(ExprKind::call, first.span);
  e->text = advance().text;
  e->text_span = first.span;
  if (continues(".") && ahead(1).kind == TokenKind::name) {
    advance();
    e->qualifier = e->text;
    e->text = current().text;
    e->text_span = advance().span;
  }
  e->piped = true;
  Argument piped;
  piped.value = std::move(left);
  e->arguments.push_back(std::move(piped));
  if (continues("(")) {
    for (Argument& a : arguments()) e->arguments.push_back(std::move(a));
  }
  instance(*e);
  // The stage alone, without its input: locations of errors and operations then point at the call that is meant.
  const Span span = join(first.span, previous().span);
  return finish(std::move(e), span);
}

void Parser::instance(Expr& call) {
  const bool as = continues("as") && !no_as_;
  if (!as && !continues("reuse")) return;
  if (call.kind != ExprKind::call)
    reject(codes::bad_instance, current().span,
           fmt::format("`{}` names a layer's instance: it follows a call", current().text),
           "as in `y = dense(x, 10) as head`");
  advance();
  call.instance.kind = as ? Instance::Kind::as : Instance::Kind::reuse;
  name(call.instance.name, call.instance.span, "the instance's name");
}

ExprPtr Parser::postfix() {
  ExprPtr e = primary();
  while (true) {
    if (continues("(")) {
      const bool qualified = e->kind == ExprKind::member && e->operands[0]->kind == ExprKind::name;
      if (e->kind != ExprKind::name && !qualified)
        reject(codes::syntax, current().span, "only a name can be called",
               "give the definition a name first");
      ExprPtr call = node(ExprKind::call, e->span);
      call->text = e->text;
      call->text_span = qualified ? e->text_span : e->span;
      if (qualified) call->qualifier = e->operands[0]->text;
      call->arguments = arguments();
      e = finish(std::move(call), join(e->span, previous().span));
    } else if (continues("[")) {
      ExprPtr index = node(ExprKind::index, e->span);
      const Span begin = e->span;
      index->operands.push_back(std::move(e));
      for (ExprPtr& i : dims()) index->operands.push_back(std::move(i));
      if (index->operands.size() == 1)
        reject(codes::syntax, previous().span, "an index is missing between the brackets");
      e = finish(std::move(index), join(begin, previous().span));
    } else if (continues(".")) {
      advance();
      ExprPtr member = node(ExprKind::member, e->span);
      const Span begin = e->span;
      name(member->text, member->text_span, "a member's name, as in `x.shape`");
      member->operands.push_back(std::move(e));
      const Span end = member->text_span;
      e = finish(std::move(member), join(begin, end));
    } else {
      instance(*e);
      if (e->instance.kind != Instance::Kind::none) e->span = join(e->span, previous().span);
      return e;
    }
  }
}

ExprPtr Parser::primary() {
  const Token& t = current();
  ExprPtr e;
  // A line that ends too early must not swallow the declaration below it.
  if (t.column_one && at_declaration()) fail("an expression");
  switch (t.kind) {
    case TokenKind::integer:
      e = node(ExprKind::integer, t.span);
      e->integer = t.integer;
      e->text = t.text;
      advance();
      return e;
    case TokenKind::number:
      e = node(ExprKind::number, t.span);
      e->number = t.number;
      e->text = t.text;
      advance();
      return e;
    case TokenKind::string:
      e = node(ExprKind::string, t.span);
      e->text = t.text;
      advance();
      return e;
    case TokenKind::name:
      e = node(ExprKind::name, t.span);
      e->text = t.text;
      e->text_span = t.span;
      advance();
      return e;
    default: break;
  }
  if (at("true") || at("false")) {
    e = node(ExprKind::boolean, t.span);
    e->boolean = at("true");
    advance();
    return e;
  }
  if (at("if")) return choice();
  if (at("[")) return list();
  if (at("(")) {
    const Span open = advance().span;
    Grouping group(*this, true);
    e = expression();
    if (!at(")")) fail("`)`");
    e->span = join(open, advance().span);
    return e;
  }
  if (at("param"))
    fail("an expression",
         "a parameter is declared by a statement of its own: `weight = param[out, in] ~ he_normal`");
  fail("an expression");
}

ExprPtr Parser::choice() {
  Nesting nesting(*this);
  const Span begin = advance().span;
  ExprPtr e = node(ExprKind::choice, begin);
  e->text_span = begin;
  {
    Grouping group(*this, true);
    e->operands.push_back(expression());
  }
  const auto braced = [&](std::string_view where) {
    expect("{", where);
    Grouping group(*this, true);
    e->operands.push_back(expression());
    if (!at("}")) fail("`}`", "the braces of an `if` inside an expression hold one expression");
    advance();
  };
  braced("before the value of this `if`");
  if (!at("else")) fail("`else`: an `if` that is a value needs both branches");
  advance();
  if (at("if"))
    e->operands.push_back(choice());
  else
    braced("after `else`");
  return finish(std::move(e), join(begin, previous().span));
}

ExprPtr Parser::list() {
  ExprPtr e = node(ExprKind::list, current().span);
  const Span end = comma_list("]", "`,` or `]`", [&] { e->operands.push_back(expression()); });
  const Span begin = e->span;
  return finish(std::move(e), join(begin, end));
}

std::vector<ExprPtr> Parser::dims() {
  std::vector<ExprPtr> result;
  comma_list("]", "`,` or `]`", [&] { result.push_back(expression()); });
  return result;
}

std::vector<Argument> Parser::arguments() {
  std::vector<Argument> result;
  comma_list(")", "`,` or `)`", [&] {
    Argument a;
    if (current().kind == TokenKind::name && is(ahead(1), "=")) {
      name(a.name, a.name_span, "an argument's name");
      advance();
    } else if (!result.empty() && !result.back().name.empty()) {
      reject(codes::syntax, current().span, "a positional argument after a named one",
             "arguments without names come first");
    }
    a.value = expression();
    result.push_back(std::move(a));
  });
  return result;
}

}  // namespace gradc::frontend
