// Long sums in blocks. One accumulator that takes n terms in order rounds up to n times half a unit, all in
// one direction where terms are alike (12 million numbers .1 came to 12 % too much); so no accumulator takes
// more than twice `terms`. Loops that run longer are cut: a block starts from zero, and its sum is one term
// of the next level, as often as that takes.
//   for r in 0..4000:  acc += x[r]          for r0 in 0..4000 step 512:
//                                    ->       part = 0;  for r in r0..min(r0 + 512, 4000):  part += x[r]
//                                             acc += part
// The error grows with terms * log(n) / log(terms), and the order is as fixed as before. What a level above
// holds is touched once a block, so it may leave the registers.
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
  // Its bounds, asked for when it is opened: they may depend on the counters of those around it.
  std::function<std::pair<loop::Expr, loop::Expr>()> bounds;
  int64_t step;
  int64_t trips;                              // how often it runs at most
  std::function<void(const loop::Expr&)> at;  // called with the counter at the start of its body
};
// A loop from 0 to a fixed extent.
SumLoop sum_loop(std::string name, int64_t extent, int64_t step, std::function<void(const loop::Expr&)> at);

// Terms of one accumulator: sums of values, whose additions wait for each other anyway; products in register
// tiles, where leaving a block takes some instructions for each of up to 16 accumulators.
inline constexpr int64_t kBlockTerms = 128, kBlockProducts = 512;

// What a sum is added up in while body runs: a variable of its own, zero at first, in place of *sum; then it
// is added to the one before. Floats alone: sums of integers, and maxima, are exact.
void apart(loop::Builder& b, const std::vector<loop::Variable*>& sums, const std::function<void()>& body);

// Runs body in the loops; it adds `body_terms` terms to each *sum, by whatever variable that is then.
void blocked_sum(loop::Builder& b, const std::vector<loop::Variable*>& sums, std::vector<SumLoop> loops,
                 int64_t terms, int64_t body_terms, const std::function<void()>& body);

}  // namespace gradc::passes::lowering
