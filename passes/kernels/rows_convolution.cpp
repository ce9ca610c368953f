// Lowers convolutions of images whose pixels are rows (ir/ops/conv2d_rows.cpp), and the changes of layout around them
// (ir/ops/pixels.cpp). A panel is 32 pixels of the result, so vectors are full for a batch of one.
//
// Forward and input gradient: what a panel reads is collected in scratch memory, with a line for each channel, and the
// product reads a vector of pixels and a scalar of the kernel:
//   for panel:
//     for c, for ky:  lines[ky][c] = the rows of x from the first to the last that some tap of this row of taps reads
//     for o tile of 8:  acc[8][2] = 0
//       for ky, kx:  mask = pixels whose tap is within the image
//         for c:  x[j] = lines[ky][c][pixels + kx], masked;  acc[i][j] += broadcast(w[o + i][c][ky][kx]) * x[j]
// A tap is at one distance in rows for all pixels where the image and the result are of one size. Else, as with a
// stride, each tap has lines of its own, gathered; so it has, masked once instead of in each product, on machines without
// mask registers.
//
// Weight gradient: the channels of x are in the lanes, which its copy by rows has one after the other:
//   for o tile of 8, for c block of 2 vectors, for ky, kx:  acc[8][2] = 0
//     for example, y, x whose tap is within the image:
//       acc[i][j] += broadcast(g[row][o + i]) * x[row of the tap][c + j]
// Sums are in the order of their loops, in blocks (blocked_sum.h), for any number of threads.
#include <algorithm>
#include <array>
#include <functional>

#include "ir/ops/convolution.h"
#include "passes/kernels/lowering.h"
#include "passes/kernels/tile.h"
#include "support/check.h"

namespace gradc::passes::lowering {

namespace {

using loop::BinaryOp;
using loop::CompareOp;
using loop::Expr;

// The pixel that a tap k of the result's pixel p reads, along one axis: (p step + first + k each) / spread, where that
// is whole and within the source.
struct AxisMap {
  int64_t source, result;  // extents
  int64_t taps, step, first, each, spread;
};

using Maps = std::array<AxisMap, 2>;  // of the height, of the width

Maps maps_of(const Op& op) {
  const Attributes& a = op.attributes;
  const auto& image = a.integers("image");
  Maps maps;
  if (op.def->loop_nest == LoopNest::move_pixels) {
    for (size_t i = 0; i < 2; ++i)
      maps[i] = {image[i], a.integers("result")[i], 1, a.integers("step")[i], a.integers("first")[i],
                 0,        a.integers("spread")[i]};
    return maps;
  }
  const Shape& kernel = op.operands[1]->type.shape;
  const ops::Convolution g = ops::convolution(a, {kernel[1], image[0], image[1]}, kernel);
  const ops::Window& w = g.window;
  const int64_t x[2] = {g.h, g.w}, y[2] = {g.oh, g.ow};
  for (size_t i = 0; i < 2; ++i)
    maps[i] = op.def->loop_nest == LoopNest::rows_convolution
                  ? AxisMap{x[i], y[i], w.window[i], w.stride[i], -w.padding[i], w.dilation[i], 1}
                  : AxisMap{y[i], x[i], w.window[i], 1, w.padding[i], -w.dilation[i], w.stride[i]};
  return maps;
}

int64_t floor_quotient(int64_t a, int64_t b) { return (a < 0 ? a - b + 1 : a) / b; }

// The rows of a vector of the result's pixels.
class Pixels {
 public:
  Pixels(KernelBuilder& kb, const Maps& maps, int width)
      : b_(kb.b), maps_(maps), width_(width), rows_(kb.kernel.rows) {}

