// Parameters, states and optimizer slots: declaring them in the module, their initial values in @init, and
// assigning them.
#include <fmt/format.h>

#include "frontend/builtins.h"
#include "frontend/calls.h"
#include "frontend/error_codes.h"
#include "frontend/evaluator.h"
#include "ir/tensor/op_def.h"

namespace gradc::frontend {

bool Evaluator::to_shape(const std::vector<ExprPtr>& dims, const std::string& what, Shape& out) {
  List extents;
  Span span;
  for (const ExprPtr& e : dims) {
    Value v = evaluate(*e);
    int64_t extent = 0;
    // `param[shape]` takes a whole list too.
    if (dims.size() == 1 && v.is(ValueKind::list)) return to_shape(v, e->span, "the shape", out);
    if (!to_integer(v, e->span, what, extent)) return false;
    span = join(span, e->span);
    extents.push_back(std::move(v));
  }
  return to_shape(Value::of(std::move(extents)), span, "the shape", out);
}

void Evaluator::declare(const Statement& s) {
  const bool is_state = s.kind == StatementKind::state;
  const bool slot = is_state && !parameter.empty();
  const std::string name = slot ? parameter + "." + s.name : frame().prefix + s.name;
  Binding b;
  b.kind = is_state ? Binding::Kind::state : Binding::Kind::parameter;
  b.symbol = name;
  b.span = s.name_span;
  b.function = target().function;
  const auto finish = [&] { frame().scopes.back()[s.name] = std::move(b); };
  const auto failed = [&] {
    b = Binding{};
    b.span = s.name_span;
    finish();
  };

  Type type;
  if (slot && !s.has_dims)
    type.shape = module().symbol(parameter)->type.shape;
  else if (!to_shape(s.dims, fmt::format("an extent of `{}`", s.name), type.shape))
    return failed();

  const bool is_new = target().declared.insert(name).second;
  if (!is_new && !frame().reusing) {
    error(codes::instance_taken, s.name_span, fmt::format("`{}` is declared twice in one instance", name))
        .helps.push_back(
            "declarations inside a loop need `param` in a layer of its own, or one loop around the layer");
    return failed();
  }
  if (const Symbol* known = module().symbol(name)) {
    const SymbolKind kind = slot ? SymbolKind::slot : is_state ? SymbolKind::state : SymbolKind::parameter;
    if (known->type != type || known->kind != kind) {
      error(codes::reuse, s.name_span,
            fmt::format("`{}` is {} already, but needs to be {} here", name, user_type(known->type),
                        user_type(type)))
          .expect(user_type(known->type), user_type(type))
          .helps.push_back("parameters are shared between uses whose inputs have the same shape");
      return failed();
    }
    return finish();
  }
  if (late_parameters) {
    error(codes::late_parameter, s.span,
          fmt::format("`{}` would exist in evaluation only, so that nothing trains it", name))
        .helps.push_back("declare it outside `if not training`");
    return failed();
  }
  if (!module().symbol(name) && target().instances.count(name) && !slot) {
    error(codes::instance_taken, s.name_span,
          fmt::format("`{}` names both an instance and {}", name, is_state ? "a state" : "a parameter"));
    return failed();
  }
  Symbol symbol;
  symbol.name = name;
  symbol.type = type;
  symbol.kind = slot ? SymbolKind::slot : is_state ? SymbolKind::state : SymbolKind::parameter;
  symbol.location = location(s.name_span);
  Location location = symbol.location;
  module().add_symbol(std::move(symbol));
  Redirect redirect(*this, init_target);
  const Value init = evaluate(*s.value);
  if (init.poisoned()) return failed();
  Op* first = first_value(init, type, s.value->span);
  if (!first) return failed();
  init_target.function->updates.push_back({name, first, std::move(location)});
  finish();
}

Op* Evaluator::first_value(const Value& init, const Type& type, Span span) {
  if (init.is_static_number()) {
    Op* value = lift(init, DType::f32, span);
    if (!value || type.shape.empty()) return value;
    return emit("broadcast", {value}, {{"shape", type.shape}, {"batched", false}}, span).tensor;
  }
  if (init.is_tensor()) {
    if (init.tensor->type == type) return init.tensor;
    error(codes::shapes, span,
          fmt::format("this first value is {}, but {} is declared", user_type(init.tensor->type),
                      user_type(type)))
        .expect(user_type(type), user_type(init.tensor->type));
    return nullptr;
  }
  if (init.is(ValueKind::definition) && init.definition->is(DefinitionKind::init)) {
    // PyTorch's fans: [out, in, ...] has in (out) times the extents of the rest.
    const Shape& s = type.shape;
    int64_t space = 1;
    for (size_t i = 2; i < s.size(); ++i) space *= s[i];
    const int64_t fan_in = s.empty() ? 1 : s.size() == 1 ? s[0] : s[1] * space;
    const int64_t fan_out = s.empty() ? 1 : s.size() == 1 ? s[0] : s[0] * space;
    std::map<std::string, Value> given;
    for (const ParameterSyntax& p : init.definition->definition->parameters) {
      if (p.name == "fan_in") given[p.name] = Value::of(fan_in);
      if (p.name == "fan_out") given[p.name] = Value::of(fan_out);
      if (p.name == "shape") given[p.name] = Value::of_shape(type.shape);
    }
    const Value result = call_given(*init.definition, given, span);
    return result.poisoned() ? nullptr : first_value(result, type, span);
  }
  if (init.is(ValueKind::definition) && init.definition->builtin) {
    // normal(0, 0.01) and similar initialisers take the shape of the parameter.
    const Builtin& b = *init.definition->builtin;
    std::vector<std::string> names;
    std::vector<bool> required;
    bool random = false;
    for (const BuiltinParameter& p : b.parameters) {
      names.emplace_back(p.name);
      required.push_back(p.required);
      random |= names.back() == "per_example";
    }
    if (random) {
      std::vector<BoundArgument> bound;
      if (!bind_arguments(*this, b.name, names, required, init.definition->arguments,
                          {{"shape", Value::of_shape(type.shape)}}, span, bound))
        return nullptr;
      CallSpans spans{span, span, std::vector<Span>(names.size(), span)};
      std::vector<Value> values;
      for (BoundArgument& a : bound) values.push_back(std::move(a.value));
      return b.call(*this, spans, values).tensor;
    }
  }
  if (!init.poisoned())
    error(codes::wrong_kind, span, fmt::format("{} is no initialiser", describe(init)))
        .expect("an initialiser", describe(init))
        .helps.push_back(
            "an initialiser is a number, `normal(0, 0.01)`, `uniform(-1, 1)`, or an `init` definition such "
            "as `he_normal`");
  return nullptr;
}

void Evaluator::assign(const Statement& s, Value v) {
  if (in_train() && (settings.count(s.name) || data.count(s.name)) && !find(s.name)) {
    error(codes::duplicate, s.name_span,
          fmt::format("`{}` is a {} already", s.name, settings.count(s.name) ? "setting" : "data set"));
    return;
  }
  Binding* known = find(s.name);
  if (!known || known->kind != Binding::Kind::state) {
    Binding b;
    b.value = std::move(v);
    b.span = s.name_span;
    b.function = target().function;
    (known ? *known : frame().scopes.back()[s.name]) = std::move(b);
    return;
  }
  const Symbol* symbol = module().symbol(known->symbol);
  if (v.poisoned() || !symbol) return;
  if (symbol->kind == SymbolKind::state && !target().training) {
    error(codes::state_assignment, s.span, fmt::format("the state `{}` is assigned outside training", s.name))
        .helps.push_back("put the assignment under `if training { ... }`");
    return;
  }
  Op* op = lift(v, DType::f32, s.value->span);
  op = cast(op, DType::f32, s.value->span);
  if (!op) return;
  const Type wanted = symbol->type;
  if (op->type.batched) {
    error(codes::shapes, s.value->span,
          fmt::format("the state `{}` holds one value, but this is one per example", s.name))
        .expect("one value", "one value per example")
        .helps.push_back("bring the examples together with `batch_mean`");
    return;
  }
  if (op->type.shape.empty() && !wanted.shape.empty())
    op = emit("broadcast", {op}, {{"shape", wanted.shape}, {"batched", false}}, s.span).tensor;
  if (!op) return;
  if (op->type != wanted) {
    error(codes::shapes, s.value->span,
          fmt::format("the state `{}` is {}, but this is {}", s.name, user_type(wanted), user_type(op->type)))
        .expect(user_type(wanted), user_type(op->type))
        .related.push_back({known->span, "declared here"});
    return;
  }
  target().states[known->symbol] = op;
}

}  // namespace gradc::frontend
