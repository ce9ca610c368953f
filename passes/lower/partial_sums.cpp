#include "passes/lower/partial_sums.h"

#include <fmt/format.h>

namespace gradc::passes::lowering {

using loop::Expr;

namespace {

Expr identity(const Op* op, loop::Type type) {
  if (type.is_float()) return loop::constant(type, op->def->identity);
  switch (op->def->combiner) {
    case loop::BinaryOp::min: return loop::constant_int(type, INT32_MAX);
    case loop::BinaryOp::max: return loop::constant_int(type, INT32_MIN);
    default: return loop::constant_int(type, 0);
  }
}

}  // namespace

PartialSums::PartialSums(KernelBuilder& kb, const KernelGroup& group, int64_t parts, int64_t& scratch)
    : l_(kb.lowering), kb_(kb), g_(group), parts_(parts), channels_(group.domain.shape[0]) {
  for (const Op* op : g_.ops) {
    if (op->def->kind != OpKind::reduction) continue;
    Sum sum{op, nullptr, nullptr, -1};
    const auto scalar = scalar_of(op->type.dtype);
    const int lanes = l_.new_scratch(fmt::format("%{} lanes", op->id), scalar, channels_ * l_.width, scratch);
    kb_.declare_written(lanes);
    sum.scratch = kb_.buffer(lanes, true, Reach::anything);
    sum.allocation = l_.new_allocation(fmt::format("%{} parts", op->id), scalar,
                                       l_.batch_panels() * parts_ * channels_, loop::Space::arena, 0);
    kb_.declare_written(sum.allocation);
    sum.partial = kb_.buffer(sum.allocation, true, Reach::own_panels);
    sums_.push_back(sum);
  }
}

void PartialSums::begin_part() {
  kb_.b.loop("z", loop::index(0), loop::index(channels_ * l_.width), l_.width, [&](Expr z) {
    for (const Sum& s : sums_) kb_.b.store(s.scratch, z, identity(s.op, type(s.op, l_.width)));
  });
}

// Lanes whose example is there.
Expr PartialSums::existing(const Point& point) {
  const Expr row =
      loop::cast(loop::Scalar::i32, point.panel * loop::index(kPanel) + point.sub * loop::index(l_.width));
  const Expr rows = loop::cast(loop::Scalar::i32, loop::ref(kb_.b.predefined().rows));
  return kb_.b.let("lanes", loop::compare(loop::CompareOp::lt, loop::ramp(row, 1, l_.width),
                                          loop::broadcast(rows, l_.width)));
}

void PartialSums::combine(const Sum& s, const Expr& at, const Expr& v, const Expr& exists) {
  const Expr sum = kb_.b.let("sum", loop::load(s.scratch, at, l_.width));
  kb_.b.store(s.scratch, at, loop::select(exists, loop::binary(s.op->def->combiner, sum, v), sum));
}

void PartialSums::add(PointEmitter& emitter, const Point& point) {
  const auto value = [&](const Sum& s) {
    return loop::broadcast(emitter.value(s.op->operands[0], Level::inner), l_.width);
  };
  if (!sums_.empty() && sums_.front().run) {
    for (const Sum& s : sums_)
      kb_.b.assign(s.run, loop::binary(s.op->def->combiner, loop::ref(s.run), value(s)));
    return;
  }
  const Expr exists = existing(point);
  const Expr at = kb_.b.let("at", point.axes[0] * loop::index(l_.width));
  for (const Sum& s : sums_) combine(s, at, value(s), exists);
}

void PartialSums::in_registers(const Point& point, const std::function<void()>& body) {
  for (Sum& s : sums_) s.run = kb_.b.declare("run", identity(s.op, type(s.op, l_.width)));
  body();
  const Expr exists = existing(point);
  const Expr at = kb_.b.let("at", point.axes[0] * loop::index(l_.width));
  for (Sum& s : sums_) {
    combine(s, at, loop::ref(s.run), exists);
    s.run = nullptr;
  }
}

void PartialSums::end_part(const Expr& part) {
  kb_.b.loop("c", loop::index(0), loop::index(channels_), 1, [&](Expr c) {
    for (const Sum& s : sums_)
      kb_.b.store(
          s.partial, part * loop::index(channels_) + c,
          loop::reduce(s.op->def->combiner, loop::load(s.scratch, c * loop::index(l_.width), l_.width)));
  });
}

void PartialSums::add_parts() {
  KernelBuilder kb(l_, fmt::format("k{}_parts", g_.number), "sum of partial sums");
  for (const Sum& s : sums_) {
    kb.kernel.locations.insert(kb.kernel.locations.end(), s.op->locations.begin(), s.op->locations.end());
    for (int target : l_.targets.at(s.op)) kb.declare_written(target);
  }
  loop::Builder& b = kb.b;
  const loop::Partition partition = axis_partition(channels_);
  b.loop("c", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), 1, [&](Expr c) {
    for (const Sum& s : sums_) {
      const loop::Buffer partial = kb.buffer(s.allocation, false, Reach::anything);
      const bool wide = s.op->type.is_float() && s.op->def->combiner == loop::BinaryOp::add;
      const loop::Type t = wide ? loop::Type{loop::Scalar::f64, 1} : type(s.op, 1);
      const loop::Variable sum = b.declare("sum", identity(s.op, t));
      const Expr parts = loop::ref(b.predefined().panels) * loop::index(parts_);
      b.loop("part", loop::index(0), parts, 1, [&](Expr part) {
        const Expr v = loop::load(partial, part * loop::index(channels_) + c);
        b.assign(sum, loop::binary(s.op->def->combiner, loop::ref(sum), loop::cast(t.scalar, v)));
      });
      for (int target : l_.targets.at(s.op))
        b.store(kb.buffer(target, true, Reach::own_axis0), c,
                loop::cast(scalar_of(s.op->type.dtype), loop::ref(sum)));
    }
  });
  l_.finish(kb, partition);
}

}  // namespace gradc::passes::lowering
