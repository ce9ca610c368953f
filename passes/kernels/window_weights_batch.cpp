// Lowers conv2d_weight_grad where groups have few channels (depthwise convolutions: one; first layers), with
// lanes along the batch: one accumulator vector an element of the result, in scratch memory; at the end of a
// panel its lanes are added, and by a second call the panels' sums, in order.
//
// Windows wider than one position, by tiles of pixels of a row of dY (pixel_tiles.h), which share loads of columns:
//   for panel, for block of groups, for row of dY, for x tile, for group,
//     for o tile, c tile, kh:  acc[o][c][kw] = 0
//       for vector of examples, for pixel:  acc[..] += dY[pixel][o] * X[column that it accesses at kw][c]
//     sums += acc                  (a tile's sum on its own: rounding grows with tiles, not with pixels)
// Others, and windows too large for a tile's registers:
//   for panel, for block of groups, for vector, for row of dY, for kh, kw, for tile of 4 x 4 channels:
//     acc[4][4] = 0
//     for x inside the image:  acc[i][j] += dY[y][x][o + i][lanes] * X[iy][ix][c + j][lanes]
//     sums += acc
// In large images the sums are added to the total after some rows, and start again from zero.
#include <algorithm>
#include <map>

#include "passes/kernels/blocked_sum.h"
#include "passes/kernels/pixel_tiles.h"
#include "passes/kernels/window.h"
#include "passes/kernels/window_weights.h"

namespace gradc::passes::lowering {

namespace {

using loop::BinaryOp;
using loop::Expr;

class BatchLanes : WeightGradientBase {
 public:
  using WeightGradientBase::WeightGradientBase;

  void run() {
    choose_blocks();
    choose_tile();
    const int64_t elements = op_->type.elements(), block = elements / blocks_;
    partial_ = l_.new_allocation(name(" partial sums"), scalar_,
                                 (batched_ ? l_.batch_panels() : 1) * elements, loop::Space::arena, 0);
    KernelBuilder kb(l_, name(""), op_->name());
    begin(kb);
    kb.flop = flop();
    kb.declare_written(partial_);
    int64_t bytes = 0;
    const int scratch = l_.new_scratch(name(" sums"), scalar_, block * lanes(), bytes);
    kb.declare_written(scratch);
    sums_ = kb.buffer(scratch, true, AccessScope::anything);
    loop::Buffer totals;
    if (rows_at_once() < g_shape_[1]) {
      const int all = l_.new_scratch(name(" totals"), scalar_, block * lanes(), bytes);
      kb.declare_written(all);
      totals = kb.buffer(all, true, AccessScope::anything);
    }
    const loop::Buffer partial =
        kb.buffer(partial_, true, batched_ ? AccessScope::own_panels : AccessScope::own_axis0);
    loop::Builder& b = kb.b;
    const auto unit = [&](const Expr& u) {
      const Expr q = b.let("q", u / loop::index(blocks_));
      const Expr first =
          b.let("group0", loop::binary(BinaryOp::rem, u, loop::index(blocks_)) * loop::index(block_groups()));
      const auto each = [&](const std::function<void(const Expr&)>& body) {
        b.loop("z", loop::index(0), loop::index(block), 1,
               [&](Expr z) { body(b.let("at", z * loop::index(lanes()))); });
      };
      const auto clear = [&](const loop::Buffer& buffer) {
        each([&](const Expr& at) { b.store(buffer, at, loop::constant(vector_type(lanes()), 0)); });
      };
      const auto some_rows = [&](const Expr& begin, const Expr& end) {
        clear(sums_);
        if (tiles_)
          by_pixels(kb, q, first, begin, end);
        else
          by_positions(kb, q, first, begin, end);
      };
      const int64_t step = rows_at_once();
      if (totals) {
        clear(totals);
        b.loop("y0", loop::index(0), loop::index(g_shape_[1]), step, [&](Expr y0) {
          some_rows(y0, b.let("y1", minimum(y0 + loop::index(step), loop::index(g_shape_[1]))));
          each([&](const Expr& at) {
            b.store(totals, at, loop::load(totals, at, lanes()) + loop::load(sums_, at, lanes()));
          });
        });
      } else {
        some_rows(loop::index(0), loop::index(g_shape_[1]));
      }
      b.loop("z", loop::index(0), loop::index(block), 1, [&](Expr z) {
        const Expr sum = loop::load(totals ? totals : sums_, z * loop::index(lanes()), lanes());
        b.store(partial, u * loop::index(block) + z, batched_ ? loop::reduce(BinaryOp::add, sum) : sum);
      });
    };
    if (batched_) {
      b.loop("u", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), 1, unit);
      l_.finish(kb, {loop::Partition::Extent::panels, blocks_, 1});
    } else {
      b.if_then(
          loop::compare(loop::CompareOp::lt, loop::ref(b.predefined().lo), loop::ref(b.predefined().hi)),
          [&] { unit(loop::index(0)); });
      l_.finish(kb, {});
    }
    add_panels(elements);
  }

