// Programs for the tests of loop IR: one that uses every kind of statement and expression, and random ones.
#pragma once
#include <random>

#include "ir/loop/loop_ir.h"

namespace gradc::testing {

inline loop::Program every_construct() {
  using namespace loop;
  Program p;
  p.name = "train_step";
  p.arena_bytes = 8192;
  Kernel k = make_kernel("all \"kinds\"");
  k.summary = "every kind of node";
  auto file = std::make_shared<const std::string>("mlp.nn");
  k.locations = {{file, 3, 1, nullptr}, {file, 4, 9, nullptr}};
  Builder b(k);
  const Buffer x = b.buffer("x", Scalar::f32, Access::read, 64);
  const Buffer y = b.buffer("y", Scalar::f32, Access::read_write, 64);
  const Buffer flags = b.buffer("flags", Scalar::i8, Access::write, 1);
  const Buffer labels = b.buffer("labels", Scalar::i32, Access::read);
  const Buffer scalars = b.buffer("scalars", Scalar::f64, Access::read, 8);
  const auto& pre = b.predefined();
  b.set_location({file, 12, 5, nullptr});
  const Expr rate = b.let("rate", cast(Scalar::f32, load(scalars, index(0))));
  b.loop("panel", ref(pre.lo), ref(pre.hi), 1, [&](Expr panel) {
    const Variable acc = b.declare("acc", constant({Scalar::f32, 16}, 0.1));
    b.loop(
        "k", index(0), index(4), 2,
        [&](Expr kk) {
          const Expr at = b.let("at", panel * index(32) + kk);
          const Expr mask = compare(CompareOp::lt, ramp(at, 1, 16), ref(pre.rows));
          const Expr v = b.let("v", load(x, at, 16, mask));
          b.assign(acc, fma(v, broadcast(rate, 16), ref(acc)));
          b.assign(acc, binary(BinaryOp::max, ref(acc), unary(UnaryOp::tanh, v)) -
                            constant({Scalar::f32, 1}, 1e-20));
          b.store(y, at, select(compare(CompareOp::ne, v, v), constant({Scalar::f32, 1}, INFINITY), ref(acc)),
                  mask);
          b.store(flags, at, unary(UnaryOp::logical_not, unary(UnaryOp::is_finite, v)));
          b.prefetch(x, at + index(64));
        },
        true);
    b.loop("once", index(7), index(8), 1, [&](Expr i) {
      const Expr idx = b.let("idx", load(labels, ramp(i, 3, 8)->args[0], 8));
      const Expr wide = cast(Scalar::i64, idx);
      b.store(y, wide, gather(x, wide, compare(CompareOp::ge, wide, index(-3))));
      const Expr word = philox(2, idx, ref(pre.seed_lo), ref(pre.seed_hi), ref(pre.step_hi), ref(pre.step_lo),
                               constant_int({Scalar::i32, 1}, -5));
      b.store(y, i,
              cast(Scalar::f32, binary(BinaryOp::shift_right, word, constant_int({Scalar::i32, 1}, 8))));
    });
    const Expr pair = b.let("pair", load(x, panel, 8));
    b.store(y, panel, zip(true, pair, zip(false, pair, pair)));
    b.store(y, panel, concat(pair, pair));
    b.if_else(
        compare(CompareOp::eq, panel, index(0)),
        [&] { b.store(y, index(0), reduce(BinaryOp::add, ref(acc))); },
        [&] { b.store(y, panel, reduce(BinaryOp::min, ref(acc)) * constant({Scalar::f32, 1}, -INFINITY)); });
    b.if_then(constant_int({Scalar::i1, 1}, 1), [&] {
      b.store(y, index(1), binary(BinaryOp::pow, rate, constant({Scalar::f32, 1}, NAN)) / rate);
      b.store(flags, index(2), constant_int({Scalar::i1, 4}, 1));
    });
  });
  p.kernels.push_back(k);
  k.name = "rows";  // of an example: three
  k.rows = 3;
  p.kernels.push_back(std::move(k));
  p.allocations = {{"input image", Scalar::f32, 1024, Space::input, 0},
                   {"%12", Scalar::f32, 1024, Space::arena, 0},
                   {"%13", Scalar::i8, 1024, Space::arena, 4096},
                   {"input label", Scalar::i32, 32, Space::input, 1},
                   {"scalars", Scalar::f64, 4, Space::scalars, 0},
                   {"loss\nwith \\ and \"", Scalar::f32, 1, Space::arena, 6400},
                   {"@w", Scalar::f32, 1024, Space::parameter, 128},
                   {"own", Scalar::f32, 32, Space::scratch, 64},
                   {"%20", Scalar::f32, 2048, Space::local, 128}};
  p.scratch_bytes = 192;
  p.local_bytes = 4224;
  p.panels = 2;
  p.guard = 5;
  Call c;
  c.kernel = 1;
  c.buffers = {6, {1, AccessScope::own_panels}, {2, AccessScope::panel}, 3, 4};
  c.partition = {Partition::Extent::panels, 7, 2, 3};
  c.flop = 12345678901;
  c.bytes = 8192;
  c.barrier_before = c.guard_before = true;
  p.calls = {c};
  c.kernel = 0;
  c.partition = {Partition::Extent::fixed, 100, 4};
  c.buffers[1].scope = AccessScope::own_axis0;
  c.buffers[2].scope = AccessScope::anything;
  c.guard_before = false;
  p.calls.push_back(c);
  c.partition = {Partition::Extent::panels, 7, 1};
  c.buffers[1] = {8, AccessScope::own_panels};
  p.calls.push_back(c);
  c.partition.extent = 2;
  c.buffers[1].rows = {{0, 1}, {1, 2}};
  c.buffers[2] = {2, AccessScope::panel, {{0, 2}, {0, 2}}};
  p.calls.push_back(c);
  p.segments = {{2, 4, {{3, 0}, {7, 2}}}};
  return p;
}

// A random sound expression of the wanted type from the given leaves.
class RandomExpr {
 public:
  RandomExpr(uint32_t seed, std::vector<loop::Expr> leaves) : rng_(seed), leaves_(std::move(leaves)) {}
  loop::Expr make(loop::Type t, int depth) {
    using namespace loop;
    if (depth == 0 || pick(6) == 0) return leaf(t);
    const auto sub = [&](Type s) { return make(s, depth - 1); };
    if (t.scalar == Scalar::i1) {
      if (pick(3) == 0) return unary(UnaryOp::logical_not, sub(t));
      if (pick(3) == 0) return binary(BinaryOp::bit_xor, sub(t), sub(t));
      const Type of = pick(2) ? t.with(Scalar::f32) : t.with(Scalar::i64);
      return compare(static_cast<CompareOp>(pick(6)), sub(of), sub(of));
    }
    if (t.is_float()) {
      switch (pick(7)) {
        case 0: return unary(static_cast<UnaryOp>(pick(16)), sub(t));
        case 1: return fma(sub(t), sub(t), sub(t));
        case 2: return cast(t.scalar, sub(t.with(Scalar::i64)));
        case 3:
          return t.lanes == 1 ? reduce(BinaryOp::max, sub(t.with_lanes(8)))
                              : broadcast(sub(t.with_lanes(1)), t.lanes);
        case 4: return select(sub(t.with(Scalar::i1)), sub(t), sub(t));
        case 5: return binary(pick(2) ? BinaryOp::min : BinaryOp::max, sub(t), sub(t));
        default: return binary(static_cast<BinaryOp>(pick(4)), sub(t), sub(t));
      }
    }
    static constexpr BinaryOp integer_ops[] = {BinaryOp::add,     BinaryOp::sub,        BinaryOp::mul,
                                               BinaryOp::min,     BinaryOp::bit_and,    BinaryOp::bit_or,
                                               BinaryOp::bit_xor, BinaryOp::shift_right};
    if (t.lanes > 1 && pick(4) == 0)
      return ramp(sub(t.with_lanes(1)), static_cast<int64_t>(pick(5)) - 2, t.lanes);
    const BinaryOp op = integer_ops[pick(8)];
    return binary(op, sub(t),
                  op == BinaryOp::shift_right ? constant_int(t, static_cast<int64_t>(pick(31))) : sub(t));
  }

 private:
  size_t pick(size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(rng_); }
  loop::Expr leaf(loop::Type t) {
    std::vector<loop::Expr> fit;
    for (const auto& l : leaves_)
      if (l->type == t) fit.push_back(l);
    if (!fit.empty() && pick(4) != 0) return fit[pick(fit.size())];
    if (t.is_float()) return loop::constant(t, std::uniform_real_distribution<double>(-3, 3)(rng_));
    return loop::constant_int(t, static_cast<int64_t>(pick(9)) - 4);
  }
  std::mt19937 rng_;
  std::vector<loop::Expr> leaves_;
};

}  // namespace gradc::testing
