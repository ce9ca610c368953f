#include "passes/lower/tile.h"

#include <algorithm>

#include "support/check.h"

namespace gradc::passes::lowering {

Tile::Tile(Lowering& lowering, const KernelGroup& group) : kb(lowering, group), l_(lowering), g_(group) {
  const Op* op = g_.ops.front();
  if (!op->locations.empty()) kb.b.set_location(op->locations.front());
}

void Tile::partition_batched() {
  const Shape& shape = g_.domain.shape;
  if (!shape.empty() && shape[0] >= 4 * kSplitUnit) return partition_axis0(shape[0]);
  partition_panels();
}

void Tile::partition_panels() {
  partition_ = {loop::Partition::Extent::panels, 0, 1};
  own_ = Reach::own_panels;
}

void Tile::partition_axis0(int64_t extent, int64_t unit) {
  partition_ = axis_partition(extent);
  if (unit) partition_.unit = unit;
  own_ = Reach::own_axis0;
}

void Tile::partition_free(int64_t extent, int64_t unit) {
  partition_ = {loop::Partition::Extent::fixed, extent, unit};
  free_ = true;
}

void Tile::over_rows(const char* name, int64_t extent, bool split,
                     const std::function<void(loop::Expr, int)>& body) {
  const int64_t rows = extent <= kShortAxis && !split ? extent : kTileRows;
  const int64_t full = extent / rows * rows;
  const int rest = static_cast<int>(extent - full);
  const loop::Expr begin = split ? lo() : loop::index(0);
  const loop::Expr end =
      split ? loop::binary(loop::BinaryOp::min, hi(), loop::index(full)) : loop::index(full);
  kb.b.loop(name, begin, end, rows, [&](loop::Expr i) { body(i, static_cast<int>(rows)); });
  if (!rest) return;
  if (!split) return body(loop::index(full), rest);
  kb.b.if_then(loop::compare(loop::CompareOp::eq, hi(), loop::index(extent)),
               [&] { body(loop::index(full), rest); });
}

void Tile::declare(int rows, int vectors, int lanes, double initial) {
  acc_.assign(static_cast<size_t>(rows), {});
  const loop::Type type{scalar_of(g_.domain.dtype), static_cast<uint16_t>(lanes)};
  for (auto& row : acc_)
    for (int j = 0; j < vectors; ++j) row.push_back(kb.b.declare("acc", loop::constant(type, initial)));
}

void Tile::accumulate(int row, int vector, const loop::Expr& a, const loop::Expr& b) {
  const loop::Variable& v = acc_[static_cast<size_t>(row)][static_cast<size_t>(vector)];
  kb.b.assign(v, loop::fma(a, b, loop::ref(v)));
}

void Tile::epilogue(const std::function<Point(int, int)>& point_of,
                    const std::function<loop::Expr(loop::Expr)>& result) {
  PointEmitter emitter(kb, g_, own_);
  const Op* contraction = g_.ops.front();
  for (size_t i = 0; i < acc_.size(); ++i)
    for (size_t j = 0; j < acc_[i].size(); ++j) {
      const Point p = point_of(static_cast<int>(i), static_cast<int>(j));
      emitter.begin_outer(p);
      emitter.begin_inner(p);
      const loop::Expr sum = loop::ref(acc_[i][j]);
      emitter.define(contraction, Level::inner,
                     result ? kb.b.let(fmt::format("v{}", contraction->id), result(sum)) : sum);
      for (const Op* op : g_.ops)
        if (l_.targets.count(op)) emitter.value(op, Level::inner);
      for (const auto which : {PointEmitter::Which::others, PointEmitter::Which::symbols})
        for (const Op* op : g_.ops)
          if (l_.targets.count(op)) emitter.store(op, Level::inner, which);
    }
}

void Tile::finish() { l_.finish(kb, partition_); }

}  // namespace gradc::passes::lowering
