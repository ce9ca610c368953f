// Expressions and statements. Values are static or tensors; the same walk serves both.
#include "frontend/evaluator.h"

#include <fmt/format.h>

#include <numbers>

#include "frontend/builtins.h"
#include "frontend/error_codes.h"
#include "ir/tensor/op_def.h"

namespace gradc::frontend {

// Counts evaluations and bounds the depth of recursion.
struct Evaluator::Deeper {
  Deeper(Evaluator& e, Span span) : evaluator(e) {
    e.count_evaluation(span);
    if (++e.depth_ <= kMaxDepth) return;
    e.error(codes::limit, span, fmt::format("evaluation is nested more than {} levels deep here", kMaxDepth));
    throw Abort{};
  }
  ~Deeper() { --evaluator.depth_; }
  Evaluator& evaluator;
};

Value Evaluator::evaluate(const Expr& e) {
  Deeper deeper(*this, e.span);
  Value v = evaluate_kind(e);
  if (v.weight == 1) return v;
  // Count the values that were copied. A name or a branch shares its lists and arguments instead.
  const bool shared = (e.kind == ExprKind::name || e.kind == ExprKind::choice) && !v.is(ValueKind::string);
  if (!shared) count_evaluation(e.span, v.weight - 1);
  return within_limit(v.weight - 1, "this value", e.span) ? v : Value{};
}

Value Evaluator::evaluate_kind(const Expr& e) {
  switch (e.kind) {
    case ExprKind::integer: return Value::of(e.integer);
    case ExprKind::number: return Value::of(e.number);
    case ExprKind::string: return Value::of(e.text);
    case ExprKind::boolean: return Value::of(e.boolean);
    case ExprKind::name: return evaluate_name(e);
    case ExprKind::member: return evaluate_member(e);
    case ExprKind::index: return evaluate_index(e);
    case ExprKind::choice: return evaluate_choice(e);
    case ExprKind::unary: {
      const Value a = evaluate(*e.operands[0]);
      return a.poisoned() ? a : unary(e.text, a, e);
    }
    case ExprKind::list: {
      List items;
      for (const ExprPtr& o : e.operands) {
        items.push_back(evaluate(*o));
        if (items.back().poisoned()) return {};
      }
      return Value::of(std::move(items));
    }
    case ExprKind::binary: {
      const Value a = evaluate(*e.operands[0]);
      // Static `and` and `or` stop at the first operand that decides.
      if ((e.text == "and" || e.text == "or") && a.is(ValueKind::boolean) && a.boolean == (e.text == "or"))
        return a;
      const Value b = evaluate(*e.operands[1]);
      if (a.poisoned() || b.poisoned()) return {};
      return binary(e.text, a, b, e);
    }
    case ExprKind::call: {
      const Value callee = lookup_callee(e);
      std::vector<BoundArgument> arguments = evaluate_arguments(e);
      for (const BoundArgument& a : arguments)
        if (a.value.poisoned()) return {};
      if (callee.poisoned()) return {};
      return call(*callee.definition, std::move(arguments), e);
    }
  }
  return {};
}

Value Evaluator::evaluate_name(const Expr& e) {
  if (const Binding* b = find(e.text)) {
    if (b->value.is_tensor() && b->kind == Binding::Kind::plain && b->function != target().function) {
      error(codes::wrong_kind, e.span,
            fmt::format("`{}` is a tensor and not known where a first value is computed", e.text))
          .helps.push_back("initialisers and first values may depend on static values only");
      return {};
    }
    return read(*b);
  }
  return global(e.text, "", e.span);
}

Value Evaluator::global(const std::string& name, const std::string& qualifier, Span span) {
  const bool prelude = frame().prelude;
  if (qualifier.empty()) {
    if (name == "training") return Value::of(target_ && target_->training);
    if (name == "stochastic") return Value::of(target_ && target_->stochastic);
    if (name == "pi") return Value::of(std::numbers::pi);
    if (!prelude) {
      if (const auto it = settings.find(name); it != settings.end()) return it->second;
      if (const auto it = data.find(name); it != data.end()) {
        Value v;
        v.kind = ValueKind::data;
        v.data = &it->second;
        v.text = name;
        return v;
      }
      // Known to the resolver, but its own evaluation has failed.
      if (program().settings.count(name) || program().data.count(name)) return {};
    }
  }
  DefinitionValue d;
  d.name = qualifier.empty() ? name : qualifier + "." + name;
  if (const Definition* found = program().find(name, qualifier, prelude))
    d.definition = found;
  else if (const Builtin* b = qualifier.empty() ? find_builtin(name) : nullptr)
    d.builtin = b;
  else if (const OpDef* op = find_callable_op(name, qualifier))
    d.op = op;
  else {
    error(codes::unknown_name, span, fmt::format("`{}` is not known here", name));
    return {};
  }
  return Value::of(std::move(d));
}

Value Evaluator::evaluate_member(const Expr& e) {
  const Expr& object = *e.operands[0];
  if (object.kind == ExprKind::name && (object.text == "primitive" || object.text == "prelude") &&
      !find(object.text))
    return global(e.text, object.text, e.text_span);
  const Value v = evaluate(object);
  if (v.poisoned()) return v;
  std::vector<std::string> names;
  if (v.is(ValueKind::data)) {
    const auto field = v.data->fields.find(e.text);
    if (field != v.data->fields.end()) {
      Op* input = target().function->input(e.text);
      return Value::of(input ? input : target().function->add_input(e.text, field->second, location(e.span)));
    }
    for (const auto& [name, type] : v.data->fields) names.push_back(name);
    Diagnostic& d = error(codes::unknown_field, e.text_span,
                          fmt::format("the data `{}` have no field `{}`", v.text, e.text));
    d.choose(e.text, names, fmt::format("`{}` has", v.data->record.source));
    return {};
  }
  if (v.is_tensor()) {
    const Type& t = v.tensor->type;
    if (e.text == "shape") return Value::of_shape(t.shape);
    if (e.text == "rank") return Value::of(static_cast<int64_t>(t.rank()));
    if (e.text == "size") return Value::of(t.elements());
    if (e.text == "dtype") return Value::of(std::string(name(t.dtype)));
    const bool image = e.text == "height" || e.text == "width";
    if (e.text == "channels" || image) {
      if (t.rank() < (image ? 3 : 1)) {
        error(codes::shapes, e.text_span, fmt::format("{} has no {}", user_type(t), e.text),
              image ? "only [channels, height, width] has" : "it is a single number")
            .expect(image ? "[channels, height, width]" : "at least one axis", user_type(t));
        return {};
      }
      return Value::of(t.shape[e.text == "channels" ? 0 : e.text == "height" ? 1 : 2]);
    }
    names = {"shape", "rank", "size", "dtype", "channels", "height", "width"};
  }
  Diagnostic& d =
      error(codes::wrong_kind, e.text_span, fmt::format("{} has no member `{}`", describe(v), e.text));
  if (names.empty())
    d.found = e.text;
  else
    d.choose(e.text, names, "a tensor has");
  return {};
}

Value Evaluator::evaluate_index(const Expr& e) {
  const Value v = evaluate(*e.operands[0]);
  if (v.poisoned()) return v;
  if (v.is_tensor()) return index_tensor(e, v.tensor);
  if (!v.is(ValueKind::list)) {
    error(codes::wrong_kind, e.span, fmt::format("{} cannot be indexed", describe(v)))
        .expect("a list or a tensor", describe(v));
    return {};
  }
  if (e.operands.size() != 2) {
    error(codes::bad_index, e.span, "a list takes one index");
    return {};
  }
  const Value i = evaluate(*e.operands[1]);
  if (i.poisoned()) return i;
  const auto size = static_cast<int64_t>(v.list->size());
  const bool range = i.is(ValueKind::range);
  int64_t at = i.integer;
  if (!range && !to_integer(i, e.operands[1]->span, "an index", at)) return {};
  if (at < 0) at += size;
  const bool fits = range ? i.integer >= 0 && i.integer <= i.end && i.end <= size : at >= 0 && at < size;
  if (!fits) {
    error(codes::bad_index, e.operands[1]->span,
          fmt::format("the index {} is out of range: the list has {} elements", print(i), size))
        .expect(fmt::format("{} to {}", -size, size - 1), print(i));
    return {};
  }
  if (range) return Value::of(List(v.list->begin() + i.integer, v.list->begin() + i.end));
  return (*v.list)[static_cast<size_t>(at)];
}

// x[i] drops an axis, x[a..b] keeps a range of it; axes without an index stay whole.
Value Evaluator::index_tensor(const Expr& e, Op* x) {
  const Shape& shape = x->type.shape;
  if (e.operands.size() - 1 > shape.size()) {
    error(codes::bad_index, e.span,
          fmt::format("{} has {} axes, but {} are indexed", user_type(x->type), shape.size(),
                      e.operands.size() - 1))
        .expect(fmt::format("{} indices", shape.size()), std::to_string(e.operands.size() - 1));
    return {};
  }
  std::vector<int64_t> begin(shape.size(), 0), end = shape, step(shape.size(), 1);
  Shape result;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (axis + 1 >= e.operands.size()) {
      result.push_back(shape[axis]);
      continue;
    }
    const Expr& operand = *e.operands[axis + 1];
    const Value i = evaluate(operand);
    if (i.poisoned()) return i;
    const bool range = i.is(ValueKind::range);
    int64_t at = i.integer;
    if (!range && !to_integer(i, operand.span, "an index", at)) return {};
    if (!range && at < 0) at += shape[axis];
    if (range ? i.integer < 0 || i.integer >= i.end || i.end > shape[axis] : at < 0 || at >= shape[axis]) {
      error(codes::bad_index, operand.span,
            fmt::format("the index {} is out of range on axis {} of {}", print(i), axis, user_type(x->type)))
          .expect(fmt::format("{} to {}", -shape[axis], shape[axis] - 1), print(i));
      return {};
    }
    begin[axis] = at;
    end[axis] = range ? i.end : at + 1;
    if (range) result.push_back(i.end - i.integer);
  }
  const Value part = emit("slice", {x}, {{"begin", begin}, {"end", end}, {"step", step}}, e.span, "indexing");
  if (part.poisoned() || result == part.tensor->type.shape) return part;
  return emit("reshape", {part.tensor}, {{"shape", result}}, e.span, "indexing");
}

