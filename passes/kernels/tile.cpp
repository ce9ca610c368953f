#include "passes/kernels/tile.h"

#include <algorithm>
#include <bit>

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

void Tile::partition_panels(int64_t chunks, int64_t rows) {
  chunk_rows_ = rows;
  partition_ = {loop::Partition::Extent::panels, chunks, 1};
  own_ = AccessScope::own_panels;
}

void Tile::over_panels(const std::function<void(loop::Expr, loop::Expr)>& body) {
  if (own_ != AccessScope::own_panels) {
    GRADC_CHECK(!g_.by_partial_sums(), "partial sums in a kernel that is split otherwise");
    kb.b.loop("q", loop::index(0), loop::ref(kb.b.predefined().panels), 1,
              [&](loop::Expr q) { body(q, loop::index(0)); });
    return;
  }
  if (g_.by_partial_sums()) sums_.emplace(kb, g_, chunks(), chunk_rows_, scratch);
  kb.b.loop("u", lo(), hi(), 1, [&](loop::Expr u) {
    if (sums_) sums_->begin_chunk();
    if (chunks() == 1)
      body(u, loop::index(0));
    else
      body(kb.b.let("q", u / loop::index(chunks())),
           kb.b.let("y", loop::binary(loop::BinaryOp::rem, u, loop::index(chunks()))));
    if (sums_) sums_->end_chunk(u);
  });
}

void Tile::partition_axis0(int64_t extent, int64_t unit) {
  partition_ = axis_partition(extent);
  if (unit) partition_.unit = unit;
  own_ = AccessScope::own_axis0;
}

void Tile::partition_free(int64_t extent, int64_t unit) {
  partition_ = {loop::Partition::Extent::fixed, extent, unit};
  free_ = true;
}

void Tile::over_rows(const char* name, int64_t extent, bool split,
                     const std::function<void(loop::Expr, int)>& body) {
  const int registers = l_.options.machine.registers;
  const int64_t block = extent <= short_axis(registers) && !split ? extent : tile_block(registers);
  over_blocks(name, extent, split, block,
              [&](const loop::Expr& from, int64_t count) { in_tiles(from, count, registers, body); });
}

void Tile::over_blocks(const char* name, int64_t extent, bool split, int64_t block,
                       const std::function<void(loop::Expr, int64_t)>& body) {
  const int64_t full = extent / block * block;
  const loop::Expr begin = split ? first_row() : loop::index(0);
  const loop::Expr end =
      split ? loop::binary(loop::BinaryOp::min, past_row(), loop::index(full)) : loop::index(full);
  kb.b.loop(name, begin, end, block, [&](loop::Expr i) { body(i, block); });
  if (extent == full) return;
  if (!split) return body(loop::index(full), extent - full);
  kb.b.if_then(loop::compare(loop::CompareOp::eq, past_row(), loop::index(extent)),
               [&] { body(loop::index(full), extent - full); });
}

std::vector<int> tiles_of(int64_t count, int registers) {
  const int64_t most = count <= short_axis(registers) ? short_axis(registers) : tile_rows(registers);
  const int64_t tiles = (count + most - 1) / most;
  std::vector<int> rows;
  for (int64_t t = 0; t < tiles; ++t)
    rows.push_back(static_cast<int>(count * (t + 1) / tiles - count * t / tiles));
  return rows;
}

void in_tiles(const loop::Expr& first, int64_t count, int registers,
              const std::function<void(loop::Expr, int)>& body) {
  int64_t at = 0;
  for (const int rows : tiles_of(count, registers)) {
    body(first + loop::index(at), rows);
    at += rows;
  }
}

std::set<int> Tile::streams() const {
  const Type& result = g_.ops.front()->type;
  std::set<int> allocations;
  for (const Op* op : g_.ops) {
    for (const Op* operand : op->operands) {
      if (op == g_.ops.front()) break;  // the contraction itself
      const bool read = result.batched ? l_.panels_or_plain.count(storage_of(operand)) != 0
                                       : operand->def->kind == OpKind::external;
      if (read && !g_.contains(operand) && operand->type == result)
        allocations.insert(l_.storage(operand).allocation);
    }
    const auto targets = l_.targets.find(op);
    if (targets == l_.targets.end() || !result.batched || op->type != result) continue;
    for (int a : targets->second)
      if (l_.result.program.allocations[static_cast<size_t>(a)].space == loop::Space::arena)
        allocations.insert(a);
  }
  return allocations;
}

