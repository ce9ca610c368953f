// @update.P for every trained parameter: the schedule's rate, coupled weight decay, and the optimizer's body.
#include <fmt/format.h>

#include <algorithm>

#include "frontend/error_codes.h"
#include "frontend/train_statements.h"

namespace gradc::frontend {

Value bound_argument(Evaluator& e, const DefinitionValue& d, const std::string& name) {
  for (const BoundArgument& a : d.arguments)
    if (a.name == name) return a.value;
  for (const ParameterSyntax& p : d.definition->parameters)
    if (p.name == name && p.default_value) return e.evaluate(*p.default_value);
  return Value::none();
}

namespace {

class Updates {
 public:
  Updates(Evaluator& e, const TrainStatements& x) : e_(e), x_(x) {}

  bool run() {
    const size_t errors = e_.diagnostics().count();
    // A copy, since the loop adds slots to the module.
    const std::vector<Symbol> symbols = e_.module().symbols;
    for (const Symbol& s : symbols) {
      const auto it = x_.governed.find(s.name);
      if (it == x_.governed.end()) continue;
      update(s, *it->second);
      if (e_.diagnostics().count() != errors) return false;  // the next parameter would repeat the error
    }
    return true;
  }

 private:
  struct Clock {
    Value step, epoch, total;
  };

  // The model file's weight decay, unless the variation replaces it.
  Value weight_decay(const DefinitionValue& d) const {
    if (x_.variation.weight_decay) return Value::of(*x_.variation.weight_decay);
    return bound_argument(e_, d, "weight_decay");
  }

  static bool has_parameter(const Definition& d, const std::string& name) {
    return std::any_of(d.parameters.begin(), d.parameters.end(),
                       [&](const ParameterSyntax& p) { return p.name == name; });
  }

  Op* arithmetic(const char* op, const Value& a, const Value& b, Span span) {
    Op *x = e_.lift(a, DType::f64, span), *y = e_.lift(b, DType::f64, span);
    return x && y ? e_.emit(op, {x, y}, {}, span).tensor : nullptr;
  }

  Value phase(size_t index, const Value& lr, const Clock& clock) {
    const TrainStatements::Phase& p = x_.schedule[index];
    const bool last = index + 1 == x_.schedule.size();
    Clock own = clock;
    double steps = 0;
    if (!last) {
      const Value length = bound_argument(e_, *p.value, "steps");
      if (length.is_static_number() && length.as_number() <= 0) {
        e_.error(codes::bad_schedule, p.span,
                 fmt::format("`{}` must last at least one step, not {}", p.value->name, print(length)))
            .expect("at least one step", print(length));
        return {};
      }
      if (!length.is_static_number()) {
        e_.error(codes::bad_schedule, p.span,
                 fmt::format("`{}` cannot come before `then`: its length is not known", p.value->name))
            .helps.push_back(
                "a schedule before `then` has a parameter `steps`, as in `warmup(500) then cosine`");
        return {};
      }
      steps = length.as_number();
      own.total = Value::of(steps);
    }
    const Value rate = e_.call_given(
        *p.value, {{"lr", lr}, {"step", own.step}, {"epoch", own.epoch}, {"total", own.total}}, p.span);
    if (rate.poisoned()) return rate;
    const bool scalar = rate.is_tensor() && rate.tensor->type.dtype == DType::f64 &&
                        rate.tensor->type.shape.empty() && !rate.tensor->type.batched;
    if (!rate.is_static_number() && !scalar) {
      e_.error(codes::bad_schedule, p.span,
               fmt::format("a schedule gives one number, not {}", describe(rate)))
          .expect("one number", describe(rate));
      return {};
    }
    if (last) return rate;
    Clock rest = clock;
    rest.step = Value::of(arithmetic("sub", clock.step, Value::of(steps), p.span));
    rest.total = Value::of(arithmetic("sub", clock.total, Value::of(steps), p.span));
    const Value after = phase(index + 1, lr, rest);
    if (after.poisoned()) return after;
    Op* before = arithmetic("lt", clock.step, Value::of(steps), p.span);
    return e_.select(Value::of(before), Value::of(e_.lift(rate, DType::f64, p.span)),
                     Value::of(e_.lift(after, DType::f64, p.span)), p.span);
  }

