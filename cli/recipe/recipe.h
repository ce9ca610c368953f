// `gradc recipe`: the steps from a new model to good learning rates, as records, and the conclusions from them.
// docs/recipe.md describes each step. Knows nothing of compiling, files and pages.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "compiler/compile.h"
#include "frontend/frontend.h"
#include "runtime/training/train.h"

namespace gradc::cli {

enum RecipeStep : int { kInitialLoss = 1, kOverfit, kRates, kCoarse, kRefine, kCurves, kRepeat };
inline constexpr int kRecipeSteps = 7;
const char* title_of(int step);

// An initial training loss is wrong if it differs by more than this share from that of uniform predictions.
inline constexpr double kInitialLossTolerance = 0.1;
// A rate makes the loss fall if it falls by this share.
inline constexpr double kFall = 0.05;
// Without an accuracy metric, examples are overfitted when this share of the first loss is left.
inline constexpr double kOverfitLoss = 0.1;

// One training run. With the model, its settings and data it determines every bit.
struct TrialConfig {
  int step = 0;
  double lr = 0;                       // of the first optimizer; others by the same factor
  std::optional<double> weight_decay;  // of every optimizer; none: the file's
  bool regularised = true;             // with the file's penalties, random layers and augmentation
  bool schedule = false;               // the file's; else rates are constant
  int64_t batches = 0;                 // of the training examples; 0: all
  int64_t epochs = 0;                  // at most; 0: as many as the updates need
  int64_t updates = 0;                 // at most; 0: as many as the epochs have
  double target = 0;                   // accuracy on the training examples at which it ends; 0: none
  uint64_t seed = 1;
  std::string validation;  // the split that is evaluated: "val", "0.1 of train", or none
};

struct TrialEpoch {
  int64_t epoch = 0, update = 0;  // complete
  std::vector<runtime::SplitResult> splits;
};

struct Trial {
  TrialConfig config;
  std::string id;                                  // of its configuration
  int64_t failed_update = 0;                       // in which the loss was not finite; 0: none
  int64_t updates = 0;                             // done
  std::vector<std::pair<int64_t, double>> losses;  // after an update, of its examples; not of every one
  std::vector<TrialEpoch> epochs;
  double seconds = 0;          // of training
  std::string weights_sha256;  // empty where the loss was not finite
  bool finite() const { return failed_update == 0; }
};

// A number of an epoch: "loss" or a metric of a split; NaN where there is none.
double value_of(const TrialEpoch& epoch, const std::string& split, const std::string& metric);

// The best value of the objective, and its epoch; none where no epoch has a finite one.
struct BestValue {
  double value = 0;
  int64_t epoch = 0;
};
std::optional<BestValue> best_value(const Trial& trial, const Monitor& objective);
// The trial with the best value, of those with a step in `steps`; null where there is none.
const Trial* best_trial(const std::vector<Trial>& trials, const Monitor& objective,
                        const std::vector<int>& steps);

enum class Status : uint8_t { pass, warn, fail, skip };
const char* name_of(Status status);

struct Verdict {
  int step = 0;
  Status status = Status::pass;
  std::string text;                // one sentence or two
  std::vector<std::string> hints;  // what to do
};

// The properties of the model file that verdicts refer to.
struct RecipeModel {
  std::string file;
  std::vector<frontend::LossFacts> losses;
  std::vector<frontend::MetricFacts> metrics;  // in the program's order
  std::string optimizer;                       // the first
  double lr = 0;                               // its rate
  bool penalised = false, line_search = false;
  uint64_t seed = 1;
  bool is_share(const std::string& metric) const;
  // The metrics that are shares of truth values, and better when they are greater.
  std::vector<std::string> accuracies() const;
};

struct InitialLoss {
  double loss = 0;                  // of training batches at the initial values, without regularisation
  std::optional<double> penalised;  // the same with the penalties, where there are any
  int64_t examples = 0;
  std::string why_not;  // not measured, because
};
// The loss where all classes have the same score, and its formula ("log(10)"); or why there is none.
struct ExpectedLoss {
  std::optional<double> value;
  std::string text;
};
ExpectedLoss expected_loss(const RecipeModel& model);

Verdict judge_initial_loss(const RecipeModel& model, const InitialLoss& measured);
// `trials`: of the step, in the order they were run; the last one is the first that reached the goal, if any.
Verdict judge_overfit(const RecipeModel& model, const std::vector<Trial>& trials, int64_t examples);
bool overfitted(const RecipeModel& model, const Trial& trial);
Verdict judge_rates(const RecipeModel& model, const std::vector<Trial>& trials);
// The share of the first loss by which a trial's loss fell, from its first update to the mean of its last tenth; minus
// infinity where it was not finite.
double fall(const Trial& trial);
// The rates to search in after step 3: those that made the loss fall at least half as far as the best did, extended by
// half a decade on either side. None where no rate did.
std::optional<std::pair<double, double>> promising_rates(const std::vector<Trial>& trials);

struct RateRange {
  double low = 0, high = 0;
};
Verdict judge_search(const RecipeModel& model, int step, const std::vector<Trial>& trials,
                     const Monitor& objective, const RateRange& range);
// Observations on a trial's curves, a sentence each; none: nothing unusual.
std::vector<std::string> look_at_curves(const RecipeModel& model, const Trial& trial,
                                        const Monitor& objective);
Verdict judge_curves(const RecipeModel& model, const std::vector<Trial>& trials, const Monitor& objective);

std::string rate_text(double rate);  // "0.003", "1e-05"
// "98.25%" of a share, else "0.0683".
std::string metric_text(const RecipeModel& model, const std::string& metric, double value);
std::string decay_text(const TrialConfig& config);  // "1e-4", "as in the file"

}  // namespace gradc::cli
