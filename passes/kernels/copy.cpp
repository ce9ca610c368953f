// Copies between layouts, at the edges of a program and for contractions that read an operand by rows.
#include "passes/kernels/lowering.h"
#include "passes/kernels/tile.h"
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

// Elements of an example that are consecutive in logical order, as in rows, and have a constant stride in panels: all
// of them, or those of the last axis.
struct Run {
  bool all = true;
  int64_t length = 1, distance = kPanel;  // elements; elements of the panels' memory

  Run(const Lowering& l, const Type& type) {
    all = memory_order(type, l.images) == memory_order(type, false);
    length = all ? type.elements() : type.shape.back();
    if (all) return;
    std::vector<Expr> unit(type.shape.size(), loop::index(0));
    unit.back() = loop::index(1);
    const Expr step = l.element(type, unit);
    GRADC_CHECK(step->kind == loop::ExprKind::constant, "the distance of neighbours is no constant");
    distance *= step->integer;
  }
};

// Calls body(position in the example's memory, logical position) at the start of each run; `fixed`: an axis whose
// position is already in `place`, or -1.
template <class F>
void over_runs(const Lowering& l, KernelBuilder& kb, const Type& type, const Run& run,
               std::vector<Expr> place, int fixed, F&& body) {
  if (run.all) return body(loop::index(0), loop::index(0));
  place.resize(type.shape.size(), loop::index(0));
  const auto outer = [&](auto&& self, size_t a) -> void {
    if (a + 1 == place.size()) {
      Expr logical = loop::index(0);
      for (size_t i = 0; i < place.size(); ++i) logical = logical * loop::index(type.shape[i]) + place[i];
      return body(kb.b.let("from", l.element(type, place)), kb.b.let("to", logical));
    }
    if (static_cast<int>(a) == fixed) return self(self, a + 1);
    kb.b.loop("a", loop::index(0), loop::index(type.shape[a]), 1, [&](Expr i) {
      place[a] = i;
      self(self, a + 1);
    });
  };
  outer(outer, 0);
}

}  // namespace