 private:
  int lanes() const { return batched_ ? l_.width : 1; }
  int64_t subs() const { return batched_ ? kPanel / l_.width : 1; }
  int64_t block_groups() const { return groups_ / blocks_; }

  // Rows of dY after which the sums start again from zero.
  int64_t rows_at_once() const {
    const int64_t sums = tiles_ ? ceil_div(g_shape_[2], tiles_->tile) : subs();  // that a row adds
    return g_shape_[1] * sums <= 2 * kBlockProducts ? g_shape_[1]
                                                    : std::max<int64_t>(1, kBlockProducts / sums);
  }

  // Many groups are split into blocks: for the threads, and so that a block's sums fit the nearest cache.
  void choose_blocks() {
    constexpr int64_t kBlockGroups = 16;
    blocks_ = batched_ ? std::max<int64_t>(1, groups_ / kBlockGroups) : 1;
    while (groups_ % blocks_) --blocks_;
  }

  // The tile of outputs x channels that loads least for its multiply-adds, of those whose sums and columns
  // fit the registers.
  void choose_tile() {
    if (out_[3] == 1) return;
    const int64_t registers = l_.options.machine.registers - 2, window = out_[3];
    constexpr int64_t kPixels = 8;
    const int64_t columns = (kPixels - 1) * columns_.stride + (window - 1) * columns_.dilation + 1;
    double best = 0;
    for (int64_t o = 1; o <= std::min<int64_t>(outputs_, 8); ++o)
      for (int64_t c = 1; c <= std::min<int64_t>(channels_, 8); ++c) {
        if ((o + 1) * c * window > registers) continue;
        const auto tiles = static_cast<double>(ceil_div(outputs_, o) * ceil_div(channels_, c));
        const int64_t loads = o * kPixels + c * std::min(columns, window * kPixels);
        const double code = (outputs_ % o ? 1.1 : 1) * (channels_ % c ? 1.1 : 1);
        const double cost = tiles * static_cast<double>(loads) * code;
        if (high_ && cost >= best) continue;
        best = cost, high_ = o, wide_ = c;
      }
    if (high_) tiles_ = pixel_tiles(columns_, false, kPixels, high_ * wide_);
  }

  // Calls body(first, extent) for tiles of an axis: full ones in a loop, the rest once.
  template <class F>
  static void tiled(loop::Builder& b, const char* name, int64_t extent, int64_t most, F&& body) {
    const int64_t step = std::min(most, extent), full = extent / step * step;
    b.loop(name, loop::index(0), loop::index(full), step, [&](Expr i) { body(i, step); });
    if (full != extent) body(loop::index(full), extent - full);
  }

  // The address of the first sum of an element of the result; `group` counts within the block.
  Expr sum_place(const Expr& group, const Expr& o, const Expr& c, const Expr& kh, const Expr& kw) const {
    const Expr row =
        ((group * loop::index(outputs_) + o) * loop::index(channels_) + c) * loop::index(out_[2]) + kh;
    return (row * loop::index(out_[3]) + kw) * loop::index(lanes());
  }

