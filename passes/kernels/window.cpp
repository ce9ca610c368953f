// Lowers convolutions and pooling: sums (or maxima) over windows, the batch in the lanes, so that every
// channel count, stride, padding, dilation and group count runs on whole vectors and padding costs nothing
// (loops run over the window positions inside the image). Images are stored channels-last
// (passes/tensor/layout.h), so a window position's channels are neighbours in memory. Threads share the rows
// of the images of every panel.
//
//   conv2d             for image row, for o tile of 8, for x:  acc[8][2] = 0
//                        for kh, kw inside the image, for c:  acc[i][j] += broadcast(w[o + i][c][kh][kw]) *
//                                                                          X[iy][ix][c][lanes]
//   conv2d_input_grad  the same, gathering: tile over input channels, window positions whose output exists
//   both, where a group has few result channels (depthwise: one): a tile of pixels instead (pixel_tiles.h)
//                      for image row, for x tile, for group:  acc[channels][4] = 0
//                        for kh, c, for column, for kw, i that use it:
//                          acc[..][i] += w[..][kw] * X[column]
//   conv2d_weight_grad window_weights.cpp
//   max_pool2d, avg_pool2d, avg_pool2d_grad  one accumulator a point
//   max_pool2d_grad    the gradient goes to the first maximum of each window: zero, then add under a mask,
//                      window by window
//   both gradients, where windows tile the image: for pooled row, for x, c:  acc[i] = a position's gradient
#include <algorithm>
#include <limits>
#include <map>

#include "ir/ops/window.h"
#include "passes/kernels/lowering.h"
#include "passes/kernels/pixel_tiles.h"
#include "passes/kernels/tile.h"
#include "passes/kernels/window.h"
#include "passes/kernels/winograd.h"
#include "support/check.h"

namespace gradc::passes::lowering {

namespace {

using loop::BinaryOp;
using loop::CompareOp;
using loop::Expr;

class Window {
 public:
  Window(Lowering& l, const KernelGroup& g)
      : l_(l),
        g_(g),
        op_(g.ops.front()),
        tile_(l, g),
        b_(tile_.kb.b),
        batched_(op_->operands[0]->type.batched) {}

  void run() {
    switch (op_->def->loop_nest) {
      case LoopNest::convolution:
        if (!over_pixels(false)) convolve();
        break;
      case LoopNest::convolution_input_grad:
        if (!over_pixels(true)) input_gradient();
        break;
      case LoopNest::max_pool: pool(true); break;
      case LoopNest::avg_pool: pool(false); break;
      case LoopNest::avg_pool_grad: average_gradient(); break;
      case LoopNest::max_pool_grad: maximum_gradient(); break;
      default: internal_error(__FILE__, __LINE__, "no window loop nest for " + op_->name());
    }
    tile_.finish();
  }

 private:
  static constexpr int64_t kUnrolled = 16;  // elements of a window that is written out

  // in, out: shapes of rank >= 2 whose last two extents are spatial.
  Axis spatial(size_t axis, const Shape& in, const Shape& out, int64_t window) const {
    return spatial_axis(op_, axis, in, out, window);
  }
  int64_t groups() const { return group_count(op_); }
  loop::Scalar float_type() const { return scalar_of(op_->type.dtype); }
  const Type& type(size_t operand) const { return op_->operands[operand]->type; }

  // The index of an image's element: within its example, or in the whole value without a batch.
  Expr element(const Type& t, const Expr& c, const Expr& y, const Expr& x) const {
    if (batched_) return l_.element(t, {c, y, x});
    return (c * loop::index(t.shape[1]) + y) * loop::index(t.shape[2]) + x;
  }
  static Expr weight_index(const Shape& w, const Expr& o, const Expr& c, const Expr& kh, const Expr& kw) {
    return ((o * loop::index(w[1]) + c) * loop::index(w[2]) + kh) * loop::index(w[3]) + kw;
  }

