// Finds errors of a kernel or a program: types, scopes, names, memory, and calls that do not fit
// their kernels.
#include <fmt/format.h>

#include <cctype>
#include <map>
#include <unordered_set>

#include "ir/loop/type_rules.h"

namespace gradc::loop {
namespace {

constexpr size_t most_errors = 20;

bool is_name(std::string_view s) {
  if (s.empty() || !(std::isalpha(static_cast<unsigned char>(s[0])) || s[0] == '_')) return false;
  for (const char c : s)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '.') return false;
  return true;
}

class KernelVerifier {
 public:
  explicit KernelVerifier(const Kernel& k) : kernel_(k) {}

  std::vector<std::string> run() {
    const Kernel::Predefined& p = kernel_.predefined;
    for (const Variable* v :
         {&p.lo, &p.hi, &p.rows, &p.panels, &p.row_offset, &p.seed_lo, &p.seed_hi, &p.step_lo, &p.step_hi}) {
      if (!*v) return {fmt::format("kernel `{}`: a predefined variable is missing", kernel_.name)};
      define(*v);
    }
    constexpr int64_t kMostRows = int64_t{1} << 31;
    if (kernel_.rows < 1 || kernel_.rows > kMostRows)
      error(fmt::format("{} rows of an example", kernel_.rows));
    for (const Buffer& b : kernel_.buffers) buffer(b);
    body(kernel_.body);
    return std::move(errors_);
  }

 private:
  void error(const std::string& what) {
    if (errors_.size() >= most_errors) return;
    const std::string at =
        statement_ && statement_->location.valid() ? " (" + to_string(statement_->location) + ")" : "";
    errors_.push_back(fmt::format("kernel `{}`: {}{}", kernel_.name, what, at));
  }

  void new_name(const std::string& n) {
    if (!is_name(n)) error(fmt::format("`{}` is no name", n));
    if (is_reserved(n)) error(fmt::format("`{}` is reserved", n));
    if (!names_.insert(n).second) error(fmt::format("`{}` names two things", n));
  }

  void buffer(const Buffer& b) {
    if (!b) return error("a buffer is missing");
    new_name(b->name);
    if (b->scalar == Scalar::i1) error(fmt::format("buffer `{}` is i1; booleans are stored as i8", b->name));
    if (b->alignment < 1 || (b->alignment & (b->alignment - 1)) != 0)
      error(fmt::format("buffer `{}` has alignment {}, which is no power of two", b->name, b->alignment));
    buffers_.insert(b.get());
  }

  void define(const Variable& v) {
    new_name(v->name);
    visible_.insert(v.get());
    scope_.push_back(v.get());
  }

  void body(const std::vector<Stmt>& statements) {
    const size_t outer = scope_.size();
    for (const Stmt& s : statements) {
      if (!s) {
        error("a statement is missing");
        continue;
      }
      statement_ = s.get();
      checked_.clear();
      statement(*s);
    }
    while (scope_.size() > outer) {
      visible_.erase(scope_.back());
      scope_.pop_back();
    }
  }

  // Whether e exists and is sound; reports its errors.
  bool sound(const Expr& e, const char* what) {
    if (!e) {
      error(fmt::format("{} is missing", what));
      return false;
    }
    return expr(*e);
  }

  void typed(const Expr& e, Type t, const char* what) {
    if (sound(e, what) && e->type != t)
      error(fmt::format("{} is {}, not {}", what, to_string(e->type), to_string(t)));
  }

  bool known(const Buffer& b) {
    if (b && buffers_.contains(b.get())) return true;
    error(b ? fmt::format("buffer `{}` is none of the kernel's", b->name) : "a buffer is missing");
    return false;
  }