  // The optimizer's `lr` after the schedules, times the run's `factor`; null after an error.
  Op* scheduled_rate(const DefinitionValue& d, const Clock& clock, Op* factor, Span span) {
    const Value base = bound_argument(e_, d, "lr");
    if (!base.is_static_number()) {
      if (!base.poisoned()) e_.must_be(base, span, "`lr`", "a number known when compiling");
      return nullptr;
    }
    if (base.as_number() < 0) {
      e_.error(codes::bad_value, span,
               fmt::format("`lr` must not be negative, but is {}: an optimizer goes against the gradient",
                           print(base)))
          .expect("a number from 0", print(base));
      return nullptr;
    }
    // reduce_on_plateau bounds the reduced rate from below, so its input must include the factor.
    const bool plateau = std::any_of(x_.schedule.begin(), x_.schedule.end(),
                                     [](const TrainStatements::Phase& p) { return is_plateau(*p.value); });
    const Value start = plateau ? Value::of(arithmetic("mul", base, Value::of(factor), span)) : base;
    const Value scheduled = x_.schedule.empty() ? start : phase(0, start, clock);
    if (scheduled.poisoned()) return nullptr;
    return plateau ? e_.lift(scheduled, DType::f64, span)
                   : arithmetic("mul", scheduled, Value::of(factor), span);
  }

  // Passes `weight_decay` to a definition that declares it, else adds the decay to the gradient. False after
  // an error.
  bool apply_decay(const Symbol& symbol, const TrainStatements::Optimizer& optimizer, Op* w, Op*& g,
                   std::map<std::string, Value>& given) {
    const DefinitionValue& d = *optimizer.value;
    const Span span = optimizer.statement->value->span;
    const bool decays = !optimizer.no_decay.count(symbol.name);
    const double decay_mult = multiplier(x_.decay_mult, symbol.name);
    double rate = 0;
    if (has_parameter(*d.definition, "weight_decay")) {
      if (!decays) {
        given["weight_decay"] = Value::of(0.0);
      } else if (decay_mult != 1 || x_.variation.weight_decay) {
        if (!e_.to_number(weight_decay(d), span, "`weight_decay`", rate)) return false;
        given["weight_decay"] = Value::of(rate * decay_mult);
      }
      return true;
    }
    const Value decay = weight_decay(d);
    if (decay.is(ValueKind::none)) return true;
    // Coupled, as in PyTorch: the gradient of decay / 2 |w|^2 is added to g. (Definitions that declare
    // weight_decay apply it themselves.)
    if (!e_.to_number(decay, span, "`weight_decay`", rate)) return false;
    if (rate < 0) {
      e_.error(codes::bad_value, span, fmt::format("`weight_decay` must not be negative, but is {}", rate))
          .expect("a number from 0", fmt::format("{}", rate));
      return false;
    }
    rate *= decay_mult;
    if (!decays || rate == 0) return true;
    Op* pull = e_.emit("mul", {w, e_.lift(Value::of(rate), DType::f32, span)}, {}, span).tensor;
    g = e_.emit("add", {g, pull}, {}, span).tensor;
    return true;
  }

  // The parameter's value after the optimizer's body; null after an error.
  Op* moved(const Symbol& symbol, const DefinitionValue& d, Op* w, const std::map<std::string, Value>& given,
            Span span) {
    Evaluator::Frame finished;
    const size_t errors = e_.diagnostics().count();
    e_.call_given(d, given, span, &finished);
    if (e_.diagnostics().count() != errors || finished.scopes.empty()) return nullptr;
    const Value& result = finished.scopes[0].at("w").value;
    if (result.is_tensor() && result.tensor == w) {
      e_.error(codes::no_value, span, fmt::format("the optimizer `{}` never assigns `w`", d.name));
      return nullptr;
    }
    Op* next = e_.cast(e_.lift(result, DType::f32, span), DType::f32, span);
    if (!next || next->type == symbol.type) return next;
    e_.error(codes::shapes, span,
             fmt::format("the optimizer `{}` makes `w` {} of {}", d.name, user_type(next->type),
                         user_type(symbol.type)))
        .expect(user_type(symbol.type), user_type(next->type));
    return nullptr;
  }

