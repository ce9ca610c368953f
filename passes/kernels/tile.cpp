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
  const int64_t rows = extent <= short_axis(registers) && !split ? extent : tile_rows(registers);
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