  void statement(const StmtData& s) {
    const Type index_type{Scalar::i64, 1};
    switch (s.kind) {
      case StmtKind::block: body(s.body); break;
      case StmtKind::for_loop: {
        typed(s.begin, index_type, "a loop's begin");
        typed(s.end, index_type, "a loop's end");
        if (s.step < 1) error(fmt::format("a loop's step is {}", s.step));
        if (!s.variable) return error("a loop has no counter");
        if (s.variable->type != index_type || s.variable->is_mutable)
          error(fmt::format("counter `{}` is not an immutable i64", s.variable->name));
        const size_t outer = scope_.size();
        define(s.variable);
        body(s.body);
        visible_.erase(s.variable.get());
        scope_.resize(outer);
        break;
      }
      case StmtKind::let:
      case StmtKind::declare:
        if (!s.variable) return error("a definition has no variable");
        if (s.variable->is_mutable != (s.kind == StmtKind::declare))
          error(fmt::format("`{}` is {} by its definition only", s.variable->name,
                            s.kind == StmtKind::declare ? "mutable" : "immutable"));
        typed(s.value, s.variable->type, "a definition's value");
        define(s.variable);
        break;
      case StmtKind::assign:
        if (!s.variable) return error("an assignment has no variable");
        if (!visible_.contains(s.variable.get()))
          error(fmt::format("`{}` is not visible here", s.variable->name));
        if (!s.variable->is_mutable) error(fmt::format("`{}` is not mutable", s.variable->name));
        typed(s.value, s.variable->type, "an assignment's value");
        break;
      case StmtKind::store: store(s); break;
      case StmtKind::if_then:
        typed(s.condition, {Scalar::i1, 1}, "a condition");
        body(s.body);
        body(s.other);
        break;
      case StmtKind::prefetch:
        known(s.buffer);
        if (sound(s.index, "a prefetch's index") && (s.index->type.lanes != 1 || !is_index(s.index->type)))
          error("a prefetch's index is " + to_string(s.index->type));
        break;
    }
  }

  static bool is_index(Type t) { return t.scalar == Scalar::i64 || t.scalar == Scalar::i32; }

  void store(const StmtData& s) {
    const bool have = known(s.buffer) & sound(s.value, "a store's value") & sound(s.index, "a store's index");
    if (!have) return;
    if (s.buffer->access == Access::read)
      error(fmt::format("store into `{}`, which is only read", s.buffer->name));
    const Scalar stored = s.buffer->scalar == Scalar::i8 ? Scalar::i1 : s.buffer->scalar;
    if (s.value->type.scalar != stored)
      error(fmt::format("store of {} into `{}` of {}", to_string(s.value->type), s.buffer->name,
                        name(s.buffer->scalar)));
    if (!is_index(s.index->type) || (s.index->type.lanes != 1 && s.index->type.lanes != s.value->type.lanes))
      error(fmt::format("store of {} under an index of {}", to_string(s.value->type),
                        to_string(s.index->type)));
    if (s.mask) typed(s.mask, s.value->type.with(Scalar::i1), "a store's mask");
  }

  bool expr(const ExprData& e) {
    if (checked_.contains(&e)) return true;
    for (const Expr& a : e.args)
      if (!sound(a, "an operand")) return false;
    if (e.kind == ExprKind::load && !known(e.buffer)) return false;
    if (const std::string what = type_error(e); !what.empty()) {
      error(what);
      return false;
    }
    if (e.kind == ExprKind::variable && !visible_.contains(e.variable.get())) {
      error(fmt::format("`{}` is not visible here", e.variable->name));
      return false;
    }
    if (e.kind == ExprKind::load && e.buffer->access == Access::write) {
      error(fmt::format("load from `{}`, which is only written", e.buffer->name));
      return false;
    }
    checked_.insert(&e);
    return true;
  }

  const Kernel& kernel_;
  const StmtData* statement_ = nullptr;
  std::vector<std::string> errors_;
  std::unordered_set<std::string> names_;
  std::unordered_set<const BufferData*> buffers_;
  std::unordered_set<const VariableData*> visible_;
  std::vector<const VariableData*> scope_;
  std::unordered_set<const ExprData*> checked_;  // of the current statement
};

class ProgramVerifier {
 public:
  explicit ProgramVerifier(const Program& p) : program_(p) {}

