// Lowers orthonormal_rows by Gram and Schmidt's method: subtracts from each row its projections on the rows before it,
// then divides by its length; each row twice. One thread, vectors along the row: it runs once, for initial values.
//
//   for i in rows:  for round in 0..2:
//     for j in 0..i:  part = sum over k of y[i, k] y[j, k];  y[i, k] -= part y[j, k]
//     y[i, k] /= sqrt(sum over k of y[i, k]^2)
#include "passes/kernels/orthonormal.h"

#include "passes/kernels/blocked_sum.h"
#include "passes/kernels/lowering.h"
#include "support/check.h"

namespace gradc::passes::lowering {

namespace {

using loop::Expr;

class Orthonormal {
 public:
  Orthonormal(Lowering& l, const KernelGroup& g)
      : l_(l), op_(g.ops.front()), kb_(l, g), b_(kb_.b), columns_(op_->type.shape[1]) {
    if (!op_->locations.empty()) b_.set_location(op_->locations.front());
  }

  void run() {
    const std::vector<int>& targets = l_.targets.at(op_);
    const loop::Buffer from =
        kb_.buffer(l_.storage(op_->operands[0]).allocation, false, AccessScope::anything);
    const int64_t rows = op_->type.shape[0];
    b_.if_then(
        loop::compare(loop::CompareOp::lt, loop::ref(b_.predefined().lo), loop::ref(b_.predefined().hi)),
        [&] {
          for (const int target : targets) {
            y_ = kb_.buffer(target, true, AccessScope::anything);
            b_.loop("i", loop::index(0), loop::index(rows), 1, [&](Expr i) {
              const Expr own = b_.let("own", i * loop::index(columns_));
              over_row([&](const Expr& k, const Expr& mask) {
                b_.store(y_, own + k, loop::load(from, own + k, l_.width, mask), mask);
              });
              b_.loop("round", loop::index(0), loop::index(2), 1, [&](Expr) {
                b_.loop("j", loop::index(0), i, 1, [&](Expr j) {
                  const Expr other = b_.let("other", j * loop::index(columns_));
                  const Expr part = b_.let("part", loop::broadcast(dot(own, other), l_.width));
                  over_row([&](const Expr& k, const Expr& mask) {
                    b_.store(y_, own + k, load(own + k, mask) - part * load(other + k, mask), mask);
                  });
                });
                const Expr length = b_.let(
                    "length", loop::broadcast(loop::unary(loop::UnaryOp::sqrt, dot(own, own)), l_.width));
                over_row([&](const Expr& k, const Expr& mask) {
                  b_.store(y_, own + k, load(own + k, mask) / length, mask);
                });
              });
            });
          }
        });
    l_.finish(kb_, {});
  }

 private:
  Expr load(const Expr& at, const Expr& mask) { return loop::load(y_, at, l_.width, mask); }

  // Calls body(first column, mask of the columns that exist) for the vectors of a row.
  template <class F>
  void over_row(F&& body) {
    b_.loop("k", loop::index(0), loop::index(columns_), l_.width, [&](Expr k) { body(k, there(k)); });
  }
  Expr there(const Expr& k) {
    const Expr end = loop::broadcast(loop::index(columns_), l_.width);
    return columns_ % l_.width == 0
               ? nullptr
               : b_.let("there", loop::compare(loop::CompareOp::lt, loop::ramp(k, 1, l_.width), end));
  }

  Expr dot(const Expr& own, const Expr& other) {
    const loop::Type type{scalar_of(op_->type.dtype), static_cast<uint16_t>(l_.width)};
    const loop::Variable sum = b_.declare("sum", loop::constant(type, 0));
    loop::Variable part = sum;
    Expr k;
    blocked_sum(b_, {&part}, {sum_loop("k", columns_, l_.width, [&](const Expr& i) { k = i; })},
                kBlockProducts, 1, [&] {
                  const Expr mask = there(k);  // masked lanes read as 0
                  b_.assign(part, loop::fma(load(own + k, mask), load(other + k, mask), loop::ref(part)));
                });
    return b_.let("total", loop::reduce(loop::BinaryOp::add, loop::ref(sum)));
  }

  Lowering& l_;
  const Op* op_;
  KernelBuilder kb_;
  loop::Builder& b_;
  loop::Buffer y_;
  int64_t columns_;
};

}  // namespace

void lower_orthonormal(Lowering& lowering, const KernelGroup& group) { Orthonormal(lowering, group).run(); }

}  // namespace gradc::passes::lowering
