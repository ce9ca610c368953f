// The runtime's tables of a model's programs (runtime/abi.h), without code.
#pragma once
#include <deque>
#include <string>
#include <vector>

#include "compiler/compile.h"

namespace gradc::compiler {

// The programs of a model in the ABI's order.
inline constexpr const char* kProgramNames[] = {"init", "train_step", "eval", "predict", "update"};

// More threads than this gain nothing: each must save more than the barriers cost. From a rough estimate,
// which suffices because results do not depend on the number of threads.
int useful_threads(const passes::LoweredProgram& lowered, int64_t batch);

// Owns everything that program() points to.
class ProgramTables {
 public:
  // `request`: the one that the model was compiled for; its file and settings are recorded. With `strip` the model's
  // source and settings are left out, and absolute paths of data are reduced to their last component: nothing reveals
  // the model file or the machine it was compiled on.
  ProgramTables(const LoadedModel& model, const passes::Lowered& lowered, const codegen::Target& target,
                int64_t batch, const CompileRequest& request, bool strip = false);
  ProgramTables(const ProgramTables&) = delete;

  // The `run` of every entry is null until the caller sets it; an entry that does not exist has no outputs either.
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
