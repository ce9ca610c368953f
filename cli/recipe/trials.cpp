// Trials: compiled once for each way of regularising, trained by the runtime's own loop with an observer.
#include "cli/recipe/trials.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/data/batches.h"
#include "runtime/data/prepare.h"
#include "runtime/execution/session.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::cli {

namespace {

constexpr int64_t kPoints = 600;  // losses that are kept of a trial

std::string key_of(const frontend::Variation& v) {
  return fmt::format("{} {} {} {}", v.penalties, v.random_layers, v.schedule,
                     v.weight_decay ? fmt::format("{}", *v.weight_decay) : "file");
}

frontend::Variation variation_of(const TrialConfig& config) {
  return {.penalties = config.regularised,
          .random_layers = config.regularised,
          .schedule = config.schedule,
          .weight_decay = config.weight_decay};
}

// Records a run's numbers, and ends it when it is interrupted or has reached its goal.
class Watcher final : public runtime::TrainObserver {
 public:
  Watcher(Trial& trial, const RecipeModel& model, const runtime::InterruptGuard& interrupt,
          const std::function<void(int64_t, int64_t)>& progress)
      : trial_(trial), model_(model), interrupt_(interrupt), progress_(progress) {}

  bool cancelled() override { return reached_ || interrupted(); }
  bool interrupted() const { return interrupt_.interrupted(); }
  void step_done(const runtime::StepReport& report) override {
    const int64_t stride = std::max<int64_t>(1, (report.total + kPoints - 1) / kPoints);
    if ((report.step - 1) % stride == 0) trial_.losses.emplace_back(report.step, report.result.loss);
    trial_.updates = report.step;
    progress_(report.step, report.total);
  }
  void epoch_done(const runtime::EpochReport& report) override {
    trial_.epochs.push_back({report.epoch, report.step, report.splits});
    trial_.seconds += report.seconds;
    reached_ = trial_.config.target > 0 && overfitted(model_, trial_);
  }
  std::optional<double> new_lr_factor() override { return std::nullopt; }

 private:
  Trial& trial_;
  const RecipeModel& model_;
  const runtime::InterruptGuard& interrupt_;
  const std::function<void(int64_t, int64_t)>& progress_;
  bool reached_ = false;
};

}  // namespace

TrialRunner::TrialRunner(const CompileRequest& request, int threads) : request_(request), threads_(threads) {
  session({});
  experiment_ = compiled_.at(current_)->experiment();
  // Trials are short: rules that end a run or write files do not apply.
  experiment_.train.stop = {};
  experiment_.train.checkpoint = {};
  validation_ = "val";
  std::vector<DataSplit>& splits = experiment_.data.splits;
  const auto named = [](const auto& s) { return s.name == "val"; };
  runtime::Dataset all = runtime::load_dataset(experiment_.data);
  if (!all.find("val")) {
    if (all.split("train").count < 10)
      throw RunError(kExitDataError,
                     fmt::format("recipe: {} training examples are too few to hold some back for validation; "
                                 "the data need a split `val`",
                                 all.split("train").count));
    GRADC_CHECK(std::none_of(splits.begin(), splits.end(), named), "a split was declared and not cut");
    splits.push_back({.name = "val", .from = "train", .fraction = kHeldBack});
    all = runtime::load_dataset(experiment_.data);
    validation_ = fmt::format("{:g} of train", kHeldBack);
  }
  runtime::fit_preparation(all, experiment_.data);
  data_.splits = {all.split("train"), all.split("val")};
}

runtime::Session& TrialRunner::session(const frontend::Variation& variation) {
  const std::string key = key_of(variation);
  if (session_ && current_ == key) return *session_;
  session_.reset();  // free its memory before the next one's is allocated
  std::unique_ptr<CompiledModel>& compiled = compiled_[key];
  if (!compiled) {
    CompileRequest request = request_;
    request.variation = variation;
    compiled = std::make_unique<CompiledModel>(request);
    if (!compiled->complete()) throw RunError(kExitUsage, "recipe: --stop-after leaves nothing to run");
  }
  session_ = std::make_unique<runtime::Session>(compiled->program(), threads_);
  current_ = key;
  return *session_;
}

