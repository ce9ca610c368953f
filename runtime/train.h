// The training loop: epochs over the data, evaluation, logs, saving. Sees compiled code only through a
// session.
//
// With `json`, standard output is one object a line; keys in this order; numbers print so that they read back
// to the same double, and what is not finite prints as null:
//   {"event":"step","step":N,"epoch":E,"loss":..,METRIC:..,"lr":..}     after each log_every-th update: N
//   updates are done, loss and
//                                                                       metrics are means over that update's
//                                                                       batch, epoch is from 1
//   {"event":"epoch","epoch":E,"step":N,"train_loss":..,"train_METRIC":..,"val_loss":..,"val_METRIC":..,"lr":..,"seconds":..}
//                                       after each complete epoch; train_*: means over its examples as they
//                                       were trained on; val_* only if the data have a split `val`; seconds:
//                                       of training this epoch
//   {"event":"end","steps":N,"seconds":..,"train_loss":..,"test_loss":..,"test_accuracy":..,"weights_sha256":"..","epochs":E,
//    "examples_per_second":..,"data_wait_seconds":..,"interrupted":false,"metrics":{"train_METRIC":..,"val_loss":..,"test_METRIC":..}}
//    last
//                                       train_loss: of the last epoch, also one cut short; seconds: of
//                                       training, evaluation and reading not counted; data_wait_seconds: of
//                                       these, in which a step waited for its batch; test_*: null without a
//                                       split `test` or when interrupted
#pragma once
#include <cstdint>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/dataset.h"
#include "runtime/experiment.h"
#include "runtime/progress.h"
#include "runtime/session.h"
#include "support/check.h"

namespace gradc::runtime {

struct TrainOptions {
  // Epochs and updates to run. With neither, the experiment's epochs; with steps alone, as many epochs as
  // they need; with both, whichever ends first. The schedule's total is what will run. Zero is allowed:
  // initialise, evaluate, save.
  std::optional<int64_t> epochs, steps;
  std::optional<uint64_t> seed;  // of initial weights, order and random layers; else the experiment's
  bool shuffle = true;
  int64_t log_every = 0;  // updates between step records; 0: 100 with json, else by time
  double lr_factor = 1;   // on the scheduled learning rate
  std::string init_from;  // weights to start from instead of the initialisers
  std::string save;       // where to put the weights at the end, also when interrupted
  // Threads that assemble the next batch beside training; 0: the step's own threads assemble each batch
  // first. Unless said, as many as the step has, at most 8, where examples are normalised or augmented, else
  // 0.
  std::optional<int> loaders;
  bool json = false;
  ProgressMode progress = ProgressMode::automatic;
  std::FILE* out = stdout;  // results
  std::FILE* log = stderr;  // progress
};

struct TrainResult {
  int64_t steps = 0;
  int64_t epochs = 0;  // complete ones
  double seconds = 0;
  double data_wait_seconds = 0;  // of them, those in which a step waited for its batch
  double examples_per_second = 0;
  double train_loss = 0, test_loss = 0, test_accuracy = 0;  // NaN where there is none
  std::string weights_sha256;
  std::map<std::string, double> metrics;  // "train_accuracy", "val_loss", ...
  bool interrupted = false;               // by SIGINT: the tool exits with kExitInterrupted
};

// The loss or its gradient's input was not finite. Nothing was updated in that step and nothing is saved; the
// session still holds the weights the step started from, so that it can be repeated and explained.
struct NonFiniteLoss : RunError {
  NonFiniteLoss(const std::string& message) : RunError(5, message) {}
  StepScalars scalars;  // of the step; scalars.step is also its micro_step
  uint64_t seed = 0;
  int64_t rows = 0;
  std::vector<std::vector<uint8_t>> inputs;  // of train_step, rows x shape each
};

// Throws RunError; NonFiniteLoss (exit code kExitCheckFailed) when the loss becomes NaN or infinite.
TrainResult train(Session& session, const Dataset& data, const Experiment& experiment,
                  const TrainOptions& options);

}  // namespace gradc::runtime
