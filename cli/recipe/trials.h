// Runs the trials of `gradc recipe`: the model compiled as a trial wants it, on the data a trial sees. Knows
// no steps, verdicts and files.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "cli/recipe/recipe.h"
#include "runtime/data/dataset.h"
#include "runtime/interrupt.h"

namespace gradc::cli {

using namespace compiler;

// The share of the training examples that is held back where the data have no part `val`.
inline constexpr double kHeldBack = 0.1;

class TrialRunner {
 public:
  // Compiles the model as its file says, reads the data and fits what is fitted to them. The part `test` is
  // left alone. Throws what these throw.
  TrialRunner(const CompileRequest& request, int threads);

  // The part that trials are judged on: "val", or "0.1 of train" where it had to be held back.
  const std::string& validation() const { return validation_; }
  int64_t train_examples() const { return data_.split("train").count; }
  int64_t batch() const { return experiment_.data.batch; }
  // Examples that a trial of so many batches sees.
  int64_t examples(int64_t batches) const { return std::min(train_examples(), batches * batch()); }

  // `progress` is told after each update how many are done of how many. None when interrupted: then nothing
  // of the trial is kept.
  std::optional<Trial> run(const TrialConfig& config, const RecipeModel& model,
                           const runtime::InterruptGuard& interrupt,
                           const std::function<void(int64_t, int64_t)>& progress);

  // The mean loss of the first training batches at the first values; nothing is updated.
  InitialLoss initial_loss(uint64_t seed, int64_t batches, bool with_penalties);

 private:
  struct Compiled;
  runtime::Session& session(const frontend::Variation& variation);
  const runtime::Dataset& data(int64_t batches, uint64_t seed, bool validated);
  double mean_loss(runtime::Session& session, uint64_t seed, int64_t batches, int64_t& examples);

  const CompileRequest request_;
  const int threads_;
  std::map<std::string, std::unique_ptr<CompiledModel>> compiled_;  // by variation
  std::string current_;                                             // whose session there is
  std::unique_ptr<runtime::Session> session_;
  Experiment experiment_;
  std::string validation_;
  runtime::Dataset data_, part_;  // train and val; what the last trial saw
};

}  // namespace gradc::cli
