// The runtime's tables of a model's programs (runtime/abi.h), filled from what the compiler knows; without
// code.
#pragma once
#include <deque>
#include <string>
#include <vector>

#include "compiler/compile.h"

namespace gradc::compiler {

// The programs of a model in the ABI's order.
inline constexpr const char* kProgramNames[] = {"init", "train_step", "eval", "predict", "update"};

// The entry of one of kProgramNames.
gradc_entry_info& entry_of(gradc_program& program, const std::string& name);

// More threads than this gain nothing: each must save more than the barriers cost. From a rough estimate,
// which suffices because results do not depend on the number of threads.
int useful_threads(const passes::LoweredProgram& lowered, int64_t batch);

// Everything that program() points to lives here.
class ProgramTables {
 public:
  // `request`: what the model was compiled for; its file and settings are noted. With `strip` neither the
  // model's source nor settings are, and of absolute paths of data the last part alone: nothing that tells
  // of the model file or of the machine it was compiled on.
  ProgramTables(const LoadedModel& model, const passes::Lowered& lowered, const codegen::Target& target,
                int64_t batch, const CompileRequest& request, bool strip = false);
  ProgramTables(const ProgramTables&) = delete;

  // The `run` of every entry is null until the caller sets it; an entry the model lacks has no outputs
  // either.
  gradc_program& program() { return program_; }
  const gradc_program& program() const { return program_; }

 private:
  gradc_entry_info entry(const Function* f, const passes::LoweredProgram& lowered, const IndexRanges& ranges);
  const char* keep(std::string text);
  const int64_t* keep(const Shape& shape);

  gradc_program program_{};
  std::deque<std::string> texts_;
  std::deque<Shape> shapes_;
  std::deque<std::vector<gradc_symbol>> symbols_;
  std::deque<std::vector<gradc_input>> inputs_;
  std::deque<std::vector<gradc_index_range>> ranges_;
  std::deque<std::vector<gradc_output>> outputs_;
};

}  // namespace gradc::compiler
