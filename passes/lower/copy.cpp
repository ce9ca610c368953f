// Copies between layouts, at the edges of a program and for contractions that read an operand by rows.
#include "passes/lower/lowering.h"

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
  const bool by_element = elements >= 4 * kSplitUnit && type.shape[0] == elements;
  const loop::Partition partition =
      by_element ? axis_partition(elements) : loop::Partition{loop::Partition::Extent::panels, 0, 1};
  const loop::Buffer source = kb.buffer(from, false, Reach::anything);
  const loop::Buffer target = kb.buffer(to, true, by_element ? Reach::own_axis0 : Reach::own_panels);
  const Expr lo = loop::ref(kb.b.predefined().lo), hi = loop::ref(kb.b.predefined().hi);
  const auto move = [&](const Expr& q, const Expr& e) {
    kb.b.loop("s", loop::index(0), loop::index(kPanel / l.width), 1, [&](Expr s) {
      const Expr first = q * loop::index(kPanel) + s * loop::index(l.width);
      const Expr at = existing_rows(kb, first, l.width) * loop::broadcast(loop::index(elements), l.width) +
                      loop::broadcast(e, l.width);
      const Expr v = kb.b.let("v", loop::gather(source, kb.b.let("at", at)));
      kb.b.store(target, (q * loop::index(elements) + e) * loop::index(kPanel) + s * loop::index(l.width), v);
    });
  };
  const auto outer = [&](const Expr& b, const Expr& e, auto&& body) { kb.b.loop("a", b, e, 1, body); };
  if (by_element)
    outer(lo, hi, [&](Expr e) {
      kb.b.loop("q", loop::index(0), loop::ref(kb.b.predefined().panels), 1, [&](Expr q) { move(q, e); });
    });
  else
    outer(lo, hi, [&](Expr q) {
      kb.b.loop("e", loop::index(0), loop::index(elements), 1, [&](Expr e) { move(q, e); });
    });
  l.finish(kb, partition);
}

void copy_panels_to_rows(Lowering& l, const std::string& name, const Type& type, int from, int to) {
  KernelBuilder kb(l, "rows_" + name, "panels to rows");
  kb.declare_written(to);
  const int64_t elements = type.elements();
  const bool by_element = elements >= 4 * kSplitUnit && type.shape[0] == elements;
  const loop::Partition partition =
      by_element ? axis_partition(elements) : loop::Partition{loop::Partition::Extent::panels, 0, 1};
  const loop::Buffer source = kb.buffer(from, false, by_element ? Reach::own_axis0 : Reach::own_panels);
  const loop::Buffer target = kb.buffer(to, true, Reach::anything);
  const Expr lo = loop::ref(kb.b.predefined().lo), hi = loop::ref(kb.b.predefined().hi);
  const Expr rows = loop::ref(predefined_rows(kb));
  const auto row = [&](const Expr& q, const Expr& m, const Expr& begin, const Expr& end) {
    kb.b.loop("e", begin, end, l.width, [&](Expr e) {
      const Expr exists =
          elements % l.width
              ? kb.b.let("lanes", loop::compare(loop::CompareOp::lt, loop::ramp(e, 1, l.width),
                                                loop::broadcast(loop::index(elements), l.width)))
              : nullptr;
      const Expr at = loop::ramp((q * loop::index(elements) + e) * loop::index(kPanel) + m, kPanel, l.width);
      const Expr v = kb.b.let("v", loop::gather(source, kb.b.let("at", at), exists));
      kb.b.store(target, (q * loop::index(kPanel) + m) * loop::index(elements) + e, v, exists);
    });
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

void copy_plain(Lowering& l, const std::string& name, const Type& type, int from, int to) {
  KernelBuilder kb(l, "copy_" + name, "copy");
  kb.declare_written(to);
  const int64_t elements = type.elements();
  loop::Partition partition;
  if (elements >= 4096) partition = {loop::Partition::Extent::fixed, elements, 4 * kSplitUnit};
  const loop::Buffer source = kb.buffer(from, false, Reach::anything);
  const loop::Buffer target = kb.buffer(to, true, Reach::anything);
  const Expr lo = loop::ref(kb.b.predefined().lo), hi = loop::ref(kb.b.predefined().hi);
  const int64_t full = elements / l.width * l.width;
  const auto vectors = [&](const Expr& begin, const Expr& end) {
    kb.b.loop("i", begin, end, l.width,
              [&](Expr i) { kb.b.store(target, i, kb.b.let("v", loop::load(source, i, l.width))); });
  };
  const auto tail = [&] {
    kb.b.loop("i", loop::index(full), loop::index(elements), 1,
              [&](Expr i) { kb.b.store(target, i, kb.b.let("v", loop::load(source, i))); });
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