  std::vector<std::string> run() {
    if (program_.panel < 1) error(fmt::format("a panel of {}", program_.panel));
    if (program_.panels < 1) error(fmt::format("a batch of {} panels", program_.panels));
    if (program_.vector_width < 1) error(fmt::format("a vector width of {}", program_.vector_width));
    for (const Kernel& k : program_.kernels)
      for (std::string& e : verify(k)) errors_.push_back(std::move(e));
    for (size_t i = 0; i < program_.allocations.size(); ++i) allocation(i);
    if (program_.guard >= 0) {
      if (static_cast<size_t>(program_.guard) >= program_.allocations.size()) {
        error(fmt::format("the guard is allocation {}, which is none", program_.guard));
      } else if (program_.allocations[static_cast<size_t>(program_.guard)].scalar != Scalar::f32) {
        error("the guard is not f32");
      }
    }
    for (size_t i = 0; i < program_.calls.size(); ++i) call(i);
    int end = 0;
    for (size_t i = 0; i < program_.segments.size(); ++i) {
      const Segment& s = program_.segments[i];
      if (s.first < end || s.last - int64_t{s.first} < 2 ||
          static_cast<size_t>(s.last) > program_.calls.size())
        error(fmt::format("segment {}: calls {} to {} of {}", i, s.first, s.last, program_.calls.size()));
      else
        segment(i);
      end = std::max(end, s.last);
    }
    locals();
    return std::move(errors_);
  }

 private:
  void error(const std::string& what) {
    if (errors_.size() < most_errors) errors_.push_back(what);
  }

  void allocation(size_t i) {
    const Allocation& a = program_.allocations[i];
    const auto wrong = [&](const std::string& what) {
      error(fmt::format("allocation {} `{}`: {}", i, a.name, what));
    };
    if (a.scalar == Scalar::i1) wrong("i1; booleans are stored as i8");
    if (a.offset < 0 || a.elements < 0)
      return wrong(fmt::format("offset {}, {} elements", a.offset, a.elements));
    const int64_t size = bytes(a.scalar);
    if (is_block(a.space) && a.offset % size != 0)
      wrong(fmt::format("offset {} is no multiple of {} bytes", a.offset, size));
    const auto within = [&](const char* what, int64_t elements, int64_t limit) {
      if (elements > (INT64_MAX - a.offset) / size || a.offset + elements * size > limit)
        wrong(fmt::format("ends beyond the {}'s {} bytes", what, limit));
    };
    if (a.space == Space::arena) within("arena", a.elements, program_.arena_bytes);
    if (a.space == Space::scratch) within("scratch", a.elements, program_.scratch_bytes);
    if (a.space == Space::local) {
      if (program_.panels < 1 || a.elements % program_.panels != 0)
        return wrong(fmt::format("{} elements for {} panels", a.elements, program_.panels));
      within("local memory", a.elements / program_.panels, program_.local_bytes);
    }
    if (a.space == Space::scalars && a.scalar != Scalar::f64) wrong("the scalars are f64");
  }

  void call(size_t i) {
    const Call& c = program_.calls[i];
    const auto wrong = [&](const std::string& what) { error(fmt::format("call {}: {}", i, what)); };
    if (c.partition.unit < 1) wrong(fmt::format("a partition unit of {}", c.partition.unit));
    if (c.partition.extent < (c.partition.kind == Partition::Extent::panels ? 1 : 0))
      wrong(fmt::format("a partition of {}", c.partition.extent));
    if (c.guard_before && program_.guard < 0) wrong("a guard, and the program names none");
    if (c.kernel < 0 || static_cast<size_t>(c.kernel) >= program_.kernels.size())
      return wrong(fmt::format("kernel {} is none", c.kernel));
    const Kernel& k = program_.kernels[static_cast<size_t>(c.kernel)];
    const int64_t rows = c.partition.kind == Partition::Extent::panels ? k.rows : 1;
    if (c.partition.rows != rows)
      wrong(fmt::format("a partition of {} rows an example; kernel `{}` has {}", c.partition.rows, k.name,
                        rows));
    if (c.buffers.size() != k.buffers.size())
      return wrong(
          fmt::format("kernel `{}` takes {} buffers, not {}", k.name, k.buffers.size(), c.buffers.size()));
    for (size_t b = 0; b < c.buffers.size(); ++b) {
      const int number = c.buffers[b].allocation;
      if (number < 0 || static_cast<size_t>(number) >= program_.allocations.size()) {
        wrong(fmt::format("allocation {} is none", number));
        continue;
      }
      if (k.buffers[b]) fits(k, *k.buffers[b], program_.allocations[static_cast<size_t>(number)], wrong);
      scope(c, c.buffers[b], wrong);
    }
    if (c.flop < 0 || c.bytes < 0) wrong("flop or bytes below 0");
  }

