// LLVM's side of a Target: set-up of the library, the machine code is made for, and what it can do. Private
// to codegen.
#pragma once
#include "codegen/jit.h"
#include "codegen/llvm_headers.h"

namespace gradc::codegen {

// Registers the host's back end and turns LLVM's fatal errors into InternalError; cheap after the first call.
void initialize_llvm();

// Throws RunError (exit 2) when LLVM does not know the triple or CPU.
llvm::orc::JITTargetMachineBuilder machine_builder(const Target& target);
std::unique_ptr<llvm::TargetMachine> make_machine(const Target& target);

inline bool has_fma(const Target& t) { return t.vector_width >= 8; }
inline bool has_avx512(const Target& t) { return t.vector_width >= 16; }

// The text of an llvm::Error, which it consumes.
std::string message(llvm::Error error);

}  // namespace gradc::codegen