  // Those of vector `sub` of a panel.
  void at(const Expr& panel, const Expr& sub) {
    const Expr first = panel * loop::index(kPanel) + sub * loop::index(width_);
    const Expr row = b_.let("row", loop::ramp(first, 1, width_));
    const Expr examples = loop::ref(b_.predefined().rows) / loop::index(rows_);
    // Lanes past the last row read the last example's pixels.
    example_ = b_.let("example", loop::binary(BinaryOp::min, row / number(rows_),
                                              loop::broadcast(examples - loop::index(1), width_)));
    const Expr pixel = b_.let("pixel", loop::binary(BinaryOp::rem, row, number(rows_)));
    place_[0] = b_.let("y", pixel / number(maps_[1].result));
    place_[1] = b_.let("x", loop::binary(BinaryOp::rem, pixel, number(maps_[1].result)));
  }

  // Whether the tap's pixel exists.
  Expr exists(const Expr& ky, const Expr& kx) const {
    return b_.let("exists",
                  loop::binary(BinaryOp::bit_and, within(0, scaled(0, ky)), within(1, scaled(1, kx))));
  }

  // The index in panels of `channels` elements a row of the tap's pixel, or of another of its image where that does not
  // exist.
  Expr address(const Expr& ky, const Expr& kx, int64_t channels) const {
    const Expr taps[2] = {ky, kx};
    Expr place[2];
    for (size_t i = 0; i < 2; ++i) {
      const Expr v = b_.let("v", scaled(i, taps[i]));
      const Expr whole =
          loop::binary(BinaryOp::min, loop::binary(BinaryOp::max, v, number(0)) / number(maps_[i].spread),
                       number(maps_[i].source - 1));
      place[i] = b_.let("place", loop::select(b_.let("in", within(i, v)), whole, number(0)));
    }
    const int64_t pixels = maps_[0].source * maps_[1].source;
    const Expr row =
        b_.let("from", example_ * number(pixels) + place[0] * number(maps_[1].source) + place[1]);
    return b_.let("at", row / number(kPanel) * number(channels * kPanel) +
                            loop::binary(BinaryOp::rem, row, number(kPanel)));
  }

 private:
  Expr number(int64_t v) const { return loop::broadcast(loop::index(v), width_); }
  Expr scaled(size_t i, const Expr& tap) const {
    const AxisMap& m = maps_[i];
    return place_[i] * number(m.step) +
           loop::broadcast(loop::index(m.first) + tap * loop::index(m.each), width_);
  }

  // Whether v, as scaled() gives it, is of a pixel of the source.
  Expr within(size_t i, const Expr& v) const {
    const AxisMap& m = maps_[i];
    const Expr inside = loop::binary(BinaryOp::bit_and, loop::compare(CompareOp::ge, v, number(0)),
                                     loop::compare(CompareOp::lt, v, number(m.source * m.spread)));
    if (m.spread == 1) return inside;
    const Expr rest =
        loop::binary(BinaryOp::rem, loop::binary(BinaryOp::max, v, number(0)), number(m.spread));
    return loop::binary(BinaryOp::bit_and, inside, loop::compare(CompareOp::eq, rest, number(0)));
  }

  loop::Builder& b_;
  const Maps& maps_;
  const int width_;
  const int64_t rows_;  // of an example of the result
  Expr example_, place_[2];
};

class RowsProducts {
 public:
  RowsProducts(Lowering& l, const KernelGroup& g)
      : l_(l),
        op_(g.ops.front()),
        tile_(l, g),
        b_(tile_.kb.b),
        maps_(maps_of(*op_)),
        channels_(op_->operands[0]->type.shape[0]),
        result_(op_->type.shape[0]),
        width_(l.width),
        vectors_(tile_vectors(l.width)) {
    tile_.kb.kernel.rows = op_->type.rows;
    tile_.partition_panels();
    if (is_shift()) lines_ = scratch("lines", maps_[0].taps * channels_ * line());
    if (!masks_products()) taps_ = scratch("taps", maps_[0].taps * maps_[1].taps * channels_ * kPanel);
  }

