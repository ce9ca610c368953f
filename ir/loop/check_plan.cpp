// Each check takes the accesses of two calls (accesses.h) and searches for a proof that they do not conflict where they
// may run at the same time, or in another order than the program's.
#include "ir/loop/check_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "ir/loop/accesses.h"
#include "ir/loop/linear.h"
#include "runtime/panels.h"

namespace gradc::loop {

namespace {

using Facts = std::vector<Linear>;

Facts equal(const Linear& a, const Linear& b) { return {a - b, b - a}; }

Facts joined(const Facts& a, const Facts& b) {
  Facts r = a;
  r.insert(r.end(), b.begin(), b.end());
  return r;
}

// Which units of two calls run on one thread.
enum class Sharing : uint8_t {
  nothing,  // any unit of one may run concurrently with any unit of the other
  units,    // equal partitions: units of different numbers run concurrently
  panels,   // both run panel by panel: units of different panels do
};

// Searches for proofs about two calls' accesses, by different threads.
class Pair {
 public:
  Pair(const KernelAccesses& a, const KernelAccesses& b) : atoms_(a.atoms) {
    offset_ = atoms_.append(b.atoms, kSharedAtoms);
  }

  // Whether x of the first call and y of the second access different elements wherever their units may run at the same
  // time.
  bool apart(const MemoryUse& x, const MemoryUse& y, Sharing sharing) {
    const auto [known, fresh] = apart_.try_emplace({x.shape, y.shape, sharing});
    if (fresh) known->second = are_apart(x, y, sharing);
    return known->second;
  }

 private:
  bool are_apart(const MemoryUse& x, const MemoryUse& y, Sharing sharing) const {
    MemoryUse there = y;
    there.at = renumbered(y.at, kSharedAtoms, offset_);
    for (Linear& f : there.facts) f = renumbered(f, kSharedAtoms, offset_);
    for (OwnUnit& o : there.owners) {
      o.at = renumbered(o.at, kSharedAtoms, offset_);
      for (int* atom : {&o.owner.unit, &o.owner.panel, &o.owner.chunk})
        if (*atom >= 0) *atom += offset_;
    }
    if (apart_at_all(x, there, sharing)) return true;
    // One constant after the other where the hull of all is too large.
    if (x.constants.size() * y.constants.size() == 1 || x.constants.size() * y.constants.size() > 64)
      return false;
    MemoryUse one = x, other = there;
    for (const int64_t c : x.constants)
      for (const int64_t d : y.constants) {
        one.constants = {c};
        other.constants = {d};
        if (!apart_at_all(one, other, sharing)) return false;
      }
    return true;
  }

  bool apart_at_all(const MemoryUse& x, const MemoryUse& y, Sharing sharing) const {
    const Facts facts = joined(x.facts, y.facts);
    if (sharing == Sharing::nothing) return distinct(x, y, facts, {});
    for (const OwnUnit& a : x.owners)
      for (const OwnUnit& b : y.owners) {
        MemoryUse mine = x, theirs = y;
        mine.at = a.at;
        theirs.at = b.at;
        if (others_apart(mine, theirs, facts, a.owner, b.owner, sharing)) return true;
      }
    return distinct(x, y, facts, {});
  }

  bool others_apart(const MemoryUse& x, const MemoryUse& y, const Facts& facts, const Owner& a,
                    const Owner& b, Sharing sharing) const {
    const auto either_way = [&](int m, int n, const Facts& more) {
      for (const int sign : {1, -1}) {
        Facts all = joined(facts, more);
        const Linear differ = (Linear::atom(m) - Linear::atom(n)) * sign - 1;
        if (atoms_.proves(differ * -1 - 1, all)) continue;  // they do not
        all.push_back(differ);
        // And the bounds of each from the range of the other.
        const Linear greater = Linear::atom(sign > 0 ? m : n), less = Linear::atom(sign > 0 ? n : m);
        all.push_back(greater - (atoms_.least(less, facts) + 1));
        all.push_back(less * -1 + (atoms_.greatest(greater, facts) - 1));
        if (!distinct(x, y, all, {m, n})) return false;
      }
      return true;
    };
    if (a.unit >= 0 && b.unit >= 0) return either_way(a.unit, b.unit, {});
    if (a.panel < 0 || b.panel < 0 || !either_way(a.panel, b.panel, {})) return false;
    if (sharing == Sharing::panels) return true;
    const Facts same = equal(Linear::atom(a.panel), Linear::atom(b.panel));
    if (a.chunk < 0 || b.chunk < 0) return true;
    return either_way(a.chunk, b.chunk, same);
  }

