// Slopes of the loss along random directions: from gradients, and from central differences of the interpreted loss,
// which use no gradient formula.
#include <fmt/format.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <iterator>
#include <limits>
#include <numeric>

#include "cli/check/checker.h"
#include "compiler/evaluate_ops.h"
#include "passes/tensor/passes.h"
#include "support/philox.h"

namespace gradc::cli {

using interpreter::Tensor;

namespace {

constexpr double kNumericStep = 1e-5;  // relative to the direction's size
constexpr double kLossRounding = 8;    // of a loss in double precision, in units of its last place

// A random direction of the parameter's size.
Tensor direction_for(const Tensor& w, uint64_t seed, uint32_t stream) {
  const double size = std::max(norm(w) / std::sqrt(static_cast<double>(w.data.size())), 1e-2);
  Tensor direction = w;
  for (size_t i = 0; i < w.data.size(); ++i)
    direction.data.data()[i] = size * (2 * uniform_from_word(random_word(seed, 1, stream, i, 0)) - 1);
  return direction;
}

// The average size of a slope for a gradient of this norm.
double expected_slope(const Tensor& gradient, const Tensor& direction) {
  return norm(gradient) * norm(direction) / std::sqrt(static_cast<double>(gradient.data.size()));
}

// Outputs and updates of a function whose f32 results are rounded at random, for a run of 1 and more.
interpreter::RunResult rounded_run(const Function& f, const interpreter::RunInput& input, uint64_t run) {
  interpreter::RunResult result = interpreter::run(f, input);
  if (run == 0) return result;
  rounding_run(f, input, run, [&](const Op& op, const Tensor& moved) {
    for (const Output& o : f.outputs)
      if (o.value == &op) result.outputs[o.name] = moved;
    for (const Update& u : f.updates)
      if (u.value == &op) result.updates[u.symbol] = moved;
  });
  return result;
}

}  // namespace

double norm(const Tensor& t) {
  double sum = 0;
  const double* data = t.data.data();
  for (size_t i = 0; i < t.data.size(); ++i) sum += data[i] * data[i];
  return std::sqrt(sum);
}

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (size_t i = 0; i < a.data.size(); ++i) sum += a.data.data()[i] * b.data.data()[i];
  return sum;
}

Tensors Checker::gradients(const CallRequest& call, const Tensors& symbols, uint64_t run) const {
  const Module& module = *reference_->model.module;
  const Function& step = *module.function("train_step");
  const interpreter::RunResult first = rounded_run(step, interpreter_input(step, call, symbols), run);
  Tensors result;
  const auto take = [&](const Tensors& outputs) {
    for (const auto& [name, value] : outputs)
      if (name.rfind("grad.", 0) == 0) result[name.substr(5)] = value;
  };
  take(first.outputs);
  if (const Function* update = module.function("update")) {
    Tensors sums = symbols;
    for (const auto& [name, value] : first.updates) sums[name] = value;
    take(rounded_run(*update, interpreter_input(*update, update_call(call), sums), run).outputs);
  }
  return result;
}

// Mean loss over the rows plus the penalties, from the forward function alone.
double Checker::loss(const interpreter::RunInput& input) const {
  const interpreter::RunResult result = interpreter::run(*forward_->model.module->function("train"), input);
  const auto total = [&](const std::string& output) {
    const Tensor& each = result.outputs.at(output);
    return std::accumulate(each.data.data(), each.data.data() + each.data.size(), 0.0);
  };
  double sum = 0;
  for (const Output& part : passes::losses_of(*forward_->model.module->function("train"))) {
    const double by = part.divisor.empty() ? static_cast<double>(input.context.rows) : total(part.divisor);
    if (by != 0) sum += total(part.name) / by;
  }
  const auto penalty = result.outputs.find("penalty");
  return penalty == result.outputs.end() ? sum : sum + penalty->second.data.data()[0];
}

// The loss's slope along one direction a parameter, all moved at once, by central differences.
Checker::Difference Checker::central_difference(interpreter::RunInput& input,
                                                const Tensors& directions) const {
  double sides[2];
  Tensors at;
  for (const auto& [name, direction] : directions) at[name] = input.symbols.at(name);
  for (const int side : {0, 1}) {
    for (const auto& [name, direction] : directions) {
      double* moved = input.symbols.at(name).data.data();
      for (size_t i = 0; i < direction.data.size(); ++i)
        moved[i] =
            at.at(name).data.data()[i] + (side ? kNumericStep : -kNumericStep) * direction.data.data()[i];
    }
    sides[side] = loss(input);
  }
  for (auto& [name, value] : at) input.symbols.at(name) = std::move(value);
  return {
      (sides[1] - sides[0]) / (2 * kNumericStep),
      kLossRounding * DBL_EPSILON * std::max(std::fabs(sides[0]), std::fabs(sides[1])) / (2 * kNumericStep)};
}

