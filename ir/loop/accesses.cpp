// Walks a kernel's statements once, with a symbol for each counter: a counter is its loop's begin plus the step times
// the number of the iteration. Conditions and masks add inequalities.
//
// A loop over this thread's range, "for i = lo * R to hi * R", belongs to a unit of the partition: i is R times the
// number of the unit, plus a remainder less than R. So does any other value that conditions keep in the range, such as
// an index that is compared with lo and hi.
#include "ir/loop/accesses.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>
#include <unordered_map>
#include <unordered_set>

#include "ir/loop/integer_values.h"

namespace gradc::loop {

namespace {

constexpr int64_t kMostLanes = 1024;

class Walker {
 public:
  Walker(const Program& program, const Call& call, int64_t batch)
      : Walker(program, call, batch, std::max<int64_t>((batch + program.panel - 1) / program.panel, 1)) {}

  KernelAccesses run() {
    block(kernel_.body);
    for (auto& [key, access] : merged_) {
      std::vector<int64_t>& c = access.constants;
      std::sort(c.begin(), c.end());
      c.erase(std::unique(c.begin(), c.end()), c.end());
      while (c.size() > 1 && in_steps(access)) {
      }
      access.shape = shape_of(access);
      result_.accesses.push_back(std::move(access));
    }
    return std::move(result_);
  }

 private:
  Walker(const Program& program, const Call& call, int64_t batch, int64_t panels)
      : kernel_(program.kernels[static_cast<size_t>(call.kernel)]),
        panels_atom_(shared_atoms(result_.atoms, program, batch, panels, kernel_.rows)),
        range_(result_.atoms, call.partition, panels_of(program, batch, kernel_.rows), panels_atom_),
        values_(result_.atoms, range_) {
    const auto& p = kernel_.predefined;
    values_.define(p.panels.get(), Linear::atom(panels_atom_));
    values_.define(p.rows.get(), Linear::atom(kRowsAtom, kernel_.rows));
    values_.define(p.row_offset.get(), Linear::atom(kRowOffsetAtom, kernel_.rows));
    values_.define(p.lo.get(), range_.lo());
    values_.define(p.hi.get(), range_.hi());
    for (const Variable* v : {&p.seed_lo, &p.seed_hi, &p.step_lo, &p.step_hi})
      values_.define(v->get(), values_.opaque((*v)->type));
    for (size_t b = 0; b < kernel_.buffers.size(); ++b)
      buffers_[kernel_.buffers[b].get()] = static_cast<int>(b);
  }

  // Adds the atoms that all kernels of a run share, kPanelsAtom, kRowsAtom, kRowOffsetAtom, and this one's kLaneAtom.
  // Returns that of the panels which the kernel counts: its own where an example has several rows.
  static int shared_atoms(Atoms& atoms, const Program& program, int64_t batch, int64_t panels,
                          int64_t rows_each) {
    atoms.add(1, panels);
    atoms.add(1, batch);
    atoms.add(0, kUnbounded);
    atoms.add(0, kMostLanes - 1);
    const Linear rows = Linear::atom(kRowsAtom), whole = Linear::atom(kPanelsAtom, program.panel);
    atoms.require(whole - rows);
    atoms.require(rows - whole + (program.panel - 1));
    if (rows_each == 1) return kPanelsAtom;
    const int own = atoms.add(1, panels_of(program, batch, rows_each));
    const Linear all = Linear::atom(kRowsAtom, rows_each), in_panels = Linear::atom(own, program.panel);
    atoms.require(in_panels - all);
    atoms.require(all - in_panels + (program.panel - 1));
    return own;
  }

  int shape_of(const MemoryUse& access) const {
    int next = 0;
    for (const MemoryUse& a : result_.accesses) {
      if (a.at == access.at && a.constants == access.constants && a.width == access.width &&
          a.facts == access.facts && a.owners == access.owners)
        return a.shape;
      next = std::max(next, a.shape + 1);
    }
    return next;
  }

  // Compresses constants with equal steps, from one or several beginnings: into wider elements where they are adjacent,
  // else into a counter of its own. Returns whether they have equal steps.
  bool in_steps(MemoryUse& access) {
    std::vector<int64_t>& c = access.constants;
    const int64_t step = c[1] - c[0];
    size_t run = 2;
    while (run < c.size() && c[run] - c[run - 1] == step) ++run;
    if (c.size() % run != 0) return false;
    std::vector<int64_t> begins;
    for (size_t i = 0; i < c.size(); i += run) {
      begins.push_back(c[i]);
      for (size_t j = 1; j < run; ++j)
        if (c[i + j] - c[i + j - 1] != step) return false;
    }
    const auto turns = static_cast<int64_t>(run) - 1;
    if (step <= access.width)
      access.width += turns * step;
    else {
      const Linear counter = Linear::atom(result_.atoms.add(0, turns), step);
      access.at = access.at + counter;
      access.in_remainders = access.in_remainders + counter;
      for (OwnUnit& o : access.owners) o.at = o.at + counter;
    }
    c = std::move(begins);
    return true;
  }