bool Evaluator::static_condition(const Expr& e, bool& out, const char* where) {
  const Value c = evaluate(e);
  if (c.poisoned()) return false;
  if (c.is(ValueKind::boolean)) {
    out = c.boolean;
    return true;
  }
  Diagnostic& d =
      error(codes::condition, e.span, fmt::format("the condition of {} must be known when compiling", where),
            c.is_tensor() ? fmt::format("this is {}, one value per example", describe(c))
                          : fmt::format("this is {}", describe(c)))
          .expect("true or false, known when compiling", describe(c));
  if (c.is_tensor()) d.helps.push_back("choose between tensors with `select(condition, a, b)`");
  if (c.is_static_number()) d.helps.push_back("compare it: `x != 0`");
  return false;
}

Value Evaluator::evaluate_choice(const Expr& e) {
  bool condition = false;
  if (!static_condition(*e.operands[0], condition, "an `if`")) return {};
  return evaluate(*e.operands[condition ? 1 : 2]);
}

// --- statements

bool Evaluator::run_block(const Block& b, bool own_scope) {
  if (b.empty()) return false;
  if (own_scope) frame().scopes.emplace_back();
  bool returned = false;
  const size_t errors = diagnostics().count();
  for (const Statement& s : b) {
    returned = run_statement(s);
    // In the prelude, later errors are consequences of the first.
    if (frame().prelude && diagnostics().count() != errors) frame().returned = returned = true;
    if (returned) break;
  }
  if (own_scope) frame().scopes.pop_back();
  return returned;
}

