// Gradients where an operation's decision is a tie (relu at 0, `select(x > 0, ...)` at 0, `min(x, 6)` at 6).
// Examples seldom reach a tie, so a value is set to it, and the elementwise operations that follow are checked in
// isolation: their gradient must be between the slopes of both sides, and equal to them where they agree. The choice
// between two different slopes is a convention (docs/language.md, "Kinks"). Knows no operator: the operations that
// decide are those that record decisions.
#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <optional>

#include "cli/check/checker.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::cli {

using interpreter::Tensor;
using Ops = std::set<const Op*>;
using Values = std::map<const Op*, const Tensor*>;

namespace {

constexpr int64_t kRows = 2;    // of examples: each has elements enough
constexpr double kStep = 1e-4;  // of a one-sided difference, relative to the value's size
constexpr double kUnsure =
    1e-3;  // a side whose slope differs by more, relatively, between two steps has none

// Values that depend on a trained parameter: gradients of others are not used.
Ops trained_values(const Module& module, const Function& f) {
  Ops result;
  for (const auto& s : f.symbols)
    if (module.function("update." + s->symbol())) result.insert(s.get());
  for (const auto& op : f.body)
    for (const Op* operand : op->operands)
      if (result.count(operand)) result.insert(op.get());
  return result;
}

// The elementwise operations after `from` whose results depend on it through such operations alone, so that one element
// of `from` affects only elements at its own position. `held` are the operations without a gradient (sign,
// stop_gradient), which count as constants.
struct Region {
  const Op* from = nullptr;
  std::vector<const Op*> ops;  // in order, with the held ones
  Ops inside, held;
  std::vector<const Op*> ends;  // values that are used outside

  Region(const Function& f, const Op* start) : from(start), inside{start} {
    Ops follow = {start};  // everything that depends on `from`
    for (const auto& op : f.body) {
      const auto is_in = [&](const Op* o) { return inside.count(o) != 0; };
      if (std::none_of(op->operands.begin(), op->operands.end(),
                       [&](const Op* o) { return follow.count(o); }))
        continue;
      follow.insert(op.get());
      const bool local = std::all_of(op->operands.begin(), op->operands.end(),
                                     [&](const Op* o) { return is_in(o) || !follow.count(o); });
      if (!local || op->def->kind != OpKind::elementwise || op->def->random) {
        for (const Op* o : op->operands) end(o);
        continue;
      }
      inside.insert(op.get());
      ops.push_back(op.get());
      if (op->type.is_float() && !op->def->gradient) held.insert(op.get());
    }
    for (const Output& o : f.outputs) end(o.value);
    for (const Update& u : f.updates) end(u.value);
  }

 private:
  void end(const Op* o) {
    if (o != from && inside.count(o) && o->type.is_float() && !held.count(o) &&
        std::find(ends.begin(), ends.end(), o) == ends.end())
      ends.push_back(o);
  }
};

// A region as a function of its own: outputs "y<i>", the value at each end, and "d<i>", the gradient of its
// sum in `from`, both summed to `from`'s type.
class Local {
 public:
  explicit Local(const Region& region) : region_(region), f_("kink"), b_(f_) {
    from_ = input(region.from);
    for (const Op* op : region.ops) {
      if (region.held.count(op)) {
        input(op);
        continue;
      }
      std::vector<Op*> operands;
      for (const Op* o : op->operands) operands.push_back(copy(o));
      image_[op] = b_.create(op->name(), operands, op->attributes);
    }
    const std::vector<Op*> forward = f_.ops();
    for (size_t i = 0; i < region.ends.size(); ++i) {
      Op* end = image_.at(region.ends[i]);
      f_.outputs.push_back({fmt::format("y{}", i), b_.sum_to(end, from_->type)});
      if (Op* d = gradient(forward, end)) f_.outputs.push_back({fmt::format("d{}", i), d});
    }
    f_.renumber();
  }

  // Runs the region with `value` at the start; other operands as in the whole function.
  Tensors run(const Values& values, const Tensors& held, const Tensor& value, const interpreter::Context& c) {
    interpreter::RunInput in;
    in.context = c;
    for (const auto& [name, op] : inputs_)
      in.inputs[name] = op == region_.from ? value : held.count(name) ? held.at(name) : *values.at(op);
    return interpreter::run(f_, in).outputs;
  }

  // The values of the held operations, which count as constant, with `value` at the start.
  Tensors held(const Values& values, const Tensor& value, const interpreter::Context& c) const {
    std::map<const Op*, Tensor> own;
    own[region_.from] = value;
    interpreter::Context context = c;
    Tensors result;
    for (const Op* op : region_.ops) {
      std::vector<const Tensor*> operands;
      for (const Op* o : op->operands) operands.push_back(own.count(o) ? &own.at(o) : values.at(o));
      own[op] = interpreter::evaluate(*op, operands, context);
      if (region_.held.count(op)) result[name_of(op)] = own[op];
    }
    return result;
  }

