// Calls of definitions: their frames, parameters and bodies.
#include <fmt/format.h>

#include <algorithm>

#include "frontend/calls.h"
#include "frontend/error_codes.h"
#include "frontend/evaluator.h"

namespace gradc::frontend {

Value Evaluator::lookup_callee(const Expr& e) {
  if (e.qualifier.empty()) {
    if (const Binding* b = find(e.text)) {
      if (b->value.poisoned() && b->kind == Binding::Kind::plain) return {};
      if (b->value.is(ValueKind::definition)) return b->value;
      error(codes::wrong_kind, e.text_span,
            fmt::format("`{}` is {} and cannot be called", e.text, describe(read(*b))))
          .expect("a definition", describe(read(*b)));
      return {};
    }
  }
  const Value v = global(e.text, e.qualifier, e.text_span);
  if (v.poisoned() || v.is(ValueKind::definition)) return v;
  error(codes::wrong_kind, e.text_span, fmt::format("`{}` is {} and cannot be called", e.text, describe(v)))
      .expect("a definition", describe(v));
  return {};
}

std::vector<BoundArgument> Evaluator::evaluate_arguments(const Expr& call) {
  std::vector<BoundArgument> result;
  for (const Argument& a : call.arguments) {
    BoundArgument b;
    b.name = a.name;
    b.span = a.name.empty() ? a.value->span : a.name_span;
    b.value = evaluate(*a.value);
    result.push_back(std::move(b));
  }
  return result;
}

Value Evaluator::call(const DefinitionValue& callee, std::vector<BoundArgument> arguments, const Expr& site) {
  // Arguments bound to the callee come before those of this call.
  arguments.insert(arguments.begin(), callee.arguments.begin(), callee.arguments.end());
  notes.begin(callee, arguments, site);
  const Value result = call_value(callee, arguments, site);
  notes.end(callee, arguments, site, frame(), last_instance_, result);
  return result;
}

Value Evaluator::call_value(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                            const Expr& site) {
  if (callee.definition) return call_definition(callee, arguments, site);
  if (site.instance.kind != Instance::Kind::none) {
    error(codes::bad_instance, site.instance.span,
          fmt::format("`{}` is no layer: it has no instances to name", callee.name));
    return {};
  }
  return callee.builtin ? call_builtin(*this, callee, arguments, site)
                        : call_op(*this, callee, arguments, site);
}

// Binds arguments and `given` in the frame's first scope; complete_parameter() evaluates defaults later.
// `statics` lists the static arguments that were given, for `reuse`. False after an error.
bool Evaluator::bind_parameters(Frame& f, const Definition& d, const std::vector<BoundArgument>& arguments,
                                const std::map<std::string, Value>& given, Span span, std::string& statics) {
  std::vector<std::string> names;
  std::vector<bool> required;
  for (const ParameterSyntax& p : d.parameters) {
    names.push_back(p.name);
    required.push_back(!p.default_value);
  }
  std::vector<BoundArgument> bound;
  if (!bind_arguments(*this, d.name, names, required, arguments, given, span, bound)) return false;
  for (const auto& [name, value] : given) {
    Binding b;
    b.value = value;
    b.span = d.name_span;
    b.function = target().function;
    f.scopes[0][name] = std::move(b);
  }
  std::vector<std::string> details, whole;
  for (size_t i = 0; i < bound.size(); ++i) {
    Binding b;
    b.value = bound[i].value;
    b.span = d.parameters[i].span;
    b.function = target().function;
    f.scopes[0][names[i]] = b;
    if (b.value.is(ValueKind::none) || given.count(names[i]) || b.value.is_tensor() ||
        b.value.is(ValueKind::list)) {
      const bool tensors = b.value.is_tensor() || (b.value.is(ValueKind::list) &&
                                                   std::any_of(b.value.list->begin(), b.value.list->end(),
                                                               [](const Value& v) { return v.is_tensor(); }));
      if (tensors || !b.value.is(ValueKind::list)) continue;
    }
    details.push_back(names[i] + "=" + print(b.value));
    whole.push_back(names[i] + "=" + full_text(b.value));
  }
  statics = fmt::format("{}", fmt::join(whole, ", "));
  if (!details.empty()) f.details = fmt::format("with {}", fmt::join(details, ", "));
  return true;
}

// Evaluates a default where it is needed, and checks the declared type; false after an error.
bool Evaluator::complete_parameter(const Definition& d, const ParameterSyntax& p, Span span) {
  Binding& b = frame().scopes[0][p.name];
  if (b.value.is(ValueKind::none)) {
    b.value = evaluate(*p.default_value);
    b.function = target().function;
  }
  if (!p.type || b.value.poisoned()) return true;
  Type wanted;
  if (!parse_dtype(p.type->dtype, wanted.dtype)) {
    error(codes::wrong_kind, p.type->span, fmt::format("there is no element type `{}`", p.type->dtype))
        .choose(p.type->dtype, {"f32", "i32", "bool"}, "there are");
    return false;
  }
  if (!to_shape(p.type->dims, fmt::format("an extent of `{}`", p.name), wanted.shape)) return false;
  const Type* type = b.value.is_tensor() ? &b.value.tensor->type : nullptr;
  if (type && type->dtype == wanted.dtype && type->shape == wanted.shape) return true;
  Diagnostic& e = error(codes::shapes, span,
                        fmt::format("`{}` takes `{}` as {}, but gets {}", d.name, p.name, user_type(wanted),
                                    describe(b.value)))
                      .expect(user_type(wanted), type ? user_type(*type) : describe(b.value));
  e.related.push_back({p.type->span, "the type it declares"});
  if (type && type->elements() == wanted.elements() && type->dtype == wanted.dtype)
    e.helps.push_back(fmt::format("it has as many elements: `reshape(x, {})` fits", to_string(wanted.shape)));
  return false;
}

Value Evaluator::run_body(std::unique_ptr<Frame> f, Span span, Frame* finished) {
  const Definition& d = *f->definition;
  if (frames_.size() >= static_cast<size_t>(kMaxCallDepth)) {
    error(codes::limit, span,
          fmt::format("definitions call each other more than {} deep here", kMaxCallDepth));
    throw Abort{};
  }
  for (const auto& outer : frames_) {
    if (outer->definition != &d) continue;
    error(codes::recursion, span, fmt::format("recursive definition: `{}` is still being expanded", d.name))
        .helps.push_back(
            "repeat with `for`: definitions are expanded when compiling and cannot call themselves");
    throw Abort{};
  }
  frames_.push_back(std::move(f));
  const size_t errors = diagnostics().count();
  // In order: a default may use the parameters before it.
  bool fine = true;
  for (const ParameterSyntax& p : d.parameters) fine &= complete_parameter(d, p, span);
  Value result;
  if (fine && diagnostics().count() == errors) {
    run_block(d.body, false);
    result = frame().result;
    if (!frame().returned && d.kind != DefinitionKind::optimizer && diagnostics().count() == errors)
      error(codes::no_value, span, fmt::format("`{}` ends without a `return`", d.name));
  }
  std::unique_ptr<Frame> done = std::move(frames_.back());
  frames_.pop_back();
  if (finished) *finished = std::move(*done);
  if (diagnostics().full()) throw Abort{};
  return result;
}

// The frame of a call, without its parameters.
std::unique_ptr<CallStack::Frame> Evaluator::new_frame(const Definition& d, Span span) {
  auto f = std::make_unique<Frame>();
  f->definition = &d;
  f->prelude = d.is_prelude;
  f->scopes.emplace_back();
  f->call_span = span;
  return f;
}

// The call site that locations inside the call refer to; the call is written at `span`.
std::shared_ptr<CallSite> Evaluator::call_site(const Frame& f, Span span) {
  const Location at = location(span);
  auto call = std::make_shared<CallSite>();
  call->callee = f.definition->name;
  call->file = at.file ? *at.file : "";
  call->line = at.line;
  call->details = f.details;
  call->parent = frame().call;
  return call;
}

// A call of an initialiser, optimizer or schedule only binds arguments; the parameter, gradient or step it
// needs comes later. Names are checked now.
Value Evaluator::call_later(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                            Span span) {
  const Definition& d = *callee.definition;
  std::vector<std::string> names;
  for (const ParameterSyntax& p : d.parameters) names.push_back(p.name);
  if (d.kind == DefinitionKind::optimizer) names.emplace_back("weight_decay");
  const std::vector<bool> required(names.size(), false);
  std::map<std::string, Value> given;
  if (d.kind == DefinitionKind::schedule) given["lr"] = Value::none();
  if (d.kind == DefinitionKind::init)
    for (const char* n : {"fan_in", "fan_out", "shape"})
      if (std::find(names.begin(), names.end(), n) != names.end()) given[n] = Value::none();
  std::vector<BoundArgument> checked;
  if (!bind_arguments(*this, d.name, names, required, arguments, given, span, checked)) return {};
  DefinitionValue partial = callee;
  partial.arguments.clear();
  for (BoundArgument& a : checked)
    if (!a.value.is(ValueKind::none)) partial.arguments.push_back(std::move(a));
  return Value::of(std::move(partial));
}

Value Evaluator::call_definition(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                                 const Expr& site) {
  const Definition& d = *callee.definition;
  if (d.kind == DefinitionKind::init || d.kind == DefinitionKind::optimizer ||
      d.kind == DefinitionKind::schedule)
    return call_later(callee, arguments, site.span);
  std::unique_ptr<Frame> f = new_frame(d, site.span);
  f->rounds = frame().active.empty() ? "" : fmt::format("{}", fmt::join(frame().active, ", "));
  std::string statics;
  if (!bind_parameters(*f, d, arguments, {}, site.span, statics)) return {};
  const bool layer = d.kind == DefinitionKind::layer || d.kind == DefinitionKind::model;
  if (layer) {
    if (!enter_instance(*this, *f, d, statics, site)) return {};
  } else {
    f->prefix = frame().prefix;
    f->reusing = frame().reusing;
    if (site.instance.kind != Instance::Kind::none) {
      error(codes::bad_instance, site.instance.span,
            fmt::format("`{}` is no layer: it has no instances to name", d.name));
      return {};
    }
  }
  std::shared_ptr<CallSite> call = call_site(*f, site.text_span.valid() ? site.text_span : site.span);
  if (layer && !f->prefix.empty()) call->instance = f->prefix.substr(0, f->prefix.size() - 1);
  const std::string instance = call->instance;
  f->call = std::move(call);
  const Value result = run_body(std::move(f), site.span);
  last_instance_ = instance;
  return result;
}

Value Evaluator::call_given(const DefinitionValue& callee, const std::map<std::string, Value>& given,
                            Span span, Frame* finished) {
  const Definition& d = *callee.definition;
  std::unique_ptr<Frame> f = new_frame(d, span);
  std::string statics;
  std::vector<BoundArgument> arguments;
  for (const BoundArgument& a : callee.arguments) {
    const bool own =
        a.name.empty() || std::any_of(d.parameters.begin(), d.parameters.end(),
                                      [&](const ParameterSyntax& p) { return p.name == a.name; });
    // Drop arguments that are no parameter of `d` (weight_decay of any optimizer, which the caller applies)
    // and those that `given` replaces.
    if (own && !(given.count(a.name) && d.kind == DefinitionKind::optimizer)) arguments.push_back(a);
  }
  if (!bind_parameters(*f, d, arguments, given, span, statics)) return {};
  f->prefix = frame().prefix;
  f->call = call_site(*f, span);
  return run_body(std::move(f), span, finished);
}

}  // namespace gradc::frontend