  void run() {
    const loop::Buffer source =
        tile_.kb.buffer(l_.storage(op_->operands[0]).allocation, false, AccessScope::anything);
    Pixels pixels(tile_.kb, maps_, width_);
    b_.loop("q", tile_.lo(), tile_.hi(), 1, [&](Expr q) {
      if (is_shift()) copy_lines(source, q);
      if (!masks_products()) collect_taps(source, q, pixels);
      b_.loop("s", loop::index(0), loop::index(kPanel / width_), vectors_, [&](Expr s) {
        std::vector<Pixels> of_vector(static_cast<size_t>(vectors_), pixels);
        if (masks_products())
          for (int j = 0; j < vectors_; ++j) of_vector[static_cast<size_t>(j)].at(q, s + loop::index(j));
        tile_.over_rows("o", result_, false, [&](Expr o, int count) { tile(q, s, o, count, of_vector); });
      });
    });
    tile_.finish();
  }

 private:
  // Whether each tap is at one distance in rows for all pixels.
  bool is_shift() const {
    return std::all_of(maps_.begin(), maps_.end(),
                       [](const AxisMap& m) { return m.step == 1 && m.spread == 1 && m.source == m.result; });
  }
  // Whether products read lines that taps share, through masks.
  bool masks_products() const { return is_shift() && l_.options.machine.registers >= 32; }
  loop::Buffer scratch(const char* what, int64_t elements) {
    const int a = l_.new_scratch(fmt::format("k{} {}", op_->kernel, what), scalar_of(op_->type.dtype),
                                 elements, tile_.scratch);
    tile_.kb.declare_written(a);
    return tile_.kb.buffer(a, true, AccessScope::anything);
  }
  // The least distance along the width of a tap, and by how much the greatest exceeds it.
  int64_t least() const { return maps_[1].first + std::min<int64_t>(0, (maps_[1].taps - 1) * maps_[1].each); }
  int64_t span() const { return (maps_[1].taps - 1) * std::abs(maps_[1].each); }
  // Elements of a line: a vector that begins before the first, the panel's, and whole vectors to the last.
  int64_t line() const { return width_ + (kPanel + span() + 2 * width_ - 1) / width_ * width_; }

  void copy_lines(const loop::Buffer& source, const Expr& q) {
    const int64_t in_panel = kPanel / width_;
    const Expr panels = loop::ref(b_.predefined().panels);
    b_.loop("c", loop::index(0), loop::index(channels_), 1, [&](Expr c) {
      for (int64_t ky = 0; ky < maps_[0].taps; ++ky) {
        const int64_t begin = (maps_[0].first + ky * maps_[0].each) * maps_[1].source + least();
        const int64_t vector = floor_quotient(begin, width_), inside = begin - vector * width_;
        for (int64_t i = 0; i * width_ < inside + kPanel + span(); ++i) {
          const int64_t panel = floor_quotient(vector + i, in_panel), sub = vector + i - panel * in_panel;
          Expr from = q + loop::index(panel);
          if (panel < 0) from = loop::binary(BinaryOp::max, from, loop::index(0));
          if (panel > 0) from = loop::binary(BinaryOp::min, from, panels - loop::index(1));
          const Expr at =
              (from * loop::index(channels_) + c) * loop::index(kPanel) + loop::index(sub * width_);
          b_.store(lines_,
                   (loop::index(ky * channels_) + c) * loop::index(line()) +
                       loop::index(width_ + i * width_ - inside),
                   b_.let("x", loop::load(source, at, width_)));
        }
      }
    });
  }

  // The first pixel of a tap in a channel's line.
  Expr in_line(const Expr& ky, const Expr& kx, const Expr& c) const {
    return (ky * loop::index(channels_) + c) * loop::index(line()) + kx * loop::index(maps_[1].each) +
           loop::index(maps_[1].first - least() + width_);
  }
  Expr in_taps(const Expr& ky, const Expr& kx, const Expr& c) const {
    return ((ky * loop::index(maps_[1].taps) + kx) * loop::index(channels_) + c) * loop::index(kPanel);
  }