  // A vector of a panel at an element of a batched operand. `own`: within this thread's chunk.
  Expr vector(size_t operand, const Expr& panel, const Expr& element, const Expr& sub, bool own = false) {
    const bool panels = tile_.own() == AccessScope::own_panels;
    const loop::Buffer buffer =
        tile_.kb.buffer(l_.storage(op_->operands[operand]).allocation, false,
                        own || (panels && tile_.chunks() == 1) ? AccessScope::own_panels
                        : panels                               ? AccessScope::panel
                                                               : AccessScope::anything,
                        operand < 2 ? read_rows_[operand] : std::vector<RowRange>{});
    if (!batched_) return loop::load(buffer, element);
    return loop::load(buffer,
                      (panel * loop::index(type(operand).elements()) + element) * loop::index(kPanel) +
                          sub * loop::index(l_.width),
                      l_.width);
  }
  Expr scalar(size_t operand, const Expr& element) {
    return loop::load(
        tile_.kb.buffer(l_.storage(op_->operands[operand]).allocation, false, AccessScope::anything),
        element);
  }
  template <class F>
  void over(const char* name, int64_t extent, F&& body) {
    b_.loop(name, loop::index(0), loop::index(extent), 1, body);
  }
  Point result_point(const Expr& q, const Expr& sub, std::vector<Expr> axes) const {
    Point p;
    p.batched = batched_;
    p.panel = q;
    p.sub = sub;
    p.axes = std::move(axes);
    p.lanes = lanes();
    return p;
  }
  int lanes() const { return batched_ ? l_.width : 1; }
  int subs() const { return batched_ ? static_cast<int>(kPanel / l_.width) : 1; }
  int vectors() const { return batched_ ? tile_vectors(l_.width) : 1; }

  // Calls body(panel, y) for every row of a result [channels, height, width]. Without a batch the first thread computes
  // all.
  template <class F>
  void over_image_rows(const Shape& out, F&& body) {
    if (batched_) {
      tile_.partition_panels(out[1], chunk_rows_);
      if (out[1] == 1) return tile_.over_panels([&](Expr q, Expr) { body(q, loop::index(0)); });
      return tile_.over_panels(body);
    }
    b_.if_then(loop::compare(CompareOp::lt, tile_.lo(), tile_.hi()),
               [&] { over("y", out[1], [&](Expr y) { body(loop::index(0), y); }); });
  }

  // Runs tile(q, group, first channel within the group, channels, y, x, first sub-vector) over a result.
  template <class F>
  void over_result(const Shape& out, F&& tile) {
    over_image_rows(out, [&](const Expr& q, const Expr& y) {
      over("g", groups(), [&](Expr group) {
        tile_.over_rows("o", out[0] / groups(), false, [&](Expr first, int count) {
          over("x", out[2], [&](Expr x) {
            b_.loop("s", loop::index(0), loop::index(subs()), vectors(),
                    [&](Expr s) { tile(q, group, first, count, y, x, s); });
          });
        });
      });
    });
  }

  void convolve() {
    const Shape &x = type(0).shape, &w = type(1).shape, &out = op_->type.shape;
    const Axis rows = spatial(0, x, out, w[2]), columns = spatial(1, x, out, w[3]);
    reads(0, rows.inputs_read());
    over_result(out, [&](const Expr& q, const Expr& group, const Expr& first, int count, const Expr& oy,
                         const Expr& ox, const Expr& sub) {
      const Expr o = group * loop::index(out[0] / groups()) + first;
      begin_tile(q, o, count, oy, ox, sub);
      Expr kh, from, weight, c;
      tile_.sum({{"kh", [&] { return std::pair{rows.begin(oy), rows.end(oy)}; }, 1, w[2],
                  [&](const Expr& k) { kh = k; }},
                 {"kw", [&] { return std::pair{columns.begin(ox), columns.end(ox)}; }, 1, w[3],
                  [&](const Expr& kw) {
                    from = b_.let("from", element(type(0), group * loop::index(w[1]), rows.input(oy, kh),
                                                  columns.input(ox, kw)));
                    weight = b_.let("weight", weight_index(w, o, loop::index(0), kh, kw));
                  }},
                 sum_loop("c", w[1], 1, [&](const Expr& i) { c = i; })},
                1, [&] {
                  multiply(q, from + c * channel_step(type(0)), weight + c * loop::index(w[2] * w[3]),
                           w[1] * w[2] * w[3], count, sub);
                });
      finish_tile(q, o, oy, ox, sub);
    });
  }

  // Elements between a channel and the next.
  Expr channel_step(const Type& t) const {
    return element(t, loop::index(1), loop::index(0), loop::index(0));
  }

