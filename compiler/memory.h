// The memory a model's programs take, known from their memory plans, and how to stay below a limit. Knows no
// operator.
#pragma once
#include <string>

#include "compiler/compile.h"

namespace gradc::compiler {

// Bytes of one session, besides the process itself and the data set.
struct MemoryPlan {
  int64_t parameters = 0;  // with state, optimizer state, averages and gradient sums
  int64_t working = 0;     // arena, local and scratch memory: programs take turns
  int64_t buffers = 0;     // inputs and outputs of one batch
  int threads = 1;         // as many as a session starts: no more than one of the programs can use
  int64_t peak() const { return parameters + working + buffers; }
};
// `threads`: as --threads says it, 0 for the processors.
MemoryPlan memory_plan(const passes::Lowered& lowered, int64_t batch, int threads);

// "12.34 MB"
std::string megabytes(double bytes);

// Makes the request one whose peak is at most `limit` bytes, and says what it took: first what backward
// computes again (the same bits as without), then batches in pieces whose gradients add up, where examples do
// not depend on each other. An empty text: nothing was needed. Throws RunError (exit 2) when it cannot be
// reached, with what can; and as load_model does.
std::string fit_memory(CompileRequest& request, int threads, int64_t limit);

}  // namespace gradc::compiler