  // The address of an element in a vector of examples, or in the one image.
  Expr element(size_t operand, const Expr& q, const Expr& c, const Expr& y, const Expr& x,
               const Expr& sub) const {
    const Shape& s = op_->operands[operand]->type.shape;
    if (!batched_) return (c * loop::index(s[1]) + y) * loop::index(s[2]) + x;
    return place(operand, q, c, y, x, sub);
  }
  // Elements from a column to the next.
  int64_t column_step(size_t operand) const {
    return batched_ ? op_->operands[operand]->type.shape[0] * kPanel : 1;
  }
  Expr load(KernelBuilder& kb, size_t operand, const Expr& at) const {
    return loop::load(kb.buffer(l_.storage(op_->operands[operand]).allocation, false,
                                batched_ ? AccessScope::panel : AccessScope::anything),
                      at, lanes());
  }
  // Examples that do not exist count nothing.
  static Expr where(const Expr& exists, const Expr& dy) {
    return exists ? loop::select(exists, dy, loop::constant(dy->type, 0)) : dy;
  }

  void by_pixels(KernelBuilder& kb, const Expr& q, const Expr& group0, const Expr& begin, const Expr& end) {
    loop::Builder& b = kb.b;
    b.loop("y", begin, end, 1, [&](Expr y) {
      tiles_->each(b, [&](const Expr& x, std::optional<int64_t> first, int64_t points) {
        b.loop("group", loop::index(0), loop::index(block_groups()), 1, [&](Expr group) {
          tiled(b, "o", outputs_, high_, [&](const Expr& o, int64_t high) {
            tiled(b, "c", channels_, wide_, [&](const Expr& c, int64_t wide) {
              b.loop("kh", rows_.begin(y), rows_.end(y), 1, [&](Expr kh) {
                std::vector<loop::Variable> acc;
                const auto place_of = [&](int64_t i, int64_t j, int64_t k) {
                  return sum_place(group, o + loop::index(i), c + loop::index(j), kh, loop::index(k));
                };
                each_sum(high, wide, [&](int64_t, int64_t, int64_t) {
                  acc.push_back(b.declare("acc", loop::constant(vector_type(lanes()), 0)));
                });
                b.loop("s", loop::index(0), loop::index(subs()), 1, [&](Expr s) {
                  const Expr g = group0 + group;
                  const Expr from_g = b.let("from_g", element(0, q, g * loop::index(outputs_) + o, y, x, s));
                  const Expr from_x = b.let("from_x", element(1, q, g * loop::index(channels_) + c,
                                                              rows_.input(y, kh), tiles_->base(x), s));
                  multiply(kb, acc, first, points, high, wide, from_g, from_x,
                           batched_ ? existing(kb, q, s) : nullptr);
                });
                size_t at = 0;
                each_sum(high, wide, [&](int64_t i, int64_t j, int64_t k) {
                  const Expr to = b.let("to", place_of(i, j, k));
                  b.store(sums_, to, loop::load(sums_, to, lanes()) + loop::ref(acc[at++]));
                });
              });
            });
          });
        });
      });
    });
  }

  template <class F>
  void each_sum(int64_t high, int64_t wide, F&& body) const {
    for (int64_t i = 0; i < high; ++i)
      for (int64_t j = 0; j < wide; ++j)
        for (int64_t k = 0; k < out_[3]; ++k) body(i, j, k);
  }

  // acc[i][j][k] += dY[pixel][i] * X[column of pixel and k][j] for the pixels of a tile.
  void multiply(KernelBuilder& kb, const std::vector<loop::Variable>& acc, std::optional<int64_t> first,
                int64_t points, int64_t high, int64_t wide, const Expr& from_g, const Expr& from_x,
                const Expr& exists) {
    loop::Builder& b = kb.b;
    const int64_t channel_step = batched_ ? kPanel : x_shape_[1] * x_shape_[2];
    const int64_t output_step = batched_ ? kPanel : g_shape_[1] * g_shape_[2];
    std::map<std::pair<int64_t, int64_t>, Expr> columns;  // by column and channel
    for (int64_t pixel = 0; pixel < points; ++pixel)
      for (int64_t i = 0; i < high; ++i) {
        const Expr at = from_g + loop::index(pixel * column_step(0) + i * output_step);
        const Expr dy = b.let("dy", where(exists, load(kb, 0, at)));
        for (int64_t j = 0; j < wide; ++j)
          for (int64_t k = 0; k < out_[3]; ++k) {
            const auto column = tiles_->inside(first, pixel, k);
            if (!column) continue;
            Expr& x = columns[{*column, j}];
            if (!x)
              x = b.let("x", load(kb, 1, from_x + loop::index(*column * column_step(1) + j * channel_step)));
            const loop::Variable& sum = acc[static_cast<size_t>((i * wide + j) * out_[3] + k)];
            b.assign(sum, loop::fma(dy, x, loop::ref(sum)));
          }
      }
  }

