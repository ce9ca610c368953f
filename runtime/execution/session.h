// A program and the memory it runs in: parameters, arena, outputs and a team of threads. Knows nothing of
// epochs, files and logs.
#pragma once
#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/abi.h"
#include "runtime/data/batches.h"
#include "runtime/data/data_arrays.h"
#include "runtime/memory.h"
#include "runtime/threads.h"

namespace gradc::runtime {

using Metrics = std::vector<std::pair<std::string, double>>;  // in the program's order

// The value of a metric, or NaN when there is none.
double metric_of(const Metrics& metrics, const std::string& name);

// The sum of one output, as a checkpoint keeps it, and how many rows it is over.
struct SavedSum {
  std::string name;
  double sum = 0;
  int64_t rows = 0;
  bool operator==(const SavedSum&) const = default;
};

// Accumulates an entry's outputs over several calls: sums, and their means. Each counts its own rows: a metric that was
// added to the model file while a run was stopped has fewer.
class Sums {
 public:
  // Adds outputs over `rows` rows, `value(i)` being output i.
  template <class F>
  void add(const gradc_entry_info& entry, int64_t rows, F&& value) {
    expect(entry);
    rows_ += rows;
    for (size_t i = 0; i < values_.size(); ++i) {
      counts_[i] += rows;
      if (!entry.outputs[i].batched) values_[i] += value(i);
    }
  }
  void add(const Sums& other);

  int64_t rows() const { return rows_; }
  // Means over the rows, or by their weights (0 where all weights are); NaN before the first row.
  double loss() const;
  Metrics metrics() const;

  // The divisors of summed gradients: the rows, or for each part of the loss its rows or their weights.
  std::vector<double> divisors() const;
  // Marks all numbers as invalid, because the loss was not finite.
  void lose();

  // Converts to the sums by name, for checkpoints, and back. Names that the entry lacks are dropped; outputs that
  // `saved` lacks begin with no rows.
  std::vector<SavedSum> saved() const;
  static Sums restored(const gradc_entry_info& entry, int64_t rows, const std::vector<SavedSum>& saved);

 private:
  void expect(const gradc_entry_info& entry);
  double mean(size_t i) const;
  const gradc_entry_info* entry_ = nullptr;  // outlives it
  int64_t rows_ = 0;
  std::vector<double> values_;   // of the outputs
  std::vector<int64_t> counts_;  // rows that each is over
};

struct StepScalars {
  int64_t step = 0;  // updates before this one
  int64_t epoch = 0;
  int64_t total = 1;
  double lr_factor = 1;
  int64_t micro_step = -1;  // batches before this update's first, for random keys; -1: equal to `step`
  uint64_t first_key() const { return static_cast<uint64_t>(micro_step < 0 ? step : micro_step); }
};

// The batch and rows of call `index` of train_step, counted over the batches of an update or an epoch, each taken in
// `pieces`.
struct CallPosition {
  int64_t batch = 0;       // its batch, from 0
  int64_t row_offset = 0;  // of its first row, in that batch
};
CallPosition call_position(const gradc_program& program, int64_t index);
// The number of batches of so many calls.
int64_t batches_of(const gradc_program& program, int64_t calls);

struct StepResult {
  bool finite = true;      // false: no parameter was updated, and loss and metrics are invalid
  int64_t failed = 0;      // then: the batch, from 0 within the update
  double loss = 0;         // mean over the update's examples, by their weights where they have some
  Metrics metrics;         // likewise
  Sums sums;               // of which these are the means
  double lr = 0;           // NaN when the program reports none
  double grad_norm = 0;    // of all gradients before clipping; NaN when the program reports none
  bool converged = false;  // a full-batch optimizer (runtime/training/full_batch.h) found no further descent
};

struct EvalResult {
  int64_t examples = 0;
  double loss = 0;      // mean over the examples; NaN where it was not finite
  int64_t failed = -1;  // then: the first batch whose loss was not
  Metrics metrics;
  bool complete = true;  // false: stopped by the caller
};

// A parameter, state or slot that holds values that are not finite.
struct NotFiniteSymbol {
  const gradc_symbol* symbol = nullptr;
  int64_t elements = 0, bad = 0;  // of it: how many are NaN or infinite
};

// How many elements of an array of a gradc_dtype are NaN or infinite.
int64_t count_not_finite(int32_t dtype, const uint8_t* data, int64_t elements);
// The first parameter, state, slot or average of a block with elements that are not finite, if there is one; with
// `gradients` the first sum of gradients instead.
std::optional<NotFiniteSymbol> find_not_finite(const gradc_program& program, const uint8_t* block,
                                               bool gradients = false);

// The code of an entry that exists. An entry with deferred compilation (gradc_entry_info.late) is compiled here; throws
// what the compiler throws.
gradc_entry code_of(const gradc_entry_info& entry);
// By name: "init", "train_step", "update", "eval" or "predict". Its `run` is null where the model has none.
const gradc_entry_info& entry_called(const gradc_program& program, std::string_view name);
inline gradc_entry_info& entry_called(gradc_program& program, std::string_view name) {
  return const_cast<gradc_entry_info&>(entry_called(std::as_const(program), name));
}

// The output of `predict`. Throws RunError (kExitModelError) when the model has no `predict`.
const gradc_output& predict_output(const gradc_program& program);

class Session {
 public:
  // `threads` as in choose_thread_count(); no more are started than the program can use. Throws RunError when memory is
  // short or the program's ABI version differs. The program must outlive the
  // session.
  explicit Session(const gradc_program& program, int threads = 0);