// Squares of as many examples as elements are transposed in registers; single elements that are left over are
// gathered.
void copy_rows_to_panels(Lowering& l, const std::string& name, const Type& type, int from, int to) {
  KernelBuilder kb(l, "panels_" + name, "rows to panels");
  kb.declare_written(to);
  loop::Builder& b = kb.b;
  const int64_t elements = type.elements();
  kb.kernel.rows = type.rows;
  const bool image = is_image(type, l.images);
  const bool by_element = elements >= 4 * kSplitUnit && type.rank() == 1;
  const loop::Partition partition =
      by_element ? axis_partition(elements)
                 : loop::Partition{loop::Partition::Extent::panels, image ? type.shape[1] : 1, 1};
  const loop::Buffer source = kb.buffer(from, false, AccessScope::anything);
  const loop::Buffer target =
      kb.buffer(to, true, by_element ? AccessScope::own_axis0 : AccessScope::own_panels,
                image ? rows_by_chunk(type.shape[1], 1, type.shape[1]) : std::vector<RowRange>{});
  const Expr lo = loop::ref(b.predefined().lo), hi = loop::ref(b.predefined().hi);
  const Run run(l, type);
  const int64_t full = run.length / l.width * l.width, rest = run.length - full;

  // `count` elements from `e` of a run on, of the examples of a vector.
  const auto square = [&](const Expr& q, const Expr& s, const Expr& memory, const Expr& logical,
                          const Expr& e, int64_t count) {
    const Expr first = b.let("first", q * loop::index(kPanel) + s * loop::index(l.width));
    const Expr last = loop::ref(b.predefined().rows) - loop::index(1);
    const Expr mask = count == l.width
                          ? nullptr
                          : loop::compare(loop::CompareOp::lt, loop::ramp(loop::index(0), 1, l.width),
                                          loop::broadcast(loop::index(count), l.width));
    std::vector<Expr> v;
    for (int i = 0; i < l.width; ++i) {
      const Expr row = loop::binary(loop::BinaryOp::min, first + loop::index(i), last);
      v.push_back(b.let("v", loop::load(source, row * loop::index(elements) + logical + e, l.width, mask)));
    }
    v = transposed(b, std::move(v));
    const Expr there = b.let("there", (q * loop::index(elements) + memory) * loop::index(kPanel) +
                                          e * loop::index(run.distance) + s * loop::index(l.width));
    for (int64_t i = 0; i < count; ++i)
      b.store(target, there + loop::index(i * run.distance), v[static_cast<size_t>(i)]);
  };
  const auto gathered = [&](const Expr& q, const Expr& s, const Expr& memory, const Expr& logical,
                            const Expr& e) {
    const Expr first = q * loop::index(kPanel) + s * loop::index(l.width);
    const Expr at = existing_rows(kb, first, l.width) * loop::broadcast(loop::index(elements), l.width) +
                    loop::broadcast(logical + e, l.width);
    const Expr v = b.let("v", loop::gather(source, b.let("at", at)));
    b.store(target,
            (q * loop::index(elements) + memory) * loop::index(kPanel) + e * loop::index(run.distance) +
                s * loop::index(l.width),
            v);
  };
  // Booleans are bytes in memory, which have no vectors of 32 bits to interleave.
  const bool squares = type.dtype != DType::boolean;
  const auto move = [&](const Expr& q, const Expr& memory, const Expr& logical, const Expr& begin,
                        const Expr& end, bool whole) {
    b.loop("s", loop::index(0), loop::index(kPanel / l.width), 1, [&](Expr s) {
      const auto singly = [&](const Expr& from_element, const Expr& to_element) {
        b.loop("e", from_element, to_element, 1, [&](Expr e) { gathered(q, s, memory, logical, e); });
      };
      if (!squares) return singly(begin, end);
      const Expr last = whole ? loop::index(full) : loop::binary(loop::BinaryOp::min, end, loop::index(full));
      b.loop("e", begin, last, l.width, [&](Expr e) { square(q, s, memory, logical, e, l.width); });
      if (rest == 0) return;
      const auto remainder = [&] {
        if (4 * rest > l.width)
          square(q, s, memory, logical, loop::index(full), rest);
        else
          singly(loop::index(full), loop::index(run.length));
      };
      if (whole) return remainder();
      b.if_then(loop::compare(loop::CompareOp::eq, end, loop::index(run.length)), remainder);
    });
  };
  const auto panel = [&](const Expr& q, std::vector<Expr> place, int fixed) {
    over_runs(l, kb, type, run, std::move(place), fixed, [&](const Expr& memory, const Expr& logical) {
      move(q, memory, logical, loop::index(0), loop::index(run.length), true);
    });
  };
  if (by_element)
    b.loop("q", loop::index(0), loop::ref(b.predefined().panels), 1,
           [&](Expr q) { move(q, loop::index(0), loop::index(0), lo, hi, false); });
  else if (image)
    b.loop("u", lo, hi, 1, [&](Expr u) {
      std::vector<Expr> place(type.shape.size(), loop::index(0));
      place[1] = b.let("y", loop::binary(loop::BinaryOp::rem, u, loop::index(type.shape[1])));
      panel(b.let("q", u / loop::index(type.shape[1])), std::move(place), 1);
    });
  else
    b.loop("q", lo, hi, 1, [&](Expr q) { panel(q, {}, -1); });
  l.finish(kb, partition);
}