  void collect_taps(const loop::Buffer& source, const Expr& q, Pixels& pixels) {
    const loop::Type type{scalar_of(op_->type.dtype), static_cast<uint16_t>(width_)};
    b_.loop("s", loop::index(0), loop::index(kPanel / width_), 1, [&](Expr s) {
      pixels.at(q, s);
      b_.loop("ky", loop::index(0), loop::index(maps_[0].taps), 1, [&](Expr ky) {
        b_.loop("kx", loop::index(0), loop::index(maps_[1].taps), 1, [&](Expr kx) {
          const Expr exists = pixels.exists(ky, kx);
          const Expr at = is_shift() ? nullptr : pixels.address(ky, kx, channels_);
          b_.loop("c", loop::index(0), loop::index(channels_), 1, [&](Expr c) {
            const Expr v =
                is_shift()
                    ? loop::load(lines_, in_line(ky, kx, c) + s * loop::index(width_), width_, exists)
                    : loop::select(
                          exists,
                          b_.let("x",
                                 loop::gather(source, at + loop::broadcast(c * loop::index(kPanel), width_))),
                          loop::constant(type, 0));
            b_.store(taps_, in_taps(ky, kx, c) + s * loop::index(width_), b_.let("v", v));
          });
        });
      });
    });
  }

  void tile(const Expr& q, const Expr& s, const Expr& o, int count, const std::vector<Pixels>& of_vector) {
    const loop::Buffer w =
        tile_.kb.buffer(l_.storage(op_->operands[1]).allocation, false, AccessScope::anything);
    const bool forward = op_->def->loop_nest == LoopNest::rows_convolution;
    const int64_t taps = maps_[0].taps * maps_[1].taps;
    const int64_t inner = op_->operands[1]->type.shape[1];
    tile_.declare(count, vectors_, width_);
    Expr ky, kx, c;
    std::vector<Expr> masks(static_cast<size_t>(vectors_));
    std::vector<SumLoop> sum;
    sum.push_back(sum_loop("ky", maps_[0].taps, 1, [&](const Expr& i) { ky = i; }));
    sum.push_back(sum_loop("kx", maps_[1].taps, 1, [&](const Expr& i) {
      kx = i;
      if (masks_products())
        for (size_t j = 0; j < masks.size(); ++j) masks[j] = of_vector[j].exists(ky, kx);
    }));
    sum.push_back(sum_loop("c", channels_, 1, [&](const Expr& i) { c = i; }));
    tile_.sum(std::move(sum), 1, [&] {
      const loop::Buffer& from = masks_products() ? lines_ : taps_;
      const Expr first = masks_products() ? in_line(ky, kx, c) : in_taps(ky, kx, c);
      std::vector<Expr> x;
      for (int j = 0; j < vectors_; ++j)
        x.push_back(b_.let("b", loop::load(from, first + (s + loop::index(j)) * loop::index(width_), width_,
                                           masks[static_cast<size_t>(j)])));
      const Expr tap = ky * loop::index(maps_[1].taps) + kx;
      for (int i = 0; i < count; ++i) {
        const Expr row = o + loop::index(i);
        const Expr element = forward ? row * loop::index(inner) + c : c * loop::index(inner) + row;
        const Expr a = b_.let("a", loop::broadcast(loop::load(w, element * loop::index(taps) + tap), width_));
        for (int j = 0; j < vectors_; ++j) tile_.accumulate(i, j, a, x[static_cast<size_t>(j)]);
      }
    });
    tile_.epilogue([&](int i, int j) {
      Point p;
      p.batched = true;
      p.lanes = width_;
      p.panel = q;
      p.sub = s + loop::index(j);
      p.axes = {o + loop::index(i)};
      return p;
    });
  }

  Lowering& l_;
  const Op* op_;
  Tile tile_;
  loop::Builder& b_;
  const Maps maps_;
  const int64_t channels_, result_;  // of the source, of the result
  const int width_, vectors_;
  loop::Buffer lines_, taps_;
};

class RowsWeightGradient {
 public:
  RowsWeightGradient(Lowering& l, const KernelGroup& g)
      : l_(l),
        op_(g.ops.front()),
        tile_(l, g),
        b_(tile_.kb.b),
        g_(ops::convolution(
            op_->attributes,
            {op_->type.shape[1], op_->attributes.integers("image")[0], op_->attributes.integers("image")[1]},
            op_->type.shape)),
        taps_(g_.window.window[0] * g_.window.window[1]),
        padded_((g_.c + l.width - 1) / l.width * l.width) {}

