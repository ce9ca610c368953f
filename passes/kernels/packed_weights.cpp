// Dense products whose weights are packed, W[r][t] of "no,ok->nk" or its transpose in forward.
//
// Reading a column of W would take a cache line and a page for each row. So blocks of W, 32 columns wide, are packed
// into scratch memory once for all panels. A long sum is taken in blocks of rows; between blocks the partial sums of
// all panels are kept in scratch memory:
//   for block of 32 columns, for block of rows:  pack
//     for panel, for 8 columns:  acc[8][2] = 0;  acc[i][j] += broadcast(packed[r][i]) * X[r][j]
//                                acc += the sums so far;  epilogue, or keep the sums
#include "passes/kernels/packed_weights.h"

#include <fmt/format.h>

#include <algorithm>

namespace gradc::passes::lowering {

namespace {

using loop::Expr;

class PackedWeights {
 public:
  PackedWeights(Lowering& l, Tile& tile, const Op* op, bool sums_rows)
      : l_(l),
        tile_(tile),
        op_(op),
        b_(tile.kb.b),
        sums_rows_(sums_rows),
        columns_(op->type.shape[0]),
        sum_(op->operands[0]->type.shape[0]),
        row_(op->operands[1]->type.shape[1]),
        panels_(l.batch_panels(tile.kb.kernel.rows)) {}

  void run() {
    const int64_t columns = columns_, sum = sum_;
    // A block's sum starts from zero, which bounds rounding. Forward has the blocks of an unpacked sum: which of the two
    // is taken does not change its bits.
    const int64_t whole = sums_rows_ ? 512 : 2 * kBlockProducts,
                  rows_of_block = sums_rows_ ? 256 : kBlockProducts;
    const int64_t block = sum <= whole ? sum : rows_of_block;
    const bool several = block < sum;
    const int vectors = tile_vectors(l_.width);
    tile_.partition_axis0(columns, kColumns);
    const auto own = [&](const char* what, int64_t elements) {
      const int a =
          l_.new_scratch(fmt::format("k{}{}", op_->kernel, what), loop::Scalar::f32, elements, tile_.scratch);
      tile_.kb.declare_written(a);
      return tile_.kb.buffer(a, true, AccessScope::anything);
    };
    const loop::Buffer packed = own(" packed", block * kColumns);
    const loop::Buffer sums = several ? own(" sums", panels_ * kColumns * kPanel) : nullptr;
    const loop::Buffer w =
        tile_.kb.buffer(l_.storage(op_->operands[1]).allocation, false, AccessScope::anything);
    const Op* x = op_->operands[0];
    const loop::Buffer lanes = tile_.kb.buffer(l_.storage(x).allocation, false, AccessScope::anything);
    const Expr panels = loop::ref(b_.predefined().panels);

    // One block of the sum for `wide` columns from t0 on.
    const auto rows_block = [&](const Expr& t0, int64_t wide, const Expr& r0, int64_t rows, bool first,
                                bool last) {
      const Expr count = loop::index(rows);
      if (sums_rows_)
        copy_block(w, packed, t0, wide, r0, rows);
      else
        transpose_block(w, packed, t0, wide, r0, rows);
      b_.loop("q", loop::index(0), panels, 1, [&](Expr q) {
        prefetch_block(w, q, last ? t0 + loop::index(kColumns) : t0, last ? loop::index(0) : r0 + count,
                       rows);
        b_.loop("s", loop::index(0), loop::index(kPanel / l_.width), vectors, [&](Expr s) {
          const auto tile = [&](const Expr& i0, int high) {
            tile_.declare(high, vectors, l_.width);
            const auto rest = [&](int i, int j) {
              return (q * loop::index(kColumns) + i0 + loop::index(i)) * loop::index(kPanel) +
                     (s + loop::index(j)) * loop::index(l_.width);
            };
            const Expr from =
                b_.let("from", (q * loop::index(sum) + r0) * loop::index(kPanel) + s * loop::index(l_.width));
            b_.loop("r", loop::index(0), count, 1, [&](Expr r) {
              std::vector<Expr> shared;
              for (int j = 0; j < vectors; ++j)
                shared.push_back(b_.let(
                    "b",
                    loop::load(lanes, from + r * loop::index(kPanel) + loop::index(j * l_.width), l_.width)));
              for (int i = 0; i < high; ++i) {
                const Expr a = b_.let(
                    "a", loop::broadcast(loop::load(packed, r * loop::index(kColumns) + i0 + loop::index(i)),
                                         l_.width));
                for (int j = 0; j < vectors; ++j) tile_.accumulate(i, j, a, shared[static_cast<size_t>(j)]);
              }
            });
            if (!first)
              for (int i = 0; i < high; ++i)
                for (int j = 0; j < vectors; ++j) {
                  const loop::Variable& sum = tile_.accumulator(i, j);
                  b_.assign(sum, loop::load(sums, rest(i, j), l_.width) + loop::ref(sum));
                }
            if (!last) {
              for (int i = 0; i < high; ++i)
                for (int j = 0; j < vectors; ++j)
                  b_.store(sums, rest(i, j), loop::ref(tile_.accumulator(i, j)));
              return;
            }
            tile_.epilogue([&](int i, int j) {
              Point p;
              p.batched = true;
              p.lanes = l_.width;
              p.panel = q;
              p.sub = s + loop::index(j);
              p.axes = {t0 + i0 + loop::index(i)};
              return p;
            });
          };
          tile_.over_rows("i", wide, false, tile);
        });
      });
    };
    const auto columns_block = [&](const Expr& t0, int64_t wide) {
      if (!several) return rows_block(t0, wide, loop::index(0), sum, true, true);
      const int64_t tail = sum % block ? sum % block : block;
      rows_block(t0, wide, loop::index(0), block, true, false);
      b_.loop("r0", loop::index(block), loop::index(sum - tail), block,
              [&](Expr r0) { rows_block(t0, wide, r0, block, false, false); });
      rows_block(t0, wide, loop::index(sum - tail), tail, false, true);
    };
    const int64_t full = columns / kColumns * kColumns;
    b_.loop("t0", tile_.lo(), loop::binary(loop::BinaryOp::min, tile_.hi(), loop::index(full)), kColumns,
            [&](Expr t0) { columns_block(t0, kColumns); });
    if (full != columns)
      b_.if_then(loop::compare(loop::CompareOp::eq, tile_.hi(), loop::index(columns)),
                 [&] { columns_block(loop::index(full), columns - full); });
  }

