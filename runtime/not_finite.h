// A step whose loss is not finite: what the runtime knows of it, and the report of why, which needs the
// compiler (compiler/not_finite.h) and says less where there is none.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/session.h"
#include "support/check.h"

namespace gradc::runtime {

// Nothing was updated in that step and nothing is saved; the session still holds the parameters the step
// started from, so that it can be repeated and explained.
struct NonFiniteLoss : RunError {
  NonFiniteLoss(const std::string& message) : RunError(5, message) {}
  StepScalars scalars;      // of the step
  int64_t batch = -1;       // of the epoch, from 0; -1: not of an epoch
  uint64_t micro_step = 0;  // random key of the batch
  uint64_t seed = 0;
  int64_t rows = 0;
  std::vector<std::vector<uint8_t>> inputs;  // of train_step, rows x shape each
};

// `micro`: the batch that failed, from 0 within the update; `batch` its number in the epoch, or -1; `rows`
// its examples, which are copied; `consequence` is said of the run: "; w.safetensors was not written".
NonFiniteLoss non_finite_loss(const Session& session, const StepScalars& scalars, int64_t micro,
                              uint64_t seed, int64_t batch, const Batch& rows,
                              const std::string& consequence = {});

// What an array holds.
struct ValueRange {
  std::string name;                                     // of an operand: "%5 sub", "parameter head.weight"
  double low = 0, high = 0;                             // of its finite values; NaN where it has none
  int64_t elements = 0, nan = 0, above = 0, below = 0;  // NaN, +infinity and -infinity
};

// Where the first value that is not finite was made.
struct NotFiniteReport {
  int64_t step = 0, epoch = 0, batch = 0;  // from 1; batch 0: not of an epoch
  std::string operation;  // "log"; "parameter" or "input" when the values came in so; empty: it is not known
  std::string name;       // "%17", or the parameter's or input's name
  std::string type;       // "f32[n,10]"
  std::string file;       // the user's place in the model file; empty: none
  int64_t line = 0, column = 0;  // from 1; column 0: the line alone is known
  ValueRange result;
  std::vector<ValueRange> operands;
  std::vector<std::string> notes;  // the trail of calls
  std::vector<std::string> helps;
  std::string text;  // all of it for people, several lines without the last line's end
};

// The report of those who know nothing but the step.
NotFiniteReport unexplained(const NonFiniteLoss& error);

}  // namespace gradc::runtime