  void run() {
    const int registers = l_.options.machine.registers;
    const int unit = even_rows(registers);
    tile_.partition_axis0(g_.o, unit);
    const int a = l_.new_scratch(fmt::format("k{} sums", op_->kernel), scalar_of(op_->type.dtype),
                                 short_axis(registers) * taps_ * padded_, tile_.scratch);
    tile_.kb.declare_written(a);
    sums_ = tile_.kb.buffer(a, true, AccessScope::anything);
    tile_.over_blocks("o", g_.o, true, unit, [&](const Expr& first, int64_t rows) {
      in_tiles(first, rows, registers, [&](const Expr& o, int count) {
        blocks(o, count);
        store(o, count);
      });
    });
    tile_.finish();
  }

 private:
  void blocks(const Expr& o, int count) {
    const int64_t block = 2 * l_.width, full = g_.c / block * block, rest = g_.c - full;
    if (full)
      b_.loop("c", loop::index(0), loop::index(full), block, [&](Expr c) { taps(o, count, c, 2, l_.width); });
    if (rest == 0) return;
    const int vectors = static_cast<int>((rest + l_.width - 1) / l_.width);
    taps(o, count, loop::index(full), vectors, static_cast<int>(rest - (vectors - 1) * l_.width));
  }

  void taps(const Expr& o, int count, const Expr& c, int vectors, int last_lanes) {
    b_.loop("ky", loop::index(0), loop::index(g_.window.window[0]), 1, [&](Expr ky) {
      b_.loop("kx", loop::index(0), loop::index(g_.window.window[1]), 1,
              [&](Expr kx) { tile(o, count, c, vectors, last_lanes, ky, kx); });
    });
  }

  // The result's positions along an axis whose tap k is within the image.
  std::pair<Expr, Expr> inside(size_t axis, const Expr& k) const {
    const ops::Window& w = g_.window;
    const int64_t input = axis == 0 ? g_.h : g_.w, output = axis == 0 ? g_.oh : g_.ow;
    const auto from_zero = [](const Expr& e) { return loop::binary(BinaryOp::max, e, loop::index(0)); };
    const Expr before = loop::index(w.padding[axis]) - k * loop::index(w.dilation[axis]);
    const Expr stride = loop::index(w.stride[axis]);
    const Expr first = from_zero(before + (stride - loop::index(1))) / stride;
    const Expr past = from_zero(before + loop::index(input - 1 + w.stride[axis])) / stride;
    return {first, loop::binary(BinaryOp::min, past, loop::index(output))};
  }

  // The input's position of tap k at an output's; within the image where the output's is inside(), and said so where
  // that does not follow from the bounds by sums alone.
  Expr input_place(size_t axis, const Expr& output, const Expr& k) const {
    const ops::Window& w = g_.window;
    const Expr at = output * loop::index(w.stride[axis]) + k * loop::index(w.dilation[axis]) -
                    loop::index(w.padding[axis]);
    const int64_t input = axis == 0 ? g_.h : g_.w;
    return loop::binary(BinaryOp::min, loop::binary(BinaryOp::max, at, loop::index(0)),
                        loop::index(input - 1));
  }

