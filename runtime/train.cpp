// The training loop. One Run object holds what a run counts; its methods are the parts of the loop.
#include "runtime/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "runtime/checkpoint.h"
#include "runtime/files.h"
#include "runtime/interrupt.h"
#include "runtime/prepare.h"
#include "runtime/report.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int64_t kJsonLogEvery = 100;
constexpr int kMaxLoaders = 8;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

int64_t total_steps(const TrainOptions& options, const Experiment& experiment, int64_t batches) {
  const auto check = [](const char* name, std::optional<int64_t> value) {
    if (value && *value < 0)
      throw RunError(kExitUsage, fmt::format("{} {}: expected 0 or more", name, *value));
  };
  check("--steps", options.steps);
  check("--epochs", options.epochs);
  if (options.steps && !options.epochs) return *options.steps;
  int64_t total = 0;
  if (__builtin_mul_overflow(options.epochs.value_or(experiment.train.epochs), batches, &total))
    total = INT64_MAX;
  return std::min(total, options.steps.value_or(INT64_MAX));
}

// Sums over the examples of an epoch.
struct Totals {
  int64_t examples = 0;
  double loss = 0;
  Metrics metrics;

  void add(const StepResult& step, int64_t rows) {
    if (metrics.empty())
      for (const auto& [name, value] : step.metrics) metrics.emplace_back(name, 0.0);
    examples += rows;
    loss += step.loss * static_cast<double>(rows);
    for (size_t i = 0; i < metrics.size(); ++i)
      metrics[i].second += step.metrics[i].second * static_cast<double>(rows);
  }
  double mean_loss() const { return examples ? loss / static_cast<double>(examples) : kNan; }
  Metrics mean_metrics() const {
    Metrics means = metrics;
    for (auto& [name, value] : means) value /= static_cast<double>(examples);
    return means;
  }
};

class Run {
 public:
  Run(Session& session, const Dataset& data, const Experiment& experiment, const TrainOptions& options)
      : session_(session),
        data_(data),
        options_(options),
        reader_(data.split("train"), session.program().train_step, experiment.data.batch,
                experiment.data.drop_last),
        seed_(options.seed.value_or(static_cast<uint64_t>(experiment.train.seed))),
        log_every_(options.log_every > 0 ? options.log_every
                   : options.json        ? kJsonLogEvery
                                         : 0),
        total_(total_steps(options, experiment, reader_.batches())),
        epochs_((total_ / reader_.batches()) + (total_ % reader_.batches() != 0)),
        progress_(options.log, options.json && options.progress == ProgressMode::automatic
                                   ? ProgressMode::off
                                   : options.progress) {
    GRADC_CHECK(experiment.data.batch <= session.batch(), "batches of {} for a program made for {}",
                experiment.data.batch, session.batch());
    if (options.log_every < 0)
      throw RunError(kExitUsage, fmt::format("--log-every {}: expected 1 or more", options.log_every));
    if (!std::isfinite(options.lr_factor) || options.lr_factor < 0)
      throw RunError(kExitUsage, fmt::format("a learning rate factor of {}: expected a number from 0",
                                             options.lr_factor));
    if (!options.save.empty()) check_output_path(options.save, "weights file");
    // Examples that are only copied are assembled by the step's own threads, which is quicker than handing
    // them over.
    const bool prepared = data.split("train").preparation != nullptr;
    const int loaders = options.loaders.value_or(prepared ? std::min(session.threads(), kMaxLoaders) : 0);
    if (loaders > 0) reader_.load_ahead(loaders);
  }

  TrainResult operator()() {
    session_.initialize(seed_);
    if (!options_.init_from.empty()) load_checkpoint(session_, options_.init_from);
    // The data are prepared by what was fitted to them, not to those that the first weights were trained on.
    session_.data_arrays = data_arrays_of(data_.split("train"));
    while (step_ < total_ && !interrupt_.interrupted()) epoch();
    return end();
  }

