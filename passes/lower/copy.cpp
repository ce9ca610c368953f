// Copies between layouts, at the edges of a program and for contractions that read an operand by rows.
#include "passes/lower/lowering.h"
#include "support/check.h"

namespace gradc::passes::lowering {

using loop::Expr;

namespace {

loop::Variable predefined_rows(KernelBuilder& kb) { return kb.b.predefined().rows; }

// min(row, rows - 1): lanes past the last row repeat it, so that no memory past the caller's rows is read and
// lanes stay finite.
Expr existing_rows(KernelBuilder& kb, const Expr& first, int lanes) {
  const Expr last = loop::broadcast(loop::ref(predefined_rows(kb)) - loop::index(1), lanes);
  return loop::binary(loop::BinaryOp::min, loop::ramp(first, 1, lanes), last);
}

}  // namespace

void copy_rows_to_panels(Lowering& l, const std::string& name, const Type& type, int from, int to) {
  KernelBuilder kb(l, "panels_" + name, "rows to panels");
  kb.declare_written(to);
  const int64_t elements = type.elements();
  const bool image = l.images && type.rank() == 3;
  const bool by_element = elements >= 4 * kSplitUnit && type.rank() == 1;
  const loop::Partition partition =
      by_element ? axis_partition(elements)
                 : loop::Partition{loop::Partition::Extent::panels, image ? type.shape[1] : 1, 1};
  const loop::Buffer source = kb.buffer(from, false, Reach::anything);
  const loop::Buffer target =
      kb.buffer(to, true, by_element ? Reach::own_axis0 : Reach::own_panels,
                image ? part_rows(type.shape[1], 1, type.shape[1]) : std::vector<RowRange>{});
  const Expr lo = loop::ref(kb.b.predefined().lo), hi = loop::ref(kb.b.predefined().hi);
  std::vector<Expr> place(type.shape.size());
  const auto move = [&](const Expr& q) {
    Expr logical = loop::index(0);
    for (size_t a = 0; a < place.size(); ++a) logical = logical * loop::index(type.shape[a]) + place[a];
    const Expr e = kb.b.let("e", logical);
    const Expr there =
        kb.b.let("to", (q * loop::index(elements) + l.element(type, place)) * loop::index(kPanel));
    kb.b.loop("s", loop::index(0), loop::index(kPanel / l.width), 1, [&](Expr s) {
      const Expr first = q * loop::index(kPanel) + s * loop::index(l.width);
      const Expr at = existing_rows(kb, first, l.width) * loop::broadcast(loop::index(elements), l.width) +
                      loop::broadcast(e, l.width);
      const Expr v = kb.b.let("v", loop::gather(source, kb.b.let("at", at)));
      kb.b.store(target, there + s * loop::index(l.width), v);
    });
  };
  // The axes in memory order, but for those that the partition has fixed.
  const auto over_axes = [&](const Expr& q, int fixed) {
    const std::vector<int> order = memory_order(type, l.images);
    const auto inner = [&](auto&& self, size_t index) -> void {
      if (index == order.size()) return move(q);
      const auto a = static_cast<size_t>(order[index]);
      if (order[index] == fixed) return self(self, index + 1);
      kb.b.loop("a", loop::index(0), loop::index(type.shape[a]), 1, [&](Expr i) {
        place[a] = i;
        self(self, index + 1);
      });
    };
    inner(inner, 0);
  };
  if (by_element)
    kb.b.loop("a", lo, hi, 1, [&](Expr e) {
      place[0] = e;
      kb.b.loop("q", loop::index(0), loop::ref(kb.b.predefined().panels), 1, move);
    });
  else if (image)
    kb.b.loop("u", lo, hi, 1, [&](Expr u) {
      place[1] = kb.b.let("y", loop::binary(loop::BinaryOp::rem, u, loop::index(type.shape[1])));
      over_axes(kb.b.let("q", u / loop::index(type.shape[1])), 1);
    });
  else
    kb.b.loop("q", lo, hi, 1, [&](Expr q) { over_axes(q, -1); });
  l.finish(kb, partition);
}

void copy_panels_to_rows(Lowering& l, const std::string& name, const Type& type, int from, int to) {
  KernelBuilder kb(l, "rows_" + name, "panels to rows");
  kb.declare_written(to);
  const int64_t elements = type.elements();
  const bool by_element = elements >= 4 * kSplitUnit && type.shape[0] == elements;
  const loop::Partition partition =
      by_element ? axis_partition(elements) : loop::Partition{loop::Partition::Extent::panels, 1, 1};
  const loop::Buffer source = kb.buffer(from, false, by_element ? Reach::own_axis0 : Reach::own_panels);
  const loop::Buffer target = kb.buffer(to, true, Reach::anything);
  const Expr lo = loop::ref(kb.b.predefined().lo), hi = loop::ref(kb.b.predefined().hi);
  const Expr rows = loop::ref(predefined_rows(kb));
  // Vectors run along the elements that follow each other in logical order at one distance in memory: all of
  // them, or those of the last axis.
  const bool all = memory_order(type, l.images) == memory_order(type, false);
  const int64_t run = all ? elements : type.shape.back();
  int64_t distance = kPanel;
  if (!all) {
    std::vector<Expr> unit(type.shape.size(), loop::index(0));
    unit.back() = loop::index(1);
    const Expr step = l.element(type, unit);
    GRADC_CHECK(step->kind == loop::ExprKind::constant, "the distance of neighbours is no constant");
    distance *= step->integer;
  }
  const auto move = [&](const Expr& q, const Expr& m, const Expr& memory, const Expr& logical,
                        const Expr& begin, const Expr& end) {
    kb.b.loop("e", begin, end, l.width, [&](Expr e) {
      const Expr exists =
          run % l.width ? kb.b.let("lanes", loop::compare(loop::CompareOp::lt, loop::ramp(e, 1, l.width),
                                                          loop::broadcast(loop::index(run), l.width)))
                        : nullptr;
      const Expr first =
          (q * loop::index(elements) + memory) * loop::index(kPanel) + m + e * loop::index(distance);
      const Expr at = loop::ramp(kb.b.let("first", first), distance, l.width);
      const Expr v = kb.b.let("v", loop::gather(source, kb.b.let("at", at), exists));
      kb.b.store(target, (q * loop::index(kPanel) + m) * loop::index(elements) + logical + e, v, exists);
    });
  };
  const auto row = [&](const Expr& q, const Expr& m, const Expr& begin, const Expr& end) {
    if (all) return move(q, m, loop::index(0), loop::index(0), begin, end);
    std::vector<Expr> place(type.shape.size(), loop::index(0));
    const auto outer = [&](auto&& self, size_t a) -> void {
      if (a + 1 == place.size()) {
        Expr logical = loop::index(0);
        for (size_t i = 0; i < place.size(); ++i) logical = logical * loop::index(type.shape[i]) + place[i];
        return move(q, m, kb.b.let("from", l.element(type, place)), kb.b.let("to", logical), loop::index(0),
                    loop::index(run));
      }
      kb.b.loop("a", loop::index(0), loop::index(type.shape[a]), 1, [&](Expr i) {
        place[a] = i;
        self(self, a + 1);
      });
    };
    outer(outer, 0);
  };
  const auto panel = [&](const Expr& q, const Expr& begin, const Expr& end) {
    const Expr count = kb.b.let(
        "m_end", loop::binary(loop::BinaryOp::min, rows - q * loop::index(kPanel), loop::index(kPanel)));
    kb.b.loop("m", loop::index(0), count, 1, [&](Expr m) { row(q, m, begin, end); });
  };
  if (by_element)
    kb.b.loop("q", loop::index(0), loop::ref(kb.b.predefined().panels), 1, [&](Expr q) { panel(q, lo, hi); });
  else
    kb.b.loop("q", lo, hi, 1, [&](Expr q) { panel(q, loop::index(0), loop::index(elements)); });
  l.finish(kb, partition);
}

void copy_plain(Lowering& l, const std::string& name, const Type& type, const Storage& from, int to) {
  KernelBuilder kb(l, "copy_" + name, "copy");
  kb.declare_written(to);
  const int64_t elements = type.elements();
  loop::Partition partition;
  if (elements >= 4096) partition = {loop::Partition::Extent::fixed, elements, 4 * kSplitUnit};
  const loop::Buffer source = kb.buffer(from.allocation, false, Reach::anything);
  const loop::Buffer target = kb.buffer(to, true, Reach::anything);
  const Expr lo = loop::ref(kb.b.predefined().lo), hi = loop::ref(kb.b.predefined().hi);
  const int64_t full = elements / l.width * l.width;
  const auto source_at = [&](const Expr& i) { return from.first ? i + loop::index(from.first) : i; };
  const auto vectors = [&](const Expr& begin, const Expr& end) {
    kb.b.loop("i", begin, end, l.width, [&](Expr i) {
      kb.b.store(target, i, kb.b.let("v", loop::load(source, source_at(i), l.width)));
    });
  };
  const auto tail = [&] {
    kb.b.loop("i", loop::index(full), loop::index(elements), 1,
              [&](Expr i) { kb.b.store(target, i, kb.b.let("v", loop::load(source, source_at(i)))); });
  };
  if (partition == loop::Partition{}) {
    kb.b.if_then(loop::compare(loop::CompareOp::lt, lo, hi), [&] {
      if (full) vectors(loop::index(0), loop::index(full));
      if (full != elements) tail();
    });
  } else {
    vectors(lo, loop::binary(loop::BinaryOp::min, hi, loop::index(full)));
    if (full != elements) kb.b.if_then(loop::compare(loop::CompareOp::eq, hi, loop::index(elements)), tail);
  }
  l.finish(kb, partition);
}

}  // namespace gradc::passes::lowering