// One random direction a parameter: the loss's slope along it by central differences, with every decision as at the
// centre, compared with the gradients.
void Checker::check_numeric() {
  if (native_gradient_.empty() || largest_gradient_ == 0) {
    report_.rows.push_back({"numeric", "train_step", "(all parameters)", "", "", numeric_rows(), 0,
                            std::numeric_limits<double>::infinity(), tolerances_.numeric, false, false});
    report_.notes.push_back("every gradient is zero: nothing would be trained, and nothing can be checked");
    return;
  }
  const CallRequest call = call_for(numeric_rows());
  interpreter::RunInput input = interpreter_input(*forward_->model.module->function("train"), call, symbols_);
  interpreter::Decisions decisions;
  decisions.mode = interpreter::Decisions::Mode::record;
  input.context.decisions = &decisions;
  loss(input);
  decisions.mode = interpreter::Decisions::Mode::replay;

  std::vector<Slope> slopes;
  double largest = 0;
  uint32_t stream = 0;
  const Tensors reference = gradients(call, symbols_);
  for (const auto& [name, gradient] : reference) {
    Slope s{name, direction_for(symbols_.at(name), request_.seed, ++stream)};
    s.difference = central_difference(input, {{name, s.direction}});
    s.reference = dot(gradient, s.direction);
    s.native = dot(native_gradient_.at(name), s.direction);
    // A slope may be small by chance.
    s.scale = std::max(std::fabs(s.difference.slope), expected_slope(gradient, s.direction));
    largest = std::max(largest, s.scale);
    slopes.push_back(std::move(s));
    if (norm(gradient) == 0)
      report_.notes.push_back(fmt::format("the gradient of {} is zero on these rows", name));
  }
  std::vector<size_t> doubtful;
  for (size_t i = 0; i < slopes.size(); ++i) {
    Slope& s = slopes[i];
    // A gradient that is zero mathematically (a bias before a batchnorm) is only rounding: the scale is at least a
    // thousandth of the largest.
    s.scale = std::max(s.scale, 1e-3 * largest);
    const size_t reference_row = add_slope("numeric", s, s.reference, call.rows, tolerances_.numeric);
    s.row = add_slope("native numeric", s, s.native, call.rows, tolerances_.native_numeric);
    CheckRow &of_reference = report_.rows[reference_row], &of_native = report_.rows[s.row];
    if (!of_reference.pass || !of_native.pass) {
      const Curvature curvature = curvature_of({{s.name, s.direction}}, s.reference, call, symbols_);
      accept_curved(of_reference, s, s.reference, curvature);
      accept_curved(of_native, s, s.native, curvature);
    }
    if (!report_.rows[s.row].pass) doubtful.push_back(i);
  }
  settle_slopes(slopes, doubtful, call);
}

// A central difference is the average slope within the step. That differs from the slope in the middle where the loss
// bends, as weights of a training that diverges make it: the average by Simpson's rule, from the gradients at both ends.
// Where a gradient within the step differs from that in the middle by more than a hundredth, nothing can be told. One
// that is not finite explains nothing.
Checker::Curvature Checker::curvature_of(const Tensors& directions, double middle, const CallRequest& call,
                                         const Tensors& symbols) const {
  // The ends, and two points between that no period shares with them.
  constexpr double kAt[] = {-1, 1, -0.37, 0.61};
  double slopes[4] = {}, turn = 0, most = std::fabs(middle);
  bool finite = std::isfinite(middle);
  for (size_t k = 0; k < std::size(kAt); ++k) {
    Tensors moved = symbols;
    for (const auto& [name, direction] : directions)
      for (size_t i = 0; i < direction.data.size(); ++i)
        moved.at(name).data.data()[i] += kAt[k] * kNumericStep * direction.data.data()[i];
    const Tensors gradient = gradients(call, moved);
    for (const auto& [name, direction] : directions) slopes[k] += dot(gradient.at(name), direction);
    finite = finite && std::isfinite(slopes[k]);
    turn = std::max(turn, std::fabs(slopes[k] - middle));
    most = std::max(most, std::fabs(slopes[k]));
  }
  if (!finite) return {};
  return {(slopes[0] - 2 * middle + slopes[1]) / 6, turn > 0.01 * most};
}

// Accepts a slope beyond its tolerance that the curvature explains.
void Checker::accept_curved(CheckRow& row, const Slope& s, double value, const Curvature& curvature) const {
  if (row.pass || !std::isfinite(value)) return;
  const double error = std::fabs(value + curvature.shift - s.difference.slope);
  row.pass = row.curved = curvature.unresolved || error <= row.tolerance * s.scale + s.difference.rounding;
}