  void by_positions(KernelBuilder& kb, const Expr& q, const Expr& group0, const Expr& begin,
                    const Expr& end) {
    loop::Builder& b = kb.b;
    const int most = l_.options.machine.registers >= 32 ? 4 : 3;
    const auto row = [&](const Expr& s, const Expr& exists, const Expr& y, const Expr& kh, const Expr& kw) {
      const Expr x_begin = b.let("x_begin", columns_.out_begin(kw)),
                 x_end = b.let("x_end", columns_.out_end(kw));
      b.loop("group", loop::index(0), loop::index(block_groups()), 1, [&](Expr group) {
        const Expr g = group0 + group;
        tiled(b, "o", outputs_, most, [&](const Expr& o, int64_t high) {
          tiled(b, "c", channels_, most, [&](const Expr& c, int64_t wide) {
            const auto place_of = [&](int i, int j) {
              return sum_place(group, o + loop::index(i), c + loop::index(j), kh, kw);
            };
            Accumulators acc(b, static_cast<int>(high), static_cast<int>(wide),
                             [&](int, int) { return loop::constant(vector_type(lanes()), 0); });
            Expr x;
            const std::vector<SumLoop> pixels = {{"x", [&] { return std::pair{x_begin, x_end}; }, 1,
                                                  g_shape_[2], [&](const Expr& i) { x = i; }}};
            blocked_sum(b, acc.variables(), pixels, kBlockProducts, 1, [&] {
              acc.multiply_add(
                  [&](int i) {
                    const Expr channel = g * loop::index(outputs_) + o + loop::index(i);
                    return where(exists, load(kb, 0, element(0, q, channel, y, x, s)));
                  },
                  [&](int j) {
                    const Expr channel = g * loop::index(channels_) + c + loop::index(j);
                    return load(kb, 1, element(1, q, channel, rows_.input(y, kh), columns_.input(x, kw), s));
                  });
            });
            acc.add_to(sums_, place_of);
          });
        });
      });
    };
    b.loop("s", loop::index(0), loop::index(subs()), 1, [&](Expr s) {
      const Expr exists = batched_ ? existing(kb, q, s) : nullptr;
      b.loop("y", begin, end, 1, [&](Expr y) {
        b.loop("kh", rows_.begin(y), rows_.end(y), 1, [&](Expr kh) {
          b.loop("kw", loop::index(0), loop::index(out_[3]), 1, [&](Expr kw) { row(s, exists, y, kh, kw); });
        });
      });
    });
  }

  // The second call.
  void add_panels(int64_t elements) {
    KernelBuilder kb(l_, name("_sum"), "sum of partial weight gradients");
    begin(kb);
    const std::vector<int>& targets = l_.targets.at(op_);
    for (int t : targets) kb.declare_written(t);
    const loop::Buffer partial = kb.buffer(partial_, false, AccessScope::anything);
    loop::Builder& b = kb.b;
    b.loop("i", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), 1, [&](Expr i) {
      const loop::Variable sum = b.declare("sum", loop::constant(vector_type(1), 0));
      b.loop("q", loop::index(0), batched_ ? loop::ref(b.predefined().panels) : loop::index(1), 1,
             [&](Expr q) {
               b.assign(sum, loop::ref(sum) + loop::load(partial, q * loop::index(elements) + i));
             });
      for (int target : targets) b.store(kb.buffer(target, true, AccessScope::anything), i, loop::ref(sum));
    });
    l_.finish(
        kb, elements > 1 ? loop::Partition{loop::Partition::Extent::fixed, elements, 16} : loop::Partition{});
  }

  int64_t blocks_ = 1;           // of groups
  int64_t high_ = 0, wide_ = 0;  // outputs and channels of a tile of pixels
  std::optional<PixelTiles> tiles_;
  loop::Buffer sums_;
};

}  // namespace

void lower_weight_gradient_by_batch(Lowering& lowering, const Op* op) { BatchLanes(lowering, op).run(); }

}  // namespace gradc::passes::lowering
