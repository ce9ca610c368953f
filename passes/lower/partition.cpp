// Puts barriers where one thread's part of a call meets another's: a call waits if it touches memory that a
// call since the last barrier wrote, or writes what one read, unless both reach only their own, equal parts
// of it. Then the guard before the first write to a symbol.
#include "passes/lower/lowering.h"

namespace gradc::passes::lowering {

namespace {

bool serial(const loop::Partition& p) { return p == loop::Partition{}; }

// Memory of a thread's own has an allocation for each call that uses it, so it never conflicts.
bool conflict(const loop::Partition& pa, const Touch& a, const loop::Partition& pb, const Touch& b) {
  if (a.allocation != b.allocation || (!a.writes && !b.writes)) return false;
  if (serial(pa) && serial(pb)) return false;  // thread 0 does both
  return !(pa == pb && a.reach == b.reach && a.reach != Reach::anything);
}

}  // namespace

// Runs before memory is shared between values: the plan (plan_memory.cpp) shares only across barriers.
void place_barriers(Lowering& l) {
  const std::vector<loop::Allocation>& allocations = l.result.program.allocations;
  const int guard = l.result.program.guard;
  bool guarded = guard < 0;
  size_t window = 0;  // the first call after the last barrier
  for (size_t c = 0; c < l.calls.size(); ++c) {
    PendingCall& call = l.calls[c];
    bool writes_symbol = false;
    for (const Touch& t : call.touches)
      writes_symbol = writes_symbol || (t.writes && allocations[static_cast<size_t>(t.allocation)].space ==
                                                        loop::Space::parameter);
    const bool guards = writes_symbol && !guarded;
    bool wait =
        guards;  // every thread must see the guard's value, and none may write before all have seen it
    for (size_t p = window; p < c && !wait; ++p)
      for (const Touch& a : call.touches)
        for (const Touch& b : l.calls[p].touches)
          wait = wait || conflict(call.call.partition, a, l.calls[p].call.partition, b);
    call.call.guard_before = guards;
    guarded = guarded || guards;
    call.call.barrier_before = wait && c > 0;
    if (call.call.barrier_before) window = c;
  }
}

}  // namespace gradc::passes::lowering