// Adds a row; returns its index in the report.
size_t Checker::add_slope(const char* kind, const Slope& s, double value, int64_t rows, double tolerance) {
  const double error = std::fabs(value - s.difference.slope);
  CheckRow r{
      kind,  "train_step",    s.name,   symbol_location(s.name), to_string(symbols_.at(s.name).type), rows,
      error, error / s.scale, tolerance};
  r.pass = error <= tolerance * s.scale + s.difference.rounding;
  report_.rows.push_back(r);
  return report_.rows.size() - 1;
}

// Settles native slopes beyond their tolerance that f32 rounding may explain: runs with rounding through the gradient
// to the slope, including decisions within rounding of a tie.
void Checker::settle_slopes(std::vector<Slope>& slopes, std::vector<size_t> doubtful,
                            const CallRequest& call) {
  for (uint64_t run = 1; run <= kRoundingRuns && !doubtful.empty(); ++run) {
    const Tensors moved = gradients(call, symbols_, run);
    std::erase_if(doubtful, [&](size_t i) {
      Slope& s = slopes[i];
      const double distance =
          std::fabs(dot(moved.at(s.name), s.direction) - s.reference) / rounding_size(run);
      s.spread = std::max(s.spread, distance);
      CheckRow& row = report_.rows[s.row];
      row.pass = row.rounding =
          row.max_absolute <= tolerances_.native_numeric * s.scale + tolerances_.rounding * s.spread;
      return row.pass;
    });
  }
}

// At rows of zeros and at initial parameters, whose biases are zeros, many operations decide at a tie: native code and
// interpreter must decide in the same way, and the gradient must follow the decisions (docs/language.md,
// "Kinks").
void Checker::check_zeros() {
  CallRequest call = call_for(numeric_rows());
  bool zeros = false;
  for (auto& [name, field] : call.inputs) {
    if (!field.type.is_float()) continue;
    zeros = true;
    const int64_t one = field.type.elements();
    for (int64_t row = 0; row < call.rows; row += 2) std::fill_n(field.data.data() + row * one, one, 0.0);
  }
  if (!zeros) return;
  restore(initial_);
  bool finite = caller_.call("train_step", call) == 0;
  Tensors outputs = caller_.outputs();
  if (finite && compiled_.program().update.run) {
    finite = caller_.call("update", update_call(call)) == 0;
    outputs = caller_.outputs();
  }
  interpreter::RunInput input = interpreter_input(*forward_->model.module->function("train"), call, initial_);
  interpreter::Decisions decisions;
  decisions.mode = interpreter::Decisions::Mode::record;
  input.context.decisions = &decisions;
  if (!finite || !std::isfinite(loss(input))) {
    report_.notes.push_back("on rows of zeros the loss is not finite: gradients there are not looked at");
    return;
  }
  decisions.mode = interpreter::Decisions::Mode::replay;

  const Tensors reference = gradients(call, initial_);
  Tensors directions;
  double slope = 0, expected = 0;
  uint32_t stream = 0;
  for (const auto& [name, gradient] : reference) {
    const Tensor& native = outputs.at("grad." + name);
    add({"zeros", "train_step", name, symbol_location(name), to_string(gradient.type), call.rows, 0, 0,
         tolerances_.gradient},
        native, gradient, nullptr);
    Tensor& d = directions[name] = direction_for(initial_.at(name), request_.seed, ++stream);
    slope += dot(gradient, d);
    expected += std::pow(expected_slope(gradient, d), 2);
  }
  settle_gradients(call);
  if (!std::isfinite(slope)) return;  // and native code agrees: nothing else can be compared
  Slope all{"(all parameters)"};
  all.difference = central_difference(input, directions);
  all.scale = std::max(std::fabs(all.difference.slope), std::sqrt(expected));
  if (all.scale == 0) return;
  const double error = std::fabs(slope - all.difference.slope);
  CheckRow row{"zeros", "train_step",      all.name,           "", "", call.rows,
               error,   error / all.scale, tolerances_.numeric};
  row.pass = error <= tolerances_.numeric * all.scale + all.difference.rounding;
  if (!row.pass) accept_curved(row, all, slope, curvature_of(directions, slope, call, initial_));
  report_.rows.push_back(row);
}

// settle() for gradients, of either program: doubts are found by the name of their row.
void Checker::settle_gradients(const CallRequest& call) {
  for (uint64_t run = 1; run <= kRoundingRuns && !doubts_.empty(); ++run) {
    const Tensors moved = gradients(call, initial_, run);
    std::erase_if(doubts_, [&](Doubt& d) {
      CheckRow& row = report_.rows[d.row];
      d.bound.add_run(moved.at(row.name), rounding_size(run));
      row.pass = row.rounding = d.bound.covers(d.native, tolerances_.rounding);
      return row.pass;
    });
  }
  doubts_.clear();
}

}  // namespace gradc::cli
