// Kernels under construction, and the values they compute at a point of their domain.
#include <algorithm>
#include <cctype>

#include "passes/kernels/lowering.h"
#include "support/check.h"

namespace gradc::passes::lowering {

KernelBuilder::KernelBuilder(Lowering& lowering, std::string name, std::string summary)
    : lowering(lowering), kernel(loop::make_kernel(std::move(name))), b(kernel) {
  kernel.summary = std::move(summary);
}

namespace {

std::string summary_of(const KernelGroup& group) {
  std::string text;
  for (const Op* op : group.ops) text += (text.empty() ? "" : " + ") + op->name();
  return text;
}

double flop_of(const Op& op, double batch) {
  const bool batched = op.type.batched || std::any_of(op.operands.begin(), op.operands.end(),
                                                      [](const Op* o) { return o->type.batched; });
  return gradc::flop_of(op) * (batched ? batch : 1);
}

}  // namespace

KernelBuilder::KernelBuilder(Lowering& lowering, const KernelGroup& group)
    : KernelBuilder(lowering, fmt::format("k{}_{}", group.number, group.ops.front()->name()),
                    summary_of(group)) {
  kernel.rows = rows_of_example(*group.ops.front());
  for (const Op* op : group.ops) {
    flop += flop_of(*op, static_cast<double>(lowering.options.batch));
    kernel.locations.insert(kernel.locations.end(), op->locations.begin(), op->locations.end());
    const auto t = lowering.targets.find(op);
    if (t == lowering.targets.end()) continue;
    for (int allocation : t->second) declare_written(allocation);
  }
}

std::vector<RowRange> rows_by_chunk(int64_t chunks, int64_t step, int64_t height, int64_t before,
                                    int64_t after) {
  std::vector<RowRange> rows;
  for (int64_t p = 0; p < chunks; ++p)
    rows.push_back({std::clamp<int64_t>(p * step - before, 0, height),
                    std::clamp<int64_t>((p + 1) * step + after, 0, height)});
  return rows;
}

namespace {

// Extends an access by a further use of the same allocation.
void widen(MemoryAccess& t, bool writes, AccessScope scope, const std::vector<RowRange>& rows) {
  const auto within_panel = [](AccessScope r) {
    return r == AccessScope::own_panels || r == AccessScope::panel;
  };
  if (t.scope != scope)
    t.scope = within_panel(t.scope) && within_panel(scope) ? AccessScope::panel : AccessScope::anything;
  if (t.rows.size() != rows.size() || (t.writes != writes && t.rows != rows)) {
    t.rows.clear();
  } else {
    for (size_t p = 0; p < rows.size(); ++p) {
      t.rows[p].begin = std::min(t.rows[p].begin, rows[p].begin);
      t.rows[p].end = std::max(t.rows[p].end, rows[p].end);
    }
  }
  t.writes = t.writes || writes;
}

}  // namespace

loop::Buffer KernelBuilder::buffer(int allocation, bool writes, AccessScope scope,
                                   const std::vector<RowRange>& rows) {
  GRADC_CHECK(!writes || written_.count(allocation), "allocation {} is written without notice", allocation);
  const auto it = buffers_.find(allocation);
  if (it != buffers_.end()) {
    for (MemoryAccess& t : accesses)
      if (t.allocation == allocation) widen(t, writes, scope, rows);
    return it->second;
  }
  const loop::Allocation& a = lowering.result.program.allocations[static_cast<size_t>(allocation)];
  const bool aligned =
      a.space == loop::Space::arena || a.space == loop::Space::parameter || a.space == loop::Space::scratch;
  const loop::Access access = written_.count(allocation) ? loop::Access::read_write : loop::Access::read;
  std::string name;
  for (char c : a.name) name += std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' ? c : '_';
  const loop::Buffer made = b.buffer(name, a.scalar, access, aligned ? 64 : loop::bytes(a.scalar));
  buffers_[allocation] = made;
  accesses.push_back({{allocation, scope, rows}, writes});
  return made;
}

PointEmitter::PointEmitter(KernelBuilder& kb, const KernelGroup& group, AccessScope own, int64_t chunks,
                           int64_t rows)
    : kb_(kb), group_(group), own_(own), chunks_(chunks) {
  if (own_ == AccessScope::own_panels && chunks_ > 1 && group_.domain.rank() == 3)
    rows_ = rows_by_chunk(chunks_, rows, group_.domain.shape[1]);
}

void PointEmitter::begin_outer(const Point& point) {
  outer_.clear();
  inner_.clear();
  outer_point_ = point;
}

void PointEmitter::begin_inner(const Point& point) {
  inner_.clear();
  inner_point_ = point;
}

// The scope of accesses to a value: the thread's own chunk of it where the value spans the partitioned axis.
AccessScope PointEmitter::scope_of(const Type& t, Layout layout) const {
  if (own_ == AccessScope::own_panels) {
    if (layout != Layout::panels) return AccessScope::anything;
    // Chunks of a panel are rows of images: a value without those rows is shared by its panel's chunks.
    const bool whole = chunks_ == 1 || (t.rank() == 3 && t.shape[1] == chunks_);
    return whole ? AccessScope::own_panels : AccessScope::panel;
  }
  if (own_ == AccessScope::own_axis0) {
    const bool full =
        t.rank() == group_.domain.rank() && t.rank() > 0 && t.shape[0] == group_.domain.shape[0];
    return full && layout != Layout::rows ? AccessScope::own_axis0 : AccessScope::anything;
  }
  return AccessScope::anything;
}

loop::Buffer PointEmitter::buffer_of(const Type& t, const Storage& s, bool writes) const {
  const AccessScope scope = scope_of(t, s.layout);
  const bool by_rows = !rows_.empty() && (scope == AccessScope::own_panels || scope == AccessScope::panel) &&
                       t.rank() == 3 && t.shape[1] == group_.domain.shape[1];
  return kb_.buffer(s.allocation, writes, scope, by_rows ? rows_ : std::vector<RowRange>{});
}

loop::Expr PointEmitter::index_of(const Type& t, const Point& p, std::vector<loop::Expr>* axes_out) const {
  if (p.flat && !t.shape.empty() && t.elements() > 1) return p.flat;
  loop::Expr linear = loop::index(0);
  const size_t missing = p.axes.size() - t.shape.size();
  for (size_t i = 0; i < t.shape.size(); ++i) {
    const loop::Expr axis = t.shape[i] == 1 ? loop::index(0) : p.axes[missing + i];
    if (axes_out) axes_out->push_back(axis);
    linear = linear * loop::index(t.shape[i]) + axis;
  }
  return linear;
}

// The element index of a value's lanes at a point; sets `vector` when each lane has its own element (else one for all
// lanes).
loop::Expr PointEmitter::address(const Type& t, const Storage& s, const Point& p, bool& vector) {
  std::vector<loop::Expr> axes;
  const loop::Expr linear = index_of(t, p, &axes);
  if (s.layout == Layout::panels) {
    GRADC_CHECK(p.batched, "a batched value where the point has no rows");
    vector = true;
    return (p.panel * loop::index(t.elements()) + kb_.lowering.element(t, axes)) * loop::index(kPanel) +
           p.sub * loop::index(kb_.lowering.width);
  }
  GRADC_CHECK(s.layout == Layout::plain, "a value is read by rows");
  vector = !p.batched && p.lanes > 1 && (p.flat ? t.elements() > 1 : !t.shape.empty() && t.shape.back() > 1);
  return linear + loop::index(s.first);
}

// Values are read at the point where they are computed, so a thread reads its own chunk of what another kernel wrote.
// An indexing operation reads other elements; only whole panels are sure to contain them.
loop::Expr PointEmitter::load(const Op* op, const Point& p, Place place) {
  Lowering& l = kb_.lowering;
  const Storage s = l.storage(op);
  bool vector = false;
  const loop::Expr at = address(op->type, s, p, vector);
  const bool whole_panels = own_ == AccessScope::own_panels && chunks_ == 1;
  const bool panels = own_ == AccessScope::own_panels && s.layout == Layout::panels;
  const loop::Buffer buffer =
      place == Place::same || whole_panels
          ? buffer_of(op->type, s, false)
          : kb_.buffer(s.allocation, false, panels ? AccessScope::panel : AccessScope::anything);
  loop::Expr v = loop::load(buffer, at, vector ? p.lanes : 1, vector && !p.batched ? p.mask : nullptr);
  return kb_.b.let(op->def->kind == OpKind::external ? "x" : "v", v);
}

void PointEmitter::prefetch(const Type& type, const Storage& s, const Point& p) {
  bool vector = false;
  const loop::Expr at = address(type, s, p, vector);
  kb_.b.prefetch(buffer_of(type, s, false), at);
}

loop::Expr PointEmitter::value(const Op* op, Level at) {
  if (group_.contains(op)) {
    const auto outer = outer_.find(op);
    if (outer != outer_.end()) return outer->second;
    const auto inner = inner_.find(op);
    if (inner != inner_.end()) return inner->second;
    const Level level = group_.level.at(op);
    GRADC_CHECK(level == Level::inner ? at == Level::inner : true,
                "an outer value of kernel {} needs an inner one", group_.number);
    GRADC_CHECK(op->def->kind != OpKind::reduction, "%{} is used before its phase ends", op->id);
    loop::Expr v = reload.count(op) ? load(op, inner_point_, Place::same) : compute(op, level);
    define(op, level, v);
    return v;
  }
  auto& memo = at == Level::inner ? inner_ : outer_;
  const auto known = memo.find(op);
  if (known != memo.end()) return known->second;
  const auto outer = outer_.find(op);
  if (outer != outer_.end()) return outer->second;
  const Point& p = at == Level::inner ? inner_point_ : outer_point_;
  loop::Expr v =
      needs_kernel(op) || op->def->kind != OpKind::source ? load(op, p, Place::same) : compute(op, at);
  memo[op] = v;
  return v;
}

loop::Expr PointEmitter::compute(const Op* op, Level at) {
  loop::Builder& b = kb_.b;
  if (!op->locations.empty()) b.set_location(op->locations.front());
  const Point& p = at == Level::inner ? inner_point_ : outer_point_;
  if (op->def->kind == OpKind::indexing) {
    GRADC_CHECK(!p.flat && (p.batched || p.lanes == 1), "{} needs a nest without flattening", op->name());
    const loop::Type type{scalar_of(op->type.dtype), static_cast<uint16_t>(p.lanes)};
    const double otherwise = op->def->otherwise ? op->def->otherwise(*op) : 0;
    const loop::Variable result =
        b.declare("moved", type.is_float() ? loop::constant(type, otherwise)
                                           : loop::constant_int(type, static_cast<int64_t>(otherwise)));
    // Moves the first operand whose condition holds.
    const auto choose = [&](auto&& self, size_t i) -> void {
      if (i == op->operands.size()) return;
      loop::Expr condition;
      Point there = p;
      there.axes = op->def->position(*op, static_cast<int>(i), p.axes, condition);
      const auto read = [&] {
        b.assign(result, loop::broadcast(load(op->operands[i], there, Place::other), p.lanes));
      };
      if (!condition) return read();
      b.if_else(condition, read, [&] { self(self, i + 1); });
    };
    choose(choose, 0);
    return loop::ref(result);
  }
  std::vector<loop::Expr> args;
  for (const Op* operand : op->operands) args.push_back(value(operand, at));
  if (!op->locations.empty()) b.set_location(op->locations.front());
  ScalarContext context{b, {scalar_of(op->type.dtype), 1}, loop::index(0), loop::index(0), op->type.batched,
                        {}};
  if (op->def->kind == OpKind::source || op->def->random) {
    const bool vector =
        op->type.batched || (!p.batched && p.lanes > 1 && !op->type.shape.empty() && op->type.elements() > 1);
    context.type.lanes = static_cast<uint16_t>(vector ? p.lanes : 1);
    if (op->type.shape.empty() || !p.flat)
      context.element = index_of(op->type, p, &context.axis_indices);
    else
      context.element = p.flat;
    if (op->type.batched)
      context.row = p.panel * loop::index(kPanel) + p.sub * loop::index(kb_.lowering.width);
    context.from_row_zero = kb_.lowering.from_row_zero;
    context.offset_aligned = kb_.lowering.offset_aligned;
    context.rows = kb_.kernel.rows;
    context.aligned = vector && (op->type.batched || p.flat);
    if (vector && !op->type.batched && !context.axis_indices.empty())
      context.axis_indices.back() = loop::ramp(context.axis_indices.back(), 1, p.lanes);
  } else {
    int lanes = 1;
    for (const loop::Expr& a : args) lanes = std::max<int>(lanes, a->type.lanes);
    context.type.lanes = static_cast<uint16_t>(lanes);
  }
  return b.let(fmt::format("v{}", op->id), op->def->scalar(*op, args, context));
}

// A reduction that drops its axes has one axis fewer for each; the point's axes that stay are its own.
Point PointEmitter::stored_at(const Op* op, const Point& p) const {
  if (op->def->kind != OpKind::reduction || op->attributes.boolean("keep")) return p;
  Point own = p;
  own.axes.clear();
  for (size_t a = 0; a < p.axes.size(); ++a)
    if (!group_.reduced[a]) own.axes.push_back(p.axes[a]);
  return own;
}

void PointEmitter::store(const Op* op, Level at, Which which) {
  Lowering& l = kb_.lowering;
  const auto targets = l.targets.find(op);
  if (targets == l.targets.end()) return;
  const Point& p = at == Level::inner ? inner_point_ : outer_point_;
  for (int allocation : targets->second) {
    const bool symbol = l.symbol_targets.count(allocation) != 0;
    if (which != Which::all && symbol != (which == Which::symbols)) continue;
    const loop::Expr v = value(op, at);
    const Storage s{allocation, op->type.batched ? Layout::panels : Layout::plain};
    bool vector = false;
    const loop::Expr index = address(op->type, s, stored_at(op, p), vector);
    const loop::Buffer buffer = buffer_of(op->type, s, true);
    kb_.b.store(buffer, index, vector ? loop::broadcast(v, p.lanes) : v,
                vector && !p.batched ? p.mask : nullptr);
  }
}

}  // namespace gradc::passes::lowering
