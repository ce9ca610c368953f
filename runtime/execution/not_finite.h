// Values that are not finite and would enter a run: what the runtime knows of the step or evaluation that computed
// them, and the report of the cause. The cause needs the compiler (compiler/not_finite.h); without it the report says
// less.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/execution/session.h"
#include "support/check.h"

namespace gradc::runtime {

// What became NaN or infinite.
enum class NotFiniteValue {
  loss,        // of a training step
  update,      // a parameter, state or slot, by an update that was checked
  weights,     // the same, found after updates that were not checked
  evaluation,  // the loss of a split
};
const char* name_of(NotFiniteValue value);  // "loss", "update", "weights", "evaluation"

// Nothing was updated in the step and nothing is saved. The session still holds the parameters that the step started
// from (`weights`: those that are not finite), so that the step can be repeated and explained.
struct NotFiniteError : RunError {
  NotFiniteError(NotFiniteValue what, const std::string& message) : RunError(5, message), value(what) {}
  NotFiniteValue value;
  // The function of tensor IR that computes the value, to be replayed: "train" (the loss), "eval", or, with
  // gradients, "train_step" or "update"; empty: nothing can be replayed.
  std::string function;
  std::string symbol;       // that is not finite; empty: the loss
  std::string split;        // the split that was evaluated
  StepScalars scalars;      // of the step
  int64_t examples = 1;     // of the whole update
  int64_t batch = -1;       // of the epoch or split, from 0; -1: of neither
  uint64_t micro_step = 0;  // random key of the batch
  int64_t row_offset = 0;   // of the first row within it, for random keys
  uint64_t seed = 0;
  int64_t rows = 0;
  std::vector<std::vector<uint8_t>> inputs;  // of train_step or eval, rows x shape each
};

// The loss of a step. `micro`: the batch that failed, from 0 within the update; `batch` its number in the
// epoch, or -1; `rows` its examples, which are copied; `consequence` is appended to the message: "; w.safetensors was
// not written".
NotFiniteError not_finite_loss(const Session& session, const StepScalars& scalars, int64_t micro,
                               uint64_t seed, int64_t batch, const Batch& rows,
                               const std::string& consequence = {});

// One update by the program itself, as Session::step takes it: on `count` batches from number `first`.
struct UpdateMade {
  BatchReader& reader;
  int64_t first = 0, count = 1;
  StepScalars scalars;
  uint64_t seed = 0;
};
// An update that computed `found`. `before` is a copy of the session's block from before the update; it is restored.
// Where gradients add up, finds the batch whose own are not finite; if there is none, the sums of all stay.
NotFiniteError not_finite_update(Session& session, const NotFiniteSymbol& found,
                                 const std::vector<uint8_t>& before, const UpdateMade& update,
                                 const std::string& consequence = {});

// Weights that are found not finite after `step` updates, where the update that caused it is not known; `checked`: the
// last one after which all were finite.
NotFiniteError not_finite_weights(const NotFiniteSymbol& found, int64_t step, int64_t checked,
                                  const std::string& consequence = {});

// The loss of a split in evaluation, whose first batch that is not finite is `batch`.
NotFiniteError not_finite_evaluation(const Session& session, const Split& split, int64_t batch);

// The range of an array's values.
struct ValueRange {
  std::string name;                                     // of an operand: "%5 sub", "parameter head.weight"
  double low = 0, high = 0;                             // of its finite values; NaN where it has none
  int64_t elements = 0, nan = 0, above = 0, below = 0;  // NaN, +infinity and -infinity
};

// Where the first value that is not finite was computed.
struct NotFiniteReport {
  NotFiniteValue value = NotFiniteValue::loss;
  std::string split;                       // the split, in evaluation
  int64_t step = 0, epoch = 0, batch = 0;  // from 1; batch 0: not of an epoch; step 0: of no step
  // "log"; "parameter" or "input" when those were not finite already; empty: not known
  std::string operation;
  std::string name;              // "%17", or the parameter's or input's name
  std::string type;              // "f32[n,10]"
  std::string file;              // the location in the model file; empty: none
  int64_t line = 0, column = 0;  // from 1; column 0: only the line is known
  ValueRange result;
  std::vector<ValueRange> operands;
  std::vector<std::string> notes;  // the trail of calls
  std::vector<std::string> helps;
  std::string text;  // the whole report as text, several lines without a final line end
};

// The report without a cause, from the step alone.
NotFiniteReport unexplained(const NotFiniteError& error);

}  // namespace gradc::runtime