  void tile(const Expr& o, int count, const Expr& c, int vectors, int last_lanes, const Expr& ky,
            const Expr& kx) {
    const Op *g = op_->operands[0], *x = op_->operands[1];
    const loop::Buffer scalars = tile_.kb.buffer(l_.storage(g).allocation, false, AccessScope::anything);
    const loop::Buffer rows = tile_.kb.buffer(l_.rows_storage(x).allocation, false, AccessScope::anything);
    const loop::Type lane{loop::Scalar::i32, static_cast<uint16_t>(l_.width)};
    const Expr mask =
        last_lanes == l_.width
            ? nullptr
            : loop::compare(CompareOp::lt,
                            loop::ramp(loop::constant_int({loop::Scalar::i32, 1}, 0), 1, l_.width),
                            loop::constant_int(lane, last_lanes));
    const Expr examples =
        b_.let("examples", loop::ref(b_.predefined().rows) / loop::index(tile_.kb.kernel.rows));
    tile_.declare(count, vectors, l_.width);
    Expr e, y, from_y, from;
    const auto bounds = [&](size_t axis, const Expr& k) {
      const auto [first, past] = inside(axis, k);
      return std::pair{b_.let("first", first), b_.let("past", past)};
    };
    const auto y_bounds = bounds(0, ky), x_bounds = bounds(1, kx);
    std::vector<SumLoop> sum;
    sum.push_back({"e", [&] { return std::pair{loop::index(0), examples}; }, 1, l_.options.batch,
                   [&](const Expr& i) { e = i; }});
    sum.push_back({"y", [&] { return y_bounds; }, 1, g_.oh,
                   [&](const Expr& i) {
                     y = b_.let("to", (e * loop::index(g_.oh) + i) * loop::index(g_.ow));
                     from_y =
                         b_.let("from", (e * loop::index(g_.h) + input_place(0, i, ky)) * loop::index(g_.w));
                   }});
    Expr row;
    sum.push_back({"x", [&] { return x_bounds; }, 1, g_.ow,
                   [&](const Expr& i) {
                     row = b_.let("row", y + i);
                     from = b_.let("at", from_y + input_place(1, i, kx));
                   }});
    tile_.sum(std::move(sum), 1, [&] {
      std::vector<Expr> shared;
      for (int j = 0; j < vectors; ++j)
        shared.push_back(
            b_.let("b", loop::load(rows, from * loop::index(g_.c) + c + loop::index(j * l_.width), l_.width,
                                   j + 1 == vectors ? mask : nullptr)));
      const Expr base = b_.let("g", row / loop::index(kPanel) * loop::index(g_.o * kPanel) +
                                        loop::binary(BinaryOp::rem, row, loop::index(kPanel)));
      for (int i = 0; i < count; ++i) {
        const Expr at = base + (o + loop::index(i)) * loop::index(kPanel);
        const Expr a = b_.let("a", loop::broadcast(loop::load(scalars, at), l_.width));
        for (int j = 0; j < vectors; ++j) tile_.accumulate(i, j, a, shared[static_cast<size_t>(j)]);
      }
    });
    const Expr tap = ky * loop::index(g_.window.window[1]) + kx;
    for (int i = 0; i < count; ++i)
      for (int j = 0; j < vectors; ++j)
        b_.store(sums_, (loop::index(i * taps_) + tap) * loop::index(padded_) + c + loop::index(j * l_.width),
                 loop::ref(tile_.accumulator(i, j)));
  }

  // The kernel has its taps innermost.
  void store(const Expr& o, int count) {
    for (const int target : l_.targets.at(op_)) {
      const loop::Buffer to = tile_.kb.buffer(target, true, AccessScope::own_axis0);
      for (int i = 0; i < count; ++i)
        b_.loop("c", loop::index(0), loop::index(g_.c), 1, [&](Expr c) {
          b_.loop("tap", loop::index(0), loop::index(taps_), 1, [&](Expr tap) {
            const Expr from = (loop::index(i * taps_) + tap) * loop::index(padded_) + c;
            b_.store(to, ((o + loop::index(i)) * loop::index(g_.c) + c) * loop::index(taps_) + tap,
                     b_.let("sum", loop::load(sums_, from)));
          });
        });
    }
  }