 private:
  static std::string name_of(const Op* op) {
    return op->def->kind == OpKind::external ? op->symbol() : fmt::format("%{}", op->id);
  }
  Op* input(const Op* op) {
    inputs_[name_of(op)] = op;
    return image_[op] = f_.add_input(name_of(op), op->type);
  }
  // Constants stay constants: an operand that is one takes no part in a tie of two values.
  Op* copy(const Op* op) {
    if (const auto it = image_.find(op); it != image_.end()) return it->second;
    if (op->def->random || op->def->kind == OpKind::external || !is_constant(op)) return input(op);
    std::vector<Op*> operands;
    for (const Op* o : op->operands) operands.push_back(copy(o));
    return image_[op] = b_.create(op->name(), operands, op->attributes);
  }
  static bool is_constant(const Op* op) {
    if (op->def->kind == OpKind::source) return !op->def->random;
    if (op->def->kind == OpKind::external || op->def->random) return false;
    return std::all_of(op->operands.begin(), op->operands.end(), is_constant);
  }

  Op* gradient(const std::vector<Op*>& forward, Op* end) {
    std::map<const Op*, Op*> of;
    const auto add = [&](Op* value, Op* g) {
      Op*& sum = of[value];
      g = b_.sum_to(g, value->type);
      sum = sum ? b_.add(sum, g) : g;
    };
    add(end, b_.create("broadcast", {b_.constant(1, end->type.dtype)},
                       {{"shape", end->type.shape}, {"batched", end->type.batched}}));
    for (auto it = forward.rbegin(); it != forward.rend(); ++it) {
      Op* op = *it;
      const auto g = of.find(op);
      if (g == of.end() || !op->def->gradient) continue;
      const std::vector<Op*> parts = op->def->gradient(b_, op, g->second);
      for (size_t i = 0; i < parts.size(); ++i)
        if (parts[i]) add(op->operands[i], parts[i]);
    }
    return of.count(from_) ? of.at(from_) : nullptr;
  }

  const Region& region_;
  Function f_;
  Builder b_;
  Op* from_ = nullptr;
  std::map<const Op*, Op*> image_;
  std::map<std::string, const Op*> inputs_;
};

// A side's slope from its second-order one-sided difference with two steps; none where they disagree, as at a
// jump.
struct Side {
  bool known = false;
  double slope = 0, doubt = 0;
};
Side side_of(double at, const double (&y)[4], double h) {  // y at h / 2, h, h, 2 h
  const double fine = (4 * (y[0] - at) - (y[1] - at)) / h, coarse = (4 * (y[2] - at) - (y[3] - at)) / (2 * h);
  double size = std::fabs(at);
  for (const double v : y) size = std::max(size, std::fabs(v));
  Side s{true, fine, std::fabs(fine - coarse) + 16 * DBL_EPSILON * size / std::fabs(h)};
  s.known =
      std::isfinite(fine) && std::isfinite(coarse) && s.doubt <= kUnsure * std::max(std::fabs(fine), 1.0);
  return s;
}

// A tie to set a value to: 0, or the deciding operation's other operand.
struct Tie {
  const Op* from;
  const Op* at;  // null: 0
};

double number_of(const Op* constant) { return constant->attributes.number("value"); }

std::string text_of(const Tie& tie) {
  const std::string at = !tie.at                  ? "0"
                         : tie.at->is("constant") ? fmt::format("{:g}", number_of(tie.at))
                                                  : fmt::format("%{}", tie.at->id);
  return fmt::format("where %{} is {}", tie.from->id, at);
}

// Ties of an operation's operands with each other, or with 0 if there is only one.
std::vector<Tie> ties_of(const Op& op, const Ops& trained) {
  std::vector<Tie> ties;
  const auto put = [&](const Op* from, const Op* at) {
    if (at && at->is("constant") && number_of(at) == 0) at = nullptr;
    if (from->type.is_float() && trained.count(from)) ties.push_back({from, at});
  };
  if (op.operands.size() == 1) put(op.operands[0], nullptr);
  if (op.operands.size() != 2) return ties;
  put(op.operands[0], op.operands[1]);
  put(op.operands[1], op.operands[0]);
  return ties;
}

// The tie's value as a tensor of the type; none where the other operand has another shape or depends on the first.
std::optional<Tensor> tie_value(const Tie& tie, const Values& values, const Region& region, int64_t rows) {
  Tensor t = interpreter::make_tensor(tie.from->type, rows);
  if (!tie.at) return t;
  if (region.inside.count(tie.at)) return std::nullopt;
  const Tensor& other = *values.at(tie.at);
  if (other.data.size() == 1)
    std::fill_n(t.data.data(), t.data.size(), *other.data.data());
  else if (tie.at->type.shape == tie.from->type.shape && tie.at->type.batched == tie.from->type.batched)
    t.data = other.data;
  else
    return std::nullopt;
  return t;
}

// The worst element: how far its gradient is outside the range of the sides' slopes, and at which end.
struct Worst {
  int64_t places = 0;
  size_t end = 0;
  double error = 0, relative = 0, beyond = 0;  // beyond: relative to the tolerance
};
void look_at(Worst& worst, size_t end, double gradient, const Side& below, const Side& above,
             double tolerance) {
  if (!std::isfinite(gradient) || (!below.known && !above.known)) return;
  const Side &a = below.known ? below : above, &b = above.known ? above : below;
  const double low = std::min(a.slope, b.slope), high = std::max(a.slope, b.slope);
  const double error = std::max({low - gradient, gradient - high, 0.0});
  const double scale = std::max({std::fabs(low), std::fabs(high), std::fabs(gradient)});
  ++worst.places;
  if (error == 0) return;
  const double beyond = error / (tolerance * scale + 4 * std::max(a.doubt, b.doubt));
  if (beyond <= worst.beyond) return;
  worst.beyond = beyond;
  worst.end = end;
  worst.error = error;
  worst.relative = error / scale;
}

Worst look(Local& local, size_t ends, const Values& values, const Tensor& tie, double size,
           const interpreter::Context& context, double tolerance) {
  const Tensors held = local.held(values, tie, context);
  std::vector<double> step(tie.data.size());
  for (size_t i = 0; i < step.size(); ++i) {
    const double at = std::fabs(tie.data.data()[i]);
    step[i] = kStep * (at > 0 ? at : size);
  }
  const Tensors centre = local.run(values, held, tie, context);
  Tensors moved[6];
  const double places[6] = {-2, -1, -0.5, 0.5, 1, 2};
  for (int k = 0; k < 6; ++k) {
    Tensor t = tie;
    for (size_t i = 0; i < step.size(); ++i) t.data.data()[i] += places[k] * step[i];
    moved[k] = local.run(values, held, t, context);
  }
  Worst worst;
  for (size_t e = 0; e < ends; ++e) {
    const std::string y = fmt::format("y{}", e);
    const auto gradient = centre.find(fmt::format("d{}", e));
    for (size_t i = 0; i < step.size(); ++i) {
      double v[6];
      for (int k = 0; k < 6; ++k) v[k] = moved[k].at(y).data.data()[i];
      const double at = centre.at(y).data.data()[i];
      look_at(worst, e, gradient == centre.end() ? 0 : gradient->second.data.data()[i],
              side_of(at, {v[2], v[1], v[1], v[0]}, -step[i]), side_of(at, {v[3], v[4], v[4], v[5]}, step[i]),
              tolerance);
    }
  }
  return worst;
}

}  // namespace