  // acc[i][j] += broadcast(w[weight + i * stride]) * x[element][first + j]
  void multiply(const Expr& q, const Expr& element, const Expr& weight, int64_t stride, int count,
                const Expr& first) {
    std::vector<Expr> shared;
    for (int j = 0; j < vectors(); ++j)
      shared.push_back(b_.let("b", vector(0, q, element, first + loop::index(j))));
    for (int i = 0; i < count; ++i) {
      const Expr a = b_.let("a", loop::broadcast(scalar(1, weight + loop::index(i * stride)), lanes()));
      for (int j = 0; j < vectors(); ++j) tile_.accumulate(i, j, a, shared[static_cast<size_t>(j)]);
    }
  }

  // A tile of neighbouring channels of one point, with the tile's sub-vectors.
  auto points_of_tile(const Expr& q, const Expr& channel, const Expr& y, const Expr& x,
                      const Expr& sub) const {
    return [=, this](int i, int j) {
      return result_point(q, sub + loop::index(j), {channel + loop::index(i), y, x});
    };
  }
  void begin_tile(const Expr& q, const Expr& channel, int count, const Expr& y, const Expr& x,
                  const Expr& sub) {
    // Prefetch for the next point: the products of this one may take less time than the loads from memory.
    if (batched_)
      tile_.prefetch_epilogue(count, vectors(), points_of_tile(q, channel, y, x + loop::index(1), sub));
    tile_.declare(count, vectors(), lanes());
  }
  void finish_tile(const Expr& q, const Expr& channel, const Expr& y, const Expr& x, const Expr& sub) {
    tile_.epilogue(points_of_tile(q, channel, y, x, sub));
  }

  // Window positions k and output positions o with o * stride + k * dilation - padding = i, for an input
  // position i.
  template <class F>
  void over_outputs(const char* name, const Axis& a, const Expr& i, F&& body) {
    const Expr shifted = i + loop::index(a.padding);
    if (a.dilation == 1) {
      // k = shifted - o * stride: k in [0, window) and o in [0, out) give both bounds, k in steps of the
      // stride.
      const Expr first = loop::binary(BinaryOp::rem, shifted, loop::index(a.stride));
      const Expr low =
          at_least_0(shifted - loop::index(a.stride * (a.out - 1)) - first + loop::index(a.stride - 1)) /
          loop::index(a.stride);
      b_.loop(name, first + low * loop::index(a.stride),
              minimum(loop::index(a.window), shifted + loop::index(1)), a.stride,
              [&](Expr k) { body(k, (shifted - k) / loop::index(a.stride)); });
      return;
    }
    over(name, a.window, [&](Expr k) {
      const Expr scaled = b_.let("scaled", shifted - k * loop::index(a.dilation));
      const Expr whole = at_least_0(scaled);
      const Expr inside =
          loop::binary(BinaryOp::bit_and, loop::compare(CompareOp::ge, scaled, loop::index(0)),
                       loop::compare(CompareOp::lt, whole, loop::index(a.stride * a.out)));
      const Expr fits = loop::compare(
          CompareOp::eq, loop::binary(BinaryOp::rem, whole, loop::index(a.stride)), loop::index(0));
      b_.if_then(loop::binary(BinaryOp::bit_and, inside, fits),
                 [&] { body(k, whole / loop::index(a.stride)); });
    });
  }

  void input_gradient() {
    const Shape &g = type(0).shape, &w = type(1).shape, &out = op_->type.shape;
    const Axis rows = spatial(0, out, g, w[2]), columns = spatial(1, out, g, w[3]);
    const int64_t outputs = g[0] / groups();
    reads(0, rows.outputs_reading());
    over_result(out, [&](const Expr& q, const Expr& group, const Expr& first, int count, const Expr& iy,
                         const Expr& ix, const Expr& sub) {
      const Expr channel = group * loop::index(out[0] / groups()) + first;
      begin_tile(q, channel, count, iy, ix, sub);
      over_outputs("kh", rows, iy, [&](const Expr& kh, const Expr& oy) {
        over_outputs("kw", columns, ix, [&](const Expr& kw, const Expr& ox) {
          const Expr o = group * loop::index(outputs);
          const Expr from = b_.let("from", element(type(0), o, oy, ox));
          const Expr weight = b_.let("weight", weight_index(w, o, first, kh, kw));
          Expr within;
          sum_apart(outputs * w[2] * w[3], {sum_loop("o", outputs, 1, [&](const Expr& i) { within = i; })}, 1,
                    [&] {
                      multiply(q, from + within * channel_step(type(0)),
                               weight + within * loop::index(w[1] * w[2] * w[3]), w[2] * w[3], count, sub);
                    });
        });
      });
      finish_tile(q, channel, iy, ix, sub);
    });
  }