  // --- statements

  void block(const std::vector<Stmt>& body) {
    for (const Stmt& s : body) statement(*s);
  }

  void statement(const StmtData& s) {
    at_ = &s;
    values_.begin_statement();
    walked_.clear();
    switch (s.kind) {
      case StmtKind::block: return block(s.body);
      case StmtKind::for_loop: return for_loop(s);
      case StmtKind::let:
        loads(s.value);
        if (s.value->type.scalar == Scalar::i1) values_.define_condition(s.variable.get(), s.value);
        if (!s.value->type.is_float()) values_.define(s.variable.get(), values_.eval(s.value));
        return;
      case StmtKind::declare:
      case StmtKind::assign: return loads(s.value);
      case StmtKind::store:
        loads(s.value);
        loads(s.index);
        if (s.mask) loads(s.mask);
        return access(*s.buffer, true, s.index, s.value->type.lanes, s.mask);
      case StmtKind::if_then: {
        loads(s.condition);
        const size_t facts = values_.facts().size();
        const Scope scope = here();
        const auto branch = [&](bool holds, const std::vector<Stmt>& body) {
          values_.assume(s.condition, holds);
          own_by_facts(facts, {});
          if (values_.possible(facts)) block(body);
          leave(scope);
        };
        branch(true, s.body);
        if (!s.other.empty()) branch(false, s.other);
        return;
      }
      case StmtKind::prefetch: return;
    }
  }

  void for_loop(const StmtData& s) {
    loads(s.begin);
    loads(s.end);
    const Linear begin = values_.eval(s.begin), end = values_.eval(s.end);
    Atoms& a = result_.atoms;
    const int64_t turns = a.greatest(end - begin, values_.facts());
    if (turns <= 0) return;
    const size_t owners = owners_.size();
    Linear counter;
    if (const std::optional<Linear> own = own_range(begin, end, s.step)) {
      counter = *own;
    } else {
      const int64_t most = turns >= kUnbounded ? kUnbounded : (turns - 1) / s.step;
      // A symbol of its own even for one iteration, so that the loop's end bounds it.
      counter = begin;
      if (!begin.is_constant() && divides(s.step, begin)) {
        // Bounds of its own, so that sums with it need not look for those of the begin.
        const int64_t low = a.least(begin, values_.facts()), high = a.greatest(end, values_.facts());
        counter = Linear::atom(a.add(low <= -kUnbounded ? low : floor_div(low, s.step),
                                     high >= kUnbounded ? high : floor_div(high - 1, s.step)),
                               s.step);
        a.require(counter - begin);
      } else if (most > 0 || !begin.is_constant()) {
        counter = begin + Linear::atom(a.add(0, most), s.step);
      }
    }
    if (!counter.is_constant()) {
      a.require(end - counter - 1);
      if (owners_.size() > owners) a.require(counter - begin);
      if (const int64_t most = a.greatest(end, values_.facts()); most < kUnbounded)
        a.require(counter * -1 + (most - 1));
    }
    values_.define(s.variable.get(), counter);
    block(s.body);
    owners_.resize(owners);
  }

  static bool divides(int64_t step, const Linear& sum) {
    return sum.constant % step == 0 && std::all_of(sum.terms.begin(), sum.terms.end(),
                                                   [&](const auto& t) { return t.second % step == 0; });
  }

  // The counter of a loop over this thread's range.
  std::optional<Linear> own_range(const Linear& begin, const Linear& end, int64_t step) {
    const int64_t r = range_.multiple(begin, range_.first());
    if (r == 0) return std::nullopt;
    const Linear shift = begin - range_.lo() * r;
    if (!shift.is_constant() || !result_.atoms.proves(range_.hi() * r + shift - end, values_.facts()))
      return std::nullopt;
    const Owner own = range_.another();
    const int64_t chunk = r * range_.unit();
    Linear counter = range_.number_of(own) * chunk + shift;
    if (chunk % step == 0) {
      if (chunk > step) counter = counter + Linear::atom(result_.atoms.add(0, chunk / step - 1), step);
    } else {  // iterations begin anywhere in a unit
      counter = counter + Linear::atom(result_.atoms.add(0, chunk - 1));
    }
    if (!owners_.empty()) split_twice();
    owners_.push_back({own});
    own_loops_.push_back({counter, step, own});
    return counter;
  }

