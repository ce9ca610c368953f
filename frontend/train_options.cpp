// Statements of `train` beyond loss, metric and optimizer: what happens to gradients before the updates and
// to parameters after them, and when a run stops or saves. Knows nothing of how the runtime does it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "frontend/error_codes.h"
#include "frontend/train_statements.h"
#include "ir/tensor/op_def.h"

namespace gradc::frontend {

namespace {

// Gradient noise has a range of random streams apart from those of layers, so that adding a dropout does not
// change it.
constexpr int64_t kNoiseStreams = int64_t{1} << 22;
constexpr int64_t kMost = 1000000000;

// A number between low and high; `open` leaves out the bounds themselves.
bool number_between(Evaluator& e, const Expr& expr, const std::string& what, double low, double high,
                    bool open, double& out) {
  const Value v = e.evaluate(expr);
  if (v.poisoned() || !e.to_number(v, expr.span, "`" + what + "`", out)) return false;
  if (open ? out > low && out < high : out >= low && out <= high) return true;
  std::string range = std::isinf(high) ? fmt::format("{} {}", open ? "greater than" : "at least", low)
                                       : fmt::format("{} {} and {}", open ? "between" : "from", low, high);
  if (!open && !std::isinf(high)) range = fmt::format("from {} to {}", low, high);
  e.error(codes::bad_value, expr.span, fmt::format("`{}` must be {}, not {}", what, range, out))
      .expect(range, fmt::format("{}", out));
  return false;
}

bool count(Evaluator& e, const Expr& expr, const std::string& what, int64_t& out) {
  const Value v = e.evaluate(expr);
  if (v.poisoned() || !e.to_integer(v, expr.span, "`" + what + "`", out)) return false;
  if (out >= 1 && out <= kMost) return true;
  e.error(codes::bad_value, expr.span,
          fmt::format("`{}` must lie between 1 and {}, not {}", what, kMost, out))
      .expect(fmt::format("1 to {}", kMost), std::to_string(out));
  return false;
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The sum of squares, cast to f64: first over each row, which threads share, then over the rows. The order of
// summation does not depend on the number of threads.
Op* sum_of_squares(Builder& b, Op* g) {
  Op* sum = b.mul(g, g);
  std::vector<int64_t> inner;
  for (int axis = 1; axis < g->type.rank(); ++axis) inner.push_back(axis);
  if (!inner.empty()) sum = b.reduce_sum(sum, inner);
  if (g->type.rank() > 0) sum = b.reduce_sum(sum, {0});
  return b.cast(sum, DType::f64);
}

}  // namespace

bool is_train_option(const std::string& word) {
  static const std::vector<std::string> words = {
      "clip", "noise", "project", "ema", "lr_mult", "decay_mult", "accumulate", "stop", "checkpoint"};
  return std::find(words.begin(), words.end(), word) != words.end();
}

void train_option(Evaluator& e, TrainStatements& x, const Statement& s) {
  const std::string& word = s.word;
  if (word == "clip") {
    TrainStatements::Clip c{s.mode == "norm", 0, s.span};
    if (!once(e, x, s, "clip " + s.mode)) return;
    if (number_between(e, *s.value, "clip " + s.mode, 0, kInfinity, true, c.limit)) x.clips.push_back(c);
  } else if (word == "project") {
    TrainStatements::Penalty p;
    if (parameter_function(e, p, s, "project max_norm(3)")) x.projections.push_back(std::move(p));
  } else if (word == "lr_mult" || word == "decay_mult") {
    TrainStatements::Multiplier m{1, &s};
    if (number_between(e, *s.value, word, 0, kInfinity, false, m.value)) x.multipliers.push_back(m);
  } else if (!once(e, x, s, word)) {
    return;
  } else if (word == "noise") {
    number_between(e, *s.value, word, 0, kInfinity, false, x.noise);
  } else if (word == "ema") {
    number_between(e, *s.value, word, 0, 1, true, x.ema);
  } else if (word == "accumulate") {
    if (s.mode == "all")
      x.record.accumulate = 0;
    else
      count(e, *s.value, word, x.record.accumulate);
  } else if (word == "stop") {
    count(e, *s.value, word, x.record.stop.patience);
    x.stop = &s;
  } else {
    CheckpointRule& rule = x.record.checkpoint;
    rule.steps = s.mode == "steps";
    if (count(e, *s.value, "checkpoint every", rule.every) && s.keep) count(e, *s.keep, "keep", rule.keep);
    x.checkpoint = &s;
  }
}

Monitor monitor_of(Evaluator& e, const TrainStatements& x, const DataRecord& data, const MonitorSyntax& m) {
  std::vector<std::string> splits = {"train", "test"};
  for (const DataSplit& split : data.splits) splits.push_back(split.name);
  const auto known = [](const std::vector<std::string>& list, const std::string& name) {
    return std::find(list.begin(), list.end(), name) != list.end();
  };
  if (!known(splits, m.split)) {
    Diagnostic& d =
        e.error(codes::monitor, m.span, fmt::format("the data have no split `{}` to watch", m.split));
    if (m.split == "val")
      d.expect(fmt::format("{}", fmt::join(splits, ", ")), m.split)
          .helps.push_back("add one to the data: `{ split val = 1000 of train }`");
    else
      d.suggest(m.split, splits);
    return {};
  }
  std::vector<std::string> losses = {"loss"}, names = losses;
  if (x.losses.size() > 1)
    for (const TrainStatements::Loss& l : x.losses)
      if (!l.name.empty()) losses.push_back(l.name);
  names = losses;
  for (const NamedValue& metric : x.metrics) names.push_back(metric.name);
  if (!known(names, m.metric)) {
    Diagnostic& d = e.error(codes::monitor, m.span, fmt::format("nothing is called `{}` here", m.metric));
    d.choose(m.metric, names, "there are");
    return {};
  }
  const bool greater = m.direction.empty() ? !known(losses, m.metric) : m.direction == "max";
  return {m.split, m.metric, greater};
}

namespace {

// reduce_on_plateau's monitor, given as text: "val.loss".
void plateau_rule(Evaluator& e, TrainStatements& x, const DataRecord& data) {
  for (const TrainStatements::Phase& phase : x.schedule) {
    const DefinitionValue& d = *phase.value;
    if (!is_plateau(d)) continue;
    const auto text = [&](const char* name) {
      const Value v = bound_argument(e, d, name);
      return v.is(ValueKind::string) ? v.text : std::string();
    };
    PlateauRule& rule = x.record.plateau;
    const auto number = [&](const char* name, double& out) {
      const Value v = bound_argument(e, d, name);
      return !v.poisoned() && e.to_number(v, phase.span, fmt::format("`{}`", name), out);
    };
    // The prelude's definition requires whole numbers that are not negative.
    const auto epochs = [&](const char* name, int64_t& out) {
      double value = 0;
      if (!number(name, value)) return false;
      if (!(std::abs(value) <= kMost)) {
        e.must_be(bound_argument(e, d, name), phase.span, fmt::format("`{}`", name),
                  fmt::format("a number of epochs, at most {}", kMost));
        return false;
      }
      out = static_cast<int64_t>(value);
      return true;
    };
    if (!number("factor", rule.factor) || !number("threshold", rule.threshold) ||
        !epochs("patience", rule.patience) || !epochs("cooldown", rule.cooldown))
      return;
    const std::string monitor = text("monitor"), mode = text("mode");
    MonitorSyntax m;
    m.span = phase.span;
    const size_t dot = monitor.find('.');
    if (dot == std::string::npos) {
      e.error(codes::monitor, phase.span, "`monitor` names a split of the data and what is measured on it")
          .helps.push_back("as in monitor=\"val.loss\"");
      return;
    }
    m.split = monitor.substr(0, dot);
    m.metric = monitor.substr(dot + 1);
    m.direction = mode == "auto" ? "" : mode;
    rule.monitor = monitor_of(e, x, data, m);
  }
}

}  // namespace

bool is_plateau(const DefinitionValue& d) {
  return d.definition && d.definition->is_prelude && d.definition->name == "reduce_on_plateau";
}

void resolve_options(Evaluator& e, TrainStatements& x, const DataRecord& data) {
  if (x.stop) x.record.stop.monitor = monitor_of(e, x, data, x.stop->monitor);
  if (x.checkpoint && !x.checkpoint->monitor.split.empty())
    x.record.checkpoint.best = monitor_of(e, x, data, x.checkpoint->monitor);
  if (x.record.checkpoint.steps && !x.record.checkpoint.best.split.empty())
    e.error(codes::bad_value, x.checkpoint->monitor.span, "only checkpoints of epochs can be the best")
        .helps.push_back("what is watched is measured once an epoch: write `checkpoint every 1 epoch ...`");
  plateau_rule(e, x, data);
  for (const TrainStatements::Multiplier& m : x.multipliers) {
    std::map<std::string, double>& list = m.statement->word == "lr_mult" ? x.lr_mult : x.decay_mult;
    for (const std::string& name : matched(e, m.statement->on)) {
      if (list.emplace(name, m.value).second) continue;
      e.error(codes::coverage, m.statement->word_span,
              fmt::format("the parameter `{}` has two `{}`", name, m.statement->word));
      break;
    }
  }
  for (TrainStatements::Penalty& p : x.projections) {
    for (const std::string& name : matched(e, p.statement->on))
      if (x.governed.count(name)) p.parameters.insert(name);
    if (p.statement->on.empty())
      for (const auto& [name, optimizer] : x.governed) p.parameters.insert(name);
    if (p.parameters.empty())
      e.error(codes::pattern, p.statement->value->span, "this projection applies to no parameter")
          .helps.push_back("frozen parameters are left as they are");
  }
}

void emit_gradients(Evaluator& e, const TrainStatements& x) {
  if (x.clips.empty() && x.noise == 0) return;
  Function& f = e.module().add_function("gradients");
  Evaluator::TopFrame top(e);
  Builder b(f);
  std::vector<std::pair<std::string, Op*>> gradients;
  for (const Symbol& s : e.module().symbols)
    if (x.governed.count(s.name)) gradients.emplace_back(s.name, f.add_input(s.name, s.type, s.location));
  Op* norm = nullptr;
  for (const TrainStatements::Clip& c : x.clips) {
    b.set_location(e.location(c.span));
    Op* scale = nullptr;
    if (c.norm) {
      // As torch.nn.utils.clip_grad_norm_: g min(1, limit / (norm + 1e-6)). Pascanu et al. 2013, algorithm 1.
      Op* sum = nullptr;
      for (const auto& [name, g] : gradients) {
        Op* part = sum_of_squares(b, g);
        sum = sum ? b.add(sum, part) : part;
      }
      norm = b.create("sqrt", {sum});
      Op* ratio = b.div(b.constant(c.limit, DType::f64), b.add(norm, 1e-6));
      scale = b.cast(b.create("min", {ratio, b.constant(1, DType::f64)}), DType::f32);
    }
    for (auto& [name, g] : gradients) {
      g = c.norm ? b.mul(g, scale)
                 : b.create("min", {b.create("max", {g, b.constant(-c.limit)}), b.constant(c.limit)});
    }
  }
  if (x.noise > 0) {
    // Neelakantan et al. 2015, eq. 1: N(0, eta / (1 + t)^0.55), t = 0 at the first update.
    b.set_location(e.location(x.seen.at("noise")));
    Op* step = f.add_input("step", Type{DType::f64, false, {}});
    Op* growth = b.create("pow", {b.add(step, 1), b.constant(0.55, DType::f64)});
    Op* sigma = b.cast(b.create("sqrt", {b.div(b.constant(x.noise, DType::f64), growth)}), DType::f32);
    int64_t stream = kNoiseStreams;
    for (auto& [name, g] : gradients) {
      Op* noise =
          b.create("normal", {}, {{"stream", stream++}, {"shape", g->type.shape}, {"batched", false}});
      g = b.add(g, b.mul(noise, sigma));
    }
  }
  for (const auto& [name, g] : gradients) f.outputs.push_back({name, g});
  if (norm) f.outputs.push_back({"grad_norm", norm});
  f.renumber();
}

void add_averages(Evaluator& e, const TrainStatements& x) {
  if (x.ema == 0) return;
  Module& m = e.module();
  Function& init = *m.function("init");
  const std::vector<Update> first = init.updates;
  for (const Update& u : first) {
    if (!x.governed.count(u.symbol)) continue;
    const Symbol* parameter = m.symbol(u.symbol);
    m.add_symbol({u.symbol + ".ema", parameter->type, SymbolKind::average, parameter->location});
    init.updates.push_back({u.symbol + ".ema", u.value, u.location});
  }
  for (const char* name : {"eval", "predict"})
    if (Function* f = m.function(name))
      for (const auto& read : f->symbols)
        if (x.governed.count(read->symbol())) read->attributes.set("name", read->symbol() + ".ema");
}

void add_gradient_sums(Evaluator& e, const TrainStatements& x) {
  if (x.record.accumulate == 1 && x.record.full_batch.empty()) return;
  Module& m = e.module();
  Function& init = *m.function("init");
  Builder b(init);
  const auto add = [&](const std::string& name, const Type& type, SymbolKind kind, const Location& location) {
    const Symbol& sum = m.add_symbol({name, type, kind, location});
    b.set_location(location);
    Op* zero = b.constant(0, type.dtype);
    if (type.rank() > 0) zero = b.create("broadcast", {zero}, {{"shape", type.shape}, {"batched", false}});
    init.updates.push_back({sum.name, zero, location});
  };
  // Losses with different divisors (sums of weights) accumulate gradients separately.
  int64_t parts = 0;
  const std::vector<Output> outputs = m.function("train")->outputs;
  for (const Output& o : outputs) {
    parts += is_loss_part(o);
    if (is_weight_sum(o))
      add(o.name, Type{DType::f64, false, {}}, SymbolKind::weights,
          o.value->locations.empty() ? Location() : o.value->locations[0]);
  }
  for (const auto& [name, optimizer] : x.governed) {
    const Symbol parameter = *m.symbol(name);
    for (int64_t part = 0; part < std::max<int64_t>(parts, 1); ++part)
      add(name + ".grad" + (part ? std::to_string(part) : ""), parameter.type, SymbolKind::gradient,
          parameter.location);
  }
}

}  // namespace gradc::frontend
