// Long sums in blocks. One accumulator that takes n terms in order rounds up to n times half a unit, all in
// one direction where terms are alike (12 million numbers .1 came to 12 % too much); so no accumulator takes
// more than twice `terms`. Longer loops are split into blocks: each block starts from zero, and its sum is one term of
// the next level; levels are added until every accumulator is short enough.
//   for r in 0..4000:  acc += x[r]          for r0 in 0..4000 step 512:
//                                    ->       part = 0;  for r in r0..min(r0 + 512, 4000):  part += x[r]
//                                             acc += part
// The error grows with terms * log(n) / log(terms), and the order is as fixed as before. The accumulator of an outer
// level is used once a block, so spilling it costs little.
#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "ir/loop/loop_ir.h"

namespace gradc::passes::lowering {

// One of the nested loops that a sum runs over, outermost first.
struct SumLoop {
  std::string name;
  // Its bounds, evaluated when the loop is opened: they may depend on the counters of the outer loops.
  std::function<std::pair<loop::Expr, loop::Expr>()> bounds;
  int64_t step;
  int64_t trips;                              // its greatest trip count
  std::function<void(const loop::Expr&)> at;  // called with the counter at the start of its body
};
// A loop from 0 to a fixed extent.
SumLoop sum_loop(std::string name, int64_t extent, int64_t step, std::function<void(const loop::Expr&)> at);

// Terms of one accumulator. kBlockTerms is for sums of values, which the latency of additions binds anyway;
// kBlockProducts is for products in register tiles, where the end of a block takes some instructions for each of up to
// 16 accumulators.
inline constexpr int64_t kBlockTerms = 128, kBlockProducts = 512;

// Replaces each *sum by a new variable, zero at first, while body runs, then adds that to the old one. For floats only:
// sums of integers, and maxima, are exact.
void apart(loop::Builder& b, const std::vector<loop::Variable*>& sums, const std::function<void()>& body);

// Runs body in the loops; body adds `body_terms` terms to each *sum, which is the variable of the current block.
void blocked_sum(loop::Builder& b, const std::vector<loop::Variable*>& sums, std::vector<SumLoop> loops,
                 int64_t terms, int64_t body_terms, const std::function<void()>& body);

}  // namespace gradc::passes::lowering
