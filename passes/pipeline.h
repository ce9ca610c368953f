// The one place where the order of passes is written down: from the frontend's module to loop IR programs.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ir/loop/loop_ir.h"
#include "ir/tensor/module.h"

namespace gradc::passes {

struct PassInfo {
  std::string name;      // "fuse_dropout", as --print-after and --disable-pass take it
  std::string doc;       // one line
  bool optional = true;  // may be disabled
};
// Every pass in order, tensor passes first, then loop passes.
const std::vector<PassInfo>& pass_list();

struct LoweredProgram;

// What a pass did. While it is shown, Op::id of an operation that was there before a tensor pass is its
// number from before, and the new ones are numbered from there on, so that print() by id gives texts that
// compare line by line. Afterwards every function is numbered as usual. Differentiation's @train_step begins
// with the operations of @train.
struct PassReport {
  const PassInfo& pass;
  bool enabled = true, changed = false;
  const Module* module = nullptr;            // after a tensor pass
  std::map<std::string, int> numbered = {};  // by function: the highest number from before
  const LoweredProgram* program = nullptr;   // after a loop pass, which shows each program
};

struct PipelineOptions {
  std::vector<std::string>
      print_after;  // pass names, or "all"; unknown names: RunError (usage) with did-you-mean
  std::vector<std::string> disable;  // optional passes only
  std::string stop_after;            // empty: run all
  bool print_locations = false;
  bool verify = true;  // the IR verifier after every pass; else once, after the tensor passes
  // With it: loop::check_plan after the last pass. It refuses what it cannot prove, sound or not.
  bool prove_plans = true;
  // Receives the text of --print-after: a heading line, then the IR, or "(unchanged)".
  std::function<void(const std::string&)> print;
  std::function<void(const PassReport&)> observe;  // is shown what every pass did, disabled ones too
  // Tests of what finds wrong passes: may make what a tensor pass made wrong, before it is verified and
  // shown.
  std::function<void(const PassInfo&, Module&)> tamper;
  std::function<void(const PassInfo&, loop::Program&)> tamper_loops;  // the same for passes on loop IR
  int64_t batch = 1;                                                  // B
  int64_t pieces = 1;     // of each batch; more than one: @train_step's first row need not be its batch's
  int vector_width = 16;  // f32 lanes
  int registers = 32;
  int recompute = 0;  // level of the pass: 0: what costs less so; 1: elementwise operations; n > 1: forward
                      // in n segments (recompute.cpp)
  int64_t band_bytes = 640 << 10;  // of what the calls of a segment touch for a band of images
                                   // (segments.cpp); second-level caches have 1 MiB or more
  bool strict_math = false;        // convolutions by their definition alone, no Winograd
  bool gradient_outputs = false;   // outputs "grad.P" on @train_step (gradc check)
  bool keep_all_values =
      false;  // no memory is reused, so that every stored value can be read after a call (gradc check)
};

// Where a value that a kernel stores stands, for `check` and NaN reports.
struct StoredValue {
  const Op* op = nullptr;
  int allocation = -1;     // index into the program's allocations
  std::vector<int> order;  // batched: the example's axes as they stand in memory, outermost first
};

// The examples of a batched value that stands in panels, in logical row-major order, one row after the other.
// `element(i)` reads element i of the value's memory.
std::vector<double> rows_of_panels(const StoredValue& value, int64_t rows, int64_t panel,
                                   const std::function<double(int64_t)>& element);

// What a call at the full batch computes and, reading and writing each buffer once, moves. An estimate for
// people and for cost models, never for results.
struct CallCost {
  double flop = 0, bytes = 0;
};

struct LoweredProgram {
  loop::Program program;
  std::vector<CallCost> costs;       // of program.calls
  std::vector<std::string> inputs;   // names in order of Space::input offsets
  std::vector<std::string> outputs;  // names in order of Space::output offsets
  std::vector<StoredValue> stored;
  int64_t least_arena_bytes =
      0;  // the most that is alive between two barriers: no plan of the arena takes less
};

struct Lowered {
  // By function name: "init", "train_step", "eval", "predict" (where present).
  std::map<std::string, LoweredProgram> programs;
  std::map<std::string, int64_t> symbol_offsets;  // bytes into the parameter block
  int64_t parameter_bytes = 0;
  bool stopped = false;  // stop_after ended the pipeline before lowering
};

// Outputs "value.NAME" of @train, the values of layers (frontend.h), stay one an example in @train_step, with
// their gradients "gradient.NAME" behind them; such a step has no guard.
// Runs the tensor passes on the module in place: makes @train_step from @train and @update.*, adds the batch
// sums of losses and metrics, optimises every function. Returns false when stop_after ended it.
bool run_tensor_passes(Module& module, const PipelineOptions& options);

// Whether a pass works on tensor IR, and not on loop IR. Throws RunError (exit 2) for an unknown name; `flag`
// is what gave it.
bool is_tensor_pass(const std::string& name, const char* flag);

// Runs one tensor pass on every function (tests, `gradc opt`); returns whether anything changed. Throws
// RunError for an unknown name.
bool run_pass(Module& module, const std::string& name);

// Differentiation alone (makes @train_step, unoptimised): `dump --stage grad`, and the reference side of
// `check`. With gradient_outputs, @train_step has an output "grad.P" for each trained parameter P.
void make_train_step(Module& module, bool gradient_outputs = false);

// Lowers every function to a loop IR program with its memory plan and partition.
Lowered lower(const Module& module, const PipelineOptions& options);

}  // namespace gradc::passes