  const gradc_program& program() const { return program_; }
  int threads() const { return team_.threads(); }
  int64_t batch() const { return program_.batch; }  // rows of one call
  int64_t pieces() const { return std::max<int64_t>(program_.pieces, 1); }

  // Throws RunError (kExitUsage) when the program was compiled without training.
  void require_training() const;

  // The same of this session's block, on the team.
  std::optional<NotFiniteSymbol> find_not_finite(bool gradients = false);

  // Gives every parameter, state and slot its initial value.
  void initialize(uint64_t seed);

  // Whether the program adds up gradients over several batches before it updates (program().update).
  bool accumulates() const { return program_.update.run != nullptr; }

  // One update on `count` batches from number `first` of the reader, which must be made for
  // program().train_step; more than one only where the program accumulates. Random keys: seed, and the number
  // of each batch as StepScalars says.
  StepResult step(BatchReader& reader, int64_t first, const StepScalars& scalars, uint64_t seed,
                  int64_t count = 1);

  // The same on rows in the caller's memory, at most batch() times pieces().
  StepResult step(const Batch& batch, const StepScalars& scalars, uint64_t seed);

  // The two halves of a step, where the program accumulates: the gradients of all batches into the symbols of
  // kind GRADC_GRADIENT, as sums over `examples` of them; then the update from these.
  StepResult gradients(BatchReader& reader, int64_t first, int64_t count, const StepScalars& scalars,
                       uint64_t seed);
  void update(int64_t examples, const StepScalars& scalars, uint64_t seed, StepResult& result);

  // The caller's buffer for the times of code compiled for profiling (gradc_step_args.profile), large enough for every
  // entry that is called. `after_call` is called after each call of an entry: a step may have several, and each writes
  // from the beginning.
  void set_profile(uint64_t* times, std::function<void(const gradc_entry_info& entry)> after_call) {
    profile_ = times;
    after_call_ = std::move(after_call);
  }

  // Output number `index` of train_step after a step: one that is batched (layers' values), rows x shape.
  const void* step_output(size_t index) const { return train_step_.pointers[index]; }

  // Loss and metrics over all examples of a split. `keep_going` is called before each batch; false ends the evaluation.
  EvalResult evaluate(const Split& split,
                      const std::function<bool(int64_t done, int64_t total)>& keep_going = {});

  // The same for one batch in the caller's memory; the loss is NaN where it is not finite. Sums over several batches
  // equal those of evaluate() bit for bit.
  Sums evaluation_sums(const Batch& batch);

  // One call of program().predict on at most batch() rows; the result, rows x shape of output `predict`, is valid until
  // the next call. Throws RunError (kExitModelError) when the model has no `predict`.
  // `seed` and `sample` are the random keys of programs compiled to draw random numbers in evaluation too.
  const void* predict(BatchReader& reader, int64_t index, uint64_t seed = 0, uint64_t sample = 0);
  const void* predict(const Batch& batch);
  const gradc_output& predict_output() const { return runtime::predict_output(program_); }

  // A parameter, state or slot by name; null when there is none.
  const gradc_symbol* find(const std::string& name) const;
  uint8_t* data(const gradc_symbol& symbol) { return parameters_.data() + symbol.offset; }
  const uint8_t* data(const gradc_symbol& symbol) const { return parameters_.data() + symbol.offset; }
  // Numbers fitted to the data that are saved and loaded with the weights (runtime/data/prepare.h).
  DataArrays data_arrays;
  // The whole block, for comparing and restoring.
  uint8_t* parameters() { return parameters_.data(); }
  const uint8_t* parameters() const { return parameters_.data(); }

 private:
  struct Outputs {
    std::vector<AlignedBlock> blocks;
    std::vector<void*> pointers;
    double value(const gradc_entry_info& entry, size_t index) const;  // of an unbatched scalar
  };
  Outputs make_outputs(const gradc_entry_info& entry) const;
  // Assembles the reader's batch (if there is a reader) and runs the entry on the team; returns what the
  // entry returned.
  int32_t call(const gradc_entry_info& entry, Outputs& outputs, BatchReader* reader, int64_t index,
               const Batch& batch, const double* scalars, uint64_t seed, uint64_t micro_step,
               int64_t row_offset = 0);

  // Adds an entry's outputs over `rows` rows to a step's result: sums of losses and metrics, other numbers unchanged.
  void add_outputs(const gradc_entry_info& entry, const Outputs& outputs, int64_t rows,
                   StepResult& result) const;
  void add_gradients(BatchReader* reader, int64_t index, const Batch& batch, int64_t micro, int64_t examples,
                     const StepScalars& scalars, uint64_t seed, StepResult& result);
  StepResult direct_step(BatchReader* reader, int64_t index, const Batch& batch, const StepScalars& scalars,
                         uint64_t seed);

  const gradc_program& program_;
  uint64_t* profile_ = nullptr;
  std::function<void(const gradc_entry_info&)> after_call_;  // only with profile_
  AlignedBlock parameters_, arena_;
  Outputs init_, train_step_, eval_, predict_, update_;
  Team team_;
};

}  // namespace gradc::runtime
