// Calls: matching arguments to parameters, naming instances, running bodies.
#include <fmt/format.h>

#include <algorithm>

#include "frontend/error_codes.h"
#include "frontend/evaluator.h"
#include "ir/tensor/op_def.h"

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

bool Evaluator::bind(const std::string& callee, const std::vector<std::string>& names,
                     const std::vector<bool>& required, const std::vector<BoundArgument>& arguments,
                     const std::map<std::string, Value>& given, Span span, std::vector<BoundArgument>& out) {
  out.assign(names.size(), {});
  for (BoundArgument& b : out) {
    b.value = Value::none();
    b.span = span;
  }
  std::vector<bool> filled(names.size(), false);
  bool fine = true;
  size_t next = 0;
  for (const BoundArgument& a : arguments) {
    size_t at = 0;
    if (a.name.empty()) {
      while (next < names.size() && given.count(names[next])) ++next;
      at = next++;
      if (at >= names.size()) {
        error(codes::extra_argument, a.span,
              fmt::format("`{}` takes {} positional argument{}", callee,
                          names.size() - std::count_if(names.begin(), names.end(),
                                                       [&](const std::string& n) { return given.count(n); }),
                          names.size() == 1 ? "" : "s"))
            .helps.push_back(fmt::format("its parameters are {}", fmt::join(names, ", ")));
        return false;
      }
    } else {
      at = static_cast<size_t>(std::find(names.begin(), names.end(), a.name) - names.begin());
      if (at == names.size()) {
        Diagnostic& d =
            error(codes::unknown_argument, a.span, fmt::format("`{}` has no parameter `{}`", callee, a.name));
        d.expected = fmt::format("{}", fmt::join(names, ", "));
        if (!d.suggest(a.name, names) && !names.empty())
          d.helps.push_back(fmt::format("its parameters are {}", fmt::join(names, ", ")));
        fine = false;
        continue;
      }
    }
    if (filled[at]) {
      error(codes::extra_argument, a.span, fmt::format("`{}` is given `{}` twice", callee, names[at]));
      fine = false;
      continue;
    }
    filled[at] = true;
    out[at] = a;
    out[at].name = names[at];
  }
  std::vector<std::string> missing;
  for (size_t i = 0; i < names.size(); ++i) {
    if (filled[i]) continue;
    out[i].name = names[i];
    if (const auto it = given.find(names[i]); it != given.end())
      out[i].value = it->second;
    else if (required[i])
      missing.push_back("`" + names[i] + "`");
  }
  if (missing.empty() || !fine) return fine;
  error(codes::missing_argument, span,
        fmt::format("`{}` needs its argument{} {}", callee, missing.size() == 1 ? "" : "s",
                    fmt::join(missing, ", ")));
  return false;
}

Value Evaluator::call(const DefinitionValue& callee, std::vector<BoundArgument> arguments, const Expr& site) {
  // Arguments given when the value was made stand in front of those given now.
  arguments.insert(arguments.begin(), callee.arguments.begin(), callee.arguments.end());
  const std::vector<BoundArgument> given = arguments;
  if (!values) {
    const Value result = call_value(callee, std::move(arguments), site);
    note_function(callee, given, result);
    return result;
  }
  const bool model = callee.is(DefinitionKind::model);
  if (model) {  // its inputs come first
    for (size_t i = 0; i < given.size() && i < callee.definition->parameters.size(); ++i) {
      const std::string& name = given[i].name.empty() ? callee.definition->parameters[i].name : given[i].name;
      if (given[i].value.is_tensor()) note(name, "input", site.span, given[i].value.tensor);
    }
  }
  const Value result = call_value(callee, std::move(arguments), site);
  note_value(callee, given, site, result);
  note_function(callee, given, result);
  return result;
}

void Evaluator::note_function(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                              const Value& result) {
  if (frame().prelude || !result.is_tensor() || !callee.is(DefinitionKind::fn)) return;
  std::vector<const Op*> tensors;
  for (const BoundArgument& a : arguments) {
    if (!a.value.is_tensor()) continue;
    if (a.value.tensor == result.tensor) return;  // it returns what it was given
    tensors.push_back(a.value.tensor);
  }
  function_calls[result.tensor] = std::move(tensors);
}