const runtime::Dataset& TrialRunner::data(int64_t batches, uint64_t seed, bool validated) {
  train_and_val_.splits = {data_.split("train")};
  if (validated) train_and_val_.splits.push_back(data_.split("val"));
  if (batches == 0) return train_and_val_;
  // Some examples of each class: data may be sorted by it.
  runtime::Split& train = train_and_val_.splits.front();
  train.easy_first = nullptr;
  auto rows = std::make_shared<std::vector<int64_t>>(runtime::epoch_order(train, seed, 0, true));
  train.count = examples(batches);
  rows->resize(static_cast<size_t>(train.count));
  train.first = 0;
  train.rows = rows;
  return train_and_val_;
}

std::optional<Trial> TrialRunner::run(const TrialConfig& config, const RecipeModel& model,
                                      const runtime::InterruptGuard& interrupt,
                                      const std::function<void(int64_t, int64_t)>& progress) {
  Trial trial;
  trial.config = config;
  runtime::Session& session = this->session(variation_of(config));
  Experiment experiment = experiment_;
  if (!config.schedule) experiment.train.plateau = {};
  Watcher watcher(trial, model, interrupt, progress);
  runtime::TrainOptions options;
  if (config.epochs > 0) options.epochs = config.epochs;
  if (config.updates > 0) options.steps = config.updates;
  options.seed = config.seed;
  options.augment = config.regularised;
  options.lr_factor = model.lr > 0 ? config.lr / model.lr : 1;
  options.progress = runtime::ProgressMode::off;
  options.out = nullptr;
  options.observer = &watcher;
  try {
    const runtime::TrainResult result = runtime::train(
        session, data(config.batches, config.seed, !config.validation.empty()), experiment, options);
    if (watcher.interrupted()) return std::nullopt;
    trial.seconds = result.seconds;
    trial.weights_sha256 = result.weights_sha256;
  } catch (const runtime::NotFiniteError& error) {
    trial.failed_update = error.scalars.step + 1;
  }
  return trial;
}

double TrialRunner::mean_loss(runtime::Session& session, uint64_t seed, int64_t batches, int64_t& examples) {
  session.initialize(seed);
  runtime::BatchReader reader(data_.split("train"), session.program().train_step, batch(),
                              experiment_.data.drop_last);
  reader.begin_epoch(seed, 0, true, /*augmented=*/false);
  const uint8_t* block = session.parameters();
  const std::vector<uint8_t> start(block, block + session.program().parameter_bytes);
  batches = std::min(batches, reader.batches());
  runtime::Sums sums;
  examples = 0;
  for (int64_t i = 0; i < batches; ++i) {
    runtime::StepScalars scalars;
    scalars.total = batches;
    scalars.micro_step = i;
    runtime::StepResult result = session.accumulates() ? session.gradients(reader, i, 1, scalars, seed)
                                                       : session.step(reader, i, scalars, seed);
    std::copy(start.begin(), start.end(), session.parameters());
    if (!result.finite) result.sums.lose();
    sums.add(result.sums);
    examples += reader.rows(i);
  }
  return sums.loss();
}

InitialLoss TrialRunner::initial_loss(uint64_t seed, int64_t batches, bool with_penalties) {
  InitialLoss result;
  frontend::Variation bare{
      .penalties = false, .random_layers = false, .schedule = false, .weight_decay = 0.0};
  result.loss = mean_loss(session(bare), seed, batches, result.examples);
  if (!with_penalties) return result;
  bare.penalties = true;
  int64_t examples = 0;
  runtime::Session& penalised = session(bare);
  result.penalised = mean_loss(penalised, seed, batches, examples);
  return result;
}

}  // namespace gradc::cli
