// Runs the trials of `gradc recipe`: compiles the model for a trial's configuration and trains on its share of the
// data. Knows nothing of steps, verdicts and files.
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

// The share of the training examples that is held out where the data have no split `val`.
inline constexpr double kHeldBack = 0.1;

class TrialRunner {
 public:
  // Compiles the model as its file specifies, reads the data and fits the preparation to them. Never uses the split
  // `test`. Throws what these throw.
  TrialRunner(const CompileRequest& request, int threads);

  // The split that trials are judged on: "val", or "0.1 of train" where it had to be held out.
  const std::string& validation() const { return validation_; }
  int64_t train_examples() const { return data_.split("train").count; }
  int64_t batch() const { return experiment_.data.batch; }
  // Examples that a trial of so many batches sees.
  int64_t examples(int64_t batches) const { return std::min(train_examples(), batches * batch()); }

  // Calls progress(done, total) after each update. None when interrupted: then nothing of the trial is kept.
  std::optional<Trial> run(const TrialConfig& config, const RecipeModel& model,
                           const runtime::InterruptGuard& interrupt,
                           const std::function<void(int64_t, int64_t)>& progress);

  // The mean loss of the first training batches at the initial values; nothing is updated.
  InitialLoss initial_loss(uint64_t seed, int64_t batches, bool with_penalties);

 private:
  struct Compiled;
  runtime::Session& session(const frontend::Variation& variation);
  const runtime::Dataset& data(int64_t batches, uint64_t seed, bool validated);
  double mean_loss(runtime::Session& session, uint64_t seed, int64_t batches, int64_t& examples);

  const CompileRequest request_;
  const int threads_;
  std::map<std::string, std::unique_ptr<CompiledModel>> compiled_;  // by variation
  std::string current_;                                             // the variation of the session
  std::unique_ptr<runtime::Session> session_;
  Experiment experiment_;
  std::string validation_;
  runtime::Dataset data_, train_and_val_;  // train and val; the share that the last trial used
};

}  // namespace gradc::cli