bool Evaluator::run_statement(const Statement& s) {
  Deeper deeper(*this, s.span);
  switch (s.kind) {
    case StatementKind::assign: assign(s, evaluate(*s.value)); return false;
    case StatementKind::parameter:
    case StatementKind::state: declare(s); return false;
    case StatementKind::return_:
      frame().result = evaluate(*s.value);
      frame().returned = true;
      return true;
    case StatementKind::if_: {
      bool condition = false;
      if (!static_condition(*s.value, condition, "an `if`")) return false;
      return run_block(condition ? s.body : s.other);
    }
    case StatementKind::for_: return run_for(s);
    case StatementKind::require: {
      bool condition = false;
      if (!static_condition(*s.value, condition, "a `require`")) return false;
      if (condition) return false;
      error(codes::requirement, s.value->span, s.message);
      frame().returned = true;  // later statements rely on it
      return true;
    }
    case StatementKind::experiment: experiment->run(s); return false;
  }
  return false;
}

bool Evaluator::run_for(const Statement& s) {
  const Value over = evaluate(*s.value);
  if (over.poisoned()) return false;
  if (!over.is(ValueKind::range) && !over.is(ValueKind::list)) {
    error(codes::wrong_kind, s.value->span,
          fmt::format("a `for` runs over a range or a list, not over {}", describe(over)))
        .expect("a range or a list", describe(over))
        .helps.push_back("as in `for i in 0..3 { ... }`");
    return false;
  }
  const int64_t rounds = over.is(ValueKind::range) ? std::max<int64_t>(0, over.end - over.integer)
                                                   : static_cast<int64_t>(over.list->size());
  if (rounds > kMaxRounds) {
    error(codes::limit, s.value->span,
          fmt::format("this loop has {} rounds; the limit is {}", rounds, kMaxRounds))
        .expect(fmt::format("at most {} rounds", kMaxRounds), std::to_string(rounds));
    return false;
  }
  const std::string label = s.label.empty() ? fmt::format("for_{}", s.ordinal) : s.label;
  const std::string path = frame().prefix + label;
  if (!s.label.empty()) {
    const auto [it, is_new] =
        target().instances.emplace(path, std::pair<const Definition*, std::string>{nullptr, ""});
    if (!is_new && !frame().reusing) {
      error(codes::instance_taken, s.label_span, fmt::format("`{}` names two things in this scope", s.label));
      return false;
    }
  }
  const std::string outer = frame().prefix;
  const size_t errors = diagnostics().count();
  bool returned = false;
  for (int64_t round = 0; round < rounds && !returned; ++round) {
    frame().prefix = fmt::format("{}.{}.", path, round);
    frame().bases.push_back(outer);
    frame().active.push_back(fmt::format("round {} of `{}`", round, label));
    frame().scopes.emplace_back();
    Binding b;
    b.value = over.is(ValueKind::range) ? Value::of(over.integer + round)
                                        : (*over.list)[static_cast<size_t>(round)];
    b.span = s.name_span;
    b.function = target().function;
    frame().scopes.back()[s.name] = std::move(b);
    returned = run_block(s.body);
    frame().scopes.pop_back();
    frame().active.pop_back();
    frame().bases.pop_back();
    frame().prefix = outer;
    if (diagnostics().count() > errors) break;  // the next round would repeat the error
  }
  return returned;
}

}  // namespace gradc::frontend
