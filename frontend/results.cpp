// Evaluates losses and metrics, as functions of scores and labels, on chosen scores and labels.
#include "frontend/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <set>

#include "frontend/data_sources.h"
#include "ir/interpreter/interpreter.h"
#include "ir/tensor/index_ranges.h"

namespace gradc::frontend {

namespace {

using Ops = std::vector<const Op*>;
using Numbers = std::vector<double>;
using Inputs = std::map<std::string, interpreter::Tensor>;

constexpr const char* kResult = "result";
constexpr int64_t kMostRows = 64;
constexpr int64_t kMostScores = 1000000;  // in all rows together; there are two rows at least
constexpr double kTolerance = 1e-6;       // relative: constants are f32

std::string cut_name(size_t i) { return fmt::format("cut.{}", i); }

std::set<const Op*> symbol_dependents(const Function& f) {
  std::set<const Op*> result;
  for (const auto& op : f.symbols) result.insert(op.get());
  for (const auto& op : f.body)
    if (std::any_of(op->operands.begin(), op->operands.end(),
                    [&](const Op* operand) { return result.count(operand) != 0; }))
      result.insert(op.get());
  return result;
}

// `value` as a function of its own, whose inputs are the fields that it needs and the operations of `cut`.
// Null where it depends on a symbol other than through `cut`.
std::unique_ptr<Function> slice_of(const Function& f, const Op* value, const Ops& cut) {
  std::set<const Op*> needed;
  Ops work = {value};
  while (!work.empty()) {
    const Op* op = work.back();
    work.pop_back();
    if (!needed.insert(op).second || std::find(cut.begin(), cut.end(), op) != cut.end()) continue;
    if (op->is("symbol")) return nullptr;
    work.insert(work.end(), op->operands.begin(), op->operands.end());
  }
  auto result = std::make_unique<Function>(kResult);
  std::map<const Op*, Op*> copies;
  for (const auto& input : f.inputs)
    if (needed.count(input.get())) copies[input.get()] = result->add_input(input->symbol(), input->type);
  for (size_t i = 0; i < cut.size(); ++i)
    if (needed.count(cut[i])) copies[cut[i]] = result->add_input(cut_name(i), cut[i]->type);
  Builder builder(*result);
  for (const auto& op : f.body) {
    if (!needed.count(op.get()) || copies.count(op.get())) continue;
    std::vector<Op*> operands;
    for (const Op* operand : op->operands) operands.push_back(copies.at(operand));
    copies[op.get()] = builder.create(op->name(), std::move(operands), op->attributes);
  }
  result->outputs.push_back({kResult, copies.at(value)});
  result->renumber();
  return result;
}

Numbers run_slice(const Function& f, const Inputs& inputs, int64_t rows) {
  interpreter::RunInput input;
  input.inputs = inputs;
  input.context.rows = rows;
  const interpreter::Tensor result = interpreter::run(f, input).outputs.at(kResult);
  return {result.data.data(), result.data.data() + result.data.size()};
}

bool differ(double a, double b) { return !(std::abs(a - b) <= kTolerance * std::max(1.0, std::abs(a))); }

bool varies(const Numbers& numbers) {
  return std::any_of(numbers.begin(), numbers.end(), [&](double n) { return differ(numbers[0], n); });
}

double uniform(std::mt19937_64& random) { return std::ldexp(static_cast<double>(random() >> 11), -53); }

// Chosen inputs of losses and metrics: scores, labels and other fields.
class Trial {
 public:
  Trial(const Function& f, const Ops& scores, const DataRecord& data) : scores_(scores) {
    const IndexRanges ranges = index_ranges(f);
    for (const auto& input : f.inputs)
      if (!is_score(*input)) counts_[input.get()] = count(*input, ranges, data);
    rows_ = 4;
    for (const auto& [input, count] : counts_)
      if (input->type.elements() == 1) rows_ = std::max(rows_, count);
    int64_t elements = 1;
    for (const Op* op : scores) elements += op->type.elements();
    rows_ = std::min({rows_, kMostRows, std::max<int64_t>(2, kMostScores / elements)});
    for (const auto& [input, count] : counts_) inputs_[input->symbol()] = labels(input->type, count);
  }

  // The function's value in every row.
  Numbers run(const Function& f) const { return run_slice(f, inputs_, rows_); }

  void set_scores(double level) {
    fill_scores([&](double*, size_t) { return level; });
  }
  // Draws random scores, the same for all rows or different ones for each.
  void draw_scores(bool same_rows) {
    fill_scores([&](double* row, size_t i) {
      return same_rows && row != first_ ? first_[i] : 4 * uniform(random_) - 2;
    });
  }

 private:
  bool is_score(const Op& input) const {
    for (size_t i = 0; i < scores_.size(); ++i)
      if (input.symbol() == cut_name(i)) return true;
    return false;
  }

  // The number of values of an integer field, from the data or from its use as an index, else 2; 0 for f32.
  static int64_t count(const Op& input, const IndexRanges& ranges, const DataRecord& data) {
    if (input.type.dtype == DType::f32) return 0;
    int64_t count = count_of(data, input.symbol());
    if (const auto it = ranges.find(input.symbol()); it != ranges.end())
      for (const IndexRange& range : it->second)
        count = count > 0 ? std::min(count, range.extent) : range.extent;
    return input.type.dtype == DType::boolean || count <= 0 ? 2 : count;
  }