  // Whether the elements differ where the facts hold: one access is above the other, or they differ by rows or by
  // counters.
  bool distinct(const MemoryUse& x, const MemoryUse& y, const Facts& facts, const std::vector<int>& taken,
                int splits = kMostSplits) const {
    const Linear above = x.at - y.at + (x.constants.front() - y.constants.back() - y.width);
    const Linear below = y.at - x.at + (y.constants.front() - x.constants.back() - x.width);
    const auto separated = [&](const Facts& f) { return atoms_.proves(above, f) || atoms_.proves(below, f); };
    return (splits > 0 && distinct_by_rows(x, y, facts, taken, splits)) || separated(facts) ||
           distinct_by_counters(x, y, facts, taken, separated);
  }

  // Whether one is above the other where the counters that both multiply by the same number differ, or where these are
  // equal, assumed one by one, largest first.
  template <class F>
  static bool distinct_by_counters(const MemoryUse& x, const MemoryUse& y, Facts facts,
                                   std::vector<int> taken, const F& separated) {
    std::vector<std::pair<int64_t, std::pair<int, int>>> digits;
    for (const auto& [a, c] : x.at.terms)
      for (const auto& [b, d] : y.at.terms)
        if (c == d && a >= kSharedAtoms && b >= kSharedAtoms) digits.push_back({c, {a, b}});
    std::sort(digits.rbegin(), digits.rend());
    const auto is_taken = [&](int atom) {
      return std::find(taken.begin(), taken.end(), atom) != taken.end();
    };
    for (const auto& [c, pair] : digits) {
      const auto [a, b] = pair;
      if (is_taken(a) || is_taken(b)) continue;
      taken.push_back(a);
      taken.push_back(b);
      bool others = true;
      for (const int sign : {1, -1}) {
        Facts differ = facts;
        differ.push_back((Linear::atom(a) - Linear::atom(b)) * sign - 1);
        others = others && separated(differ);
      }
      if (!others) continue;
      facts = joined(facts, equal(Linear::atom(a), Linear::atom(b)));
      if (separated(facts)) return true;
    }
    return false;
  }

  // An access's elements as row * length + column, 0 <= column < length, which only one row and one column
  // give. A hull of several constants is one access of that width.
  struct Rows {
    MemoryUse row, column;
  };
  std::optional<Rows> rows_of(const MemoryUse& x, int64_t length, const Facts& facts) const {
    Rows r;
    Linear &row = r.row.at, &column = r.column.at;
    for (const auto& [atom, c] : x.at.terms) {
      if (c / length != 0) row.terms.emplace_back(atom, c / length);
      if (c % length != 0) column.terms.emplace_back(atom, c % length);
    }
    const int64_t least = atoms_.least(column, facts);
    if (least <= -kUnbounded) return std::nullopt;
    const int64_t first = x.at.constant + x.constants.front();
    row.constant = floor_div(least + first, length);
    column.constant = first - row.constant * length;
    r.row.constants = r.column.constants = {0};
    r.column.width = x.constants.back() - x.constants.front() + x.width;
    if (!atoms_.proves(column * -1 + (length - r.column.width), facts)) return std::nullopt;
    return r;
  }