  // Adds a share of the tile's sums, which have `all` terms in total: as a partial sum of its own where these are many.
  void sum_apart(int64_t all, const std::vector<SumLoop>& loops, int64_t body_terms,
                 const std::function<void()>& body) {
    const auto add_up = [&] { tile_.sum(loops, body_terms, body); };
    if (all <= 2 * kBlockProducts) return add_up();
    apart(b_, tile_.accumulators(), add_up);
  }

  // A convolution, or with `back` its input gradient, by tiles of pixels and all channels of a group; false where these
  // are many, or the window is large.
  bool over_pixels(bool back) {
    // Channels of a group; pixels of a tile. Tiles of eight pixels share more loads, but read so many streams at once
    // (30 for a window of 3 x 3) that images larger than the second-level cache take a third longer.
    constexpr int64_t kFew = 4, kPixels = 4;
    const Shape &from = type(0).shape, &w = type(1).shape, &out = op_->type.shape;
    const int64_t count = out[0] / groups(), terms = from[0] / groups();
    if (!batched_ || count > kFew) return false;
    const Axis rows = back ? spatial(0, out, from, w[2]) : spatial(0, from, out, w[2]);
    const Axis columns = back ? spatial(1, out, from, w[3]) : spatial(1, from, out, w[3]);
    const int64_t most = (l_.options.machine.registers >= 32 ? 16 : 8) / count;
    const std::optional<PixelTiles> tiles = pixel_tiles(columns, back, std::min(most, kPixels), count);
    if (!tiles) return false;
    reads(0, back ? rows.outputs_reading() : rows.inputs_read());
    const int64_t channel_stride = back ? w[2] * w[3] : w[1] * w[2] * w[3];
    over_image_rows(out, [&](const Expr& q, const Expr& y) {
      tiles->each(b_, [&](const Expr& x, std::optional<int64_t> first, int64_t points) {
        over("g", groups(), [&](Expr group) {
          over("s", subs(), [&](Expr sub) {
            tile_.declare(static_cast<int>(count), static_cast<int>(points), lanes());
            const auto row = [&](const Expr& kh, const Expr& other) {
              Expr c;
              sum_apart(
                  terms * w[2] * w[3], {sum_loop("c", terms, 1, [&](const Expr& i) { c = i; })}, w[3], [&] {
                    const Expr term = group * loop::index(terms) + c;
                    const Expr at = b_.let("from", element(type(0), term, other, tiles->base(x)));
                    const Expr weight = b_.let(
                        "weight", back ? weight_index(w, term, loop::index(0), kh, loop::index(0))
                                       : weight_index(w, group * loop::index(count), c, kh, loop::index(0)));
                    multiply_pixels(*tiles, first, points, count, q, sub, at, weight, channel_stride);
                  });
            };
            if (back)
              over_outputs("kh", rows, y, row);
            else
              b_.loop("kh", rows.begin(y), rows.end(y), 1, [&](Expr kh) { row(kh, rows.input(y, kh)); });
            tile_.epilogue([&](int i, int j) {
              return result_point(q, sub,
                                  {group * loop::index(count) + loop::index(i), y, x + loop::index(j)});
            });
          });
        });
      });
    });
    return true;
  }

