// The training loop: epochs over the data, evaluation, logs, saving. Sees compiled code only through a
// session.
//
// With `json`, standard output is one object a line; keys in this order; numbers print so that they read back
// to the same double, and numbers that are not finite print as null:
//   {"event":"step","step":N,"epoch":E,"loss":..,METRIC:..,"lr":..,"grad_norm":..}   after each log_every-th
//                                       update: N updates are done, loss and metrics are means over that
//                                       update's examples, epoch is from 1; grad_norm, with `clip norm`: of
//                                       all gradients before they are clipped
//   {"event":"epoch","epoch":E,"step":N,"train_loss":..,"train_METRIC":..,"val_loss":..,"val_METRIC":..,"lr":..,"seconds":..}
//                                       after each complete epoch; train_*: means over its examples as they
//                                       were trained on; val_* only if the data have a split `val`, and
//                                       likewise of other splits that a rule watches; seconds:
//                                       of training this epoch
//   {"event":"resume","step":N,"epoch":E,"total":T}   first, of a run that goes on: N updates of T are done,
//                                       E epochs are complete
//   {"event":"checkpoint","file":"..","step":N,"epoch":E}   a file was written
//   {"event":"plateau","epoch":E,"monitor":"val.loss","lr_factor":..}   reduce_on_plateau made the rates smaller
//   {"event":"stop","epoch":E,"monitor":"val.loss","best":..,"best_epoch":E}   the rule `stop` ends the run
//   {"event":"converged","epoch":E}   an optimizer with a line search sees no way further down: the run ends
//   {"event":"end","steps":N,"seconds":..,"train_loss":..,"test_loss":..,"test_METRIC":..,"weights_sha256":"..","epochs":E,
//    "examples_per_second":..,"data_wait_seconds":..,"interrupted":false,"best_epoch":null,"metrics":{"train_METRIC":..,"val_loss":..,"test_METRIC":..}}
//                                       last
//                                       train_loss: of the last epoch, also one cut short; seconds: of
//                                       training, evaluation and reading not counted; data_wait_seconds: of
//                                       these, in which a step waited for its batch; test_*: null without a
//                                       split `test` or when interrupted; best_epoch: whose weights a rule
//                                       `stop` put back
#pragma once
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/data/dataset.h"
#include "runtime/execution/not_finite.h"
#include "runtime/execution/session.h"
#include "runtime/progress.h"
#include "support/experiment.h"

namespace gradc::runtime {

// Loss and metrics of a split.
struct SplitResult {
  std::string split;  // "train", "val", "test"
  double loss = 0;
  Metrics metrics;
};

struct StepReport {
  int64_t step = 0;   // updates done
  int64_t epoch = 0;  // from 1
  int64_t total = 0;  // updates of the whole run
  const StepResult& result;
};

struct EpochReport {
  int64_t epoch = 0, epochs = 0;    // complete, and of the whole run
  int64_t step = 0;                 // updates done
  double lr = 0;                    // of the last one; NaN where there is none
  double seconds = 0;               // of training this epoch
  std::vector<SplitResult> splits;  // train first, as it was trained on, then those that were evaluated
};

// Callbacks of a program that embeds the loop. They are called by the thread that trains, and may throw.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;
  // Called between updates; once true it must stay true.
  virtual bool cancelled() = 0;
  virtual void step_done(const StepReport& report) = 0;
  virtual void epoch_done(const EpochReport& report) = 0;
  // After step_done: a factor on the learning rate from now on; none: unchanged.
  virtual std::optional<double> new_lr_factor() = 0;
};

struct TrainOptions {
  // Epochs and updates to run. With neither, the experiment's epochs; with steps alone, as many epochs as
  // they need; with both, whichever ends first. The schedule's total is what will run. Zero is allowed:
  // initialise, evaluate, save. A resumed run keeps its own, unless one of these is given or the experiment's epochs
  // differ from those it was saved with: then that many in all, and schedules use the new total from the next update
  // on.
  std::optional<int64_t> epochs, steps;
  std::optional<uint64_t> seed;  // of initial weights, order and random layers; else the experiment's
  bool shuffle = true;
  bool augment = true;              // false: training examples are prepared as in evaluation
  int64_t log_every = 0;            // updates between step records; 0: 100 with json, else by time
  std::optional<double> lr_factor;  // on the scheduled learning rate; else 1, or the resumed run's
  bool initialize = true;           // false: start from the session's current parameters
  std::string init_from;            // weights to start from instead of the initialisers
  std::string resume;       // a checkpoint to resume from, bit for bit as if the run had never stopped
  std::string save;         // where to put the weights at the end, also when interrupted
  bool save_state = false;  // with them what `resume` needs; always when interrupted
  std::string checkpoints;  // folder for the rule `checkpoint`; empty: the model's name and ".checkpoints"
  // Threads that assemble the next batch during training; 0: the step's own threads assemble each batch first. Default:
  // as many as the step has, at most 8, where examples are normalised or augmented, else 0.
  std::optional<int> loaders;
  bool json = false;
  ProgressMode progress = ProgressMode::automatic;
  std::FILE* out = stdout;  // results; null: none
  std::FILE* log = stderr;  // progress
  // With an observer only it can end the loop, and signal handlers are not changed.
  TrainObserver* observer = nullptr;
  // Whether a copy of the parameters and their state is made before each update that is checked, so that one
  // that makes them NaN or infinite is undone and can be explained. False where memory is short.
  bool undo = true;
  // The progress mode to use: with --json none unless requested.
  ProgressMode shown_progress(bool with_json) const {
    return with_json && progress == ProgressMode::automatic ? ProgressMode::off : progress;
  }
};

struct TrainResult {
  int64_t steps = 0;
  int64_t epochs = 0;  // complete ones
  double seconds = 0;
  double data_wait_seconds = 0;  // of which steps waited for their batches
  double examples_per_second = 0;
  double train_loss = 0, test_loss = 0;  // NaN where there is none
  std::string weights_sha256;
  std::map<std::string, double> metrics;  // "train_accuracy", "val_loss", ...
  std::vector<SplitResult> splits;        // the same in order: train, those evaluated after epochs, test
  bool interrupted = false;               // by a signal or the observer
  int exit_code = 0;                      // interrupted by a signal: 128 and its number
  // A split whose loss is not finite although the weights are: the run is complete, and the tool exits with
  // kExitCheckFailed; null: none.
  std::shared_ptr<const NotFiniteError> not_finite;
  int64_t best_epoch = 0;  // whose weights these are, where a rule `stop` put the best back; else 0
};

// Checks options against the model file's rules before anything is compiled; train() checks the same. Throws RunError.
void check_train_options(const TrainOptions& options, const TrainRecord& rules);

// The updates of a run with these options, `updates` being those of an epoch. Throws RunError (usage) for negative options.
int64_t total_steps(const TrainOptions& options, const Experiment& experiment, int64_t updates);

// Throws RunError; NotFiniteError (exit code kExitCheckFailed) when the loss becomes NaN or infinite, or an update
// makes parameters or state so: those are checked after each update that is logged or saved, or the last of an epoch or
// of the run.
TrainResult train(Session& session, const Dataset& data, const Experiment& experiment,
                  const TrainOptions& options);

}  // namespace gradc::runtime