Value Evaluator::call_value(const DefinitionValue& callee, std::vector<BoundArgument> arguments,
                            const Expr& site) {
  if (callee.definition) return call_definition(callee, std::move(arguments), site);
  if (site.instance.kind != Instance::Kind::none) {
    error(codes::bad_instance, site.instance.span,
          fmt::format("`{}` is no layer: it has no instances to name", callee.name));
    return {};
  }
  return callee.builtin ? call_builtin(callee, std::move(arguments), site)
                        : call_op(callee, std::move(arguments), site);
}

void Evaluator::note(const std::string& name, const std::string& callee, Span span, Op* op) {
  if (op->type.dtype != DType::f32 || !op->type.batched) return;
  std::string own = name;
  const auto taken = [&] {
    return std::any_of(values->begin(), values->end(), [&](const NotedValue& v) { return v.name == own; });
  };
  for (int again = 2; taken(); ++again) own = fmt::format("{}#{}", name, again);  // an instance used again
  values->push_back({own, callee, span, op});
}

void Evaluator::note_value(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                           const Expr& site, const Value& result) {
  const Frame& caller = frame();
  if (caller.prelude || !result.is_tensor()) return;
  const Span span = site.text_span.valid() ? site.text_span : site.span;
  if (callee.is(DefinitionKind::layer) || callee.is(DefinitionKind::model)) {
    note(last_instance_.empty() ? callee.definition->name : last_instance_, callee.name, span, result.tensor);
    return;
  }
  // Functions inside functions belong to the outermost, and those of `train` to no layer.
  if (!caller.definition || caller.definition->kind == DefinitionKind::fn) return;
  Op* only = nullptr;
  for (const BoundArgument& a : arguments) {
    if (!a.value.is_tensor()) continue;
    if (only) return;
    only = a.value.tensor;
  }
  if (!only || only == result.tensor || !(only->type == result.tensor->type)) return;
  int ordinal = 1;
  const auto count = [&](const NotedValue& v) {
    return v.name == fmt::format("{}{}_{}", caller.prefix, callee.name, ordinal);
  };
  while (std::any_of(values->begin(), values->end(), count)) ++ordinal;
  note(fmt::format("{}{}_{}", caller.prefix, callee.name, ordinal), callee.name, span, result.tensor);
}

