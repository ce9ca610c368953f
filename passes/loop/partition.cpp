// Inserts barriers where accesses of different threads conflict: before a call that accesses memory which a call since
// the last barrier wrote, or writes what one read, unless every thread accesses only its own chunk of it in both, under
// the same partition. Then inserts the guard before the first write to a symbol.
//
// Barriers inside a segment count only when its calls run one after the other; when they run panel by panel there is
// none inside, and a thread's chunk of the segment is whole panels. So no conflict between a call of a segment and one
// outside it is exempt, and calls after a segment are checked against all calls since the last barrier outside of
// segments.
#include <algorithm>

#include "passes/loop/accesses.h"
#include "passes/loop/passes.h"

namespace gradc::passes::lowering {

namespace {

bool serial(const loop::Partition& p) { return p == loop::Partition{}; }

// Thread-local memory has an allocation for each call that uses it, so it never conflicts.
bool needs_barrier(const loop::Partition& pa, const MemoryAccess& a, const loop::Partition& pb,
                   const MemoryAccess& b) {
  if (!conflict(a, b)) return false;
  if (serial(pa) && serial(pb)) return false;  // thread 0 does both
  return !(pa == pb && a.scope == b.scope &&
           (a.scope == loop::AccessScope::own_axis0 || a.scope == loop::AccessScope::own_panels));
}

}  // namespace

// Runs before offsets overlap: the memory plan (plan_memory.cpp) reuses memory only across barriers.
bool place_barriers(loop::Program& program, const PipelineOptions&) {
  std::vector<loop::Call>& calls = program.calls;
  std::vector<std::vector<MemoryAccess>> accesses;
  for (const loop::Call& c : calls) accesses.push_back(accesses_of(program, c));
  bool guarded = program.guard < 0;
  // The segment that a call is in, or -1.
  std::vector<int> segment_of(calls.size(), -1);
  for (size_t s = 0; s < program.segments.size(); ++s)
    for (int c = program.segments[s].first; c < program.segments[s].last; ++c)
      segment_of[static_cast<size_t>(c)] = static_cast<int>(s);
  const auto begins = [&](size_t c) {
    return segment_of[c] >= 0 && (c == 0 || segment_of[c - 1] != segment_of[c]);
  };
  const auto conflicts = [&](size_t c, size_t earlier) {
    for (const MemoryAccess& t : accesses[c])
      for (const MemoryAccess& u : accesses[earlier]) {
        if (segment_of[c] != segment_of[earlier]
                ? conflict(t, u)
                : needs_barrier(calls[c].partition, t, calls[earlier].partition, u))
          return true;
      }
    return false;
  };
  bool changed = false;
  size_t window = 0;   // the first call after the last barrier
  size_t outside = 0;  // the first after the last barrier outside of segments, or at the head of one
  for (size_t c = 0; c < calls.size(); ++c) {
    const bool writes_symbol =
        std::any_of(accesses[c].begin(), accesses[c].end(), [&](const MemoryAccess& t) {
          return t.writes &&
                 program.allocations[static_cast<size_t>(t.allocation)].space == loop::Space::parameter;
        });
    const bool guards = writes_symbol && !guarded;
    bool wait =
        guards;  // every thread must see the guard's value, and none may write before all have seen it
    const bool inside = segment_of[c] >= 0 && !begins(c);
    if (begins(c)) {
      // No call of the segment may conflict with an earlier call.
      for (size_t m = c; m < calls.size() && segment_of[m] == segment_of[c]; ++m)
        for (size_t p = outside; p < c && !wait; ++p) wait = conflicts(m, p);
    } else {
      for (size_t p = inside ? window : outside; p < c && !wait; ++p) wait = conflicts(c, p);
    }
    guarded = guarded || guards;
    const bool barrier = wait && c > 0;
    changed = changed || calls[c].guard_before != guards || calls[c].barrier_before != barrier;
    calls[c].guard_before = guards;
    calls[c].barrier_before = barrier;
    if (barrier) window = c;
    if (barrier && !inside) outside = c;
  }
  return changed;
}

}  // namespace gradc::passes::lowering