  void split_twice() {
    const std::string where = at_ && at_->location.valid() ? " (" + to_string(at_->location) + ")" : "";
    result_.errors.push_back(fmt::format(
        "kernel `{}`: a loop over the thread's chunk is inside another{}: what it computes depends "
        "on the number of threads",
        kernel_.name, where));
  }

  // --- facts

  // The facts and owners known at a point, to restore after a scope.
  struct Scope {
    IntegerValues::Scope values;
    size_t owners;
  };
  Scope here() const { return {values_.here(), owners_.size()}; }
  void leave(const Scope& s) {
    values_.leave(s.values);
    owners_.resize(s.owners);
  }

  // A sum that facts from the given one on keep in the thread's range belongs to a unit of it. `lane`: that of the access
  // whose facts these are, else a constant.
  void own_by_facts(size_t from, const Linear& lane) {
    if (!range_.splits() || range_.by_panels()) return;
    const size_t end = values_.facts().size();
    for (size_t i = from; i < end; ++i) {
      const int64_t r = range_.multiple(values_.facts()[i], range_.last());
      if (r == 0) continue;
      const Linear sum = range_.hi() * r - values_.facts()[i] - 1;
      if (sum.is_constant() || sum.coefficient(range_.first().unit) != 0) continue;
      if (!result_.atoms.proves(sum - range_.lo() * r, values_.facts())) continue;
      if (!owners_.empty() && lane.is_constant() && independent(sum)) split_twice();
      belongs(sum, r * range_.unit(), 1);
    }
    // The previous iteration of a loop over the range, where there is one.
    for (size_t l = 0; l < own_loops_.size(); ++l) {
      const OwnLoop& loop = own_loops_[l];
      if (!is_open(loop.owner) || loop.counter.coefficient(loop.owner.unit) == 0) continue;
      bool mentioned = false;
      for (size_t i = from; i < end; ++i)
        mentioned = mentioned || values_.facts()[i].coefficient(range_.first().unit) != 0;
      const int64_t r = loop.counter.coefficient(loop.owner.unit) / range_.unit();
      const Linear before = loop.counter - loop.step;
      const int64_t step = r * range_.unit() % loop.step == 0 ? loop.step : 1;
      if (mentioned && result_.atoms.proves(before - range_.lo() * r, values_.facts()))
        belongs(before, r * range_.unit(), step);
    }
  }

  bool is_open(const Owner& own) const {
    return std::any_of(owners_.begin(), owners_.end(),
                       [&](const Belonging& b) { return b.owner.unit == own.unit; });
  }
  // Whether it does not depend on a counter of an open loop over the range.
  bool independent(const Linear& sum) const {
    for (const OwnLoop& loop : own_loops_)
      if (is_open(loop.owner))
        for (const auto& [atom, c] : loop.counter.terms)
          if (sum.coefficient(atom) != 0) return false;
    return true;
  }

  // sum = chunk times a unit of the thread's range + a multiple of step below chunk; so one of the sum's atoms is that
  // remainder.
  void belongs(const Linear& sum, int64_t chunk, int64_t step) {
    const Owner own = range_.another();
    const Linear rest = Linear::atom(result_.atoms.add(0, chunk / step - 1), step);
    Linear zero = sum - Linear::atom(own.unit, chunk) - rest;
    int64_t common = std::abs(zero.constant);
    for (const auto& [atom, c] : zero.terms) common = std::gcd(common, std::abs(c));
    zero.constant /= common;
    for (auto& [atom, c] : zero.terms) c /= common;
    for (auto t = zero.terms.rbegin(); t != zero.terms.rend(); ++t) {
      const auto [atom, c] = *t;
      if (std::abs(c) != 1 || sum.coefficient(atom) == 0) continue;
      owners_.push_back({own, atom, Linear::atom(atom) - zero * c});
      return;
    }
  }

  // --- accesses

  // Records the loads in an expression.
  void loads(const Expr& e) {
    if (!walked_.insert(e.get()).second) return;
    for (const Expr& a : e->args)
      if (a) loads(a);
    if (e->kind == ExprKind::load)
      access(*e->buffer, false, e->args[0], e->type.lanes, e->args.size() > 1 ? e->args[1] : nullptr);
  }

  void access(const BufferData& buffer, bool writes, const Expr& index, int lanes, const Expr& mask) {
    const size_t facts = values_.facts().size();
    const Scope scope = here();
    Linear at = values_.eval(index);
    int64_t width = 1;
    if (lanes > 1 && index->type.lanes == 1) {
      if (mask)
        at = at + Linear::atom(kLaneAtom);
      else
        width = lanes;
    }
    if (mask || result_.atoms.depends(at, kLaneAtom)) {
      if (mask) values_.assume(mask, true);
      by_lane(at, lanes, facts);
    }
    if (values_.possible(facts)) record(buffer, writes, at, width);
    leave(scope);
  }

