// Programs to LLVM modules: which functions exist, and which module has which. Private to codegen.
#pragma once
#include "codegen/llvm_target.h"

namespace gradc::codegen {

// Kernels to generate, each once: equal in structure, panel and aliasing means one function for all programs.
struct KernelJob {
  const loop::Kernel* kernel;
  int64_t panel;
  std::vector<bool> exclusive;  // by buffer, see emit_kernel
  std::string symbol;           // unique
  bool once;                    // of programs that run once: small code
  size_t weight;                // roughly proportional to the time it takes to compile
  size_t stage;                 // the first of its programs' stages
};
struct Plan {
  std::vector<const loop::Program*> programs;
  std::vector<size_t> stages;  // by program: 0, or its position from 1 in CodegenOptions::apart
  std::vector<KernelJob> jobs;
  std::vector<std::vector<size_t>> calls;  // by program, by call: the job
};

// Verifies the programs; unsound ones are InternalErrors.
Plan make_plan(const std::vector<const loop::Program*>& programs, const CodegenOptions& options);

// Splits the given jobs into `groups` groups of about equal weight; those that run once stay together in the first
// group, as they share functions.
std::vector<std::vector<size_t>> split(const Plan& plan, const std::vector<size_t>& jobs, size_t groups);

// The user's file that debug info names as the one compiled.
std::string main_file(const std::vector<const loop::Program*>& programs);

// All that determines the bytes of the object made from build_module's result with these arguments: gradc's code
// generator, LLVM's version, target, options, the jobs' kernels with their locations, and the entries.
std::string object_key(const Plan& plan, const std::vector<size_t>& jobs, const std::vector<size_t>& entries,
                       const Target& target, const CodegenOptions& options);

using Object = std::unique_ptr<llvm::MemoryBuffer>;

// The objects of the given stages of the plan (none given: of all): kernels are spread over modules, which several
// threads compile, each with its own LLVM context; a stage's entries are in a module without kernels.
// `cache` may be null.
std::vector<Object> compile_objects(const Plan& plan, const Target& target, const CodegenOptions& options,
                                    ObjectCache* cache, std::vector<size_t> stages = {});

// A module of the given jobs and of the entries of the given programs, after the clean-up passes (a module of entries
// alone is not cleaned up).
// Kernels are internal to a module that holds all of them and all entries, else visible to the others.
std::unique_ptr<llvm::Module> build_module(llvm::LLVMContext& context, const Plan& plan,
                                           const std::vector<size_t>& jobs,
                                           const std::vector<size_t>& entries, const Target& target,
                                           llvm::TargetMachine& machine, const CodegenOptions& options);

}  // namespace gradc::codegen