// Evaluates defaults and checks types; `statics` collects the static arguments that were given, for trails
// and for `reuse`.
bool Evaluator::bind_parameters(Frame& f, const Definition& d, std::vector<BoundArgument> arguments,
                                const std::map<std::string, Value>& given, Span span, std::string& statics) {
  std::vector<std::string> names;
  std::vector<bool> required;
  for (const ParameterSyntax& p : d.parameters) {
    names.push_back(p.name);
    required.push_back(!p.default_value);
  }
  std::vector<BoundArgument> bound;
  if (!bind(d.name, names, required, arguments, given, span, bound)) return false;
  for (const auto& [name, value] : given) {
    Binding b;
    b.value = value;
    b.span = d.name_span;
    b.function = target_->function;
    f.scopes[0][name] = std::move(b);
  }
  std::vector<std::string> details, whole;
  for (size_t i = 0; i < bound.size(); ++i) {
    Binding b;
    b.value = bound[i].value;
    b.span = d.parameters[i].span;
    b.function = target_->function;
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

// Gives the frame its name among the instances, and enters `reuse`.
bool Evaluator::enter_instance(Frame& f, const Definition& d, const std::string& statics, const Expr& site) {
  Frame& caller = frame();
  const DefinitionKind caller_kind = caller.definition ? caller.definition->kind : DefinitionKind::layer;
  if (caller_kind != DefinitionKind::layer && caller_kind != DefinitionKind::model) {
    error(codes::impure, site.text_span,
          fmt::format("{} `{}` cannot call the layer `{}`", name(caller_kind), caller.definition->name,
                      d.name));
    return false;
  }
  if (site.instance.kind == Instance::Kind::reuse) {
    // Looked for in this scope, then in those of the loops around, up to the instance itself.
    std::vector<std::string> prefixes = caller.bases;
    prefixes.push_back(caller.prefix);
    std::vector<std::string> known;
    for (auto prefix = prefixes.rbegin(); prefix != prefixes.rend(); ++prefix) {
      for (const auto& [path, instance] : target_->instances)
        if (instance.first && path.compare(0, prefix->size(), *prefix) == 0 &&
            path.find('.', prefix->size()) == std::string::npos)
          known.push_back(path.substr(prefix->size()));
      const auto it = target_->instances.find(*prefix + site.instance.name);
      if (it == target_->instances.end() || !it->second.first) continue;
      if (it->second.first != &d || it->second.second != statics) {
        const bool same = it->second.first == &d;
        error(codes::reuse, site.instance.span,
              fmt::format(
                  "`{}` is {}", site.instance.name,
                  same ? "another call's instance, with other static arguments"
                       : fmt::format("an instance of `{}`, not of `{}`", it->second.first->name, d.name)))
            .helps.push_back(same ? fmt::format("it was made with {}", it->second.second.empty()
                                                                           ? "none"
                                                                           : shortened(it->second.second))
                                  : "only the same definition can share its parameters");
        return false;
      }
      f.prefix = it->first.empty() ? "" : it->first + ".";
      if (in_train() && d.kind == DefinitionKind::model && site.instance.name == d.name) f.prefix.clear();
      f.reusing = true;

      return true;
    }
    Diagnostic& e = error(codes::reuse, site.instance.span,
                          fmt::format("there is no instance `{}` here to reuse", site.instance.name));
    if (!e.suggest(site.instance.name, known))
      e.helps.push_back("name the first call: `y = dense(x, 10) as head`");
    return false;
  }
  const bool named = site.instance.kind == Instance::Kind::as;
  // The model itself, called in `train`, is no scope of its own unless it is given a name.
  const bool bare = !named && in_train() && d.kind == DefinitionKind::model && caller.active.empty();
  const std::string own = named  ? site.instance.name
                          : bare ? d.name
                                 : fmt::format("{}_{}", site.text, site.ordinal);
  const std::string path = caller.prefix + own;
  f.prefix = bare ? caller.prefix : path + ".";

  f.reusing = caller.reusing;
  const auto [it, is_new] =
      target_->instances.emplace(path, std::pair<const Definition*, std::string>{&d, statics});
  if (is_new || f.reusing) return true;
  Diagnostic& e = error(codes::instance_taken, named ? site.instance.span : site.text_span,
                        bare ? fmt::format("the model `{}` is called twice", d.name)
                             : fmt::format("there are two instances `{}` in this scope", own));
  if (bare)
    e.helps.push_back(fmt::format(
        "give each call a name, `{0}(...) as NAME`, or share parameters with `{0}(...) reuse {0}`", d.name));
  else
    e.helps.push_back("give one of them another name with `as NAME`, or share its parameters with `reuse`");
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
  const size_t errors = diagnostics_.count();
  // Types of inputs, then defaults, which may use the parameters before them.
  bool fine = true;
  for (const ParameterSyntax& p : d.parameters) {
    Binding& b = frame().scopes[0][p.name];
    if (b.value.is(ValueKind::none)) {
      b.value = evaluate(*p.default_value);
      b.function = target_->function;
    }
    if (!p.type || b.value.poisoned()) continue;
    Type wanted;
    if (!parse_dtype(p.type->dtype, wanted.dtype)) {
      std::vector<std::string> dtypes = {"f32", "i32", "bool"};
      error(codes::wrong_kind, p.type->span, fmt::format("there is no element type `{}`", p.type->dtype))
          .choose(p.type->dtype, {"f32", "i32", "bool"}, "there are");
      fine = false;
      continue;
    }
    if (!to_shape(p.type->dims, fmt::format("an extent of `{}`", p.name), wanted.shape)) {
      fine = false;
      continue;
    }
    if (b.value.is_tensor() && b.value.tensor->type.dtype == wanted.dtype &&
        b.value.tensor->type.shape == wanted.shape)
      continue;
    Diagnostic& e = error(codes::shapes, span,
                          fmt::format("`{}` takes `{}` as {}, but gets {}", d.name, p.name, user_type(wanted),
                                      describe(b.value)))
                        .expect(user_type(wanted),
                                b.value.is_tensor() ? user_type(b.value.tensor->type) : describe(b.value));
    e.related.push_back({p.type->span, "the type it declares"});
    if (b.value.is_tensor() && b.value.tensor->type.elements() == wanted.elements() &&
        b.value.tensor->type.dtype == wanted.dtype)
      e.helps.push_back(
          fmt::format("it has as many elements: `reshape(x, {})` fits", to_string(wanted.shape)));
    fine = false;
  }
  Value result;
  if (fine && diagnostics_.count() == errors) {
    run_block(d.body, false);
    result = frame().result;
    if (!frame().returned && d.kind != DefinitionKind::optimizer && diagnostics_.count() == errors)
      error(codes::no_value, span, fmt::format("`{}` ends without a `return`", d.name));
  }
  std::unique_ptr<Frame> done = std::move(frames_.back());
  frames_.pop_back();
  if (finished) *finished = std::move(*done);
  if (diagnostics_.full()) throw Abort{};
  return result;
}

Value Evaluator::call_definition(const DefinitionValue& callee, std::vector<BoundArgument> arguments,
                                 const Expr& site) {
  const Definition& d = *callee.definition;
  if (d.kind == DefinitionKind::init || d.kind == DefinitionKind::optimizer ||
      d.kind == DefinitionKind::schedule) {
    // A call only binds arguments; the parameter, gradient or step it needs comes later. Names are checked
    // now.
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
    if (!bind(d.name, names, required, arguments, given, site.span, checked)) return {};
    DefinitionValue partial = callee;
    partial.arguments.clear();
    for (BoundArgument& a : checked)
      if (!a.value.is(ValueKind::none)) partial.arguments.push_back(std::move(a));
    return Value::of(std::move(partial));
  }
  auto f = std::make_unique<Frame>();
  f->definition = &d;
  f->prelude = d.is_prelude;
  f->scopes.emplace_back();
  f->call_span = site.span;
  f->rounds = frame().active.empty() ? "" : fmt::format("{}", fmt::join(frame().active, ", "));
  std::string statics;
  if (!bind_parameters(*f, d, std::move(arguments), {}, site.span, statics)) return {};
  const bool layer = d.kind == DefinitionKind::layer || d.kind == DefinitionKind::model;
  if (layer) {
    if (!enter_instance(*f, d, statics, site)) return {};
  } else {
    f->prefix = frame().prefix;
    f->reusing = frame().reusing;
    if (site.instance.kind != Instance::Kind::none) {
      error(codes::bad_instance, site.instance.span,
            fmt::format("`{}` is no layer: it has no instances to name", d.name));
      return {};
    }
  }
  const Location place = location(site.text_span.valid() ? site.text_span : site.span);
  auto call = std::make_shared<CallSite>();
  call->callee = d.name;
  if (layer && !f->prefix.empty()) call->instance = f->prefix.substr(0, f->prefix.size() - 1);
  call->file = place.file ? *place.file : "";
  call->line = place.line;
  call->details = f->details;
  call->parent = frame().call;
  const std::string instance = call->instance;
  f->call = std::move(call);
  const Value result = run_body(std::move(f), site.span);
  last_instance_ = instance;
  return result;
}

Value Evaluator::call_given(const DefinitionValue& callee, const std::map<std::string, Value>& given,
                            Span span, Frame* finished) {
  const Definition& d = *callee.definition;
  auto f = std::make_unique<Frame>();
  f->definition = &d;
  f->prelude = d.is_prelude;
  f->scopes.emplace_back();
  f->call_span = span;
  std::string statics;
  std::vector<BoundArgument> arguments;
  for (const BoundArgument& a : callee.arguments) {
    const bool own =
        a.name.empty() || std::any_of(d.parameters.begin(), d.parameters.end(),
                                      [&](const ParameterSyntax& p) { return p.name == a.name; });
    // The options every optimizer has are the caller's business, as are arguments that `given` replaces.
    if (own && !(given.count(a.name) && d.kind == DefinitionKind::optimizer)) arguments.push_back(a);
  }
  if (!bind_parameters(*f, d, std::move(arguments), given, span, statics)) return {};
  f->prefix = frame().prefix;
  auto call = std::make_shared<CallSite>();
  const Location place = location(span);
  call->callee = d.name;
  call->file = place.file ? *place.file : "";
  call->line = place.line;
  call->details = f->details;
  call->parent = frame().call;
  f->call = std::move(call);
  return run_body(std::move(f), span, finished);
}

}  // namespace gradc::frontend
