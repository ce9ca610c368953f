// The result of lowering a module: loop IR programs, and the layout of their inputs, outputs and symbols.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ir/loop/loop_ir.h"
#include "ir/tensor/module.h"

namespace gradc::passes {

// Where a kernel stores a value, for `check` and NaN reports.
struct StoredValue {
  const Op* op = nullptr;
  int allocation = -1;     // index into the program's allocations
  std::vector<int> order;  // batched: the example's axes as they are stored, outermost first
};

// The examples of a batched value that is stored in panels, in logical row-major order, one row after the other.
// `element(i)` reads element i of the value's memory.
std::vector<double> rows_of_panels(const StoredValue& value, int64_t rows, int64_t panel,
                                   const std::function<double(int64_t)>& element);

struct LoweredProgram {
  loop::Program program;
  std::vector<std::string> inputs;   // names in order of Space::input offsets
  std::vector<std::string> outputs;  // names in order of Space::output offsets
  std::vector<StoredValue> stored;
};

// The bytes of the arena's values that are live between two barriers, at most: a lower bound of any plan of the arena.
int64_t least_arena_bytes(const loop::Program& program);

struct Lowered {
  // By function name: "init", "train_step", "eval", "predict" (where present).
  std::map<std::string, LoweredProgram> programs;
  std::map<std::string, int64_t> symbol_offsets;  // bytes into the parameter block
  int64_t parameter_bytes = 0;
  bool stopped = false;  // stop_after ended the pipeline before lowering
};

}  // namespace gradc::passes