 private:
  static constexpr int64_t kColumns = 32;  // of a packed block

  // The first `count` lanes.
  Expr first_lanes(int64_t count) const {
    if (count >= l_.width) return nullptr;
    return loop::compare(loop::CompareOp::lt,
                         loop::ramp(loop::constant_int({loop::Scalar::i32, 1}, 0), 1, l_.width),
                         loop::constant_int({loop::Scalar::i32, static_cast<uint16_t>(l_.width)}, count));
  }

  // Prefetches panel q's share of the next block of W, which begins at the given column and row of the sum.
  void prefetch_block(const loop::Buffer& w, const Expr& q, const Expr& t0, const Expr& r0, int64_t rows) {
    constexpr int64_t kLine = kLineBytes / 4;
    const Expr panels = loop::ref(b_.predefined().panels);
    const int64_t in_row = sums_rows_ ? kColumns / kLine : (rows + kLine - 1) / kLine;  // lines
    const int64_t all = sums_rows_ ? rows : kColumns;
    const int64_t row = row_;
    const Expr share = b_.let("share", (loop::index(all) + panels - loop::index(1)) / panels);
    b_.loop("ahead", loop::index(0), share, 1, [&](Expr i) {
      const Expr first = q * share + i;
      const Expr from =
          sums_rows_ ? (r0 + first) * loop::index(row) + t0 : (t0 + first) * loop::index(row) + r0;
      if (sums_rows_)
        for (int64_t line = 0; line < in_row; ++line) b_.prefetch(w, from + loop::index(line * kLine));
      else
        b_.loop("line", loop::index(0), loop::index(in_row), 1,
                [&](Expr line) { b_.prefetch(w, from + line * loop::index(kLine)); });
    });
  }

  // packed[r][c] = W[r0 + r][t0 + c].
  void copy_block(const loop::Buffer& w, const loop::Buffer& packed, const Expr& t0, int64_t wide,
                  const Expr& r0, int64_t rows) {
    const int64_t columns = columns_;
    b_.loop("r", loop::index(0), loop::index(rows), 1, [&](Expr r) {
      for (int64_t c = 0; c < wide; c += l_.width) {
        const Expr from = (r0 + r) * loop::index(columns) + t0 + loop::index(c);
        b_.store(packed, r * loop::index(kColumns) + loop::index(c),
                 b_.let("w", loop::load(w, from, l_.width, first_lanes(wide - c))));
      }
    });
  }

  // packed[r][c] = W[t0 + c][r0 + r], a square of vectors at a time.
  void transpose_block(const loop::Buffer& w, const loop::Buffer& packed, const Expr& t0, int64_t wide,
                       const Expr& r0, int64_t rows) {
    const int64_t sum = sum_;
    const auto square = [&](const Expr& r, int64_t count) {
      for (int64_t c = 0; c < wide; c += l_.width) {
        std::vector<Expr> v;
        for (int64_t i = 0; i < l_.width; ++i) {
          const Expr from = (t0 + loop::index(std::min(c + i, wide - 1))) * loop::index(sum) + r0 + r;
          v.push_back(b_.let("w", loop::load(w, from, l_.width, first_lanes(count))));
        }
        v = transposed(b_, std::move(v));
        for (int64_t i = 0; i < count; ++i)
          b_.store(packed, (r + loop::index(i)) * loop::index(kColumns) + loop::index(c),
                   v[static_cast<size_t>(i)]);
      }
    };
    const int64_t full = rows / l_.width * l_.width;
    b_.loop("r", loop::index(0), loop::index(full), l_.width, [&](Expr r) { square(r, l_.width); });
    if (rows != full) square(loop::index(full), rows - full);
  }

  Lowering& l_;
  Tile& tile_;
  const Op* op_;
  loop::Builder& b_;
  const bool sums_rows_;               // W is summed over its rows, else over its columns
  const int64_t columns_, sum_, row_;  // of the result; terms; elements of a row of W
  const int64_t panels_;               // of a full batch
};

}  // namespace

void lower_packed_weights(Lowering& lowering, Tile& tile, const Op* product, bool sums_rows) {
  PackedWeights(lowering, tile, product, sums_rows).run();
}

}  // namespace gradc::passes::lowering
