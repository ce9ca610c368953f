// Loop IR to an LLVM module: what kernels, entries and their debug info share. Private to codegen.
#pragma once
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "codegen/llvm_target.h"
#include "codegen/vector_math.h"
#include "ir/loop/loop_ir.h"

namespace gradc::codegen {

// The location in debug info: for prelude code, which is no file on disk, the line of the user's file that called it.
Location shown_location(const Location& location);

// DWARF line tables: the .nn line of each statement, for debuggers, profilers and crash reports.
class DebugInfo {
 public:
  DebugInfo(llvm::Module& module, const std::string& main_file);
  void enter_function(llvm::Function& f, const std::string& shown_name, const Location& location);
  llvm::DebugLoc at(const Location& location);  // within the function entered last
  void finish() { builder_.finalize(); }

 private:
  llvm::DIFile* file(const std::string& name);
  llvm::DIBuilder builder_;
  llvm::DICompileUnit* unit_ = nullptr;
  llvm::DISubprogram* function_ = nullptr;
  std::map<std::string, llvm::DIFile*> files_;
  std::map<llvm::DIFile*, llvm::DIScope*> scopes_;  // of other files, within function_
};

struct EmitContext {
  llvm::Module& module;
  const Target& target;
  DebugInfo* debug = nullptr;  // null: none
  bool small = false;          // elementary functions and random words are calls, not inlined
};

// Attributes every generated function carries: the target, no exceptions, denormals flushed.
void set_function_attributes(llvm::Function& f, const Target& target);

// void(args, lo, hi, buffers...).
llvm::FunctionType* kernel_type(llvm::LLVMContext& context, const loop::Kernel& kernel);

// A kernel as a function of that type. `exclusive[i]`: no other buffer of any of its calls overlaps buffer i,
// or neither is written.
llvm::Function* emit_kernel(const EmitContext& context, const loop::Kernel& kernel, int64_t panel,
                            const std::vector<bool>& exclusive, const std::string& symbol,
                            llvm::GlobalValue::LinkageTypes linkage);

// The function SYMBOL(args, thread, threads) that makes the program's calls; kernels[i] is the function of
// calls[i]. With `profile` it records the time of each, see gradc_step_args.profile.
llvm::Function* emit_entry(const EmitContext& context, const loop::Program& program,
                           const std::string& symbol, const std::vector<llvm::Function*>& kernels,
                           bool profile);

// Two kernels with equal keys generate equal code: everything but names and, unless `locations`, the locations in debug
// info.
std::string kernel_key(const loop::Kernel& kernel, bool locations = false);

}  // namespace gradc::codegen
