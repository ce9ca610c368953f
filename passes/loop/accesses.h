// What the calls of a program declare to access, as the passes on loop IR compare it.
#pragma once
#include <vector>

#include "ir/loop/loop_ir.h"

namespace gradc::passes::lowering {

struct MemoryAccess : loop::CallBuffer {
  bool writes = false;
};

// The accesses of a call, one for each buffer of its kernel.
std::vector<MemoryAccess> accesses_of(const loop::Program& program, const loop::Call& call);

// Whether two accesses are of the same memory and one of them writes.
inline bool conflict(const MemoryAccess& a, const MemoryAccess& b) {
  return a.allocation == b.allocation && (a.writes || b.writes);
}

}  // namespace gradc::passes::lowering