  // acc[i][j] += w[weight + i * stride + k] * the column that point j accesses at window position k.
  void multiply_pixels(const PixelTiles& tiles, std::optional<int64_t> first, int64_t points, int64_t count,
                       const Expr& q, const Expr& sub, const Expr& from, const Expr& weight, int64_t stride) {
    struct Product {
      int64_t k, j, column;
    };
    std::vector<Product> products;
    for (int64_t k = 0; k < tiles.axis.window; ++k)
      for (int64_t j = 0; j < points; ++j)
        if (const auto column = tiles.inside(first, j, k)) products.push_back({k, j, *column});
    // Column by column where all weights fit in registers, so that a column is needed only briefly.
    if (count * (tiles.axis.window + points) + 2 <= l_.options.machine.registers)
      std::stable_sort(products.begin(), products.end(),
                       [](const Product& a, const Product& b) { return a.column < b.column; });
    std::map<int64_t, Expr> columns;
    std::map<int64_t, std::vector<Expr>> weights;
    const Expr step = element(type(0), loop::index(0), loop::index(0), loop::index(1));
    for (const Product& p : products) {
      Expr& x = columns[p.column];
      if (!x) x = b_.let("x", vector(0, q, from + loop::index(p.column) * step, sub));
      std::vector<Expr>& w = weights[p.k];
      if (w.empty())
        for (int64_t i = 0; i < count; ++i)
          w.push_back(
              b_.let("w", loop::broadcast(scalar(1, weight + loop::index(i * stride + p.k)), lanes())));
      for (int64_t i = 0; i < count; ++i)
        tile_.accumulate(static_cast<int>(i), static_cast<int>(p.j), w[static_cast<size_t>(i)], x);
    }
  }

  // Row, column, channel, sub-vector: every point of a result, one accumulator.
  template <class F>
  void over_points(const Shape& out, F&& body) {
    over_image_rows(out, [&](const Expr& q, const Expr& y) {
      over("x", out[2], [&](Expr x) {
        over("c", out[0], [&](Expr c) { over("s", subs(), [&](Expr sub) { body(c, y, x, q, sub); }); });
      });
    });
  }

  void pool(bool maximal) {
    const Shape &in = type(0).shape, &out = op_->type.shape;
    const auto& window = op_->attributes.integers("window");
    const Axis rows = spatial(0, in, out, window[0]), columns = spatial(1, in, out, window[1]);
    reads(0, rows.inputs_read());
    const auto combined = [&](const Expr& a, const Expr& v) {
      return loop::binary(maximal ? BinaryOp::max : BinaryOp::add, a, v);
    };
    // Small windows that never reach beyond the image need no loops.
    const bool whole = rows.padding == 0 && columns.padding == 0 && window[0] * window[1] <= kUnrolled;
    over_points(out, [&](const Expr& c, const Expr& oy, const Expr& ox, const Expr& q, const Expr& sub) {
      tile_.declare(1, 1, lanes(), maximal ? -std::numeric_limits<double>::infinity() : 0);
      const loop::Variable& acc = tile_.accumulator(0, 0);
      const auto read = [&](const Expr& kh, const Expr& kw) {
        return b_.let("v", vector(0, q, element(type(0), c, rows.input(oy, kh), columns.input(ox, kw)), sub));
      };
      if (whole) {
        Expr value = loop::ref(acc);
        for (int64_t i = 0; i < window[0]; ++i)
          for (int64_t j = 0; j < window[1]; ++j)
            value = combined(value, read(loop::index(i), loop::index(j)));
        b_.assign(acc, value);
      } else {
        Expr kh, kw;
        const auto sums = maximal ? std::vector<loop::Variable*>{} : tile_.accumulators();
        blocked_sum(b_, sums,
                    {{"kh", [&] { return std::pair{rows.begin(oy), rows.end(oy)}; }, 1, window[0],
                      [&](const Expr& k) { kh = k; }},
                     {"kw", [&] { return std::pair{columns.begin(ox), columns.end(ox)}; }, 1, window[1],
                      [&](const Expr& k) { kw = k; }}},
                    kBlockTerms, 1, [&] {
                      const loop::Variable& sum = tile_.accumulator(0, 0);
                      b_.assign(sum, combined(loop::ref(sum), read(kh, kw)));
                    });
      }
      tile_.epilogue([&](int, int) { return result_point(q, sub, {c, oy, ox}); },
                     [&](const Expr& sum) { return maximal ? sum : scaled(sum, window); });
    });
  }

  Expr scaled(const Expr& sum, const std::vector<int64_t>& window) const {
    return sum * loop::constant({float_type(), 1}, 1.0 / static_cast<double>(window[0] * window[1]));
  }

