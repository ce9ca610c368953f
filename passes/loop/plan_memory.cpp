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

#include "passes/loop/accesses.h"
#include "passes/loop/passes.h"
#include "passes/loop/spacing.h"
#include "passes/lowered.h"

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

// The values of the arena and of local memory with their live ranges, and the number of the last phase. Phases are the
// times between two barriers; those inside a segment do not count.
std::pair<std::vector<Value>, int> live_values(const loop::Program& program) {
  std::vector<Value> values;
  std::map<int, size_t> index;
  for (size_t a = 0; a < program.allocations.size(); ++a) {
    const loop::Allocation& allocation = program.allocations[a];
    if (allocation.space != loop::Space::arena && allocation.space != loop::Space::local) continue;
    index[static_cast<int>(a)] = values.size();
    values.push_back({static_cast<int>(a), allocation.space,
                      spaced_bytes(allocation.space == loop::Space::local
                                       ? panel_bytes(program, allocation)
                                       : allocation.elements * loop::bytes(allocation.scalar))});
  }
  std::set<size_t> inside;
  for (const loop::Segment& s : program.segments)
    for (int c = s.first + 1; c < s.last; ++c) inside.insert(static_cast<size_t>(c));
  int phase = 0;
  for (size_t c = 0; c < program.calls.size(); ++c) {
    phase += program.calls[c].barrier_before && !inside.count(c);
    for (const loop::CallBuffer& b : program.calls[c].buffers) {
      const auto it = index.find(b.allocation);
      if (it == index.end()) continue;
      Value& v = values[it->second];
      if (v.first < 0) v.first = phase;
      v.last = phase;
    }
  }
  return {std::move(values), phase};
}

}  // namespace

bool plan_memory(loop::Program& program, const PipelineOptions& options) {
  std::vector<Value> values = live_values(program).first;
  const int64_t arena = place(values, loop::Space::arena, options.keep_all_values);
  const int64_t local = place(values, loop::Space::local, false);
  bool changed = arena != program.arena_bytes || local != program.local_bytes;
  program.arena_bytes = arena;
  program.local_bytes = local;
  for (const Value& v : values) {
    int64_t& offset = program.allocations[static_cast<size_t>(v.allocation)].offset;
    changed = changed || offset != v.offset;
    offset = v.offset;
  }
  return changed;
}

}  // namespace gradc::passes::lowering

namespace gradc::passes {

int64_t least_arena_bytes(const loop::Program& program) {
  const auto [values, last] = lowering::live_values(program);
  int64_t most = 0;
  for (int at = 0; at <= last; ++at) {
    int64_t alive = 0;
    for (const auto& v : values)
      if (v.space == loop::Space::arena && v.first <= at && at <= v.last) alive += v.bytes;
    most = std::max(most, alive);
  }
  return most;
}

}  // namespace gradc::passes
