// Calls a compiled program once and reads the values that it stored as double-precision tensors. For checks and
// explanations, not for training.
#pragma once
#include <functional>
#include <string>

#include "compiler/compile.h"
#include "compiler/tensors.h"
#include "ir/interpreter/interpreter.h"
#include "runtime/memory.h"

namespace gradc::cli {

using namespace compiler;

struct CallRequest {
  Tensors inputs;  // rows of each data field; converted to the fields' element types
  int64_t rows = 1;
  int64_t row_offset = 0;
  uint64_t seed = 1;
  uint64_t micro_step = 0;
  double scalars[GRADC_SCALAR_COUNT] = GRADC_SCALAR_DEFAULTS;
};

// The same step's call of @update, which has no rows.
CallRequest update_call(CallRequest request);

// The interpreter's inputs to compute the same as the native call of this request: fields of the
// batch, the step's scalars, and the rows' offset in the batch. Other inputs (gradients that only @update takes) are
// given in `more`.
interpreter::RunInput interpreter_input(const Function& f, const CallRequest& request, const Tensors& symbols,
                                        const Tensors& more = {});

// A parameter block and an arena, and calls on them by one thread.
class NativeCaller {
 public:
  explicit NativeCaller(const CompiledModel& compiled);

  // Runs programs by an engine instead of native code, with scratch memory for so many threads. It must store outputs
  // and parameters as the native entries do.
  using Engine = std::function<int32_t(const std::string& program, const gradc_step_args& args)>;
  void set_engine(Engine engine, int threads);

  // Runs program "init", "train_step", "update", "eval" or "predict"; returns what the entry returned. The arena is
  // filled with NaN first, so that a value that no kernel wrote is detected.
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
  Engine engine_;  // null: the native entries
  runtime::AlignedBlock parameters_, arena_;
  Tensors outputs_;
  int64_t rows_ = 1;
};

int64_t bytes_of(DType dtype);

}  // namespace gradc::cli
