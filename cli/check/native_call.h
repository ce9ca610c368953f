// Calls a compiled program once and reads what it left behind as double-precision tensors. For checks and
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

// What the interpreter runs a function on to compute what the native call of this request does: fields of the
// batch, the step's scalars, and where the rows are in the batch. Inputs that are none of these (the gradient
// that @update takes alone) are given in `more`.
interpreter::RunInput interpreter_input(const Function& f, const CallRequest& request, const Tensors& symbols,
                                        const Tensors& more = {});

// A parameter block and an arena, and calls on them by one thread.
class NativeCaller {
 public:
  explicit NativeCaller(const CompiledModel& compiled);

  // Has programs run by something else that computes the same, with scratch memory for so many threads. The
  // outputs and parameters are where the native entries would leave them.
  using Engine = std::function<int32_t(const std::string& program, const gradc_step_args& args)>;
  void set_engine(Engine engine, int threads);

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
  Engine engine_;  // null: the native entries
  runtime::AlignedBlock parameters_, arena_;
  Tensors outputs_;
  int64_t rows_ = 1;
};

int64_t bytes_of(DType dtype);

}  // namespace gradc::cli
