// The memory that a model's programs take, from their memory plans, and how to stay below a limit. Knows no operator.
#pragma once
#include <string>

#include "compiler/compile.h"

namespace gradc::compiler {

// Bytes of one session, besides the process itself and the data set.
struct MemoryPlan {
  int64_t parameters = 0;  // with state, optimizer state, averages and gradient sums
  int64_t working = 0;     // arena, local and scratch memory: shared, since programs run one at a time
  int64_t buffers = 0;     // inputs and outputs of one batch
  int threads = 1;         // as many as a session starts: at most what one of the programs can use
  int64_t peak() const { return parameters + working + buffers; }
};
// `threads`: the value of --threads, 0 for the processors.
MemoryPlan memory_plan(const passes::Lowered& lowered, int64_t batch, int threads);

// "12.34 MB"
std::string megabytes(double bytes);

// Changes the request so that its peak is at most `limit` bytes, and returns a description of the change: first more
// recomputation in backward (which keeps all bits), then batches in pieces whose gradients add up, if examples do not
// depend on each other. Empty: nothing was needed. Throws RunError (exit 2) with the lowest possible peak when the
// limit cannot be met; and as load_model does.
std::string fit_memory(CompileRequest& request, int threads, int64_t limit);

}  // namespace gradc::compiler
