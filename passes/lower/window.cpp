// Lowers convolutions and pooling: sums (or maxima) over windows, the batch in the lanes, so that every
// channel count, stride, padding, dilation and group count runs on whole vectors and padding costs nothing
// (loops run over the window positions inside the image).
//
//   conv2d           for o tile of 8, for y, x, panel:  acc[8][2] += broadcast(w[o + i][c][kh][kw]) *
//   X[c][iy][ix][lanes] conv2d_input_grad  the same, gathering: tile over input channels, window positions
//   whose output exists conv2d_weight_grad for o tile of 4, for c tile of 4, for kh, kw:  acc[4][4] += dY[o +
//   i][y][x][lanes] * X[c + j][iy][ix][lanes];
//                      then the lanes are added; lanes past the last row are masked
//   max_pool2d, avg_pool2d, avg_pool2d_grad  one accumulator a point
//   max_pool2d_grad  the gradient goes to the first maximum of each window: zero, then add under a mask,
//   window by window
#include <limits>

#include "passes/lower/lowering.h"
#include "passes/lower/tile.h"
#include "support/check.h"

namespace gradc::passes::lowering {

namespace {

using loop::BinaryOp;
using loop::CompareOp;
using loop::Expr;

Expr minimum(const Expr& a, const Expr& b) { return loop::binary(BinaryOp::min, a, b); }
Expr maximum(const Expr& a, const Expr& b) { return loop::binary(BinaryOp::max, a, b); }
Expr at_least_0(const Expr& a) { return maximum(a, loop::index(0)); }

// One spatial axis of a window operation: in(put) i, out(put) o and window k positions with i = o * stride +
// k * dilation - padding.
struct Axis {
  int64_t in, out, window, stride, padding, dilation;

  // Window positions that fall inside the input for output position o.
  Expr begin(const Expr& o) const {
    return at_least_0(loop::index(padding + dilation - 1) - o * loop::index(stride)) / loop::index(dilation);
  }
  Expr end(const Expr& o) const {
    return minimum(loop::index(window),
                   at_least_0(loop::index(in - 1 + padding + dilation) - o * loop::index(stride)) /
                       loop::index(dilation));
  }
  Expr input(const Expr& o, const Expr& k) const {
    return o * loop::index(stride) + k * loop::index(dilation) - loop::index(padding);
  }
  // Output positions for which window position k falls inside the input.
  Expr out_begin(const Expr& k) const {
    return at_least_0(loop::index(padding + stride - 1) - k * loop::index(dilation)) / loop::index(stride);
  }
  Expr out_end(const Expr& k) const {
    return minimum(
        loop::index(out),
        at_least_0(loop::index(in - 1 + padding + stride) - k * loop::index(dilation)) / loop::index(stride));
  }
};

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
    if (op_->is("conv2d"))
      convolve();
    else if (op_->is("conv2d_input_grad"))
      input_gradient();
    else if (op_->is("conv2d_weight_grad"))
      weight_gradient();
    else if (op_->is("max_pool2d"))
      pool(true);
    else if (op_->is("avg_pool2d"))
      pool(false);
    else if (op_->is("avg_pool2d_grad"))
      average_gradient();
    else if (op_->is("max_pool2d_grad"))
      maximum_gradient();
    else
      internal_error(__FILE__, __LINE__, "no lowering for " + op_->name());
    tile_.finish();
  }

 private:
  int64_t attribute(const char* name, size_t axis, int64_t missing) const {
    return op_->attributes.has(name) ? op_->attributes.integers(name)[axis] : missing;
  }
  // in, out, window: shapes of rank >= 2 whose last two extents are spatial.
  Axis spatial(size_t axis, const Shape& in, const Shape& out, int64_t window) const {
    return {in[in.size() - 2 + axis],     out[out.size() - 2 + axis],    window,
            attribute("stride", axis, 1), attribute("padding", axis, 0), attribute("dilation", axis, 1)};
  }
  int64_t groups() const { return op_->attributes.has("groups") ? op_->attributes.integer("groups") : 1; }
  loop::Scalar float_type() const { return scalar_of(op_->type.dtype); }
  const Type& type(size_t operand) const { return op_->operands[operand]->type; }