  // Whether both accesses are in rows of one length and have no row in common, or no column in common where their rows
  // are equal. A row may be a sum of several counters: those that distinct_by_counters assumes equal one by one need
  // not be equal where rows are.
  bool distinct_by_rows(const MemoryUse& x, const MemoryUse& y, const Facts& facts,
                        const std::vector<int>& taken, int splits) const {
    std::set<int64_t, std::greater<>> lengths;
    for (const Linear* at : {&x.at, &y.at})
      for (const auto& [atom, c] : at->terms)
        if (std::abs(c) > 1) lengths.insert(std::abs(c));
    for (const int64_t length : lengths) {
      const std::optional<Rows> a = rows_of(x, length, facts);
      const std::optional<Rows> b = a ? rows_of(y, length, facts) : std::nullopt;
      if (!b) continue;
      const Facts same = joined(facts, equal(a->row.at, b->row.at));
      if (distinct(a->row, b->row, facts, taken, splits - 1) ||
          distinct(a->column, b->column, same, taken, splits - 1))
        return true;
    }
    return false;
  }

  static constexpr int kMostSplits = 2;

  Atoms atoms_;
  int offset_ = 0;
  std::map<std::tuple<int, int, Sharing>, bool> apart_;  // by shapes
};

class PlanChecker {
 public:
  PlanChecker(const Program& p, const PlanOptions& o)
      : p_(p),
        batch_(o.batch ? o.batch : p.panels * p.panel),
        most_(o.most_errors),
        segment_of_(p.calls.size(), -1) {
    for (size_t s = 0; s < p.segments.size(); ++s)
      for (int c = p.segments[s].first; c < p.segments[s].last; ++c)
        segment_of_[static_cast<size_t>(c)] = static_cast<int>(s);
  }

  std::vector<std::string> run() {
    derive();
    for (size_t c = 0; c < calls_.size(); ++c) bounds(c);
    races(false);
    if (!p_.segments.empty()) races(true);
    for (const Segment& s : p_.segments) order(s);
    lifetimes();
    guard();
    room();
    return std::move(errors_);
  }

 private:
  struct CallAccesses {
    KernelAccesses of;
    std::map<int, std::vector<const MemoryUse*>> by_allocation;
    std::set<int> written, read;  // allocations
  };

  const Allocation& allocation(int a) const { return p_.allocations[static_cast<size_t>(a)]; }
  const Kernel& kernel(size_t call) const { return p_.kernels[static_cast<size_t>(p_.calls[call].kernel)]; }
  std::string name(size_t call) const { return fmt::format("call {} `{}`", call, kernel(call).name); }

  template <class... A>
  void error(fmt::format_string<A...> text, A&&... a) {
    if (errors_.size() < most_) errors_.push_back(fmt::format(text, std::forward<A>(a)...));
  }

  void derive() {
    std::set<std::string> said;
    for (const Call& call : p_.calls) {
      CallAccesses& c = calls_.emplace_back();
      c.of = accesses_of(p_, call, batch_);
      for (const std::string& e : c.of.errors)
        if (said.insert(e).second) error("{}", e);
    }
    for (size_t i = 0; i < calls_.size(); ++i)
      for (const MemoryUse& a : calls_[i].of.accesses) {
        const int number = p_.calls[i].buffers[static_cast<size_t>(a.buffer)].allocation;
        calls_[i].by_allocation[number].push_back(&a);
        (a.writes ? calls_[i].written : calls_[i].read).insert(number);
      }
  }