  // Bounds the current lane of an access at `at`, and in the facts from the given one on: by a symbol of its own, or
  // by a fact where quotients or extremes in `at` depend on the lane as well.
  void by_lane(Linear& at, int lanes, size_t facts) {
    Linear lane = Linear::atom(kLaneAtom);
    const auto others = [&](const Linear& sum) {
      return sum - Linear::atom(kLaneAtom, sum.coefficient(kLaneAtom));
    };
    if (result_.atoms.depends(others(at), kLaneAtom)) {
      values_.fact(lane * -1 + (lanes - 1));
    } else {
      const auto [known, fresh] = lanes_.try_emplace(lanes, -1);
      if (fresh) known->second = result_.atoms.add(0, lanes - 1);
      lane = Linear::atom(known->second);
      const auto fill = [&](Linear& sum) {
        if (const int64_t c = sum.coefficient(kLaneAtom)) sum = sum - Linear::atom(kLaneAtom, c) + lane * c;
      };
      fill(at);
      for (size_t i = facts; i < values_.facts().size(); ++i) fill(values_.facts()[i]);
    }
    own_by_facts(facts, lane);
  }

  void record(const BufferData& buffer, bool writes, const Linear& at, int64_t width) {
    MemoryUse a;
    a.buffer = buffers_.at(&buffer);
    a.writes = writes;
    a.at = at;
    a.at.constant = 0;
    a.in_remainders = values_.with_remainders(a.at, true);
    a.constants = {at.constant};
    a.width = width;
    a.facts = values_.facts();
    for (auto b = owners_.rbegin(); b != owners_.rend(); ++b) {
      const int64_t c = b->atom < 0 ? 0 : a.at.coefficient(b->atom);
      a.owners.push_back({b->owner, c == 0 ? a.at : a.at - Linear::atom(b->atom, c) + b->value * c});
    }
    for (const int end : range_.ends())
      if (mentions(at, end) &&
          result_.atoms.proves(Linear::atom(end) - Linear::atom(range_.first().unit), values_.facts()))
        a.owners.push_back({{.unit = end}, a.at});
    if (range_.splits()) {
      a.owners.push_back({range_.last(), a.at});
      a.owners.push_back({range_.first(), a.at});
    }
    // A sum with remainders comes first, since most proofs use it.
    std::vector<OwnUnit> all;
    for (OwnUnit& o : a.owners) {
      if (Linear other = values_.with_remainders(o.at); other != o.at)
        all.push_back({o.owner, std::move(other)});
      all.push_back(std::move(o));
    }
    a.owners = std::move(all);
    if (at_) a.location = at_->location;
    // Accesses that differ only in their constant are one.
    std::string key = fmt::format("{} {} {}", a.buffer, writes, width);
    const auto append = [&](const Linear& sum) {
      for (const auto& [atom, c] : sum.terms) key += fmt::format(" {}*{}", c, atom);
      key += fmt::format(" {};", sum.constant);
    };
    append(a.at);
    for (const Linear& f : a.facts) append(f);
    for (const OwnUnit& o : a.owners) key += fmt::format(" {} {}", o.owner.unit, o.owner.panel);
    const auto [it, fresh] = merged_.try_emplace(std::move(key), std::move(a));
    if (!fresh) it->second.constants.push_back(at.constant);
  }

  bool mentions(const Linear& at, int atom) const {
    return at.coefficient(atom) != 0 ||
           std::any_of(values_.facts().begin(), values_.facts().end(),
                       [&](const Linear& f) { return f.coefficient(atom) != 0; });
  }

  // A unit of the thread's range. From facts: the atom that they show to be a sum of the unit.
  struct Belonging {
    Owner owner;
    int atom = -1;
    Linear value = {};
  };
  struct OwnLoop {
    Linear counter;
    int64_t step;
    Owner owner;
  };

  const Kernel& kernel_;
  KernelAccesses result_;
  const int panels_atom_;
  ThreadRange range_;
  IntegerValues values_;
  std::unordered_map<const BufferData*, int> buffers_;
  std::vector<Belonging> owners_;  // of the open loops and conditions
  std::vector<OwnLoop> own_loops_;
  std::map<int, int> lanes_;  // by number of lanes: the atom
  std::unordered_set<const ExprData*> walked_;
  std::map<std::string, MemoryUse> merged_;
  const StmtData* at_ = nullptr;
};

}  // namespace

KernelAccesses accesses_of(const Program& program, const Call& call, int64_t batch) {
  return Walker(program, call, batch).run();
}

}  // namespace gradc::loop