void Tile::prefetch_epilogue(int rows, int vectors, const std::function<Point(int, int)>& point_of) {
  // What the second-level cache keeps from step to step.
  const int64_t near = l_.options.machine.l2 / 8;
  const Type& result = g_.ops.front()->type;
  const int64_t examples = result.batched ? l_.batch_panels(result.rows) * kPanel : 1;
  if (examples * result.elements() * loop::bytes(scalar_of(result.dtype)) < near) return;
  PointEmitter emitter(kb, g_, own_, chunks(), chunk_rows_);
  for (int a : streams())
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < vectors; ++j)
        emitter.prefetch(result, {a, result.batched ? Layout::panels : Layout::plain}, point_of(i, j));
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

std::vector<loop::Variable*> Tile::accumulators() {
  std::vector<loop::Variable*> all;
  for (std::vector<loop::Variable>& row : acc_)
    for (loop::Variable& v : row) all.push_back(&v);
  return all;
}

void Tile::epilogue(const std::function<Point(int, int)>& point_of,
                    const std::function<loop::Expr(loop::Expr)>& result) {
  for (size_t i = 0; i < acc_.size(); ++i)
    for (size_t j = 0; j < acc_[i].size(); ++j) {
      const loop::Expr sum = loop::ref(acc_[i][j]);
      epilogue_at(point_of(static_cast<int>(i), static_cast<int>(j)),
                  result ? kb.b.let(fmt::format("v{}", g_.ops.front()->id), result(sum)) : sum);
    }
}

void Tile::epilogue_at(const Point& point, const loop::Expr& value) {
  PointEmitter emitter(kb, g_, own_, chunks(), chunk_rows_);
  emitter.begin_outer(point);
  emitter.begin_inner(point);
  emitter.define(g_.ops.front(), Level::inner, value);
  const auto stored = [&](const Op* op) {
    return l_.targets.count(op) && op->def->kind != OpKind::reduction;
  };
  for (const Op* op : g_.ops)
    if (stored(op)) emitter.value(op, Level::inner);
  if (sums_) {
    if (sums_->shifted() && !sums_->adds_in_registers()) {
      sums_->compute(emitter);  // a value computed in the branch cannot be used after it
      kb.b.if_then(sums_->is_first(point), [&] { sums_->take_shift(emitter, point); });
    }
    sums_->add(emitter, point);
  }
  for (const auto which : {PointEmitter::Which::others, PointEmitter::Which::symbols})
    for (const Op* op : g_.ops)
      if (stored(op)) emitter.store(op, Level::inner, which);
}

void Tile::one_channel(const Point& point, const loop::Expr& value, const std::function<void()>& body) {
  if (!sums_) return body();
  if (sums_->shifted())
    kb.b.if_then(sums_->is_first(point), [&] {
      PointEmitter emitter(kb, g_, own_, chunks(), chunk_rows_);
      emitter.begin_outer(point);
      emitter.begin_inner(point);
      emitter.define(g_.ops.front(), Level::inner, value);
      sums_->take_shift(emitter, point);
    });
  sums_->in_registers(point, body);
}

void Tile::finish() {
  GRADC_CHECK(sums_.has_value() == g_.by_partial_sums(), "kernel {} has partial sums that nothing adds up",
              g_.number);
  l_.finish(kb, partition_);
  if (sums_) sums_->add_chunks();
}

std::vector<loop::Expr> transposed(loop::Builder& b, std::vector<loop::Expr> v) {
  const size_t n = v.size();
  GRADC_CHECK(std::has_single_bit(n) && v.front()->type.lanes == n, "{} vectors of {}", n,
              to_string(v.front()->type));
  // Each round interleaves row i with row i + n / 2; after log2(n) rounds rows have become columns.
  for (size_t round = 1; round < n; round *= 2) {
    std::vector<loop::Expr> next;
    for (size_t i = 0; i < n / 2; ++i) {
      next.push_back(b.let("z", loop::zip(false, v[i], v[i + n / 2])));
      next.push_back(b.let("z", loop::zip(true, v[i], v[i + n / 2])));
    }
    v = std::move(next);
  }
  return v;
}

}  // namespace gradc::passes::lowering
