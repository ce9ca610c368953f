#include "passes/loop/accesses.h"

namespace gradc::passes::lowering {

std::vector<MemoryAccess> accesses_of(const loop::Program& program, const loop::Call& call) {
  std::vector<MemoryAccess> list;
  for (size_t b = 0; b < call.buffers.size(); ++b)
    list.push_back({call.buffers[b], loop::writes(program, call, b)});
  return list;
}

}  // namespace gradc::passes::lowering
