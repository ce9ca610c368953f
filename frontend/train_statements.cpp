// The statements of `train`: losses, metrics, predictions, and which optimizer governs which parameter.
#include <fmt/format.h>

#include <algorithm>

#include "frontend/error_codes.h"
#include "frontend/train_statements.h"
#include "ir/tensor/op_def.h"

namespace gradc::frontend {

bool once(Evaluator& e, TrainStatements& x, const Statement& s, const std::string& what) {
  const auto [it, is_new] = x.seen.emplace(what, s.word_span);
  if (is_new) return true;
  e.error(codes::experiment_part, s.word_span, fmt::format("`{}` is given twice in `train`", what))
      .related.push_back({it->second, "first here"});
  return false;
}

namespace {

// One f32 number per example; booleans and integers are converted where `convert` says so.
Op* per_example(Evaluator& e, const Value& v, Span span, const char* what, bool convert) {
  if (v.poisoned()) return nullptr;
  if (!v.is_tensor()) {
    e.error(codes::bad_result, span, fmt::format("{} is one number per example, not {}", what, describe(v)))
        .expect("one number per example", describe(v));
    return nullptr;
  }
  const Type& t = v.tensor->type;
  if (!t.shape.empty()) {
    e.error(codes::bad_result, span, fmt::format("{} is one number per example", what),
            fmt::format("this is {}", user_type(t)))
        .expect("one number per example", user_type(t))
        .helps.push_back("bring it to one number with `sum(...)` or `mean(...)`");
    return nullptr;
  }
  if (!t.batched) {
    e.error(codes::bad_result, span, fmt::format("{} is one number per example", what),
            "this is one number for all examples")
        .expect("one number per example", "one number for all examples")
        .helps.push_back("what depends on parameters alone is a `penalty`");
    return nullptr;
  }
  if (t.dtype != DType::f32 && !convert) {
    e.error(codes::bad_result, span, fmt::format("{} must be f32, not {}", what, name(t.dtype)))
        .expect("f32", name(t.dtype));
    return nullptr;
  }
  return e.cast(v.tensor, DType::f32, span);
}

// `metric accuracy(...)` is called accuracy.
std::string result_name(const Statement& s) {
  if (!s.name.empty()) return s.name;
  return s.value->kind == ExprKind::call ? s.value->text : "";
}

bool free_name(Evaluator& e, TrainStatements& x, const std::string& name, Span span, const char* what) {
  const auto taken = [&](const auto& list) {
    return std::find_if(list.begin(), list.end(), [&](const auto& item) { return item.name == name; }) !=
           list.end();
  };
  const bool reserved =
      name == "loss" || name == "lr" || name == "penalty" || name == "predict" || name == "grad_norm";
  if (!reserved && !taken(x.metrics) && !taken(x.losses)) return true;
  e.error(codes::duplicate, span,
          reserved ? fmt::format("`{}` cannot name a {}", name, what)
                   : fmt::format("two results are called `{}`", name))
      .helps.push_back(fmt::format("give it a name: `{} NAME = ...`", what));
  return false;
}

void loss(Evaluator& e, TrainStatements& x, const Statement& s) {
  TrainStatements::Loss l;
  l.name = s.name;
  l.span = s.value->span;
  if (s.weight) {
    const Value weight = e.evaluate(*s.weight);
    if (weight.is_tensor()) {
      l.by_example = per_example(e, weight, s.weight->span, "the weight of an example", true);
      if (!l.by_example) return;
    } else if (!e.to_number(weight, s.weight->span, "the weight of a loss", l.weight)) {
      return;
    }
  }
  l.value = per_example(e, e.evaluate(*s.value), s.value->span, "a loss", false);
  if (!l.value || (!l.name.empty() && !free_name(e, x, l.name, s.name_span, "loss"))) return;
  x.losses.push_back(std::move(l));
}

void metric(Evaluator& e, TrainStatements& x, const Statement& s) {
  const std::string name = result_name(s);
  if (name.empty()) {
    e.error(codes::bad_result, s.value->span, "this metric has no name")
        .helps.push_back("write `metric NAME = ...`");
    return;
  }
  Op* value = per_example(e, e.evaluate(*s.value), s.value->span, "a metric", true);
  if (value && free_name(e, x, name, s.name.empty() ? s.value->span : s.name_span, "metric"))
    x.metrics.push_back({name, value, s.value->span});
}

void predict(Evaluator& e, TrainStatements& x, const Statement& s) {
  const Value v = e.evaluate(*s.value);
  if (v.poisoned()) return;
  if (!v.is_tensor() || !v.tensor->type.batched) {
    e.error(codes::bad_result, s.value->span,
            fmt::format("a prediction is a tensor of each example, not {}", describe(v)))
        .expect("a tensor of each example", describe(v));
    return;
  }
  x.predict = v.tensor;
}

void optimizer(Evaluator& e, TrainStatements& x, const Statement& s) {
  TrainStatements::Optimizer o;
  o.value = definition(e, *s.value, DefinitionKind::optimizer);
  o.statement = &s;
  if (o.value) x.optimizers.push_back(std::move(o));
}

void schedule(Evaluator& e, TrainStatements& x, const Statement& s) {
  for (const ExprPtr& phase : s.chain) {
    TrainStatements::Phase p{definition(e, *phase, DefinitionKind::schedule), phase->span};
    if (!p.value) return;
    for (const BoundArgument& a : p.value->arguments) {
      if (a.name != "lr") continue;
      e.error(codes::bad_schedule, a.span, "the rate of a schedule comes from the optimizer")
          .helps.push_back("write `optimizer NAME(lr=...)`");
      return;
    }
    x.schedule.push_back(std::move(p));
  }
}

void penalty(Evaluator& e, TrainStatements& x, const Statement& s) {
  TrainStatements::Penalty p;
  if (parameter_function(e, p, s, "penalty l2(1e-4)")) x.penalties.push_back(std::move(p));
}

std::vector<std::string> parameter_names(const Module& m) {
  std::vector<std::string> names;
  for (const Symbol& s : m.symbols)
    if (s.kind == SymbolKind::parameter) names.push_back(s.name);
  return names;
}

}  // namespace

// The definition value of a statement such as `optimizer adam(lr=1e-3)`.
std::shared_ptr<const DefinitionValue> definition(Evaluator& e, const Expr& expr, DefinitionKind kind) {
  const Value v = e.evaluate(expr);
  if (v.poisoned()) return nullptr;
  if (v.is(ValueKind::definition) && v.definition->is(kind)) return v.definition;
  std::vector<std::string> known;
  for (const auto& [name, d] : e.program().prelude_definitions)
    if (d->kind == kind) known.push_back(name);
  e.error(codes::wrong_kind, expr.span,
          fmt::format("expected {} {}, not {}", kind == DefinitionKind::optimizer ? "an" : "a", name(kind),
                      describe(v)))
      .expect(fmt::format("{} {}", kind == DefinitionKind::optimizer ? "an" : "a", name(kind)), describe(v))
      .helps.push_back(fmt::format("there are {}", fmt::join(known, ", ")));
  return nullptr;
}

std::set<std::string> matched(Evaluator& e, const std::vector<Pattern>& patterns) {
  const std::vector<std::string> names = parameter_names(e.module());
  std::set<std::string> result;
  for (const Pattern& p : patterns) {
    bool any = false;
    for (const std::string& name : names) {
      if (!matches(p.text, name)) continue;
      result.insert(name);
      any = true;
    }
    if (any) continue;
    Diagnostic& d =
        e.error(codes::pattern, p.span, fmt::format("the pattern \"{}\" matches no parameter", p.text));
    d.suggest(p.text, names, '"');
    std::vector<std::string> shown(
        names.begin(), names.begin() + static_cast<std::ptrdiff_t>(std::min<size_t>(names.size(), 8)));
    d.helps.push_back(fmt::format("the parameters are {}{}; `*` matches any text", fmt::join(shown, ", "),
                                  shown.size() < names.size() ? ", ..." : ""));
  }
  return result;
}

// `example`: a correct statement, for the message.
bool parameter_function(Evaluator& e, TrainStatements::Penalty& p, const Statement& s, const char* example) {
  const Expr& call = *s.value;
  if (call.kind != ExprKind::call || call.piped) {
    e.error(codes::bad_result, call.span,
            fmt::format("a {} is the call of a function without its first argument, the parameter",
                        s.word == "project" ? "projection" : s.word))
        .helps.push_back(fmt::format("as in `{} on \"*.weight\"`", example));
    return false;
  }
  p.statement = &s;
  const Value callee = e.lookup_callee(call);
  p.arguments = e.evaluate_arguments(call);
  if (callee.poisoned() || std::any_of(p.arguments.begin(), p.arguments.end(),
                                       [](const BoundArgument& a) { return a.value.poisoned(); }))
    return false;
  p.callee = callee.definition;
  return true;
}

bool matches(const std::string& pattern, const std::string& name) {
  // Greedy, backtracking to the last `*` alone: linear in practice, never exponential.
  size_t p = 0, n = 0, star = std::string::npos, resume = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && pattern[p] == name[n]) {
      ++p;
      ++n;
    } else if (star != std::string::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

void TrainRunner::run(const Statement& s) {
  const bool train = x_.kind == ProgramKind::train;
  if (s.word == "predict") {
    if (train) {
      x_.has_predict = true;
      once(e_, x_, s, s.word);
    }
    return x_.kind == ProgramKind::predict ? predict(e_, x_, s) : void();
  }
  // Losses and metrics are evaluated for @predict too: `predict` may reuse an instance that they create.
  // remove_dead() removes unused operations.
  if (s.word == "loss") return loss(e_, x_, s);
  if (s.word == "metric") return metric(e_, x_, s);
  if (!train) return;
  if (s.word == "optimizer") return optimizer(e_, x_, s);
  if (s.word == "penalty") return x_.variation.penalties ? penalty(e_, x_, s) : void();
  if (s.word == "freeze") {
    x_.freezes.push_back(&s);
    return;
  }
  if (is_train_option(s.word)) return train_option(e_, x_, s);
  if (!once(e_, x_, s, s.word)) return;
  if (s.word == "schedule") return x_.variation.schedule ? schedule(e_, x_, s) : void();
  int64_t& target = s.word == "epochs" ? x_.record.epochs : x_.record.seed;
  const Value v = e_.evaluate(*s.value);
  if (!e_.to_integer(v, s.value->span, fmt::format("`{}`", s.word), target)) return;
  constexpr int64_t kMostEpochs = 1000000;
  if (s.word == "epochs" && (target < 0 || target > kMostEpochs))
    e_.error(codes::bad_value, s.value->span,
             fmt::format("`epochs` must lie between 0 and {}, not {}", kMostEpochs, target))
        .expect(fmt::format("0 to {}", kMostEpochs), std::to_string(target));
  if (s.word == "seed" && target < 0)
    e_.error(codes::bad_value, s.value->span, fmt::format("`seed` must not be negative, but is {}", target))
        .expect("a number from 0", std::to_string(target));
}

bool assign_optimizers(Evaluator& e, TrainStatements& x) {
  const size_t errors = e.diagnostics().count();
  for (const Statement* s : x.freezes)
    for (const std::string& name : matched(e, s->on)) x.frozen.insert(name);
  std::map<std::string, const TrainStatements::Optimizer*> governed;
  const TrainStatements::Optimizer* rest = nullptr;
  for (TrainStatements::Optimizer& o : x.optimizers) {
    o.no_decay = matched(e, o.statement->no_decay);
    if (o.statement->on.empty()) {
      if (rest)
        e.error(codes::coverage, o.statement->word_span, "two optimizers are for all parameters")
            .related.push_back({rest->statement->word_span, "the first is here"});
      rest = &o;
      continue;
    }
    for (const std::string& name : matched(e, o.statement->on)) {
      const auto [it, is_new] = governed.emplace(name, &o);
      if (!is_new)
        e.error(codes::coverage, o.statement->word_span,
                fmt::format("the parameter `{}` has two optimizers", name))
            .related.push_back({it->second->statement->word_span, "the other is here"});
    }
  }
  bool any = false;
  for (const std::string& name : parameter_names(e.module())) {
    if (x.frozen.count(name)) continue;
    any = true;
    const auto it = governed.find(name);
    const TrainStatements::Optimizer* o = it != governed.end() ? it->second : rest;
    if (o)
      x.governed[name] = o;
    else if (!x.optimizers.empty())
      e.error(codes::coverage, x.optimizers.back().statement->word_span,
              fmt::format("the parameter `{}` has no optimizer", name))
          .helps.push_back("add an `optimizer` without `on` for all that is left, or `freeze` it");
  }
  if (!any && !x.losses.empty())
    e.error(codes::no_gradient, x.losses[0].span,
            x.frozen.empty() ? "there is no parameter to train" : "every parameter is frozen");
  return e.diagnostics().count() == errors;
}

Op* emit_penalties(Evaluator& e, TrainStatements& x) {
  Op* total = nullptr;
  for (const TrainStatements::Penalty& p : x.penalties) {
    const std::set<std::string> on = matched(e, p.statement->on);
    const Span span = p.statement->value->span;
    bool any = false;
    for (const auto& [name, optimizer] : x.governed) {
      // Parameters marked no_decay are never penalised.
      if ((!p.statement->on.empty() && !on.count(name)) || optimizer->no_decay.count(name)) continue;
      any = true;
      std::vector<BoundArgument> arguments = p.arguments;
      arguments.insert(arguments.begin(),
                       {"", Value::of(e.target().function->read(*e.module().symbol(name))), span});
      const Value v = e.call(*p.callee, std::move(arguments), *p.statement->value);
      if (v.poisoned()) return nullptr;
      if (!v.is_tensor() || !v.tensor->type.shape.empty() || v.tensor->type.batched ||
          v.tensor->type.dtype != DType::f32) {
        e.error(codes::bad_result, span, fmt::format("a penalty is one f32 number, not {}", describe(v)))
            .expect("one f32 number", describe(v));
        return nullptr;
      }
      total = total ? e.emit("add", {total, v.tensor}, {}, span).tensor : v.tensor;
    }
    if (!any) {
      e.error(codes::pattern, span, "this penalty applies to no parameter")
          .helps.push_back("parameters that are frozen or marked no_decay are never penalised");
      return nullptr;
    }
  }
  return total;
}

}  // namespace gradc::frontend