  // "`%12`[0 to 1023], bytes 128 to 4223 of the arena (model.nn:3:5)"
  std::string text(size_t call, const MemoryUse& a) const {
    const Allocation& at = allocation(p_.calls[call].buffers[static_cast<size_t>(a.buffer)].allocation);
    const Atoms& atoms = calls_[call].of.atoms;
    const int64_t low = std::max(atoms.least(a.at, a.facts), atoms.least(a.in_remainders, a.facts));
    const int64_t high = std::min(atoms.greatest(a.at, a.facts), atoms.greatest(a.in_remainders, a.facts));
    const std::string where = a.location.valid() ? " (" + to_string(a.location) + ")" : "";
    if (low <= -kUnbounded || high >= kUnbounded) return fmt::format("`{}`[anywhere]{}", at.name, where);
    const int64_t first = low + a.constants.front(), last = high + a.constants.back() + a.width - 1;
    const int64_t size = bytes(at.scalar);
    const char* const space = at.space == Space::arena       ? "the arena"
                              : at.space == Space::parameter ? "the parameters"
                              : at.space == Space::local     ? "a panel's local memory"
                              : at.space == Space::scratch   ? "scratch memory"
                                                             : nullptr;
    const bool block = space && at.space != Space::local;
    return fmt::format("`{}`[{} to {}]{}{}", at.name, first, last,
                       block ? fmt::format(", bytes {} to {} of {}", at.offset + first * size,
                                           at.offset + (last + 1) * size - 1, space)
                             : "",
                       where);
  }

  // --- every access within its allocation

  void bounds(size_t call) {
    const Atoms& atoms = calls_[call].of.atoms;
    for (const MemoryUse& a : calls_[call].of.accesses) {
      const Allocation& at = allocation(p_.calls[call].buffers[static_cast<size_t>(a.buffer)].allocation);
      Linear elements = Linear::of(at.elements);
      std::string limit = fmt::format("{} elements", at.elements);
      // The caller's memory ends with the existing rows.
      const bool rows =
          at.space == Space::input ||
          (at.space == Space::output && (atoms.depends(a.at, kRowsAtom) || atoms.depends(a.at, kPanelsAtom)));
      if (rows && at.elements % batch_ == 0) {
        elements = Linear::atom(kRowsAtom, at.elements / batch_);
        limit = fmt::format("{} elements for each row", at.elements / batch_);
      }
      const auto either = [&](auto&& proven) { return proven(a.at) || proven(a.in_remainders); };
      const bool from_first =
          either([&](const Linear& sum) { return atoms.proves(sum + a.constants.front(), a.facts); });
      const bool to_last = either([&](const Linear& sum) {
        return atoms.proves(elements - sum - (a.constants.back() + a.width), a.facts);
      });
      if (!from_first || !to_last) {
        error("{} {} {}, which has {}", name(call), a.writes ? "writes" : "reads", text(call, a), limit);
        continue;
      }
      if (at.space == Space::local && !within_panel(atoms, a, at.elements / p_.panels))
        error("{} {} {}, which is local to a segment, beyond the panel at hand, of {} elements", name(call),
              a.writes ? "writes" : "reads", text(call, a), at.elements / p_.panels);
    }
  }

  static bool within_panel(const Atoms& atoms, const MemoryUse& a, int64_t panel) {
    for (const OwnUnit& o : a.owners) {
      if (o.owner.panel < 0) continue;
      const Linear start = Linear::atom(o.owner.panel, panel);
      if (atoms.proves(a.at + a.constants.front() - start, a.facts) &&
          atoms.proves(start + (panel - 1) - a.at - (a.constants.back() + a.width - 1), a.facts))
        return true;
    }
    return false;
  }

  // --- barriers

  bool one_unit(size_t call) const {
    const Partition& p = p_.calls[call].partition;
    return p.kind == Partition::Extent::fixed && p.extent <= p.unit;
  }

  // Whether all threads synchronise before a call; `together`: where segments run panel by panel.
  bool synchronises(size_t call, bool together) const {
    const Call& c = p_.calls[call];
    const bool inside =
        together && segment_of_[call] >= 0 && call > 0 && segment_of_[call - 1] == segment_of_[call];
    return !inside && (c.barrier_before || c.guard_before);
  }

  void races(bool together) {
    size_t begin = 0;
    for (size_t c = 0; c < calls_.size(); ++c) {
      if (synchronises(c, together)) begin = c;
      for (size_t e = begin; e <= c; ++e) pair(e, c, together, begin);
    }
  }