 private:
  void epoch() {
    reader_.begin_epoch(seed_, static_cast<uint64_t>(epoch_), options_.shuffle);
    totals_ = {};
    const double before = seconds_;
    for (int64_t index = 0; index < reader_.batches(); ++index) {
      if (step_ == total_ || interrupt_.interrupted()) return;
      one_step(index);
    }
    ++epoch_;
    end_epoch(seconds_ - before);
  }

  void one_step(int64_t index) {
    const StepScalars scalars{step_, epoch_, total_, options_.lr_factor};
    const auto start = Clock::now();
    const StepResult result = session_.step(reader_, index, scalars, seed_);
    seconds_ += seconds_since(start);
    if (!result.finite) fail(scalars, reader_.batch(index));
    ++step_;
    const int64_t rows = reader_.rows(index);
    examples_ += rows;
    totals_.add(result, rows);
    lr_ = result.lr;
    const bool logged = log_every_ > 0 && step_ % log_every_ == 0;
    if (logged && options_.json) {
      Json event = {{"event", "step"}, {"step", step_}, {"epoch", epoch_ + 1}, {"loss", result.loss}};
      for (const auto& [name, value] : result.metrics) event[name] = value;
      if (!std::isnan(lr_)) event["lr"] = lr_;
      write_event(options_.out, event);
    } else if (logged && !options_.json && !progress_.off()) {
      progress_.line(fmt::format("step {}  {}", step_, results_text(result.loss, result.metrics)));
    }
    if (progress_.due()) show(index + 1);
  }

  void show(int64_t done) {
    const double rate = seconds_ > 0 ? static_cast<double>(examples_) / seconds_ : 0;
    const double left =
        seconds_ / static_cast<double>(std::max<int64_t>(step_, 1)) * static_cast<double>(total_ - step_);
    progress_.update(
        fmt::format("epoch {}/{}", epoch_ + 1, epochs_), done, reader_.batches(),
        fmt::format("{}  {} examples/s  ETA {}", results_text(totals_.mean_loss(), totals_.mean_metrics()),
                    count_text(static_cast<int64_t>(rate)), duration_text(left)));
  }

  // Loss and metrics of a split, into the result's metrics; empty without the split or when interrupted.
  std::optional<EvalResult> evaluate(const std::string& name) {
    const Split* split = data_.find(name);
    if (!split) return std::nullopt;
    EvalResult result = session_.evaluate(*split, [&](int64_t done, int64_t total) {
      if (progress_.due()) progress_.update(fmt::format("evaluating {}", name), done, total, "");
      return !interrupt_.interrupted();
    });
    if (!result.complete) return std::nullopt;
    result_.metrics[name + "_loss"] = result.loss;
    for (const auto& [metric, value] : result.metrics) result_.metrics[name + "_" + metric] = value;
    return result;
  }

  void end_epoch(double seconds) {
    const Metrics metrics = totals_.mean_metrics();
    Json event = {
        {"event", "epoch"}, {"epoch", epoch_}, {"step", step_}, {"train_loss", totals_.mean_loss()}};
    for (const auto& [name, value] : metrics) event["train_" + name] = value;
    std::string text =
        fmt::format("epoch {}/{}  {}", epoch_, epochs_, results_text(totals_.mean_loss(), metrics));
    if (const auto validation = evaluate("val")) {
      event["val_loss"] = validation->loss;
      for (const auto& [name, value] : validation->metrics) event["val_" + name] = value;
      text += "  " + results_text(validation->loss, validation->metrics, "val ");
    }
    if (!std::isnan(lr_)) event["lr"] = lr_;
    event["seconds"] = seconds;
    if (options_.json) write_event(options_.out, event);
    progress_.line(fmt::format("{}  {:.1f} s", text, seconds));
  }

