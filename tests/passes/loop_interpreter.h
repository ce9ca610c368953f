// Runs loop IR programs statement by statement, so that lowering can be tested apart from LLVM. Floats are
// rounded as the program's types say; math functions are the C library's. Checks every access against the
// bounds of its allocation.
#pragma once
#include "ir/loop/loop_ir.h"
#include "runtime/abi.h"

namespace gradc::testing {

// Runs all calls as `threads` threads would, one after the other between barriers (so a missing barrier shows
// as a wrong result when the order of threads is reversed). Returns 1 when the guard stopped it. Throws
// std::runtime_error on an access out of bounds.
int run_program(const loop::Program& p, const gradc_step_args& args, int threads = 1, bool reversed = false);

}  // namespace gradc::testing