  // Integers: one per row takes each class in turn, several are random. Floats: random numbers in [0, 1),
  // divided by their sum along the last axis.
  interpreter::Tensor labels(const Type& type, int64_t count) {
    interpreter::Tensor t = interpreter::make_tensor(type, rows_);
    double* data = t.data.data();
    const auto size = static_cast<int64_t>(t.data.size());
    if (count > 0) {
      for (int64_t i = 0; i < size; ++i)
        data[i] = static_cast<double>((type.elements() == 1 ? static_cast<uint64_t>(i) : random_()) %
                                      static_cast<uint64_t>(count));
      return t;
    }
    const int64_t axis = type.shape.empty() ? 1 : type.shape.back();
    for (int64_t begin = 0; begin < size; begin += axis) {
      double sum = 0;
      for (int64_t i = begin; i < begin + axis; ++i) sum += data[i] = uniform(random_);
      for (int64_t i = begin; i < begin + axis && axis > 1; ++i) data[i] /= sum;
    }
    return t;
  }

  template <class Score>
  void fill_scores(const Score& score) {
    for (size_t n = 0; n < scores_.size(); ++n) {
      const Type& type = scores_[n]->type;
      interpreter::Tensor t = interpreter::make_tensor(type, rows_);
      const auto elements = static_cast<size_t>(type.elements());
      double* const begin = t.data.data();
      first_ = begin;
      for (double* row = begin; row != begin + t.data.size(); row += elements)
        for (size_t i = 0; i < elements; ++i) row[i] = score(row, i);
      inputs_.insert_or_assign(cut_name(n), std::move(t));
    }
  }

  const Ops& scores_;
  int64_t rows_ = 0;
  std::map<const Op*, int64_t> counts_;  // number of values of an integer input; 0: floats
  Inputs inputs_;
  std::mt19937_64 random_{1};
  const double* first_ = nullptr;  // first row of the scores being filled in
};

}  // namespace

std::vector<const Op*> scores_of(const Function& f, const Op* loss, const CallArguments& calls) {
  const std::set<const Op*> dependents = symbol_dependents(f);
  Ops scores, work = {loss};
  std::set<const Op*> seen;
  while (!work.empty()) {
    const Op* op = work.back();
    work.pop_back();
    if (!dependents.count(op) || !seen.insert(op).second) continue;
    if (op->is("symbol")) return {};
    const auto call = calls.find(op);
    bool found = false;
    if (call != calls.end())
      for (const Op* argument : call->second) {
        if (!dependents.count(argument)) continue;
        found = true;
        if (std::find(scores.begin(), scores.end(), argument) == scores.end()) scores.push_back(argument);
      }
    if (!found) work.insert(work.end(), op->operands.begin(), op->operands.end());
  }
  return scores;
}

std::optional<double> loss_at_equal_scores(const Function& f, const Op* loss, const Ops& scores,
                                           const DataRecord& data) {
  const std::unique_ptr<Function> function = scores.empty() ? nullptr : slice_of(f, loss, scores);
  if (!function) return {};
  Trial trial(*function, scores, data);
  trial.draw_scores(true);
  if (!varies(trial.run(*function))) return {};  // it does not depend on the labels
  std::optional<double> found;
  for (const double level : {0.0, 1.0, -1.0}) {
    trial.set_scores(level);
    const Numbers losses = trial.run(*function);
    if (!std::isfinite(losses[0]) || varies(losses)) continue;
    if (found && differ(*found, losses[0])) return {};
    found = losses[0];
  }
  return found;
}

bool is_share(const Function& f, const Op* metric) {
  Ops truths, work = {metric};
  std::set<const Op*> seen;
  while (!work.empty()) {
    const Op* op = work.back();
    work.pop_back();
    if (!seen.insert(op).second) continue;
    if (op->type.dtype == DType::boolean) {
      truths.push_back(op);
      continue;
    }
    if (op->is("input") || op->is("symbol")) return false;
    work.insert(work.end(), op->operands.begin(), op->operands.end());
  }
  if (truths.empty()) return false;
  const std::unique_ptr<Function> function = slice_of(f, metric, truths);
  for (const double truth : {0.0, 1.0}) {
    Inputs inputs;
    for (const auto& input : function->inputs) {
      interpreter::Tensor t = interpreter::make_tensor(input->type, 1);
      t.data.fill(truth);
      inputs.emplace(input->symbol(), std::move(t));
    }
    for (const double value : run_slice(*function, inputs, 1))
      if (!(std::abs(value - truth) < kTolerance)) return false;
  }
  return true;
}

bool grows_with_loss(const Function& f, const Op* metric, const Op* loss, const Ops& scores,
                     const DataRecord& data) {
  const std::unique_ptr<Function> of_loss = scores.empty() ? nullptr : slice_of(f, loss, scores);
  const std::unique_ptr<Function> of_metric = of_loss ? slice_of(f, metric, scores) : nullptr;
  if (!of_metric) return false;
  // A function with the fields of both, from which the trial takes its inputs.
  std::unique_ptr<Function> both = slice_of(f, loss, scores);
  for (const auto& input : of_metric->inputs)
    if (!both->input(input->symbol())) both->add_input(input->symbol(), input->type);
  Trial trial(*both, scores, data);
  double covariance = 0;
  for (int round = 0; round < 4; ++round) {
    trial.draw_scores(false);
    const Numbers losses = trial.run(*of_loss), metrics = trial.run(*of_metric);
    const size_t rows = std::min(losses.size(), metrics.size());
    double loss_sum = 0, metric_sum = 0, product = 0;
    for (size_t i = 0; i < rows; ++i) {
      loss_sum += losses[i];
      metric_sum += metrics[i];
      product += losses[i] * metrics[i];
    }
    covariance += product - loss_sum * metric_sum / static_cast<double>(rows);
  }
  return covariance > 0;
}

}  // namespace gradc::frontend