  Lowering& l_;
  const Op* op_;
  Tile tile_;
  loop::Builder& b_;
  const ops::Convolution g_;
  const int64_t taps_, padded_;  // of the kernel; channels in whole vectors
  loop::Buffer sums_;
};

void lower_move_pixels(Lowering& l, const KernelGroup& group) {
  const Op* op = group.ops.front();
  KernelBuilder kb(l, group);
  kb.kernel.rows = op->type.rows;
  const Maps maps = maps_of(*op);
  const int64_t channels = op->type.shape[0];
  const loop::Type type{scalar_of(op->type.dtype), static_cast<uint16_t>(l.width)};
  const loop::Buffer source = kb.buffer(l.storage(op->operands[0]).allocation, false, AccessScope::anything);
  Pixels pixels(kb, maps, l.width);
  kb.b.loop("q", loop::ref(kb.b.predefined().lo), loop::ref(kb.b.predefined().hi), 1, [&](Expr q) {
    kb.b.loop("s", loop::index(0), loop::index(kPanel / l.width), 1, [&](Expr s) {
      pixels.at(q, s);
      const Expr exists = pixels.exists(loop::index(0), loop::index(0));
      const Expr at = pixels.address(loop::index(0), loop::index(0), channels);
      kb.b.loop("c", loop::index(0), loop::index(channels), 1, [&](Expr c) {
        const Expr from = at + loop::broadcast(c * loop::index(kPanel), l.width);
        const Expr v =
            kb.b.let("v", loop::select(exists, loop::gather(source, from), loop::constant(type, 0)));
        for (const int target : l.targets.at(op))
          kb.b.store(kb.buffer(target, true, AccessScope::own_panels),
                     (q * loop::index(channels) + c) * loop::index(kPanel) + s * loop::index(l.width), v);
      });
    });
  });
  l.finish(kb, {loop::Partition::Extent::panels, 1, 1});
}

// From images, in panels of examples or the caller's rows, to rows of pixels, or back.
class Folding {
 public:
  Folding(Lowering& l, const KernelGroup& g)
      : l_(l),
        op_(g.ops.front()),
        kb_(l, g),
        b_(kb_.b),
        folds_(op_->def->loop_nest == LoopNest::fold_pixels) {
    const Op* image = folds_ ? op_->operands[0] : op_;
    const std::vector<int> order = memory_order(image->type, l.images);
    channels_ = image->type.shape[0];
    pixels_ = image->type.shape[1] * image->type.shape[2];
    by_channel_ = order[0] == 0;
    by_rows_ = rows_operand(op_).index == 0;
    kb_.kernel.rows = op_->type.rows;
  }

  void run() {
    const Storage from = by_rows_ ? l_.rows_storage(op_->operands[0]) : l_.storage(op_->operands[0]);
    const loop::Buffer source = kb_.buffer(from.allocation, false, AccessScope::anything);
    // Panels of examples are few: their pixels are shared among threads.
    const int64_t chunks = folds_ || by_channel_ ? 1 : op_->type.shape[1];
    b_.loop("u", loop::ref(b_.predefined().lo), loop::ref(b_.predefined().hi), 1, [&](Expr u) {
      const Expr q = chunks == 1 ? u : b_.let("q", u / loop::index(chunks));
      b_.loop("s", loop::index(0), loop::index(kPanel / l_.width), 1, [&](Expr s) {
        if (folds_) return fold(source, q, s);
        if (chunks > 1)
          return unfold(source, q, s, b_.let("y", loop::binary(BinaryOp::rem, u, loop::index(chunks))));
        b_.loop("y", loop::index(0), loop::index(op_->type.shape[1]), 1,
                [&](Expr y) { unfold(source, q, s, y); });
      });
    });
    l_.finish(kb_, {loop::Partition::Extent::panels, chunks, 1});
  }

 private:
  Expr number(int64_t v) const { return loop::broadcast(loop::index(v), l_.width); }
  Expr wide(const Expr& e) const { return loop::broadcast(e, l_.width); }
  Expr cap(const Expr& e, const Expr& most) const { return loop::binary(BinaryOp::min, e, wide(most)); }
  Expr rows_of_vector(const Expr& q, const Expr& s) const {
    return loop::ramp(q * loop::index(kPanel) + s * loop::index(l_.width), 1, l_.width);
  }
  // Of an image in memory: the element of a channel and pixel.
  Expr element(const Expr& channel, const Expr& pixel) const {
    return by_channel_ ? channel * number(pixels_) + pixel : pixel * number(channels_) + channel;
  }
  void store(const Expr& index, const Expr& v) {
    for (const int target : l_.targets.at(op_))
      b_.store(kb_.buffer(target, true, AccessScope::own_panels, stored_rows()), index, v);
  }
  std::vector<RowRange> stored_rows() const {
    if (folds_ || by_channel_) return {};
    const int64_t height = op_->type.shape[1];
    return rows_by_chunk(height, 1, height);
  }