  Sharing sharing(size_t a, size_t b, bool together) const {
    const auto whole_panels = [&](size_t c) {
      return (together && segment_of_[c] >= 0) ||
             p_.calls[c].partition == Partition{Partition::Extent::panels, 1, 1};
    };
    if (together && (segment_of_[a] >= 0 || segment_of_[b] >= 0))
      return whole_panels(a) && whole_panels(b) ? Sharing::panels : Sharing::nothing;
    return p_.calls[a].partition == p_.calls[b].partition ? Sharing::units : Sharing::nothing;
  }

  void pair(size_t e, size_t c, bool together, size_t begin) {
    const Sharing shared = sharing(e, c, together);
    if (shared == Sharing::units && one_unit(e)) return;  // one thread runs both
    if (!checked_.insert({e, c, shared}).second) return;
    std::optional<Pair> proofs;
    const auto since = [&] {
      const std::string mode = together ? ", where segments run panel by panel" : "";
      return synchronises(begin, together) ? fmt::format("the last barrier is before {}{}", name(begin), mode)
                                           : fmt::format("no barrier is before them{}", mode);
    };
    for (const auto& [x, first] : calls_[e].by_allocation)
      for (const auto& [y, second] : calls_[c].by_allocation) {
        if (!calls_[e].written.count(x) && !calls_[c].written.count(y)) continue;
        if (x != y) {
          if ((e != c || x < y) && overlap(x, y) && (e == c || !own(x, together)))
            error("{} {} {} and {} {} {}, which share memory: {}", name(e),
                  calls_[e].written.count(x) ? "writes" : "reads", allocation_text(x),
                  e == c ? "also" : name(c), calls_[c].written.count(y) ? "writes" : "reads",
                  allocation_text(y), since());
          continue;
        }
        const Space space = allocation(x).space;
        if (space == Space::scratch ||
            (space == Space::local && together && segment_of_[e] == segment_of_[c]))
          continue;  // thread-local
        if (!proofs) proofs.emplace(calls_[e].of, calls_[c].of);
        accesses(*proofs, e, c, first, second, shared, since);
      }
  }

  template <class F>
  void accesses(Pair& proofs, size_t e, size_t c, const std::vector<const MemoryUse*>& first,
                const std::vector<const MemoryUse*>& second, Sharing shared, const F& since) {
    for (size_t i = 0; i < first.size(); ++i)
      for (size_t j = e == c ? i : 0; j < second.size(); ++j) {
        const MemoryUse &a = *first[i], &b = *second[j];
        if (!a.writes && !b.writes) continue;
        if (proofs.apart(a, b, shared)) continue;
        error("one thread in {} {} {} while another in {} {} {}: {}", name(e), a.writes ? "writes" : "reads",
              text(e, a), e == c ? "the same call" : name(c), b.writes ? "writes" : "reads", text(c, b),
              since());
        return;
      }
  }

  // Bytes of an allocation in its block; of local memory, of one panel's.
  std::pair<int64_t, int64_t> extent(int number) const {
    const Allocation& a = allocation(number);
    return {a.offset,
            a.offset + (a.space == Space::local ? panel_bytes(p_, a) : a.elements * bytes(a.scalar))};
  }
  std::string allocation_text(int number) const {
    const auto [begin, end] = extent(number);
    return fmt::format("`{}` (bytes {} to {})", allocation(number).name, begin, end - 1);
  }
  // Whether an allocation is thread-local, where segments run panel by panel or not.
  bool own(int number, bool together) const {
    const Space space = allocation(number).space;
    return space == Space::scratch || (space == Space::local && together);
  }
  // Whether two allocations share memory.
  bool overlap(int x, int y) const {
    const Allocation &a = allocation(x), &b = allocation(y);
    if (a.space != b.space) return false;
    if (a.space == Space::input || a.space == Space::output) return a.offset == b.offset;
    if (a.space == Space::scalars) return true;
    const auto [begin_a, end_a] = extent(x);
    const auto [begin_b, end_b] = extent(y);
    return begin_a < end_b && begin_b < end_a;
  }

