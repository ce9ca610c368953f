// Runs one function through lowering, on the loop interpreter or as native code, with values given and
// returned as the reference interpreter's tensors.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "ir/interpreter/interpreter.h"
#include "passes/pipeline.h"

namespace gradc::testing {

enum class Engine { loops, native };

struct RunnerOptions {
  Engine engine = Engine::native;
  int threads = 1;
  bool reversed = false;  // loops only: threads take turns backwards
  int vector_width = 16;
  std::string target = "native";  // native only
  int64_t batch = 0;              // 0: the rows given
  std::vector<std::string> disable;
  bool keep_all = false;
  bool strict_math = false;
  int64_t l2 = 1 << 20;  // bytes of the second-level cache, which bands of images fit
  std::function<void(const passes::PassInfo&, loop::Program&)> tamper = {};  // PipelineOptions::tamper_loops
};

struct RunnerResult {
  int status = 0;
  std::map<std::string, interpreter::Tensor> outputs;
  std::map<std::string, interpreter::Tensor> symbols;  // all, after the run
  std::map<const Op*, interpreter::Tensor> stored;     // with keep_all
};

// Runs `function` of the module, whose tensor passes have been run.
RunnerResult run_lowered(const Module& module, const std::string& function,
                         const interpreter::RunInput& input, const RunnerOptions& options);

// The same, compiled once, in several numbers of threads.
std::vector<RunnerResult> run_lowered(const Module& module, const std::string& function,
                                      const interpreter::RunInput& input, const RunnerOptions& options,
                                      const std::vector<int>& threads);

// The module of a text, laid out and fused, ready for passes::lower; throws where it does not parse.
std::unique_ptr<Module> fused_module(const std::string& text);

// An input `name` of `rows` examples and every symbol of the module, uniform in [-1, 1) and rounded to f32.
interpreter::RunInput uniform_input(const Module& module, const std::string& name, const Type& type,
                                    int64_t rows, uint64_t seed);

}  // namespace gradc::testing