// Squares of as many elements as examples are transposed in registers; single elements that are left over, and those of
// a panel with fewer examples, are gathered.
void copy_panels_to_rows(Lowering& l, const std::string& name, const Type& type, int from, int to) {
  KernelBuilder kb(l, "rows_" + name, "panels to rows");
  kb.kernel.rows = type.rows;
  kb.declare_written(to);
  const int64_t elements = type.elements();
  const Run run(l, type);
  // An image of one pixel has as many elements as channels, but no run of all.
  const bool by_element = elements >= 4 * kSplitUnit && type.shape[0] == elements && run.all;
  const loop::Partition partition =
      by_element ? axis_partition(elements) : loop::Partition{loop::Partition::Extent::panels, 1, 1};
  const loop::Buffer source =
      kb.buffer(from, false, by_element ? AccessScope::own_axis0 : AccessScope::own_panels);
  const loop::Buffer target = kb.buffer(to, true, AccessScope::anything);
  const Expr lo = loop::ref(kb.b.predefined().lo), hi = loop::ref(kb.b.predefined().hi);
  const Expr rows = loop::ref(predefined_rows(kb));
  // Elements of one row, vectors along a run's elements.
  const auto gathered = [&](const Expr& q, const Expr& m, const Expr& memory, const Expr& logical,
                            const Expr& begin, const Expr& end) {
    kb.b.loop("e", begin, end, l.width, [&](Expr e) {
      const Expr exists =
          run.length % l.width
              ? kb.b.let("lanes", loop::compare(loop::CompareOp::lt, loop::ramp(e, 1, l.width),
                                                loop::broadcast(loop::index(run.length), l.width)))
              : nullptr;
      const Expr first =
          (q * loop::index(elements) + memory) * loop::index(kPanel) + m + e * loop::index(run.distance);
      const Expr at = loop::ramp(kb.b.let("first", first), run.distance, l.width);
      const Expr v = kb.b.let("v", loop::gather(source, kb.b.let("at", at), exists));
      kb.b.store(target, (q * loop::index(kPanel) + m) * loop::index(elements) + logical + e, v, exists);
    });
  };
  // As many elements, from `e` of a run on, as a vector has rows.
  const auto square = [&](const Expr& q, const Expr& s, const Expr& memory, const Expr& logical,
                          const Expr& e) {
    const Expr first = kb.b.let("first", (q * loop::index(elements) + memory) * loop::index(kPanel) +
                                             e * loop::index(run.distance) + s * loop::index(l.width));
    std::vector<Expr> v;
    for (int64_t i = 0; i < l.width; ++i)
      v.push_back(kb.b.let("v", loop::load(source, first + loop::index(i * run.distance), l.width)));
    v = transposed(kb.b, std::move(v));
    const Expr row = kb.b.let(
        "row", (q * loop::index(kPanel) + s * loop::index(l.width)) * loop::index(elements) + logical + e);
    for (int64_t i = 0; i < l.width; ++i)
      kb.b.store(target, row + loop::index(i * elements), v[static_cast<size_t>(i)]);
  };
  // Booleans are bytes in memory, which have no vectors of 32 bits to interleave.
  const int64_t full = type.dtype == DType::boolean ? 0 : run.length / l.width * l.width;
  // `count` rows of a panel; squares where all of them exist.
  const auto move = [&](const Expr& q, const Expr& count, const Expr& memory, const Expr& logical,
                        const Expr& begin, const Expr& end) {
    const auto singly = [&](const Expr& from_element) {
      kb.b.loop("m", loop::index(0), count, 1,
                [&](Expr m) { gathered(q, m, memory, logical, from_element, end); });
    };
    if (full == 0) return singly(begin);
    kb.b.if_else(
        loop::compare(loop::CompareOp::ge, rows - q * loop::index(kPanel), loop::index(kPanel)),
        [&] {
          kb.b.loop("s", loop::index(0), loop::index(kPanel / l.width), 1, [&](Expr s) {
            kb.b.loop("e", begin, loop::binary(loop::BinaryOp::min, end, loop::index(full)), l.width,
                      [&](Expr e) { square(q, s, memory, logical, e); });
          });
          if (full == run.length) return;
          kb.b.if_then(loop::compare(loop::CompareOp::eq, end, loop::index(run.length)),
                       [&] { singly(loop::index(full)); });
        },
        [&] { singly(begin); });
  };
  const auto panel = [&](const Expr& q, const Expr& begin, const Expr& end) {
    const Expr count = kb.b.let(
        "m_end", loop::binary(loop::BinaryOp::min, rows - q * loop::index(kPanel), loop::index(kPanel)));
    if (run.all) return move(q, count, loop::index(0), loop::index(0), begin, end);
    over_runs(l, kb, type, run, {}, -1, [&](const Expr& memory, const Expr& logical) {
      move(q, count, memory, logical, loop::index(0), loop::index(run.length));
    });
  };
  if (by_element)
    kb.b.loop("q", loop::index(0), loop::ref(kb.b.predefined().panels), 1, [&](Expr q) { panel(q, lo, hi); });
  else
    kb.b.loop("q", lo, hi, 1, [&](Expr q) { panel(q, loop::index(0), loop::index(elements)); });
  l.finish(kb, partition);
}

void lower_fold_rows(Lowering& l, const KernelGroup& group) {
  const Op* op = group.ops.front();
  const auto targets = l.targets.find(op);
  GRADC_CHECK(targets != l.targets.end(), "nothing reads %{} {}", op->id, op->name());
  for (const int to : targets->second)
    copy_rows_to_panels(l, fmt::format("k{}_{}", group.number, op->name()), op->type,
                        l.rows_storage(op->operands[0]).allocation, to);
}

void copy_plain(Lowering& l, const std::string& name, const Type& type, const Storage& from, int to) {
  KernelBuilder kb(l, "copy_" + name, "copy");
  kb.declare_written(to);
  const int64_t elements = type.elements();
  loop::Partition partition;
  if (elements >= 4096) partition = {loop::Partition::Extent::fixed, elements, 4 * kSplitUnit};
  const loop::Buffer source = kb.buffer(from.allocation, false, AccessScope::anything);
  const loop::Buffer target = kb.buffer(to, true, AccessScope::anything);
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
