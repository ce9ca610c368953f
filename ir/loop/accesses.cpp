// Walks a kernel's statements once, with a symbol for each counter: a counter is its loop's begin plus the step times
// the number of the iteration; a quotient, minimum or loaded integer is a new symbol with the
// inequalities that define it. Conditions and masks add inequalities.
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
#include <set>
#include <unordered_map>
#include <unordered_set>

namespace gradc::loop {

namespace {

constexpr int kLane = 0, kPanels = 1, kRowOffset = 3;
constexpr int64_t kMostLanes = 1024;

class Walker {
 public:
  Walker(const Program& program, const Call& call, int64_t batch)
      : kernel_(program.kernels[static_cast<size_t>(call.kernel)]), partition_(call.partition) {
    Atoms& a = result_.atoms;
    const int64_t panels = std::max<int64_t>((batch + program.panel - 1) / program.panel, 1);
    a.add(0, kMostLanes - 1);
    a.add(1, panels);
    a.add(1, batch);
    a.add(0, kUnbounded);
    const Linear rows = Linear::atom(kRowsAtom), whole = Linear::atom(kPanels, program.panel);
    a.require(whole - rows);
    a.require(rows - whole + (program.panel - 1));
    const auto& p = kernel_.predefined;
    known_[p.panels.get()] = Linear::atom(kPanels);
    known_[p.rows.get()] = rows;
    known_[p.row_offset.get()] = Linear::atom(kRowOffset);
    for (const Variable* v : {&p.seed_lo, &p.seed_hi, &p.step_lo, &p.step_hi})
      known_[v->get()] = opaque((*v)->type);
    for (size_t b = 0; b < kernel_.buffers.size(); ++b)
      buffers_[kernel_.buffers[b].get()] = static_cast<int>(b);
    bounds(panels);
  }

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
      for (OwnUnit& o : access.owners) o.at = o.at + counter;
    }
    c = std::move(begins);
    return true;
  }

  bool by_panels() const { return partition_.kind == Partition::Extent::panels; }

  // lo and hi. A kernel is called only where lo < hi, so both the unit at lo and the one before hi are the
  // thread's.
  void bounds(int64_t panels) {
    Atoms& a = result_.atoms;
    if (by_panels()) {
      units_ = panels;
      first_ = new_owner(), last_ = new_owner();
      lo_ = number_of(first_), hi_ = number_of(last_) + 1;
      a.require(hi_ - lo_ - 1);
    } else {
      units_ = std::max<int64_t>((partition_.extent + partition_.unit - 1) / partition_.unit, 1);
      first_ = new_owner(), last_ = new_owner();
      lo_ = number_of(first_) * partition_.unit;
      hi_ = number_of(last_) * partition_.unit;
      if (units_ == 1) {
        hi_ = Linear::of(partition_.extent);
      } else if (partition_.extent % partition_.unit == 0) {
        hi_ = hi_ + partition_.unit;
      } else {  // the last unit may be partial
        const int64_t grain = std::gcd(partition_.unit, partition_.extent);
        const Linear rest = Linear::atom(a.add(1, partition_.unit / grain), grain);
        hi_ = hi_ + rest;
        a.require(hi_ * -1 + partition_.extent);
        a.require_one(rest.terms.back().first, rest - partition_.unit, hi_ - partition_.extent);
      }
      if (units_ > 1) a.require(Linear::atom(last_.unit) - Linear::atom(first_.unit));
    }
    known_[kernel_.predefined.lo.get()] = lo_;
    known_[kernel_.predefined.hi.get()] = hi_;
  }