  // Two vectors of a panel at an element of a batched operand.
  Expr vector(size_t operand, const Expr& panel, const Expr& element, const Expr& sub) {
    const loop::Buffer buffer =
        tile_.kb.buffer(l_.storage(op_->operands[operand]).allocation, false,
                        tile_.own() == Reach::own_panels ? Reach::own_panels : Reach::anything);
    if (!batched_) return loop::load(buffer, element);
    return loop::load(buffer,
                      (panel * loop::index(type(operand).elements()) + element) * loop::index(kPanel) +
                          sub * loop::index(l_.width),
                      l_.width);
  }
  Expr scalar(size_t operand, const Expr& element) {
    return loop::load(tile_.kb.buffer(l_.storage(op_->operands[operand]).allocation, false, Reach::anything),
                      element);
  }
  static Expr linear(const Shape& s, const Expr& c, const Expr& y, const Expr& x) {
    return (c * loop::index(s[1]) + y) * loop::index(s[2]) + x;
  }
  template <class F>
  void over(const char* name, int64_t extent, F&& body) {
    b_.loop(name, loop::index(0), loop::index(extent), 1, body);
  }
  // Once, by the first thread, when there is no batch.
  template <class F>
  void over_panels(F&& body) {
    if (!batched_)
      return b_.if_then(loop::compare(CompareOp::lt, tile_.lo(), tile_.hi()), [&] { body(loop::index(0)); });
    const bool split = tile_.own() == Reach::own_panels;
    b_.loop("q", split ? tile_.lo() : loop::index(0), split ? tile_.hi() : loop::ref(b_.predefined().panels),
            1, body);
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

  // Runs tile(q, group, first channel within the group, channels, y, x) over a batched result of shape
  // [channels, height, width].
  template <class F>
  void over_result(const Shape& out, F&& tile) {
    const int64_t per_group = out[0] / groups();
    if (batched_ && groups() == 1)
      tile_.partition_batched();
    else if (batched_)
      tile_.partition_panels();
    const auto inside = [&](const Expr& q, const Expr& group, const Expr& first, int count) {
      over("y", out[1],
           [&](Expr y) { over("x", out[2], [&](Expr x) { tile(q, group, first, count, y, x); }); });
    };
    if (tile_.splits_axis0()) {
      tile_.over_rows("o", out[0], true, [&](Expr first, int count) {
        over_panels([&](Expr q) { inside(q, loop::index(0), first, count); });
      });
      return;
    }
    over_panels([&](Expr q) {
      over("g", groups(), [&](Expr group) {
        tile_.over_rows("o", per_group, false,
                        [&](Expr first, int count) { inside(q, group, first, count); });
      });
    });
  }

  int lanes() const { return batched_ ? l_.width : 1; }
  int subs() const { return batched_ ? static_cast<int>(kPanel / l_.width) : 1; }

  void convolve() {
    const Shape &x = type(0).shape, &w = type(1).shape, &out = op_->type.shape;
    const Axis rows = spatial(0, x, out, w[2]), columns = spatial(1, x, out, w[3]);
    over_result(out, [&](const Expr& q, const Expr& group, const Expr& first, int count, const Expr& oy,
                         const Expr& ox) {
      const Expr o = group * loop::index(out[0] / groups()) + first;
      tile_.declare(count, subs(), lanes());
      over("c", w[1], [&](Expr c) {
        b_.loop("kh", rows.begin(oy), rows.end(oy), 1, [&](Expr kh) {
          b_.loop("kw", columns.begin(ox), columns.end(ox), 1, [&](Expr kw) {
            const Expr from =
                linear(x, group * loop::index(w[1]) + c, rows.input(oy, kh), columns.input(ox, kw));
            const Expr weight = (linear(w, o, c, kh))*loop::index(w[3]) + kw;
            multiply(q, 0, from, 1, weight, w[1] * w[2] * w[3], count);
          });
        });
      });
      finish_tile(q, o, count, oy, ox);
    });
  }

  // acc[i][j] += broadcast(w[weight + i * stride]) * x[element][j]
  void multiply(const Expr& q, size_t lanes_operand, const Expr& element, size_t scalar_operand,
                const Expr& weight, int64_t stride, int count) {
    std::vector<Expr> shared;
    for (int j = 0; j < subs(); ++j)
      shared.push_back(b_.let("b", vector(lanes_operand, q, element, loop::index(j))));
    for (int i = 0; i < count; ++i) {
      const Expr a =
          b_.let("a", loop::broadcast(scalar(scalar_operand, weight + loop::index(i * stride)), lanes()));
      for (int j = 0; j < subs(); ++j) tile_.accumulate(i, j, a, shared[static_cast<size_t>(j)]);
    }
  }

  void finish_tile(const Expr& q, const Expr& channel, int, const Expr& y, const Expr& x) {
    tile_.epilogue(
        [&](int i, int j) { return result_point(q, loop::index(j), {channel + loop::index(i), y, x}); });
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
    over_result(out, [&](const Expr& q, const Expr& group, const Expr& first, int count, const Expr& iy,
                         const Expr& ix) {
      tile_.declare(count, subs(), lanes());
      over("o", outputs, [&](Expr within) {
        const Expr o = group * loop::index(outputs) + within;
        over_outputs("kh", rows, iy, [&](const Expr& kh, const Expr& oy) {
          over_outputs("kw", columns, ix, [&](const Expr& kw, const Expr& ox) {
            multiply(q, 0, linear(g, o, oy, ox), 1, linear(w, o, first, kh) * loop::index(w[3]) + kw,
                     w[2] * w[3], count);
          });
        });
      });
      finish_tile(q, group * loop::index(out[0] / groups()) + first, count, iy, ix);
    });
  }

  void weight_gradient() {
    constexpr int kRows = 4, kColumns = 4;
    const Shape &g = type(0).shape, &x = type(1).shape, &out = op_->type.shape;
    const Axis rows = spatial(0, x, g, out[2]), columns = spatial(1, x, g, out[3]);
    const int64_t per_group = out[0] / groups();
    const bool split = per_group % kRows == 0 || groups() == 1;
    tile_.partition_axis0(out[0], split ? kRows : 1);
    const auto tile = [&](const Expr& o, int count, const Expr& c, int wide) {
      const Expr group = loop::index(0) + o / loop::index(per_group);
      over("kh", out[2], [&](Expr kh) {
        over("kw", out[3], [&](Expr kw) {
          tile_.declare(count, wide, lanes());
          b_.loop("q", loop::index(0), batched_ ? loop::ref(b_.predefined().panels) : loop::index(1), 1,
                  [&](Expr q) {
                    for (int sub = 0; sub < subs(); ++sub) {
                      const Expr exists = batched_ ? existing_lanes(q, sub) : nullptr;
                      const Expr zero = loop::constant({float_type(), static_cast<uint16_t>(lanes())}, 0);
                      b_.loop("y", rows.out_begin(kh), rows.out_end(kh), 1, [&](Expr oy) {
                        b_.loop("x", columns.out_begin(kw), columns.out_end(kw), 1, [&](Expr ox) {
                          std::vector<Expr> image;
                          for (int j = 0; j < wide; ++j)
                            image.push_back(
                                b_.let("b", vector(1, q,
                                                   linear(x, group * loop::index(out[1]) + c + loop::index(j),
                                                          rows.input(oy, kh), columns.input(ox, kw)),
                                                   loop::index(sub))));
                          for (int i = 0; i < count; ++i) {
                            const Expr dy =
                                vector(0, q, linear(g, o + loop::index(i), oy, ox), loop::index(sub));
                            const Expr a = b_.let("a", exists ? loop::select(exists, dy, zero) : dy);
                            for (int j = 0; j < wide; ++j)
                              tile_.accumulate(i, j, a, image[static_cast<size_t>(j)]);
                          }
                        });
                      });
                    }
                  });
          tile_.epilogue(
              [&](int i, int j) {
                Point p;
                p.axes = {o + loop::index(i), c + loop::index(j), kh, kw};
                return p;
              },
              [&](const Expr& sum) { return batched_ ? loop::reduce(BinaryOp::add, sum) : sum; });
        });
      });
    };
    const auto over_channels = [&](const Expr& o, int count) {
      const int64_t full = out[1] / kColumns * kColumns;
      b_.loop("c", loop::index(0), loop::index(full), kColumns, [&](Expr c) { tile(o, count, c, kColumns); });
      if (full != out[1]) tile(o, count, loop::index(full), static_cast<int>(out[1] - full));
    };
    if (!split) {
      b_.loop("o", tile_.lo(), tile_.hi(), 1, [&](Expr o) { over_channels(o, 1); });
      return;
    }
    const int64_t full = out[0] / kRows * kRows;
    b_.loop("o", tile_.lo(), minimum(tile_.hi(), loop::index(full)), kRows,
            [&](Expr o) { over_channels(o, kRows); });
    if (full != out[0])
      b_.if_then(
          loop::binary(BinaryOp::bit_and, loop::compare(CompareOp::eq, tile_.hi(), loop::index(out[0])),
                       loop::compare(CompareOp::lt, tile_.lo(), tile_.hi())),
          [&] { over_channels(loop::index(full), static_cast<int>(out[0] - full)); });
  }

  Expr existing_lanes(const Expr& q, int sub) {
    const Expr row = loop::cast(loop::Scalar::i32, q * loop::index(kPanel) + loop::index(sub * l_.width));
    const Expr rows = loop::cast(loop::Scalar::i32, loop::ref(b_.predefined().rows));
    return b_.let(
        "lanes", loop::compare(CompareOp::lt, loop::ramp(row, 1, l_.width), loop::broadcast(rows, l_.width)));
  }

  // Channel, row, column, panel, sub-vector: every point of a batched result, one accumulator.
  template <class F>
  void over_points(const Shape& out, F&& body) {
    if (batched_) tile_.partition_batched();
    const auto inside = [&](const Expr& c, const Expr& q) {
      over("y", out[1], [&](Expr y) {
        over("x", out[2], [&](Expr x) { over("s", subs(), [&](Expr sub) { body(c, y, x, q, sub); }); });
      });
    };
    if (tile_.splits_axis0())
      b_.loop("c", tile_.lo(), tile_.hi(), 1, [&](Expr c) { over_panels([&](Expr q) { inside(c, q); }); });
    else
      over_panels([&](Expr q) { over("c", out[0], [&](Expr c) { inside(c, q); }); });
  }

  void pool(bool maximal) {
    const Shape &in = type(0).shape, &out = op_->type.shape;
    const auto& window = op_->attributes.integers("window");
    const Axis rows = spatial(0, in, out, window[0]), columns = spatial(1, in, out, window[1]);
    over_points(out, [&](const Expr& c, const Expr& oy, const Expr& ox, const Expr& q, const Expr& sub) {
      tile_.declare(1, 1, lanes(), maximal ? -std::numeric_limits<double>::infinity() : 0);
      const loop::Variable& acc = tile_.accumulator(0, 0);
      b_.loop("kh", rows.begin(oy), rows.end(oy), 1, [&](Expr kh) {
        b_.loop("kw", columns.begin(ox), columns.end(ox), 1, [&](Expr kw) {
          const Expr v =
              b_.let("v", vector(0, q, linear(in, c, rows.input(oy, kh), columns.input(ox, kw)), sub));
          b_.assign(acc, loop::binary(maximal ? BinaryOp::max : BinaryOp::add, loop::ref(acc), v));
        });
      });
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
    over_points(out, [&](const Expr& c, const Expr& iy, const Expr& ix, const Expr& q, const Expr& sub) {
      tile_.declare(1, 1, lanes());
      const loop::Variable& acc = tile_.accumulator(0, 0);
      over_outputs("kh", rows, iy, [&](const Expr&, const Expr& oy) {
        over_outputs("kw", columns, ix, [&](const Expr&, const Expr& ox) {
          b_.assign(acc, loop::ref(acc) + b_.let("v", vector(0, q, linear(g, c, oy, ox), sub)));
        });
      });
      tile_.epilogue([&](int, int) { return result_point(q, sub, {c, iy, ix}); },
                     [&](const Expr& sum) { return scaled(sum, window); });
    });
  }

  void maximum_gradient() {
    const Shape &g = type(0).shape, &in = type(1).shape;
    const auto& window = op_->attributes.integers("window");
    const Axis rows = spatial(0, in, g, window[0]), columns = spatial(1, in, g, window[1]);
    if (batched_) tile_.partition_batched();
    const auto& targets = l_.targets.at(op_);
    GRADC_CHECK(targets.size() == 1 && g_.ops.size() == 1, "max_pool2d_grad carries no epilogue");
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
            b_.store(result, place(q, linear(in, c, y, x), sub), loop::constant(lane_type, 0));
          });
        });
      });
      over("y", g[1], [&](Expr oy) {
        over("x", g[2], [&](Expr ox) {
          over("s", subs(), [&](Expr sub) {
            const auto each = [&](auto&& body) {
              b_.loop("kh", rows.begin(oy), rows.end(oy), 1, [&](Expr kh) {
                b_.loop("kw", columns.begin(ox), columns.end(ox), 1, [&](Expr kw) {
                  const Expr element = linear(in, c, rows.input(oy, kh), columns.input(ox, kw));
                  body(element, b_.let("v", vector(1, q, element, sub)));
                });
              });
            };
            const loop::Variable best =
                b_.declare("best", loop::constant(lane_type, -std::numeric_limits<double>::infinity()));
            each([&](const Expr&, const Expr& v) {
              b_.assign(best, loop::binary(BinaryOp::max, loop::ref(best), v));
            });
            // What is left of the gradient: it goes to the first position that equals the maximum, then
            // nothing is left.
            const loop::Variable left = b_.declare("left", vector(0, q, linear(g, c, oy, ox), sub));
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
    if (tile_.splits_axis0())
      b_.loop("c", tile_.lo(), tile_.hi(), 1, [&](Expr c) { over_panels([&](Expr q) { channel(c, q); }); });
    else
      over_panels([&](Expr q) { over("c", in[0], [&](Expr c) { channel(c, q); }); });
  }

  Lowering& l_;
  const KernelGroup& g_;
  const Op* op_;
  Tile tile_;
  loop::Builder& b_;
  bool batched_;  // else one image, computed by scalar loops
};

}  // namespace

void lower_window(Lowering& lowering, const KernelGroup& group) { Window(lowering, group).run(); }

}  // namespace gradc::passes::lowering