  void average_gradient() {
    const Shape &g = type(0).shape, &out = op_->type.shape;
    const auto& window = op_->attributes.integers("window");
    const Axis rows = spatial(0, out, g, window[0]), columns = spatial(1, out, g, window[1]);
    if (ops::windows_tile_image(*op_)) {
      const auto positions = static_cast<int>(window[0] * window[1]);
      return over_windows(rows, columns, [&](const Expr& gradient, const auto&) {
        const Expr each = b_.let("v", scaled(gradient, window));
        for (int i = 0; i < positions; ++i) b_.assign(tile_.accumulator(i, 0), each);
      });
    }
    reads(0, rows.outputs_reading());
    over_points(out, [&](const Expr& c, const Expr& iy, const Expr& ix, const Expr& q, const Expr& sub) {
      tile_.declare(1, 1, lanes());
      const loop::Variable& acc = tile_.accumulator(0, 0);
      over_outputs("kh", rows, iy, [&](const Expr&, const Expr& oy) {
        over_outputs("kw", columns, ix, [&](const Expr&, const Expr& ox) {
          b_.assign(acc, loop::ref(acc) + b_.let("v", vector(0, q, element(type(0), c, oy, ox), sub)));
        });
      });
      tile_.epilogue([&](int, int) { return result_point(q, sub, {c, iy, ix}); },
                     [&](const Expr& sum) { return scaled(sum, window); });
    });
  }

  // Windows that tile the image: every element of a pooling's gradient is in one window, so it is computed once and the
  // group's epilogue can follow. make(gradient, read) sets an accumulator for each position of a window from the
  // window's gradient; read(operand, position) loads the operand's element there.
  template <class F>
  void over_windows(const Axis& rows, const Axis& columns, F&& make) {
    const Type& g = type(0);
    reads(0, rows_by_chunk(g.shape[1], 1, g.shape[1]));
    reads(1, rows_by_chunk(g.shape[1], rows.stride, op_->type.shape[1]));
    chunk_rows_ = rows.stride;
    over_points(g.shape, [&](const Expr& c, const Expr& oy, const Expr& ox, const Expr& q, const Expr& sub) {
      const auto axes = [&](int position) -> std::vector<Expr> {
        return {c, oy * loop::index(rows.stride) + loop::index(position / columns.window),
                ox * loop::index(columns.stride) + loop::index(position % columns.window)};
      };
      tile_.declare(static_cast<int>(rows.window * columns.window), 1, lanes());
      make(b_.let("left", vector(0, q, element(g, c, oy, ox), sub)), [&](size_t operand, int position) {
        const std::vector<Expr> at = axes(position);
        return vector(operand, q, element(type(operand), at[0], at[1], at[2]), sub);
      });
      tile_.epilogue([&](int i, int) { return result_point(q, sub, axes(i)); });
    });
  }

  void maximum_gradient_tiled(const Axis& rows, const Axis& columns) {
    const auto positions = static_cast<int>(rows.window * columns.window);
    const Expr zero = loop::constant({float_type(), static_cast<uint16_t>(lanes())}, 0);
    over_windows(rows, columns, [&](Expr left, const auto& read) {
      std::vector<Expr> values;
      for (int i = 0; i < positions; ++i) values.push_back(b_.let("v", read(size_t{1}, i)));
      Expr best = values[0];
      for (size_t i = 1; i < values.size(); ++i)
        best = b_.let("best", loop::binary(BinaryOp::max, best, values[i]));
      // The gradient goes to the first position that equals the maximum; of a NaN maximum, to the first NaN.
      for (int i = 0; i < positions; ++i) {
        const Expr& v = values[static_cast<size_t>(i)];
        const Expr here = b_.let("here", loop::binary(BinaryOp::bit_or, loop::compare(CompareOp::eq, v, best),
                                                      loop::compare(CompareOp::ne, v, v)));
        b_.assign(tile_.accumulator(i, 0), loop::select(here, left, zero));
        left = b_.let("left", loop::select(here, zero, left));
      }
    });
  }