  Owner new_owner() {
    Owner o;
    if (by_panels()) {
      o.panel = result_.atoms.add(0, units_ - 1);
      result_.atoms.require(Linear::atom(kPanels) - Linear::atom(o.panel) - 1);
      if (partition_.extent > 1) o.chunk = result_.atoms.add(0, partition_.extent - 1);
    } else if (units_ > 1) {
      o.unit = result_.atoms.add(0, units_ - 1);
    }
    return o;
  }
  // The number of a unit as the kernel counts them; with panels, of a panel's chunk.
  Linear number_of(const Owner& o) const {
    if (!by_panels()) return o.unit < 0 ? Linear{} : Linear::atom(o.unit);
    return Linear::atom(o.panel, partition_.extent) + (o.chunk < 0 ? Linear{} : Linear::atom(o.chunk));
  }
  int64_t unit() const { return by_panels() ? 1 : partition_.unit; }
  bool splits() const { return by_panels() || units_ > 1; }

  Linear opaque(Type t, int64_t low = -kUnbounded, int64_t high = kUnbounded) {
    if (t.scalar == Scalar::i1 || t.scalar == Scalar::i8)
      low = std::max<int64_t>(low, 0), high = std::min<int64_t>(high, 1);
    if (t.scalar == Scalar::i32)
      low = std::max<int64_t>(low, INT32_MIN), high = std::min<int64_t>(high, INT32_MAX);
    return Linear::atom(result_.atoms.add(low, high));
  }

  // --- statements

  void block(const std::vector<Stmt>& body) {
    for (const Stmt& s : body) statement(*s);
  }

