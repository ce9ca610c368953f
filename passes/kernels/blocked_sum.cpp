#include "passes/kernels/blocked_sum.h"

#include <algorithm>

namespace gradc::passes::lowering {

using loop::Expr;

namespace {

// How a loop is split: `blocks` has the length of a block on each level, innermost first, counted in blocks of the
// level below; `each`: every iteration is a block of its own.
struct Cut {
  bool each = false;
  std::vector<int64_t> blocks;
};

std::vector<Cut> cuts(const std::vector<SumLoop>& loops, int64_t terms, int64_t body_terms) {
  std::vector<Cut> result(loops.size());
  int64_t inside = body_terms;  // terms that one iteration of the loop adds to its accumulator
  for (size_t i = loops.size(); i-- > 0;) {
    int64_t turns = loops[i].trips;
    while (inside * turns > 2 * terms) {
      const int64_t block = std::max<int64_t>(1, terms / inside);
      if (block > 1)
        result[i].blocks.push_back(block);
      else
        result[i].each = true;
      turns = (turns + block - 1) / block;
      inside = 1;
    }
    inside *= turns;
  }
  return result;
}

class Emitter {
 public:
  Emitter(loop::Builder& b, const std::vector<loop::Variable*>& sums, const std::vector<SumLoop>& loops,
          std::vector<Cut> cuts, const std::function<void()>& body)
      : b_(b), sums_(sums), loops_(loops), cuts_(std::move(cuts)), body_(body) {}

  void open(size_t index) {
    if (index == loops_.size()) return body_();
    const auto [begin, end] = loops_[index].bounds();
    level(index, cuts_[index].blocks.size(), begin, end);
  }

 private:
  void level(size_t index, size_t left, const Expr& begin, const Expr& end) {
    const SumLoop& l = loops_[index];
    const Cut& cut = cuts_[index];
    if (left == 0) {
      b_.loop(l.name, begin, end, l.step, [&](Expr i) {
        if (l.at) l.at(i);
        if (cut.each)
          apart(b_, sums_, [&] { open(index + 1); });
        else
          open(index + 1);
      });
      return;
    }
    int64_t step = l.step;
    for (size_t i = 0; i < left; ++i) step *= cut.blocks[i];
    b_.loop(l.name, begin, end, step, [&](Expr i) {
      const Expr stop = b_.let("stop", loop::binary(loop::BinaryOp::min, i + loop::index(step), end));
      apart(b_, sums_, [&] { level(index, left - 1, i, stop); });
    });
  }

  loop::Builder& b_;
  const std::vector<loop::Variable*>& sums_;
  const std::vector<SumLoop>& loops_;
  const std::vector<Cut> cuts_;
  const std::function<void()>& body_;
};

}  // namespace

SumLoop sum_loop(std::string name, int64_t extent, int64_t step, std::function<void(const Expr&)> at) {
  return {std::move(name), [=] { return std::pair{loop::index(0), loop::index(extent)}; }, step,
          (extent + step - 1) / step, std::move(at)};
}

void apart(loop::Builder& b, const std::vector<loop::Variable*>& sums, const std::function<void()>& body) {
  std::vector<loop::Variable> outer;
  for (loop::Variable* sum : sums) {
    outer.push_back(*sum);
    *sum = b.declare("part", loop::constant(loop::ref(*sum)->type, 0));
  }
  body();
  for (size_t i = 0; i < sums.size(); ++i) {
    b.assign(outer[i], loop::ref(outer[i]) + loop::ref(*sums[i]));
    *sums[i] = outer[i];
  }
}

void blocked_sum(loop::Builder& b, const std::vector<loop::Variable*>& sums, std::vector<SumLoop> loops,
                 int64_t terms, int64_t body_terms, const std::function<void()>& body) {
  std::vector<Cut> cut(loops.size());
  if (!sums.empty()) cut = cuts(loops, terms, body_terms);
  Emitter(b, sums, loops, std::move(cut), body).open(0);
}

}  // namespace gradc::passes::lowering