  void update(const Symbol& symbol, const TrainStatements::Optimizer& optimizer) {
    const Span span = optimizer.statement->value->span;
    Function& f = e_.module().add_function("update." + symbol.name);
    Evaluator::Target target;
    target.function = &f;
    Evaluator::Redirect redirect(e_, target);
    Evaluator::TopFrame top(e_);
    e_.parameter = symbol.name;
    struct Reset {
      std::string& text;
      ~Reset() { text.clear(); }
    } reset{e_.parameter};

    Op* g = f.add_input("g", symbol.type, e_.location(span));
    const Type scalar{DType::f64, false, {}};
    Clock clock{Value::of(f.add_input("step", scalar)), Value::of(f.add_input("epoch", scalar)),
                Value::of(f.add_input("total", scalar))};
    Op* factor = f.add_input("lr_factor", scalar);
    Op* w = f.read(symbol);
    Op* rate = scheduled_rate(*optimizer.value, clock, factor, span);
    if (!rate) return;
    const double mult = multiplier(x_.lr_mult, symbol.name);
    Op* lr = mult == 1 ? rate : arithmetic("mul", Value::of(rate), Value::of(mult), span);

    std::map<std::string, Value> given = {
        {"w", Value::of(w)},    {"t", Value::of(arithmetic("add", clock.step, Value::of(1.0), span))},
        {"step", clock.step},   {"epoch", clock.epoch},
        {"total", clock.total}, {"lr", Value::of(lr)}};
    if (!apply_decay(symbol, optimizer, w, g, given)) return;
    given["g"] = Value::of(g);
    Op* next = moved(symbol, *optimizer.value, w, given, span);
    if (!next) return;
    if (x_.moves) {
      // The runtime moves the parameters and needs only their gradients.
      f.updates.push_back({symbol.name + ".grad", g, e_.location(span)});
    } else {
      next = project(symbol, next);
      if (!next) return;
      f.updates.push_back({symbol.name, next, e_.location(span)});
      if (x_.ema > 0) average(f, symbol, next);
      for (const Symbol& s : e_.module().symbols)
        if (const auto it = target.states.find(s.name); it != target.states.end())
          f.updates.push_back({s.name, it->second, e_.location(span)});
    }
    f.outputs.push_back({"lr", rate});
    f.remove_dead();
    f.renumber();
  }

  static double multiplier(const std::map<std::string, double>& list, const std::string& name) {
    const auto it = list.find(name);
    return it == list.end() ? 1 : it->second;
  }

  // The parameter's new value, through every projection that applies to it; null after an error.
  Op* project(const Symbol& symbol, Op* next) {
    for (const TrainStatements::Penalty& p : x_.projections) {
      if (!p.parameters.count(symbol.name)) continue;
      const Span span = p.statement->value->span;
      std::vector<BoundArgument> arguments = p.arguments;
      arguments.insert(arguments.begin(), {"", Value::of(next), span});
      const Value v = e_.call(*p.callee, std::move(arguments), *p.statement->value);
      if (v.poisoned()) return nullptr;
      if (!v.is_tensor() || v.tensor->type != symbol.type) {
        e_.error(codes::bad_result, span,
                 fmt::format("a projection gives the parameter's new value, here {}, not {}",
                             user_type(symbol.type), describe(v)))
            .expect(user_type(symbol.type), describe(v))
            .helps.push_back(fmt::format("the parameter is `{}`; `on` leaves others out", symbol.name));
        return nullptr;
      }
      next = v.tensor;
    }
    return next;
  }

  // average = decay average + (1 - decay) w, with the value that w has after the update.
  void average(Function& f, const Symbol& symbol, Op* next) {
    const Symbol* shadow = e_.module().symbol(symbol.name + ".ema");
    Builder b(f);
    b.set_location(e_.location(x_.seen.at("ema")));
    Op* old = b.mul(f.read(*shadow), x_.ema);
    f.updates.push_back({shadow->name, b.add(old, b.mul(next, 1 - x_.ema)), e_.location(x_.seen.at("ema"))});
  }

  Evaluator& e_;
  const TrainStatements& x_;
};

}  // namespace

bool emit_updates(Evaluator& e, const TrainStatements& experiment) { return Updates(e, experiment).run(); }

}  // namespace gradc::frontend
