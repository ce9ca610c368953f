// Orders calls so that those which work panel by panel are adjacent, and lets a thread run such a segment for one of
// its panels after the other, images a band of rows at a time: what a call writes is read by the next while it is in
// the caches, instead of after the whole batch has evicted it.
//
//   call 3 sweep         over panels * 32              call 2 weights       over 16
//   call 2 weights       over 16                       call 3 sweep         over panels * 32
//   call 4 convolution   over panels * 8         ->    call 4 convolution   over panels * 8
//   call 5 sum of sums   over 16                       call 6 gradient      over panels * 1
//   call 6 gradient      over panels * 1               call 5 sum of sums   over 16
//                                                      segment 1 to 4 (17, 4, 0) (32, 8, 1)
//
// A segment ends where a call needs what is known only when all panels have been worked on: a sum over the
// batch, an updated parameter. Calls that are not split over panels go before the segment where they do not depend on
// it, else after it. Bands follow from the rows that each chunk reads and writes (MemoryAccess::rows): a call whose
// rows no other call of the segment reads advances evenly, the others as far as their readers need; one that reads
// whole panels runs in the last band.
//
// Order of summation and results are the same in any order of calls.
#include <algorithm>
#include <set>

#include "passes/loop/accesses.h"
#include "passes/loop/passes.h"
#include "passes/loop/spacing.h"

namespace gradc::passes::lowering {

namespace {

using loop::AccessScope;

struct PendingCall {
  loop::Call call;
  std::vector<MemoryAccess> accesses;
};

bool by_panels(const PendingCall& c) {
  const loop::Partition& p = c.call.partition;
  return p.kind == loop::Partition::Extent::panels && p.unit == 1 && p.rows == 1;
}

bool within_panel(const MemoryAccess& t) {
  return t.scope == AccessScope::own_panels || t.scope == AccessScope::panel;
}

class Segments {
 public:
  Segments(loop::Program& program, const PipelineOptions& options) : p_(program), options_(options) {
    for (loop::Call& c : p_.calls) {
      std::vector<MemoryAccess> accesses = accesses_of(p_, c);
      calls_.push_back({std::move(c), std::move(accesses)});
    }
  }

  void run() {
    find_last_uses();
    for (size_t i = 0; i < calls_.size(); ++i) {
      PendingCall& c = calls_[i];
      const bool goes_after = depends_on_any(c, after_);
      if (by_panels(c)) {
        if (goes_after || !fits(c) || too_much_idle(i)) close();
        if (segment_.empty()) begin_ = i;
        segment_.push_back(std::move(c));
      } else if (goes_after || depends_on_any(c, segment_)) {
        after_.push_back(std::move(c));
      } else {
        done_.push_back(std::move(c));
      }
    }
    close();
    if (!options_.keep_all_values) find_locals();
    p_.calls.clear();
    for (PendingCall& c : done_) p_.calls.push_back(std::move(c.call));
  }

 private:
  const loop::Allocation& allocation(const MemoryAccess& t) const {
    return p_.allocations[static_cast<size_t>(t.allocation)];
  }
  bool in(const MemoryAccess& t, loop::Space space) const { return allocation(t).space == space; }
  int64_t bytes(const MemoryAccess& t) const {
    return allocation(t).elements * loop::bytes(allocation(t).scalar);
  }

  void find_last_uses() {
    for (size_t i = 0; i < calls_.size(); ++i)
      for (const MemoryAccess& t : calls_[i].accesses) {
        first_use_.emplace(t.allocation, i);
        last_use_[t.allocation] = i;
        if (in(t, loop::Space::arena)) largest_ = std::max(largest_, bytes(t));
      }
  }

  // Values that only calls of one segment access, panel by panel, need memory for the current panels alone.
  void find_locals() {
    std::vector<int> segment_of(done_.size(), -1);
    for (size_t s = 0; s < p_.segments.size(); ++s)
      for (int c = p_.segments[s].first; c < p_.segments[s].last; ++c)
        segment_of[static_cast<size_t>(c)] = static_cast<int>(s);
    std::map<int, int> home;  // by allocation: the segment that it is local to, or -1
    for (size_t c = 0; c < done_.size(); ++c)
      for (const MemoryAccess& t : done_[c].accesses)
        if (in(t, loop::Space::arena)) {
          int& so_far = home.emplace(t.allocation, segment_of[c]).first->second;
          if (so_far != segment_of[c] || !within_panel(t)) so_far = -1;
        }
    for (const auto& [number, segment] : home) {
      if (segment < 0) continue;
      loop::Allocation& a = p_.allocations[static_cast<size_t>(number)];
      a.space = loop::Space::local;
      a.offset = p_.local_bytes;  // an offset of its own, until the memory plan
      p_.local_bytes += spaced_bytes(panel_bytes(p_, a));
    }
  }

  // Whether too many bytes of the segment's values are dead from the given call on; their memory could be reused if the
  // segment ended. The limit is the size of the largest value for those computed in the segment, three times that for
  // those computed before it (batchnorm's gradient leaves two: its result's gradient and its operand).
  bool too_much_idle(size_t call) const {
    std::set<int> seen;
    int64_t own = 0, others = 0;
    for (const PendingCall& c : segment_)
      for (const MemoryAccess& t : c.accesses)
        if (in(t, loop::Space::arena) && within_panel(t) && last_use_.at(t.allocation) < call &&
            seen.insert(t.allocation).second)
          (first_use_.at(t.allocation) < begin_ ? others : own) += bytes(t);
    return own > largest_ || others > 3 * largest_;
  }

