// Calls a compiled program once and reads what it left behind as double-precision tensors. For checks and
// explanations, not for training.
#pragma once
#include <map>
#include <string>

#include "compiler/compile.h"
#include "ir/interpreter/interpreter.h"
#include "runtime/memory.h"

namespace gradc::driver {

using namespace compiler;

using Tensors = std::map<std::string, interpreter::Tensor>;

struct CallRequest {
  Tensors inputs;  // rows of each data field; converted to the fields' element types
  int64_t rows = 1;
  int64_t row_offset = 0;
  uint64_t seed = 1;
  uint64_t micro_step = 0;
  double scalars[GRADC_SCALAR_COUNT] = {0, 0, 1, 1, 0, 1};
};

// A parameter block and an arena, and calls on them by one thread.
class NativeCaller {
 public:
  explicit NativeCaller(const CompiledModel& compiled);

  // Runs program "init", "train_step", "update", "eval" or "predict"; returns what the entry returned. The
  // arena is filled with bytes that read as NaN first, so that a value no kernel wrote shows.
  int32_t call(const std::string& name, const CallRequest& request);
  // Outputs of the last call by name, and values it stored in the arena or the parameter block.
  const Tensors& outputs() const { return outputs_; }
  // False when the value's memory is not readable after a call (it went straight to an output).
  bool stored(const passes::LoweredProgram& program, const passes::StoredValue& value,
              interpreter::Tensor& result) const;

  interpreter::Tensor symbol(const std::string& name) const;
  Tensors symbols() const;
  void set_symbol(const std::string& name, const interpreter::Tensor& value);

 private:
  const gradc_symbol& find(const std::string& name) const;
  const CompiledModel& compiled_;
  runtime::AlignedBlock parameters_, arena_;
  Tensors outputs_;
  int64_t rows_ = 1;
};

// Elements of row-major memory as doubles and back. `elements` counts all rows.
void from_memory(const void* memory, DType dtype, int64_t elements, double* values);
void to_memory(const double* values, DType dtype, int64_t elements, void* memory);
int64_t bytes_of(DType dtype);

}  // namespace gradc::driver
