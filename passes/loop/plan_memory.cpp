// Gives every value an offset so that values with disjoint live ranges share memory: those of the arena, and separately
// those that are local to a segment. Live ranges are counted in barriers: values that are live between the same two
// barriers never share, so sharing adds no dependence between threads. The barriers
// inside a segment do not count: its calls may run without them.
//
// Largest first, each at the lowest offset that is free during its live range (the greedy-by-size strategy of
// Pisarchyk and Lee 2020, "Efficient memory management for deep neural net inference").
#include <algorithm>
#include <map>
#include <set>

#include "passes/loop/draft.h"

namespace gradc::passes::lowering {

namespace {

struct Value {
  int allocation;
  loop::Space space;
  int64_t bytes, offset = -1;
  int first = -1, last = -1;
};

// Offsets of a space's values; returns the bytes that they take.
int64_t place(std::vector<Value>& values, loop::Space space, bool keep_all) {
  std::vector<Value*> order;
  for (Value& v : values)
    if (v.space == space) order.push_back(&v);
  std::stable_sort(order.begin(), order.end(),
                   [](const Value* a, const Value* b) { return a->bytes > b->bytes; });
  std::vector<const Value*> placed;  // by offset
  int64_t total = 0;
  for (Value* v : order) {
    int64_t at = 0;
    for (const Value* p : placed) {
      if (!keep_all && (p->last < v->first || v->last < p->first)) continue;
      if (at + v->bytes <= p->offset) break;
      at = std::max(at, p->offset + p->bytes);
    }
    v->offset = at;
    total = std::max(total, at + v->bytes);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), v,
                                   [](const Value* a, const Value* b) { return a->offset < b->offset; }),
                  v);
  }
  return total;
}

}  // namespace

void plan_memory(ProgramDraft& l) {
  std::vector<Value> values;
  std::map<int, size_t> index;
  std::vector<loop::Allocation>& allocations = l.result.program.allocations;
  for (size_t a = 0; a < allocations.size(); ++a) {
    const loop::Space space = allocations[a].space;
    if (space != loop::Space::arena && space != loop::Space::local) continue;
    index[static_cast<int>(a)] = values.size();
    values.push_back({static_cast<int>(a), space,
                      spaced_bytes(space == loop::Space::local
                                       ? panel_bytes(l.result.program, allocations[a])
                                       : allocations[a].elements * loop::bytes(allocations[a].scalar))});
  }
  int phase = 0;
  std::set<size_t> inside;
  for (const loop::Segment& s : l.result.program.segments)
    for (int c = s.first + 1; c < s.last; ++c) inside.insert(static_cast<size_t>(c));
  for (size_t number = 0; number < l.calls.size(); ++number) {
    const PendingCall& c = l.calls[number];
    phase += c.call.barrier_before && !inside.count(number);
    for (const MemoryAccess& t : c.accesses) {
      const auto it = index.find(t.allocation);
      if (it == index.end()) continue;
      Value& v = values[it->second];
      if (v.first < 0) v.first = phase;
      v.last = phase;
    }
  }
  l.result.program.arena_bytes = place(values, loop::Space::arena, l.options.keep_all_values);
  l.result.program.local_bytes = place(values, loop::Space::local, false);
  for (const Value& v : values) allocations[static_cast<size_t>(v.allocation)].offset = v.offset;
  for (int at = 0; at <= phase; ++at) {
    int64_t alive = 0;
    for (const Value& v : values)
      if (v.space == loop::Space::arena && v.first <= at && at <= v.last) alive += v.bytes;
    l.result.least_arena_bytes = std::max(l.result.least_arena_bytes, alive);
  }
}

}  // namespace gradc::passes::lowering