  // Writes to symbols also depend on the guard: they run when the loss is known to be finite.
  bool depends(const PendingCall& c, const PendingCall& earlier) const {
    for (const MemoryAccess& a : c.accesses)
      for (const MemoryAccess& b : earlier.accesses)
        if (conflict(a, b) ||
            (a.writes && in(a, loop::Space::parameter) && b.writes && b.allocation == p_.guard))
          return true;
    return false;
  }
  bool depends_on_any(const PendingCall& c, const std::vector<PendingCall>& earlier) const {
    return std::any_of(earlier.begin(), earlier.end(), [&](const PendingCall& e) { return depends(c, e); });
  }

  // Whether its only conflicts with the segment's calls are reads, within panels, of what they wrote.
  bool fits(const PendingCall& c) const {
    for (const MemoryAccess& t : c.accesses)
      for (const PendingCall& e : segment_)
        for (const MemoryAccess& made : e.accesses)
          if (conflict(t, made) && (t.writes || !within_panel(t) || !within_panel(made))) return false;
    return true;
  }

  void close() {
    const auto first = static_cast<int>(done_.size());
    const std::vector<std::vector<int64_t>> bands = make_bands();
    for (auto* list : {&segment_, &after_}) {
      for (PendingCall& c : *list) done_.push_back(std::move(c));
      if (list == &segment_ && !bands.empty())
        p_.segments.push_back({first, static_cast<int>(done_.size()), bands});
      list->clear();
    }
  }

  // A dependence: a call of the segment reads what an earlier one wrote.
  struct Need {
    size_t maker, reader;
    const MemoryAccess *made, *read;
  };

  std::vector<Need> needs() const {
    std::vector<Need> result;
    for (size_t r = 0; r < segment_.size(); ++r)
      for (size_t m = 0; m < r; ++m)
        for (const MemoryAccess& read : segment_[r].accesses)
          for (const MemoryAccess& made : segment_[m].accesses)
            if (conflict(read, made)) result.push_back({m, r, &made, &read});
    return result;
  }

  int64_t extent(size_t call) const { return segment_[call].call.partition.extent; }

  // Chunks of `need.maker` that must be complete before the first `chunks` chunks of its reader.
  int64_t chunks_needed(const Need& need, int64_t chunks) const {
    const int64_t all = extent(need.maker);
    if (chunks == 0) return 0;
    if (need.read->rows.empty() || need.made->rows.empty()) return all;
    int64_t row = 0, made = 0;
    for (int64_t p = 0; p < chunks; ++p) row = std::max(row, need.read->rows[static_cast<size_t>(p)].end);
    while (made < all && (made == 0 || need.made->rows[static_cast<size_t>(made - 1)].end < row)) ++made;
    return made;
  }

  // Loop IR's bands; none where no call reads what another made.
  std::vector<std::vector<int64_t>> make_bands() const {
    const std::vector<Need> all = needs();
    if (all.empty()) return {};
    std::set<int> touched;
    int64_t panel_bytes = 0, most = 1;
    for (const PendingCall& c : segment_) {
      most = std::max(most, c.call.partition.extent);
      for (const MemoryAccess& t : c.accesses)
        if (within_panel(t) && touched.insert(t.allocation).second) panel_bytes += bytes(t) / p_.panels;
    }
    // What the calls access for a band leaves the second-level cache some room for weights.
    const int64_t band_bytes = options_.machine.l2 / 8 * 5;
    const int64_t count = std::clamp<int64_t>((panel_bytes + band_bytes - 1) / band_bytes, 1, most);
    std::vector<std::vector<int64_t>> bands(static_cast<size_t>(count),
                                            std::vector<int64_t>(segment_.size(), 0));
    for (int64_t band = 0; band < count; ++band) {
      std::vector<int64_t>& chunks = bands[static_cast<size_t>(band)];
      for (size_t c = segment_.size(); c-- > 0;) {
        bool independent = true;  // no call of the segment needs it chunk by chunk
        bool whole = false;       // it reads whole panels
        int64_t needed = 0;
        for (const Need& need : all) {
          if (need.maker == c && !need.read->rows.empty() && !need.made->rows.empty()) independent = false;
          if (need.maker == c) needed = std::max(needed, chunks_needed(need, chunks[need.reader]));
          if (need.reader == c) whole = whole || need.read->rows.empty() || need.made->rows.empty();
        }
        if (independent && !whole) needed = std::max(needed, (extent(c) * (band + 1) + count - 1) / count);
        if (band + 1 == count) needed = extent(c);
        if (band > 0) needed = std::max(needed, bands[static_cast<size_t>(band - 1)][c]);
        chunks[c] = needed;
      }
    }
    bands.erase(std::unique(bands.begin(), bands.end()), bands.end());
    return bands;
  }

  loop::Program& p_;
  const PipelineOptions& options_;
  std::vector<PendingCall> calls_;
  std::vector<PendingCall> done_, segment_, after_;
  size_t begin_ = 0;                            // the segment's first call
  std::map<int, size_t> first_use_, last_use_;  // by allocation: the calls that access it
  int64_t largest_ = 0;                         // bytes of a value in the arena
};

}  // namespace

bool make_segments(loop::Program& program, const PipelineOptions& options) {
  // Not where memory is limited: a segment's values are all live at once.
  if (options.recompute > 1 || !program.segments.empty()) return false;
  const std::vector<loop::Call> before = program.calls;
  Segments(program, options).run();
  return !program.segments.empty() || program.calls != before;
}

}  // namespace gradc::passes::lowering