  void statement(const StmtData& s) {
    at_ = &s;
    memo_.clear();
    walked_.clear();
    switch (s.kind) {
      case StmtKind::block: return block(s.body);
      case StmtKind::for_loop: return for_loop(s);
      case StmtKind::let:
        loads(s.value);
        if (s.value->type.scalar == Scalar::i1) conditions_[s.variable.get()] = s.value;
        if (!s.value->type.is_float()) known_[s.variable.get()] = eval(s.value);
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
        const size_t facts = facts_.size();
        const Scope scope = here();
        const auto branch = [&](bool holds, const std::vector<Stmt>& body) {
          assume(s.condition, holds);
          own_by_facts(facts, {});
          if (possible(facts)) block(body);
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
    const Linear begin = eval(s.begin), end = eval(s.end);
    Atoms& a = result_.atoms;
    const int64_t turns = a.greatest(end - begin, facts_);
    if (turns <= 0) return;
    const size_t owners = owners_.size();
    Linear counter;
    if (const std::optional<Linear> own = own_range(begin, end, s.step)) {
      counter = *own;
    } else {
      const int64_t most = turns >= kUnbounded ? kUnbounded : (turns - 1) / s.step;
      // A symbol of its own even for one iteration, so that the loop's end bounds it.
      counter = begin;
      if (most > 0 || !begin.is_constant()) counter = begin + Linear::atom(a.add(0, most), s.step);
    }
    if (!counter.is_constant()) {
      a.require(end - counter - 1);
      if (owners_.size() > owners) a.require(counter - begin);
      if (const int64_t most = a.greatest(end, facts_); most < kUnbounded)
        a.require(counter * -1 + (most - 1));
    }
    known_[s.variable.get()] = counter;
    block(s.body);
    owners_.resize(owners);
  }

  // The multiple of a unit's elements that a sum advances by from unit to unit of `own`, 0 where it does not.
  int64_t multiple(const Linear& sum, const Owner& own) const {
    if (!splits()) return 0;
    const int64_t each = by_panels() ? partition_.extent : partition_.unit;
    const int64_t c = sum.coefficient(by_panels() ? own.panel : own.unit);
    return c > 0 && c % each == 0 ? c / each : 0;
  }

  // A new unit of the thread's range.
  Owner another_owner() {
    const Owner own = new_owner();
    Atoms& a = result_.atoms;
    a.require((number_of(own) - number_of(first_)));
    a.require((number_of(last_) - number_of(own)));
    return own;
  }

  // The counter of a loop over this thread's range.
  std::optional<Linear> own_range(const Linear& begin, const Linear& end, int64_t step) {
    const int64_t r = multiple(begin, first_);
    if (r == 0) return std::nullopt;
    const Linear shift = begin - lo_ * r;
    if (!shift.is_constant() || !result_.atoms.proves(hi_ * r + shift - end, facts_)) return std::nullopt;
    const Owner own = another_owner();
    const int64_t chunk = r * unit();
    Linear counter = number_of(own) * chunk + shift;
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

  // The facts known at a point, to restore after a scope.
  struct Scope {
    size_t facts, truths, aliases, owners;
  };
  Scope here() const { return {facts_.size(), truths_.size(), aliases_.size(), owners_.size()}; }
  void leave(const Scope& s) {
    if (facts_.size() == s.facts && truths_.size() == s.truths) return;
    facts_.resize(s.facts);
    truths_.resize(s.truths);
    aliases_.resize(s.aliases);
    owners_.resize(s.owners);
    memo_.clear();
  }

  bool possible(size_t from) const {
    for (size_t i = from; i < facts_.size(); ++i)
      if (result_.atoms.least_by_ranges(facts_[i] * -1 - 1) >= 0) return false;
    return true;
  }

  // Also the consequences of a bound on the newest atom for the others.
  void fact(const Linear& sum) {
    Linear f = tightened(sum);
    facts_.push_back(f);
    for (int i = 0; i < 2 && f.terms.size() > 1; ++i) {
      const auto [atom, c] = f.terms.back();
      const int64_t at = c > 0 ? result_.atoms.high(atom) : result_.atoms.low(atom);
      if (at >= kUnbounded || at <= -kUnbounded) return;
      f.terms.pop_back();
      f = tightened(f + c * at);
      facts_.push_back(f);
    }
  }

  void assume(const Expr& e, bool holds) {
    truths_.emplace_back(e.get(), holds);
    switch (e->kind) {
      case ExprKind::constant:
        if ((e->integer != 0) != holds) facts_.push_back(Linear::of(-1));  // never
        return;
      case ExprKind::variable: {
        truths_.emplace_back(e->variable.get(), holds);
        for (const Selected& s : selected_)
          if (s.condition == e->variable.get()) aliases_.emplace_back(s.value, holds ? s.yes : s.no);
        if (const auto it = conditions_.find(e->variable.get()); it != conditions_.end())
          assume(it->second, holds);
        return;
      }
      case ExprKind::broadcast: return assume(e->args[0], holds);
      case ExprKind::unary:
        if (e->unary == UnaryOp::logical_not) assume(e->args[0], !holds);
        return;
      case ExprKind::binary:
        if ((e->binary == BinaryOp::bit_and && holds) || (e->binary == BinaryOp::bit_or && !holds))
          for (const Expr& a : e->args) assume(a, holds);
        return;
      case ExprKind::compare:
        if (!e->args[0]->type.is_float()) compared(e->compare, eval(e->args[0]), eval(e->args[1]), holds);
        return;
      default: return;
    }
  }

  void compared(CompareOp op, const Linear& a, const Linear& b, bool holds) {
    const auto less = [&](const Linear& x, const Linear& y) { fact(y - x - 1); };
    const auto not_less = [&](const Linear& x, const Linear& y) { fact(x - y); };
    switch (op) {
      case CompareOp::lt: return holds ? less(a, b) : not_less(a, b);
      case CompareOp::ge: return holds ? not_less(a, b) : less(a, b);
      case CompareOp::gt: return holds ? less(b, a) : not_less(b, a);
      case CompareOp::le: return holds ? not_less(b, a) : less(b, a);
      case CompareOp::eq:
      case CompareOp::ne:
        if (holds != (op == CompareOp::eq)) return;
        not_less(a, b);
        not_less(b, a);
        return;
    }
  }

  // A sum that facts from the given one on keep in the thread's range belongs to a unit of it. `of`: an access's own
  // facts, which come last.
  void own_by_facts(size_t from, const Linear& lane) {
    if (!splits() || by_panels()) return;
    const size_t end = facts_.size();
    for (size_t i = from; i < end; ++i) {
      const int64_t r = multiple(facts_[i], last_);
      if (r == 0) continue;
      const Linear sum = hi_ * r - facts_[i] - 1;
      if (sum.is_constant() || sum.coefficient(first_.unit) != 0) continue;
      if (!result_.atoms.proves(sum - lo_ * r, facts_)) continue;
      if (!owners_.empty() && lane.is_constant() && independent(sum)) split_twice();
      belongs(sum, r * unit(), 1);
    }
    // The previous iteration of a loop over the range, where there is one.
    for (size_t l = 0; l < own_loops_.size(); ++l) {
      const OwnLoop& loop = own_loops_[l];
      if (!is_open(loop.owner) || loop.counter.coefficient(loop.owner.unit) == 0) continue;
      bool mentioned = false;
      for (size_t i = from; i < end; ++i) mentioned = mentioned || facts_[i].coefficient(first_.unit) != 0;
      const int64_t r = loop.counter.coefficient(loop.owner.unit) / unit();
      const Linear before = loop.counter - loop.step;
      const int64_t step = r * unit() % loop.step == 0 ? loop.step : 1;
      if (mentioned && result_.atoms.proves(before - lo_ * r, facts_)) belongs(before, r * unit(), step);
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
    const Owner own = another_owner();
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
    const size_t facts = facts_.size();
    const Scope scope = here();
    Linear at = eval(index);
    int64_t width = 1;
    if (lanes > 1 && index->type.lanes == 1) {
      if (mask)
        at = at + Linear::atom(kLane);
      else
        width = lanes;
    }
    // The current lane, a symbol of its own.
    if (mask || at.coefficient(kLane) != 0) {
      if (mask) assume(mask, true);
      const auto [known, fresh] = lanes_.try_emplace(lanes, -1);
      if (fresh) known->second = result_.atoms.add(0, lanes - 1);
      const Linear lane = Linear::atom(known->second);
      const auto fill = [&](Linear& sum) {
        if (const int64_t c = sum.coefficient(kLane)) sum = sum - Linear::atom(kLane, c) + lane * c;
      };
      fill(at);
      for (size_t i = facts; i < facts_.size(); ++i) fill(facts_[i]);
      own_by_facts(facts, lane);
    }
    if (possible(facts)) record(buffer, writes, at, width);
    leave(scope);
  }

  void record(const BufferData& buffer, bool writes, const Linear& at, int64_t width) {
    MemoryUse a;
    a.buffer = buffers_.at(&buffer);
    a.writes = writes;
    a.at = at;
    a.at.constant = 0;
    a.constants = {at.constant};
    a.width = width;
    a.facts = facts_;
    for (auto b = owners_.rbegin(); b != owners_.rend(); ++b) {
      const int64_t c = b->atom < 0 ? 0 : a.at.coefficient(b->atom);
      a.owners.push_back({b->owner, c == 0 ? a.at : a.at - Linear::atom(b->atom, c) + b->value * c});
    }
    for (const int end : ends_)
      if (mentions(at, end) && result_.atoms.proves(Linear::atom(end) - Linear::atom(first_.unit), facts_))
        a.owners.push_back({{.unit = end}, a.at});
    if (splits()) {
      a.owners.push_back({last_, a.at});
      a.owners.push_back({first_, a.at});
    }
    // A sum with remainders comes first, since most proofs use it.
    std::vector<OwnUnit> all;
    for (OwnUnit& o : a.owners) {
      if (Linear other = with_remainders(o.at); other != o.at) all.push_back({o.owner, std::move(other)});
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
    return at.coefficient(atom) != 0 || std::any_of(facts_.begin(), facts_.end(), [&](const Linear& f) {
             return f.coefficient(atom) != 0;
           });
  }

  // --- integer expressions

  Linear eval(const Expr& e) {
    if (const auto it = memo_.find(e.get()); it != memo_.end()) return it->second;
    Linear value;
    try {
      value = compute(*e);
    } catch (const TooLarge&) {
      value = opaque(e->type);
    }
    // 32-bit values wrap where they do not fit; a value from memory may be any.
    if (e->type.scalar == Scalar::i32 && !value.is_constant() && e->kind != ExprKind::variable &&
        e->kind != ExprKind::load &&
        (result_.atoms.least(value, facts_) < INT32_MIN || result_.atoms.greatest(value, facts_) > INT32_MAX))
      value = opaque(e->type);
    return memo_[e.get()] = value;
  }

  Linear compute(const ExprData& e) {
    switch (e.kind) {
      case ExprKind::constant: return Linear::of(e.integer);
      case ExprKind::variable: {
        const auto it = known_.find(e.variable.get());
        if (it == known_.end() || e.variable->is_mutable) return opaque(e.type);
        Linear value = it->second;
        for (const auto& [atom, same] : aliases_)
          if (const int64_t c = value.coefficient(atom)) value = value - Linear::atom(atom, c) + same * c;
        return value;
      }
      case ExprKind::broadcast: return eval(e.args[0]);
      case ExprKind::ramp: return eval(e.args[0]) + Linear::atom(kLane, static_cast<int64_t>(e.number));
      case ExprKind::cast:
        return !e.args[0]->type.is_float() && e.args[0]->type.scalar != Scalar::i1 ? eval(e.args[0])
                                                                                   : opaque(e.type);
      case ExprKind::binary: return binary(e);
      case ExprKind::select: return select(e);
      case ExprKind::unary:
        return e.unary == UnaryOp::neg && !e.args[0]->type.is_float() ? eval(e.args[0]) * -1 : opaque(e.type);
      default: return opaque(e.type);
    }
  }

  Linear binary(const ExprData& e) {
    if (e.type.scalar == Scalar::i1) return opaque(e.type);
    const Linear a = eval(e.args[0]), b = eval(e.args[1]);
    switch (e.binary) {
      case BinaryOp::add: return a + b;
      case BinaryOp::sub: return a - b;
      case BinaryOp::mul:
        if (b.is_constant()) return a * b.constant;
        if (a.is_constant()) return b * a.constant;
        return opaque(e.type);
      case BinaryOp::div:
        if (b.is_constant() && b.constant > 0) return quotient(a, b.constant);
        return opaque(e.type, 0);
      case BinaryOp::rem:
        if (b.is_constant() && b.constant > 0) return a - quotient(a, b.constant) * b.constant;
        return opaque(e.type, 0);
      case BinaryOp::shift_left:
        return b.is_constant() && b.constant < 32 ? a * (int64_t{1} << b.constant) : opaque(e.type);
      case BinaryOp::min: return extreme(e.type, a, b, 1);
      case BinaryOp::max: return extreme(e.type, a, b, -1);
      default: return opaque(e.type);
    }
  }

  // A quotient of operands that are not negative, as loop IR requires.
  Linear quotient(const Linear& a, int64_t d) {
    Linear whole, rest;
    whole.constant = a.constant >= 0 ? a.constant / d : -((-a.constant + d - 1) / d);
    rest.constant = a.constant - whole.constant * d;
    for (const auto& [atom, c] : a.terms)
      if (c % d == 0)
        whole.terms.emplace_back(atom, c / d);
      else
        rest.terms.emplace_back(atom, c);
    Atoms& atoms = result_.atoms;
    if (rest.is_constant()) return whole;
    if (atoms.proves(rest, facts_) && atoms.proves(rest * -1 + (d - 1), facts_)) return whole;
    const auto [it, fresh] = quotients_.try_emplace({rest.constant, rest.terms, d}, 0);
    if (fresh) {
      const int64_t low = atoms.least(rest), high = atoms.greatest(rest);
      divisions_.push_back({atoms.size(), rest, d});
      it->second = atoms.add(low <= -kUnbounded ? low
                             : low >= 0         ? low / d
                                                : -((-low + d - 1) / d),
                             high >= kUnbounded ? high
                             : high >= 0        ? high / d
                                                : -((-high) / d));
      const Linear remainder = rest - Linear::atom(it->second, d);
      for (const Linear& limit : atoms.required(rest.terms.back().first))
        if (const auto cut = without_newest(remainder, rest, limit)) atoms.require(*cut);
      atoms.require(remainder);
      atoms.require(remainder * -1 + (d - 1));
    }
    const Linear remainder = rest - Linear::atom(it->second, d);
    for (size_t i = 0, end = facts_.size(); i < end; ++i)
      if (const auto cut = without_newest(remainder, rest, facts_[i])) facts_.push_back(tightened(*cut));
    return whole + Linear::atom(it->second);
  }

  // A sum with m * rest, of which it also has quotients, as m * (d * quotient + remainder): bounds of the quotient and
  // of the remainder then replace several inequalities.
  Linear with_remainders(Linear sum) {
    for (auto division = divisions_.rbegin(); division != divisions_.rend(); ++division) {
      if (sum.coefficient(division->quotient) == 0) continue;
      const auto [newest, c] = division->rest.terms.back();
      const int64_t m = sum.coefficient(newest) / c;
      const bool all =
          m != 0 && std::all_of(division->rest.terms.begin(), division->rest.terms.end(),
                                [&](const auto& t) { return sum.coefficient(t.first) == m * t.second; });
      if (!all) continue;
      if (division->remainder < 0) {
        const Linear remainder = division->rest - Linear::atom(division->quotient, division->by);
        division->remainder = result_.atoms.add(0, division->by - 1);
        result_.atoms.require(remainder - Linear::atom(division->remainder));
        result_.atoms.require(Linear::atom(division->remainder) - remainder);
      }
      sum = sum - division->rest * m + Linear::atom(division->quotient, m * division->by) +
            Linear::atom(division->remainder, m);
    }
    return sum;
  }

  // d times a quotient is at most `rest`, whose newest atom `limit` bounds by others. The result is that bound on the
  // quotient, which for integers is sharper than both inequalities together: 2 q <= i and i <= 2 k + 1 give q <= k.
  static std::optional<Linear> without_newest(const Linear& remainder, const Linear& rest,
                                              const Linear& limit) {
    const int64_t c = rest.terms.back().second, d = limit.coefficient(rest.terms.back().first);
    if (d == 0 || (c > 0) == (d > 0)) return std::nullopt;
    return remainder * std::abs(d) + limit * std::abs(c);
  }

  // The minimum (sign 1) or maximum (sign -1).
  Linear extreme(Type type, const Linear& a, const Linear& b, int64_t sign) {
    Atoms& atoms = result_.atoms;
    const Linear above = (b - a) * sign;  // at least 0 where it is a
    if (atoms.least(above, facts_, 0) >= 0) return a;
    if (atoms.least(above * -1, facts_, 0) >= 0) return b;
    // The same operands give the same symbol.
    std::vector<int64_t> key{sign};
    for (const Linear* sum : {&a, &b}) {
      key.push_back(sum->constant);
      for (const auto& [atom, c] : sum->terms) key.insert(key.end(), {atom, c});
      key.push_back(-1);
    }
    if (const auto it = extremes_.find(key); it != extremes_.end()) return it->second;
    return extremes_[key] = new_extreme(type, a, b, sign);
  }

  Linear new_extreme(Type type, const Linear& a, const Linear& b, int64_t sign) {
    Atoms& atoms = result_.atoms;
    if (sign == 1 && !by_panels() && splits()) {
      if (a == hi_ && b.is_constant()) return range_end(b.constant);
      if (b == hi_ && a.is_constant()) return range_end(a.constant);
    }
    const int64_t low_a = atoms.least(a), low_b = atoms.least(b), high_a = atoms.greatest(a),
                  high_b = atoms.greatest(b);
    const Linear value = sign == 1 ? opaque(type, std::min(low_a, low_b), std::min(high_a, high_b))
                                   : opaque(type, std::max(low_a, low_b), std::max(high_a, high_b));
    atoms.require((a - value) * sign);
    atoms.require((b - value) * sign);
    atoms.require_one(value.terms.back().first, (value - a) * sign, (value - b) * sign);
    return value;
  }

  // min(hi, cap): unless the range begins after it, the end of a unit of the range, which may be partial.
  Linear range_end(int64_t cap) {
    if (cap <= 0) return Linear::of(cap);
    Atoms& atoms = result_.atoms;
    int64_t grain = std::gcd(partition_.unit, cap);
    if (cap > partition_.extent) grain = std::gcd(grain, partition_.extent);
    const int own = atoms.add(0, units_ - 1);
    const int rest = atoms.add(1, partition_.unit / grain);
    const Linear end = Linear::atom(own, partition_.unit) + Linear::atom(rest, grain);
    atoms.require(Linear::atom(own) * -1 + Linear::atom(last_.unit));
    atoms.require(hi_ - end);
    atoms.require(end * -1 + cap);
    atoms.require_one(rest, end - hi_, end - cap);
    ends_.push_back(own);
    return end;
  }

  Linear select(const ExprData& e) {
    const Expr& condition = e.args[0];
    for (const auto& [what, holds] : truths_)
      if (what == condition.get() ||
          (condition->kind == ExprKind::variable && what == condition->variable.get()))
        return eval(e.args[holds ? 1 : 2]);
    const Linear yes = eval(e.args[1]), no = eval(e.args[2]);
    if (yes == no) return yes;
    const Scope scope = here();
    const auto range = [&](const Linear& value, bool holds) {
      assume(condition, holds);
      const std::pair<int64_t, int64_t> r{result_.atoms.least(value, facts_),
                                          result_.atoms.greatest(value, facts_)};
      leave(scope);
      return r;
    };
    const auto a = range(yes, true), b = range(no, false);
    const Linear value = opaque(e.type, std::min(a.first, b.first), std::max(a.second, b.second));
    if (condition->kind == ExprKind::variable)
      selected_.push_back({condition->variable.get(), value.terms.back().first, yes, no});
    return value;
  }

  struct Selected {
    const VariableData* condition;
    int value;  // atom
    Linear yes, no;
  };
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
  const Partition partition_;
  KernelAccesses result_;
  int64_t units_ = 1;
  Owner first_, last_;  // the unit at lo, the one before hi
  Linear lo_, hi_;
  std::unordered_map<const BufferData*, int> buffers_;
  std::unordered_map<const VariableData*, Linear> known_;
  std::unordered_map<const VariableData*, Expr> conditions_;
  std::vector<Selected> selected_;
  std::vector<Linear> facts_;
  std::vector<std::pair<int, Linear>> aliases_;       // atoms that are known to equal other sums
  std::vector<std::pair<const void*, bool>> truths_;  // variables and expressions with known truth
  std::vector<Belonging> owners_;                     // of the open loops and conditions
  std::vector<OwnLoop> own_loops_;
  std::vector<int> ends_;     // units that minima with hi end in
  std::map<int, int> lanes_;  // by number of lanes: the atom
  std::map<std::tuple<int64_t, std::vector<std::pair<int, int64_t>>, int64_t>, int> quotients_;
  struct Division {
    int quotient;  // an atom
    Linear rest;
    int64_t by;
    int remainder = -1;  // an atom; -1: not made yet
  };
  std::vector<Division> divisions_;
  std::map<std::vector<int64_t>, Linear> extremes_;
  std::unordered_map<const ExprData*, Linear> memo_;
  std::unordered_set<const ExprData*> walked_;
  std::map<std::string, MemoryUse> merged_;
  const StmtData* at_ = nullptr;
};

}  // namespace

KernelAccesses accesses_of(const Program& program, const Call& call, int64_t batch) {
  return Walker(program, call, batch).run();
}

}  // namespace gradc::loop
