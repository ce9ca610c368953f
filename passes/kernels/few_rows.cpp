// Dense products of a panel with few rows, outputs in the lanes: with rows in the lanes, one row would cost as much as
// 32. A square of weights is transposed in registers, so that its columns are vectors of outputs:
//   for o block of a vector:  acc[rows] = 0
//     for k block of a vector:  w[i] = W[o + i][k..];  transpose
//       for i, for row:  acc[row] += broadcast(X[k + i][row]) * w[i]
//     transpose acc: vectors of rows again, one an output; epilogue
// Every output is summed in the order, and in the blocks, of the product with rows in the lanes: how many rows come
// together does not change a row's bits.
#include "passes/kernels/few_rows.h"

#include "ir/ops/einsum.h"

namespace gradc::passes::lowering {

namespace {

using loop::Expr;

class FewRows {
 public:
  FewRows(Lowering& l, Tile& tile, const Op* product)
      : l_(l),
        tile_(tile),
        b_(tile.kb.b),
        op_(product),
        terms_(product->operands[1]->type.shape[1]),
        width_(l.width),
        type_{scalar_of(product->type.dtype), static_cast<uint16_t>(l.width)},
        x_(tile.kb.buffer(l.storage(product->operands[0]).allocation, false, AccessScope::anything)),
        w_(tile.kb.buffer(l.storage(product->operands[1]).allocation, false, AccessScope::anything)),
        panel_(b_.let("last", loop::ref(b_.predefined().panels) - loop::index(1))) {}

  void run(const Expr& left) {
    const int most = few_rows(l_.options.machine.registers);
    const auto outputs = [&](int rows) {
      b_.loop("o", tile_.lo(), tile_.hi(), width_, [&](Expr o) { block(o, rows); });
    };
    b_.if_else(
        loop::compare(loop::CompareOp::eq, left, loop::index(1)), [&] { outputs(1); },
        [&] { outputs(most); });
  }

 private:
  void block(const Expr& o, int rows) {
    tile_.declare(rows, 1, width_);
    std::vector<SumLoop> sum;
    Expr k;
    sum.push_back(sum_loop("k", terms_, width_, [&](const Expr& i) { k = i; }));
    tile_.sum(std::move(sum), width_, [&] {
      std::vector<Expr> w;
      for (int i = 0; i < width_; ++i)
        w.push_back(b_.let("w", loop::load(w_, (o + loop::index(i)) * loop::index(terms_) + k, width_)));
      w = transposed(b_, std::move(w));
      for (int i = 0; i < width_; ++i)
        for (int row = 0; row < rows; ++row) {
          const Expr at =
              (panel_ * loop::index(terms_) + k + loop::index(i)) * loop::index(kPanel) + loop::index(row);
          const Expr x = b_.let("x", loop::broadcast(loop::load(x_, at), width_));
          tile_.accumulate(row, 0, w[static_cast<size_t>(i)], x);
        }
    });
    std::vector<Expr> sums;
    for (int row = 0; row < width_; ++row)
      sums.push_back(row < rows ? loop::ref(tile_.accumulator(row, 0)) : loop::constant(type_, 0));
    sums = transposed(b_, std::move(sums));
    for (int i = 0; i < width_; ++i)
      for (int64_t s = 0; s < kPanel / width_; ++s) {
        Point p;
        p.batched = true;
        p.lanes = width_;
        p.panel = panel_;
        p.sub = loop::index(s);
        p.axes = {o + loop::index(i)};
        tile_.epilogue_at(p, s == 0 ? sums[static_cast<size_t>(i)] : loop::constant(type_, 0));
      }
  }

  Lowering& l_;
  Tile& tile_;
  loop::Builder& b_;
  const Op* op_;
  const int64_t terms_;
  const int width_;
  const loop::Type type_;
  const loop::Buffer x_, w_;
  const Expr panel_;
};

}  // namespace

int few_rows(int registers) { return registers >= 32 ? 8 : 4; }

bool may_have_few_rows(const Lowering& l, const Op* product) {
  const ops::EinsumSpec spec = ops::einsum_spec(*product);
  const bool dense = product->type.dtype == DType::f32 && product->type.rows == 1 && spec.a.size() == 2 &&
                     spec.b.size() == 2 && spec.result.size() == 2 && spec.a[0] == 'n' &&
                     spec.result[0] == 'n' && spec.b == std::string{spec.result[1], spec.a[1]};
  if (!dense) return false;
  const Shape& w = product->operands[1]->type.shape;
  if (w[0] < 4 * kSplitUnit || w[0] % kSplitUnit != 0 || w[1] % l.width != 0) return false;
  const int64_t last = (l.options.batch - 1) % kPanel + 1;
  return l.function.name != "train_step" || last <= few_rows(l.options.machine.registers);
}

void lower_few_rows(Lowering& lowering, Tile& tile, const Op* product, const loop::Expr& left) {
  FewRows(lowering, tile, product).run(left);
}

}  // namespace gradc::passes::lowering