  [[noreturn]] void fail(const StepScalars& scalars, const Batch& batch) {
    NonFiniteLoss error(fmt::format(
        "the loss is not finite in step {} (epoch {}): it became NaN or infinite, and the step was not "
        "applied{}; try a smaller learning rate, and look for log, sqrt or division of what can be 0",
        scalars.step + 1, scalars.epoch + 1,
        options_.save.empty() ? "" : fmt::format("; {} was not written", options_.save)));
    error.scalars = scalars;
    error.seed = seed_;
    error.rows = batch.rows;
    const gradc_entry_info& entry = session_.program().train_step;
    for (int32_t i = 0; i < entry.input_count; ++i) {
      const gradc_input& input = entry.inputs[i];
      const auto* bytes = static_cast<const uint8_t*>(batch.inputs[i]);
      error.inputs.emplace_back(
          bytes, bytes + batch.rows * element_count(input.rank, input.shape) * dtype_bytes(input.dtype));
    }
    throw error;
  }

  TrainResult end() {
    result_.interrupted = interrupt_.interrupted();
    result_.weights_sha256 = weights_sha256(session_);
    // Before the last evaluation: what was trained shall not depend on it.
    if (!options_.save.empty()) save_checkpoint(session_, options_.save, {.seed = seed_, .step = step_});
    std::optional<EvalResult> test;
    if (!result_.interrupted) test = evaluate("test");
    if (interrupt_.interrupted()) result_.interrupted = true;
    progress_.clear();
    result_.steps = step_;
    result_.epochs = epoch_;
    result_.seconds = seconds_;
    result_.data_wait_seconds = reader_.waited();
    result_.examples_per_second = seconds_ > 0 ? static_cast<double>(examples_) / seconds_ : 0;
    result_.train_loss = totals_.mean_loss();
    result_.test_loss = test ? test->loss : kNan;
    result_.test_accuracy = test ? metric_of(test->metrics, "accuracy") : kNan;
    result_.metrics["train_loss"] = result_.train_loss;
    for (const auto& [name, value] : totals_.mean_metrics()) result_.metrics["train_" + name] = value;
    if (options_.json)
      write_event(options_.out, {{"event", "end"},
                                 {"steps", result_.steps},
                                 {"seconds", result_.seconds},
                                 {"train_loss", result_.train_loss},
                                 {"test_loss", result_.test_loss},
                                 {"test_accuracy", result_.test_accuracy},
                                 {"weights_sha256", result_.weights_sha256},
                                 {"epochs", result_.epochs},
                                 {"examples_per_second", result_.examples_per_second},
                                 {"data_wait_seconds", result_.data_wait_seconds},
                                 {"interrupted", result_.interrupted},
                                 {"metrics", result_.metrics}});
    else
      summarise(test);
    return result_;
  }

  void summarise(const std::optional<EvalResult>& test) {
    std::string text =
        fmt::format("{}{} steps in {:.1f} s, {} examples/s", result_.interrupted ? "interrupted after " : "",
                    count_text(result_.steps), result_.seconds,
                    count_text(static_cast<int64_t>(result_.examples_per_second)));
    if (test) text += "\n" + results_text(test->loss, test->metrics, "test ");
    if (!options_.save.empty()) text += fmt::format("\nweights saved to {}", options_.save);
    write_line(options_.out, text);
  }

  Session& session_;
  const Dataset& data_;
  const TrainOptions& options_;
  BatchReader reader_;
  uint64_t seed_;
  int64_t log_every_;
  int64_t total_, epochs_;
  InterruptGuard interrupt_;
  Progress progress_;
  int64_t step_ = 0, epoch_ = 0, examples_ = 0;
  double seconds_ = 0, lr_ = kNan;
  Totals totals_;
  TrainResult result_;
};

}  // namespace

TrainResult train(Session& session, const Dataset& data, const Experiment& experiment,
                  const TrainOptions& options) {
  return Run(session, data, experiment, options)();
}

}  // namespace gradc::runtime