  // --- segments: chunks of a panel in the order of the bands

  void order(const Segment& s) {
    const auto count = static_cast<size_t>(s.last - s.first);
    for (size_t r = 0; r < count; ++r)
      for (size_t w = 0; w < r; ++w) {
        const size_t first = static_cast<size_t>(s.first) + w, second = static_cast<size_t>(s.first) + r;
        for (const auto& [number, accesses] : calls_[first].by_allocation) {
          const auto other = calls_[second].by_allocation.find(number);
          if (other == calls_[second].by_allocation.end()) continue;
          for (const bool writes : {true, false})  // of the first
            if (writes ? calls_[first].written.count(number) != 0 : calls_[second].written.count(number) != 0)
              bands(s, first, second, number, writes);
        }
      }
  }

  struct ElementRange {
    int64_t low = kUnbounded, high = -kUnbounded;  // elements within the panel; low > high: none
    bool overlaps(const ElementRange& r) const { return low <= r.high && r.low <= high; }
    void add(const ElementRange& r) { low = std::min(low, r.low), high = std::max(high, r.high); }
  };

  // The elements of an allocation that each chunk of a panel accesses: by reads and writes, or by writes only.
  const std::vector<ElementRange>& chunks(size_t call, int number, bool only_writes) {
    const auto [it, fresh] = chunks_.try_emplace({call, number, only_writes});
    if (!fresh) return it->second;
    const int64_t count = p_.calls[call].partition.extent;
    it->second.resize(static_cast<size_t>(count));
    const Atoms& atoms = calls_[call].of.atoms;
    for (const MemoryUse* a : calls_[call].by_allocation.at(number)) {
      if (only_writes && !a->writes) continue;
      const Owner own = a->owners.empty() ? Owner{} : a->owners.front().owner;
      const Linear within =
          own.panel < 0 ? a->at : a->at - Linear::atom(own.panel, a->at.coefficient(own.panel));
      for (int64_t p = 0; p < count; ++p) {
        Facts facts = a->facts;
        if (own.chunk >= 0)
          facts = atoms.with_ranges(within, joined(facts, equal(Linear::atom(own.chunk), Linear::of(p))));
        it->second[static_cast<size_t>(p)].add(
            {atoms.least_by_cases(within, facts) + a->constants.front(),
             -atoms.least_by_cases(within * -1, facts) + a->constants.back() + a->width - 1});
      }
    }
    return it->second;
  }

  // A chunk of the second call must not come before a conflicting chunk of the first.
  void bands(const Segment& s, size_t first, size_t second, int number, bool first_writes) {
    const std::vector<ElementRange>& earlier = chunks(first, number, first_writes);
    const std::vector<ElementRange>& later = chunks(second, number, !first_writes);
    const size_t w = first - static_cast<size_t>(s.first), r = second - static_cast<size_t>(s.first);
    for (size_t band = 0; band < s.bands.size(); ++band)
      for (auto p = static_cast<size_t>(band ? s.bands[band - 1][r] : 0);
           p < static_cast<size_t>(s.bands[band][r]); ++p)
        for (auto q = static_cast<size_t>(s.bands[band][w]); q < earlier.size(); ++q) {
          if (!later[p].overlaps(earlier[q])) continue;
          error(
              "part {} of a panel in {} {} elements {} to {} of `{}` in band {} of the segment of calls {} "
              "to {}, "
              "before part {} in {} {} elements {} to {}",
              p, name(second), first_writes ? "touches" : "writes", later[p].low, later[p].high,
              allocation(number).name, band, s.first, s.last - 1, q, name(first),
              first_writes ? "writes" : "touches", earlier[q].low, earlier[q].high);
          return;
        }
  }

  // --- memory

