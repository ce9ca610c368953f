// The passes on loop IR, in the order in which they run: they order calls, insert barriers and the guard, and give values
// their offsets. Each reads the accesses that calls declare (loop::CallBuffer), and returns whether the program changed.
// Knows nothing of operators.
#pragma once
#include "ir/loop/loop_ir.h"
#include "passes/options.h"

namespace gradc::passes::lowering {

bool make_segments(loop::Program& program, const PipelineOptions& options);
bool place_barriers(loop::Program& program, const PipelineOptions& options);
bool plan_memory(loop::Program& program, const PipelineOptions& options);

}  // namespace gradc::passes::lowering
