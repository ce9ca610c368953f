// The memory that a program needs to run.
#include "ir/loop/loop_ir.h"
#include "runtime/panels.h"

namespace gradc::loop {

int64_t working_bytes(const Program& p, int threads) {
  gradc_entry_info entry{};
  entry.arena_bytes = p.arena_bytes;
  entry.panels = static_cast<int32_t>(p.panels);
  entry.local_bytes = p.local_bytes;
  entry.scratch_bytes = p.scratch_bytes;
  return runtime::working_bytes(entry, threads);
}

int64_t panel_bytes(const Program& p, const Allocation& a) { return a.elements / p.panels * bytes(a.scalar); }

}  // namespace gradc::loop