void Checker::check_kinks() {
  const Function& f = *forward_->model.module->function("train");
  const CallRequest call = call_for(std::min(kRows, numeric_rows()));
  interpreter::RunInput input = interpreter_input(f, call, symbols_);
  interpreter::Decisions decisions;
  decisions.mode = interpreter::Decisions::Mode::record;
  input.context.decisions = &decisions;
  input.keep_all = true;
  const interpreter::RunResult result = interpreter::run(f, input);
  interpreter::Context context = input.context;
  context.decisions = nullptr;
  Values values;
  for (const auto& [op, value] : result.values) values[op] = &value;
  for (const auto& op : f.inputs) values[op.get()] = &input.inputs.at(op->symbol());
  for (const auto& op : f.symbols) values[op.get()] = &input.symbols.at(op->symbol());

  const Ops trained = trained_values(*forward_->model.module, f);
  std::set<std::string> visited;
  for (const auto& op : f.body) {
    if (op->def->kind != OpKind::elementwise || !decisions.by_op.count(op->id)) continue;
    for (const Tie& tie : ties_of(*op, trained)) {
      if (!visited.insert(text_of(tie)).second) continue;
      const Region region(f, tie.from);
      const std::optional<Tensor> at = tie_value(tie, values, region, call.rows);
      if (region.ends.empty() || !at) continue;
      Local local(region);
      const Tensor& now = *values.at(tie.from);
      const double size = norm(now) / std::sqrt(static_cast<double>(now.data.size()));
      const Worst worst =
          look(local, region.ends.size(), values, *at, size > 0 ? size : 1, context, tolerances_.numeric);
      if (worst.places == 0) continue;
      const Op& end = *region.ends[worst.end];
      CheckRow row{"kink",
                   "train_step",
                   fmt::format("%{} {} {}", end.id, end.name(), text_of(tie)),
                   location_of(end),
                   to_string(tie.from->type),
                   call.rows,
                   worst.error,
                   worst.relative,
                   tolerances_.numeric};
      row.pass = worst.beyond <= 1;
      report_.rows.push_back(std::move(row));
    }
  }
}

}  // namespace gradc::cli
