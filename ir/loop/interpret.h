// Runs loop IR programs statement by statement, so that faults of lowering and of code generation can be distinguished.
// Floats are
// rounded as the program's types say; math functions are the C library's. Checks every access against the
// bounds of its allocation. Slow: some tens of nanoseconds for each element that is computed.
#pragma once
#include <cstdint>

#include "ir/loop/loop_ir.h"

namespace gradc::loop {

// The memory of a run: the fields of gradc_step_args (runtime/abi.h), which has their contracts.
struct RunMemory {
  uint8_t* arena = nullptr;       // followed by local and scratch memory, as in Program
  uint8_t* parameters = nullptr;  // allocations of Space::parameter
  const void* const* inputs = nullptr;
  void* const* outputs = nullptr;
  const double* scalars = nullptr;
  int64_t rows = 0, row_offset = 0;
  uint64_t seed = 0, micro_step = 0;
};

struct RunOptions {
  int threads = 1;
  bool reversed = false;  // threads run in reverse order
  // Every value of the arena, of local and of scratch memory is stored in memory of its own and its offset is ignored:
  // for programs whose memory is not planned yet. `arena` is not used.
  bool apart = false;
};

// Runs all calls as so many threads would, one after the other between barriers (so that a missing barrier
// shows as a wrong result in one of the two orders). Returns 1 when the guard stopped it, else 0. Throws
// std::runtime_error on an access out of bounds.
int interpret(const Program& program, const RunMemory& memory, const RunOptions& options = {});

}  // namespace gradc::loop