  void lifetimes() {
    struct Life {
      size_t first, last;
    };
    std::map<int, Life> lives;
    for (size_t c = 0; c < calls_.size(); ++c)
      for (const auto& [number, accesses] : calls_[c].by_allocation) {
        const Space space = allocation(number).space;
        if (space == Space::parameter) lives[number] = {0, calls_.size() - 1};
        if (space != Space::arena && space != Space::local) continue;
        const auto [it, fresh] = lives.try_emplace(number, Life{c, c});
        it->second.last = c;
        if (fresh && !calls_[c].written.count(number))
          error("{} reads {}, which nothing has written before", name(c), allocation_text(number));
      }
    // Calls of one segment run in any order of panels, so a value that is live in one is live in all.
    const auto from = [&](size_t c) {
      return segment_of_[c] < 0 ? c
                                : static_cast<size_t>(p_.segments[static_cast<size_t>(segment_of_[c])].first);
    };
    const auto to = [&](size_t c) {
      return segment_of_[c] < 0
                 ? c
                 : static_cast<size_t>(p_.segments[static_cast<size_t>(segment_of_[c])].last - 1);
    };
    for (auto a = lives.begin(); a != lives.end(); ++a)
      for (auto b = std::next(a); b != lives.end(); ++b)
        if (from(a->second.first) <= to(b->second.last) && from(b->second.first) <= to(a->second.last) &&
            overlap(a->first, b->first))
          error("{} is in use from {} to {}, and {}, which shares its memory, from {} to {}",
                allocation_text(a->first), name(a->second.first), name(a->second.last),
                allocation_text(b->first), name(b->second.first), name(b->second.last));
    for (size_t c = 0; c < calls_.size(); ++c)
      for (const int number : calls_[c].read)
        if (allocation(number).space == Space::scratch && !calls_[c].written.count(number))
          error("{} reads {} of scratch memory, which it does not write", name(c), allocation_text(number));
  }

  // Parameters are written only after the guard was checked, and its value does not change afterwards.
  void guard() {
    if (p_.guard < 0) return;
    bool looked = false;
    for (size_t c = 0; c < calls_.size(); ++c) {
      looked = looked || p_.calls[c].guard_before;
      for (const int number : calls_[c].written) {
        if (!looked && allocation(number).space == Space::parameter)
          error("{} writes {} before the guard `{}` is looked at", name(c), allocation_text(number),
                allocation(p_.guard).name);
        if (looked && number == p_.guard)
          error("{} writes the guard `{}` after it was looked at", name(c), allocation(number).name);
      }
    }
  }

  // Where calls run one by one, local memory must hold all panels, of partial batches too.
  void room() {
    if (p_.local_bytes == 0) return;
    constexpr int64_t kMost = 256;
    if (p_.panels * p_.panel < batch_)
      error("{} panels of {} for a batch of {}", p_.panels, p_.panel, batch_);
    for (int64_t threads = 1; threads <= std::min(2 * p_.panels + 2, kMost); ++threads)
      for (int64_t panels = 1; panels <= std::min(p_.panels, kMost); ++panels)
        if (!runtime::runs_by_panels(panels, p_.panels, threads) &&
            panels > runtime::local_panels<int64_t>(p_.panels, threads))
          return error("local memory has room for {} panels of {} in {} threads, but {} run call by call",
                       runtime::local_panels<int64_t>(p_.panels, threads), p_.panels, threads, panels);
  }

  const Program& p_;
  const int64_t batch_;
  const size_t most_;
  std::vector<int> segment_of_;
  std::vector<CallAccesses> calls_;
  std::vector<std::string> errors_;
  std::set<std::tuple<size_t, size_t, Sharing>> checked_;
  std::map<std::tuple<size_t, int, bool>, std::vector<ElementRange>> chunks_;
};

}  // namespace

std::vector<std::string> check_plan(const Program& program, const PlanOptions& options) {
  return PlanChecker(program, options).run();
}

}  // namespace gradc::loop