  void maximum_gradient() {
    const Shape &g = type(0).shape, &in = type(1).shape;
    const auto& window = op_->attributes.integers("window");
    const Axis rows = spatial(0, in, g, window[0]), columns = spatial(1, in, g, window[1]);
    if (ops::windows_tile_image(*op_)) return maximum_gradient_tiled(rows, columns);
    if (batched_) tile_.partition_panels();  // windows may overlap, so a thread has whole images
    const auto& targets = l_.targets.at(op_);
    GRADC_CHECK(targets.size() == 1 && g_.ops.size() == 1, "overlapping windows carry no epilogue");
    const loop::Buffer result = tile_.kb.buffer(targets[0], true, tile_.own());
    const loop::Type lane_type{float_type(), static_cast<uint16_t>(lanes())};
    const auto place = [&](const Expr& q, const Expr& element, const Expr& sub) {
      if (!batched_) return element;
      return (q * loop::index(op_->type.elements()) + element) * loop::index(kPanel) +
             sub * loop::index(l_.width);
    };
    const auto channel = [&](const Expr& c, const Expr& q) {
      over("y", in[1], [&](Expr y) {
        over("x", in[2], [&](Expr x) {
          over("s", subs(), [&](Expr sub) {
            b_.store(result, place(q, element(op_->type, c, y, x), sub), loop::constant(lane_type, 0));
          });
        });
      });
      over("y", g[1], [&](Expr oy) {
        over("x", g[2], [&](Expr ox) {
          over("s", subs(), [&](Expr sub) {
            const auto each = [&](auto&& body) {
              b_.loop("kh", rows.begin(oy), rows.end(oy), 1, [&](Expr kh) {
                b_.loop("kw", columns.begin(ox), columns.end(ox), 1, [&](Expr kw) {
                  const Expr at = element(type(1), c, rows.input(oy, kh), columns.input(ox, kw));
                  body(at, b_.let("v", vector(1, q, at, sub)));
                });
              });
            };
            const loop::Variable best =
                b_.declare("best", loop::constant(lane_type, -std::numeric_limits<double>::infinity()));
            each([&](const Expr&, const Expr& v) {
              b_.assign(best, loop::binary(BinaryOp::max, loop::ref(best), v));
            });
            // The gradient not yet assigned: all of it goes to the first position that equals the maximum.
            const loop::Variable left = b_.declare("left", vector(0, q, element(type(0), c, oy, ox), sub));
            each([&](const Expr& element, const Expr& v) {
              // A NaN maximum equals nothing; its gradient goes to the first NaN, as PyTorch's does.
              const Expr same =
                  loop::binary(BinaryOp::bit_or, loop::compare(CompareOp::eq, v, loop::ref(best)),
                               loop::compare(CompareOp::ne, v, v));
              const Expr here = b_.let("here", same);
              const Expr zero = loop::constant(lane_type, 0);
              const Expr at = b_.let("at", place(q, element, sub));
              b_.store(result, at,
                       loop::load(result, at, lanes()) + loop::select(here, loop::ref(left), zero));
              b_.assign(left, loop::select(here, zero, loop::ref(left)));
            });
          });
        });
      });
    };
    const auto image = [&](const Expr& q) { over("c", in[0], [&](Expr c) { channel(c, q); }); };
    if (batched_)
      tile_.over_panels([&](const Expr& q, const Expr&) { image(q); });
    else
      b_.if_then(loop::compare(CompareOp::lt, tile_.lo(), tile_.hi()), [&] { image(loop::index(0)); });
  }

  // Declares the rows of an operand that each row of the result reads; must be called before any is read.
  void reads(size_t operand, std::vector<RowRange> rows) {
    if (batched_) read_rows_[operand] = std::move(rows);
  }

  Lowering& l_;
  const KernelGroup& g_;
  const Op* op_;
  Tile tile_;
  std::vector<RowRange> read_rows_[2];
  int64_t chunk_rows_ = 1;  // of the result's images
  loop::Builder& b_;
  bool batched_;  // else one image, computed by scalar loops
};

}  // namespace

Axis spatial_axis(const Op* op, size_t axis, const Shape& in, const Shape& out, int64_t window) {
  const auto attribute = [&](const char* name, int64_t missing) {
    return op->attributes.has(name) ? op->attributes.integers(name)[axis] : missing;
  };
  return {in[in.size() - 2 + axis], out[out.size() - 2 + axis], window,
          attribute("stride", 1),   attribute("padding", 0),    attribute("dilation", 1)};
}

int64_t group_count(const Op* op) {
  return op->attributes.has("groups") ? op->attributes.integer("groups") : 1;
}

void lower_window(Lowering& lowering, const KernelGroup& group) {
  const Op* op = group.ops.front();
  const LoopNest nest = op->def->loop_nest;
  const bool convolution = nest == LoopNest::convolution || nest == LoopNest::convolution_input_grad;
  if (const int m = convolution ? winograd_tile(lowering, op) : 0)
    lower_winograd(lowering, group, m);
  else
    Window(lowering, group).run();
}

}  // namespace gradc::passes::lowering