  template <class F>
  static void scope(const Call& c, const CallBuffer& b, const F& wrong) {
    const bool by_panels = c.partition.kind == Partition::Extent::panels;
    const bool within_panel = b.scope == AccessScope::own_panels || b.scope == AccessScope::panel;
    if (within_panel ? !by_panels : b.scope == AccessScope::own_axis0 && by_panels)
      wrong(fmt::format("allocation {} is accessed by `{}`, and the call is split over {}", b.allocation,
                        name(b.scope), by_panels ? "panels" : "an axis"));
    if (!b.rows.empty() && (!within_panel || static_cast<int64_t>(b.rows.size()) != c.partition.extent))
      wrong(fmt::format("rows of allocation {} for {} chunks of a panel, which has {}", b.allocation,
                        b.rows.size(), within_panel ? c.partition.extent : 0));
    for (const RowRange& r : b.rows)
      if (r.begin < 0 || r.end < r.begin) wrong(fmt::format("rows {} to {}", r.begin, r.end));
  }

  // All calls that take a local allocation must be of one segment.
  void locals() {
    std::map<int, int> home;  // by allocation: the number of the segment
    auto segment = program_.segments.begin();
    for (size_t c = 0; c < program_.calls.size(); ++c) {
      while (segment != program_.segments.end() && segment->last <= static_cast<int>(c)) ++segment;
      const bool inside = segment != program_.segments.end() && segment->first <= static_cast<int>(c);
      const int here = inside ? static_cast<int>(segment - program_.segments.begin()) : -1;
      for (const CallBuffer& buffer : program_.calls[c].buffers) {
        const int a = buffer.allocation;
        if (a < 0 || static_cast<size_t>(a) >= program_.allocations.size() ||
            program_.allocations[static_cast<size_t>(a)].space != Space::local)
          continue;
        if (here < 0 || home.emplace(a, here).first->second != here)
          error(fmt::format("allocation {} `{}`: call {} is not of the segment that it is local to", a,
                            program_.allocations[static_cast<size_t>(a)].name, c));
      }
    }
  }

  void segment(size_t i) {
    const Segment& s = program_.segments[i];
    const auto wrong = [&](const std::string& what) { error(fmt::format("segment {}: {}", i, what)); };
    const auto calls = static_cast<size_t>(s.last - s.first);
    if (s.bands.empty()) wrong("no bands");
    for (const std::vector<int64_t>& band : s.bands)
      if (band.size() != calls) return wrong(fmt::format("a band of {} calls, not {}", band.size(), calls));
    for (size_t c = 0; c < calls; ++c) {
      const Call& call = program_.calls[static_cast<size_t>(s.first) + c];
      if (call.partition.kind != Partition::Extent::panels || call.partition.unit != 1 ||
          call.partition.rows != 1)
        wrong(fmt::format("call {} is not split over panels", s.first + static_cast<int>(c)));
      if (call.guard_before && c > 0) wrong("a guard inside");
      int64_t made = 0;
      for (const std::vector<int64_t>& band : s.bands) {
        if (band[c] < made) wrong(fmt::format("part {} is undone", made - 1));
        made = band[c];
      }
      if (made != call.partition.extent)
        wrong(fmt::format("{} of {} parts are made", made, call.partition.extent));
    }
  }

  // Memory that begins at a multiple of 64 bytes.
  static bool is_block(Space s) {
    return s == Space::arena || s == Space::parameter || s == Space::scratch || s == Space::local;
  }

  template <class F>
  static void fits(const Kernel& k, const BufferData& b, const Allocation& a, const F& wrong) {
    const std::string argument = fmt::format("`{}` for `{}` of kernel `{}`", a.name, b.name, k.name);
    if (a.scalar != b.scalar)
      wrong(fmt::format("{} is {}, not {}", argument, name(a.scalar), name(b.scalar)));
    if (b.access != Access::read && (a.space == Space::input || a.space == Space::scalars))
      wrong(argument + " is written, but may only be read");
    if (is_block(a.space) ? b.alignment > 64 || (b.alignment > 0 && a.offset % b.alignment != 0)
                          : b.alignment > bytes(a.scalar))
      wrong(fmt::format("{} is not known to be aligned to {} bytes", argument, b.alignment));
  }

  const Program& program_;
  std::vector<std::string> errors_;
};

}  // namespace

std::vector<std::string> verify(const Program& p) { return ProgramVerifier(p).run(); }
std::vector<std::string> verify(const Kernel& k) { return KernelVerifier(k).run(); }

}  // namespace gradc::loop