  void fold(const loop::Buffer& source, const Expr& q, const Expr& s) {
    const Expr row = b_.let("row", rows_of_vector(q, s));
    const Expr examples = loop::ref(b_.predefined().rows) / loop::index(pixels_);
    const Expr example = b_.let("example", cap(row / number(pixels_), examples - loop::index(1)));
    const Expr pixel = b_.let("pixel", loop::binary(BinaryOp::rem, row, number(pixels_)));
    const Expr panel = b_.let("panel", example / number(kPanel) * number(channels_ * pixels_));
    const Expr lane = b_.let("lane", loop::binary(BinaryOp::rem, example, number(kPanel)));
    b_.loop("c", loop::index(0), loop::index(channels_), 1, [&](Expr c) {
      const Expr at = by_rows_ ? example * number(channels_ * pixels_) + wide(c) * number(pixels_) + pixel
                               : (panel + element(wide(c), pixel)) * number(kPanel) + lane;
      store((q * loop::index(channels_) + c) * loop::index(kPanel) + s * loop::index(l_.width),
            b_.let("v", loop::gather(source, b_.let("at", at))));
    });
  }

  // One row of the images, of vector `s` of a panel's examples: those that exist are copied one by one, the others are 0.
  void unfold(const loop::Buffer& source, const Expr& q, const Expr& s, const Expr& y) {
    const loop::Type type{scalar_of(op_->type.dtype), static_cast<uint16_t>(l_.width)};
    const int64_t width = op_->type.shape[2];
    const Expr first = b_.let("first", q * loop::index(kPanel) + s * loop::index(l_.width));
    const Expr past = b_.let(
        "past", loop::binary(BinaryOp::min, first + loop::index(l_.width), loop::ref(b_.predefined().rows)));
    const auto each = [&](const std::function<void(const Expr&, const Expr&, const Expr&)>& body) {
      b_.loop("x", loop::index(0), loop::index(width), 1, [&](Expr x) {
        const Expr pixel = b_.let("pixel", y * loop::index(width) + x);
        b_.loop("c", loop::index(0), loop::index(channels_), 1, [&](Expr c) {
          const Expr element =
              by_channel_ ? c * loop::index(pixels_) + pixel : pixel * loop::index(channels_) + c;
          body(pixel, c,
               (q * loop::index(channels_ * pixels_) + element) * loop::index(kPanel) +
                   s * loop::index(l_.width));
        });
      });
    };
    each([&](const Expr&, const Expr&, const Expr& to) {
      store(to, type.is_float() ? loop::constant(type, 0) : loop::constant_int(type, 0));
    });
    b_.loop("m", first, past, 1, [&](Expr m) {
      each([&](const Expr& pixel, const Expr& c, const Expr& to) {
        const Expr row = b_.let("row", m * loop::index(pixels_) + pixel);
        const Expr from = (row / loop::index(kPanel) * loop::index(channels_) + c) * loop::index(kPanel) +
                          loop::binary(BinaryOp::rem, row, loop::index(kPanel));
        store(to + (m - first), b_.let("v", loop::load(source, from)));
      });
    });
  }

  Lowering& l_;
  const Op* op_;
  KernelBuilder kb_;
  loop::Builder& b_;
  const bool folds_;
  int64_t channels_ = 0, pixels_ = 0;
  bool by_channel_ = true;  // an image's channels are outermost
  bool by_rows_ = false;    // the image is the caller's
};

}  // namespace

void lower_rows_convolution(Lowering& lowering, const KernelGroup& group) {
  switch (group.ops.front()->def->loop_nest) {
    case LoopNest::move_pixels: return lower_move_pixels(lowering, group);
    case LoopNest::fold_pixels:
    case LoopNest::unfold_pixels: return Folding(lowering, group).run();
    case LoopNest::rows_convolution_weight_grad: return RowsWeightGradient(lowering, group).run();
    default: return RowsProducts(lowering, group).run();
  }
}

}  // namespace gradc::passes::lowering
