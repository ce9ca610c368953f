// Lowers 3x3 convolutions of stride 1, and their input gradients, by Winograd's minimal filtering (Lavin and
// Gray 2015, "Fast Algorithms for Convolutional Neural Networks", equations 8 to 13): F(m x m, 3 x 3) makes
// m x m outputs from an (m + 2) x (m + 2) patch with (m + 2)^2 products a channel pair where the definition
// takes 9 m^2:
//   Y = A^T [ sum over c of (G g G^T) . (B^T d B) ] A
// The examples are in the lanes, so transforms are plain arithmetic on vectors. Two calls:
//   U = G g G^T of every channel pair, [point][block of 16 results][c][16]
//   for row of tiles, for tile:
//     for c:  V[point][c] = B^T d B                              patch to (m + 2)^2 points, scratch
//     for point, for 8 results:  acc[8][2] += broadcast(U) * V   -> M[point][o], scratch
//     for o:  A^T M A, then the group's epilogue on each output pixel
// With tiles of 32 examples, U, V and M take 2 to 4 bytes of traffic a multiply-add, which the second- and third-level
// caches can supply.
//
// Rounding: F(4 x 4) is about 10 times less exact than the sum in order (4e-6 of the largest value at 64
// channels), F(2 x 2) about as exact; PipelineOptions::strict_math keeps to the definition.
#include "passes/kernels/winograd.h"
#include "passes/kernels/tile.h"
#include "passes/kernels/window.h"
#include "support/check.h"

namespace gradc::passes::lowering {

namespace {

using loop::BinaryOp;
using loop::CompareOp;
using loop::Expr;

class Winograd {
 public:
  Winograd(Lowering& l, const KernelGroup& g, int m)
      : l_(l),
        g_(g),
        op_(g.ops.front()),
        m_(m),
        n_(m + 2),
        backward_(op_->def->loop_nest == LoopNest::convolution_input_grad),
        in_(op_->operands[0]->type),
        out_(op_->type),
        inputs_(in_.shape[0]),
        outputs_(out_.shape[0]),
        padding_{pad(0), pad(1)},
        tiles_{ceil_div(out_.shape[1], m), ceil_div(out_.shape[2], m)},
        scalar_(scalar_of(op_->type.dtype)) {
    m_block_ = outputs_ <= 96 || outputs_ % 32 != 0 ? outputs_ : outputs_ % 64 == 0 ? 64 : 32;
  }

  void run() {
    weights_ = l_.new_allocation(fmt::format("k{}_{} U", g_.number, op_->name()), scalar_,
                                 n_ * n_ * out_blocks() * inputs_ * kBlock, loop::Space::arena, 0);
    transform_weights();
    convolve();
  }

 private:
  static constexpr int64_t kBlock = 16;             // results that are adjacent in U
  static constexpr int64_t kLine = kLineBytes / 4;  // elements
  static constexpr int64_t kAhead = 4 * kLine;      // prefetch distance: a pixel's cache lines

  int64_t pad(size_t axis) const {
    const int64_t p = op_->attributes.has("padding") ? op_->attributes.integers("padding")[axis] : 0;
    return backward_ ? 2 - p : p;
  }
  int64_t out_blocks() const { return ceil_div(outputs_, kBlock); }
  loop::Type vector_type() const { return {scalar_, static_cast<uint16_t>(l_.width)}; }

  void transform_weights() {
    KernelBuilder kb(l_, fmt::format("k{}_{}_weights", g_.number, op_->name()), "Winograd weights");
    kb.kernel.locations = op_->locations;
    kb.declare_written(weights_);
    loop::Builder& b = kb.b;
    if (!op_->locations.empty()) b.set_location(op_->locations.front());
    const loop::Buffer w = kb.buffer(l_.storage(op_->operands[1]).allocation, false, AccessScope::anything);
    const loop::Buffer u = kb.buffer(weights_, true, AccessScope::anything);
    // Distances between neighbouring results and inputs in w, which is [out, in, 3, 3] for the forward pass.
    const int64_t out_step = backward_ ? 9 : inputs_ * 9, in_step = backward_ ? outputs_ * 9 : 9;
    WinogradTransform t(b, m_);
    b.loop("c", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), 1, [&](Expr c) {
      b.loop("o", loop::index(0), loop::index(out_blocks() * kBlock), l_.width, [&](Expr o) {
        const Expr first = b.let("first", c * loop::index(in_step) + o * loop::index(out_step));
        const Expr exists =
            outputs_ % kBlock
                ? b.let("lanes", loop::compare(CompareOp::lt, loop::ramp(o, 1, l_.width),
                                               loop::broadcast(loop::index(outputs_), l_.width)))
                : nullptr;
        std::vector<std::vector<Expr>> g(3);
        for (int64_t i = 0; i < 3; ++i)
          for (int64_t j = 0; j < 3; ++j) {
            const int64_t tap = backward_ ? 8 - (i * 3 + j) : i * 3 + j;
            const Expr at = b.let("at", loop::ramp(first + loop::index(tap), out_step, l_.width));
            g[static_cast<size_t>(i)].push_back(b.let("g", loop::gather(w, at, exists)));
          }
        const auto points = both(g, [&](const std::vector<Expr>& v) { return t.weight(v); });
        const Expr block = b.let("block", o / loop::index(kBlock));
        const Expr lane = b.let("lane", loop::binary(BinaryOp::rem, o, loop::index(kBlock)));
        for (int64_t p = 0; p < n_ * n_; ++p)
          b.store(u,
                  ((loop::index(p * out_blocks()) + block) * loop::index(inputs_) + c) * loop::index(kBlock) +
                      lane,
                  points[static_cast<size_t>(p / n_)][static_cast<size_t>(p % n_)]);
      });
    });
    l_.finish(kb, {loop::Partition::Extent::fixed, inputs_, 1});
  }

  void convolve() {
    Tile tile(l_, g_);
    tile.partition_panels(tiles_[0], m_);
    KernelBuilder& kb = tile.kb;
    loop::Builder& b = kb.b;
    int64_t& scratch = tile.scratch;
    const auto own = [&](const char* name, int64_t elements) {
      const int a = l_.new_scratch(fmt::format("k{}_{}", g_.number, name), scalar_, elements, scratch);
      kb.declare_written(a);
      return kb.buffer(a, true, AccessScope::anything);
    };
    v_plane_ = plane_distance(inputs_ * kPanel);
    m_plane_ = plane_distance(ceil_div(m_block_, 8) * 8 * kPanel);
    v_ = own("V", n_ * n_ * v_plane_);
    products_ = own("M", n_ * n_ * m_plane_);
    pixels_ = own("Y", m_ * m_ * l_.width);
    u_ = kb.buffer(weights_, false, AccessScope::anything);
    x_ = kb.buffer(l_.storage(op_->operands[0]).allocation, false, AccessScope::panel,
                   rows_by_chunk(tiles_[0], m_, in_.shape[1], padding_[0], 2 - padding_[0]));
    find_streams(tile);
    // The pixels of a tile take as much again, and other data half of the cache.
    keeps_images_ = n_ * n_ * (inputs_ * outputs_ + v_plane_ + m_plane_) * loop::bytes(loop::Scalar::f32) <=
                    l_.options.machine.l2 / 4;
    tile.over_panels([&](const Expr& q, const Expr& row) {
      const Expr y0 = b.let("y0", (tiles_[0] == 1 ? loop::index(0) : row) * loop::index(m_));
      b.loop("tile", loop::index(0), loop::index(tiles_[1]), 1, [&](Expr column) {
        const Expr x0 = b.let("x0", column * loop::index(m_));
        q_ = q, y0_ = y0, x0_ = x0;
        patch(b, q, y0, x0);
        b.loop("o0", loop::index(0), loop::index(outputs_), m_block_, [&](Expr o0) {
          multiply(b, o0);
          outputs(tile, q, y0, x0, o0);
        });
      });
    });
    tile.finish();
  }

  // The images that a tile's outputs access.
  void find_streams(Tile& tile) {
    const bool own = tile.chunks() == 1 || tile.chunks() == out_.shape[1];
    for (int a : tile.streams())
      streams_.push_back(tile.kb.buffer(a, false, own ? AccessScope::own_panels : AccessScope::panel,
                                        rows_by_chunk(tiles_[0], m_, out_.shape[1])));
  }

  // Images are prefetched during the products, which access scratch memory alone. Where scratch memory is small, all of
  // the next tile's input and of what this tile's outputs access is prefetched then, row by row; `p` is the point of n_
  // * n_. Otherwise lines would be evicted before their use: then each channel is prefetched while an earlier one is
  // transformed, and only the first ones during the products.
  void prefetch(loop::Builder& b, const Expr& p, const Expr& o0) {
    // Once a tile, where its results are computed in blocks.
    const auto at_block = [&](int64_t first, const auto& body) {
      if (m_block_ == outputs_) return body();
      b.if_then(loop::compare(CompareOp::eq, o0, loop::index(first)), body);
    };
    if (keeps_images_)
      return at_block(0, [&] {
        prefetch_share(b, x_, in_, n_, y0_ - loop::index(padding_[0]),
                       x0_ + loop::index(m_ + 2 - padding_[1]), p);
        for (const loop::Buffer& stream : streams_) prefetch_share(b, stream, out_, m_, y0_, x0_, p);
      });
    const int64_t last = n_ * n_ - kAhead / kLine;
    b.if_then(loop::compare(CompareOp::ge, p, loop::index(last)), [&] {
      const Expr line = b.let("line", (p - loop::index(last)) * loop::index(kLine));
      prefetch_streams(b, o0 * loop::index(kPanel) + line);
      at_block(outputs_ - m_block_, [&] { prefetch_input(b, x0_ + loop::index(m_), line); });
    });
  }

  // Prefetches share `p` of n_ * n_ of a tile's pixels, rows x m, in an image.
  void prefetch_share(loop::Builder& b, const loop::Buffer& buffer, const Type& t, int64_t rows,
                      const Expr& y, const Expr& x, const Expr& p) {
    const int64_t pieces = n_ * n_ / rows;  // of a row's m_ pixels, which are adjacent
    const int64_t each = ceil_div(m_ * t.shape[0] * kPanel / kLine, pieces);
    const Expr row = p / loop::index(pieces), piece = loop::binary(BinaryOp::rem, p, loop::index(pieces));
    const Expr from =
        b.let("ahead", (q_ * loop::index(t.elements()) + l_.element(t, {loop::index(0), y + row, x})) *
                               loop::index(kPanel) +
                           piece * loop::index(each * kLine));
    for (int64_t line = 0; line < each; ++line) b.prefetch(buffer, from + loop::index(line * kLine));
  }
  // Prefetches one line of each of rows x columns neighbouring pixels: the line at `element` of a pixel's channels and
  // examples.
  void prefetch_lines(loop::Builder& b, const loop::Buffer& buffer, const Type& t, int64_t rows,
                      int64_t columns, const Expr& y, const Expr& x, const Expr& element) {
    const Expr from =
        b.let("ahead",
              (q_ * loop::index(t.elements()) + l_.element(t, {loop::index(0), y, x})) * loop::index(kPanel) +
                  element);
    for (int64_t i = 0; i < rows; ++i)
      for (int64_t j = 0; j < columns; ++j)
        b.prefetch(buffer, from + l_.element(t, {loop::index(0), loop::index(i), loop::index(j)}) *
                                      loop::index(kPanel));
  }
  // The same for the input's pixels of a tile that the tile before it did not have, and for the results' pixels.
  void prefetch_input(loop::Builder& b, const Expr& x0, const Expr& element) {
    prefetch_lines(b, x_, in_, n_, m_, y0_ - loop::index(padding_[0]), x0 + loop::index(2 - padding_[1]),
                   element);
  }
  void prefetch_streams(loop::Builder& b, const Expr& element) {
    for (const loop::Buffer& stream : streams_) prefetch_lines(b, stream, out_, m_, m_, y0_, x0_, element);
  }
  // Calls body where sub-vector s begins a line.
  template <class F>
  void at_lines(loop::Builder& b, const Expr& s, F&& body) {
    const int64_t vectors = std::max<int64_t>(kLine / l_.width, 1);
    if (vectors == 1) return body();
    b.if_then(
        loop::compare(CompareOp::eq, loop::binary(BinaryOp::rem, s, loop::index(vectors)), loop::index(0)),
        body);
  }

  void patch(loop::Builder& b, const Expr& q, const Expr& y0, const Expr& x0) {
    WinogradTransform t(b, m_);
    const ImagePatch patch(l_, b, x_, in_,
                           {n_, {padding_[0], padding_[1]}, {(tiles_[0] - 1) * m_, (tiles_[1] - 1) * m_}}, q,
                           y0, x0);
    // Channels and the vectors of a panel are stored one after the other, in the image as in V.
    b.loop("e", loop::index(0), loop::index(inputs_ * kPanel), l_.width, [&](Expr e) {
      if (!keeps_images_)
        at_lines(b, e / loop::index(l_.width), [&] { prefetch_input(b, x0, e + loop::index(kAhead)); });
      const auto points = both(patch.load(e), [&](const std::vector<Expr>& v) { return t.input(v); });
      for (int64_t p = 0; p < n_ * n_; ++p)
        b.store(v_, loop::index(p * v_plane_) + e,
                points[static_cast<size_t>(p / n_)][static_cast<size_t>(p % n_)]);
    });
  }

  void multiply(loop::Builder& b, const Expr& o0) {
    const int rows = even_rows(l_.options.machine.registers), vectors = tile_vectors(l_.width);
    b.loop("p", loop::index(0), loop::index(n_ * n_), 1, [&](Expr p) {
      prefetch(b, p, o0);
      b.loop("o", loop::index(0), loop::index(ceil_div(m_block_, rows) * rows), rows, [&](Expr o) {
        b.loop("s", loop::index(0), loop::index(kPanel / l_.width), vectors, [&](Expr s) {
          Accumulators acc(b, rows, vectors, [&](int, int) { return loop::constant(vector_type(), 0); });
          const Expr out = o0 + o;
          const Expr from_u = b.let(
              "from_u", ((p * loop::index(out_blocks()) + out / loop::index(kBlock)) * loop::index(inputs_)) *
                                loop::index(kBlock) +
                            loop::binary(BinaryOp::rem, out, loop::index(kBlock)));
          const Expr from_v = b.let("from_v", p * loop::index(v_plane_) + s * loop::index(l_.width));
          Expr c;
          blocked_sum(
              b, acc.variables(), {sum_loop("c", inputs_, 1, [&](const Expr& i) { c = i; })}, kBlockProducts,
              1, [&] {
                acc.multiply_add(
                    [&](int i) { return loop::load(u_, from_u + c * loop::index(kBlock) + loop::index(i)); },
                    [&](int j) {
                      return loop::load(v_, from_v + c * loop::index(kPanel) + loop::index(j * l_.width),
                                        l_.width);
                    });
              });
          acc.store(products_, [&](int i, int j) {
            return p * loop::index(m_plane_) + (o + loop::index(i)) * loop::index(kPanel) +
                   (s + loop::index(j)) * loop::index(l_.width);
          });
        });
      });
    });
  }

  void outputs(Tile& tile, const Expr& q, const Expr& y0, const Expr& x0, const Expr& o0) {
    loop::Builder& b = tile.kb.b;
    WinogradTransform t(b, m_);
    const auto extent = [&](size_t axis, const Expr& first) {
      const int64_t all = out_.shape[axis + 1];
      return all % m_ ? minimum(loop::index(m_), loop::index(all) - first) : loop::index(m_);
    };
    b.loop("o", loop::index(0), loop::index(m_block_), 1, [&](Expr o) {
      b.loop("s", loop::index(0), loop::index(kPanel / l_.width), 1, [&](Expr s) {
        const Expr from = b.let("from", o * loop::index(kPanel) + s * loop::index(l_.width));
        if (!keeps_images_)
          at_lines(b, s, [&] { prefetch_streams(b, o0 * loop::index(kPanel) + from + loop::index(kAhead)); });
        std::vector<std::vector<Expr>> square(static_cast<size_t>(n_));
        for (int64_t p = 0; p < n_ * n_; ++p)
          square[static_cast<size_t>(p / n_)].push_back(
              b.let("m", loop::load(products_, loop::index(p * m_plane_) + from, l_.width)));
        const auto pixels = both(square, [&](const std::vector<Expr>& v) { return t.output(v); });
        for (int64_t i = 0; i < m_; ++i)
          for (int64_t j = 0; j < m_; ++j)
            b.store(pixels_, loop::index((i * m_ + j) * l_.width),
                    pixels[static_cast<size_t>(i)][static_cast<size_t>(j)]);
        Point point;
        point.batched = true;
        point.panel = q;
        point.sub = s;
        point.lanes = l_.width;
        point.axes = {o0 + o, y0, x0};
        tile.one_channel(point, pixels[0][0], [&] {
          b.loop("i", loop::index(0), extent(0, y0), 1, [&](Expr i) {
            b.loop("j", loop::index(0), extent(1, x0), 1, [&](Expr j) {
              tile.declare(1, 1, l_.width);
              b.assign(tile.accumulator(0, 0),
                       loop::load(pixels_, (i * loop::index(m_) + j) * loop::index(l_.width), l_.width));
              Point p = point;
              p.axes = {o0 + o, y0 + i, x0 + j};
              tile.epilogue([&](int, int) { return p; });
            });
          });
        });
      });
    });
  }

  Lowering& l_;
  const KernelGroup& g_;
  const Op* op_;
  const int64_t m_, n_;  // outputs and points along each axis
  const bool backward_;
  const Type &in_, &out_;
  const int64_t inputs_, outputs_;
  const int64_t padding_[2], tiles_[2];
  const loop::Scalar scalar_;
  int64_t m_block_ = 0;  // results whose products are kept at once
  int64_t v_plane_ = 0, m_plane_ = 0;
  bool keeps_images_ = false;  // U, V and M leave the second-level cache room for a tile's images
  int weights_ = -1;
  loop::Buffer u_, v_, products_, pixels_, x_;
  std::vector<loop::Buffer> streams_;
  Expr q_, y0_, x0_;  // of the tile at hand
};

}  // namespace

ImagePatch::ImagePatch(const Lowering& l, loop::Builder& b, loop::Buffer image, const Type& type,
                       const Window& window, const Expr& q, const Expr& y0, const Expr& x0)
    : l_(l), b_(b), image_(std::move(image)), type_(type), window_(window) {
  const std::vector<Expr> rows = inside(0, y0), columns = inside(1, x0);
  for (const Expr& row : rows) {
    masks_.emplace_back();
    for (const Expr& column : columns) {
      const Expr both = row && column ? loop::binary(BinaryOp::bit_and, row, column) : row ? row : column;
      masks_.back().push_back(both ? b_.let("mask", loop::broadcast(both, l_.width)) : nullptr);
    }
  }
  const Expr corner = l_.element(
      type_, {loop::index(0), y0 - loop::index(window_.padding[0]), x0 - loop::index(window_.padding[1])});
  base_ = b_.let("base", (q * loop::index(type_.elements()) + corner) * loop::index(kPanel));
}

// Conditions under which position `first` - padding + i lies inside the axis, one for each i of a patch;
// null where it always does.
std::vector<Expr> ImagePatch::inside(size_t axis, const Expr& first) const {
  std::vector<Expr> result;
  const int64_t extent = type_.shape[axis + 1];
  for (int64_t i = 0; i < window_.side; ++i) {
    const int64_t shift = i - window_.padding[axis];
    Expr condition;
    const auto require = [&](CompareOp op, int64_t bound) {
      const Expr c = loop::compare(op, first, loop::index(bound));
      condition = condition ? loop::binary(BinaryOp::bit_and, condition, c) : c;
    };
    if (shift < 0) require(CompareOp::ge, -shift);
    if (window_.last[axis] + shift >= extent) require(CompareOp::lt, extent - shift);
    result.push_back(condition ? b_.let("inside", condition) : nullptr);
  }
  return result;
}

Expr ImagePatch::pixel(int64_t i, int64_t j) const {
  return base_ + l_.element(type_, {loop::index(0), loop::index(i), loop::index(j)}) * loop::index(kPanel);
}

std::vector<std::vector<Expr>> ImagePatch::load(const Expr& element) const {
  std::vector<std::vector<Expr>> d;
  for (int64_t i = 0; i < window_.side; ++i) {
    d.emplace_back();
    for (int64_t j = 0; j < window_.side; ++j)
      d.back().push_back(b_.let("d", loop::load(image_, pixel(i, j) + element, l_.width,
                                                masks_[static_cast<size_t>(i)][static_cast<size_t>(j)])));
  }
  return d;
}

void ImagePatch::prefetch(const Expr& element) const {
  for (int64_t i = 0; i < window_.side; ++i)
    for (int64_t j = 0; j < window_.side; ++j) b_.prefetch(image_, pixel(i, j) + element);
}

int winograd_tile(const Lowering& l, const Op* op) {
  if (l.options.strict_math || !op->operands[0]->type.batched || op->type.dtype != DType::f32) return 0;
  const Shape& kernel = op->operands[1]->type.shape;
  if (kernel[2] != 3 || kernel[3] != 3 || group_count(op) != 1) return 0;
  for (size_t axis = 0; axis < 2; ++axis) {
    const Axis a = spatial_axis(op, axis, op->operands[0]->type.shape, op->type.shape, 3);
    if (a.stride != 1 || a.dilation != 1 || a.padding > 2) return 0;
  }
  const auto in = static_cast<double>(op->operands[0]->type.shape[0]),
             out = static_cast<double>(op->type.shape[0]);
  const int64_t height = op->type.shape[1], width = op->type.shape[2];
  // Vector instructions an example vector: products, then transforms with their loads and stores at about two
  // a cycle.
  double best = 9 * in * out * static_cast<double>(height * width);
  int choice = 0;
  for (const int m : {2, 4}) {
    const auto tiles = static_cast<double>(ceil_div(height, m) * ceil_div(width, m));
    const double points = (m + 2) * (m + 2);
    const double cost = tiles * (points * in * out + 3.5 * points * in + 3.5 * points * out);
    if (cost >= 0.85 * best) continue;
    best = cost;
    choice = m;
  }
  return choice;
}

void lower_winograd(Lowering& lowering, const KernelGroup& group, int m) {
  Winograd(lowering, group, m).run();
}

}  // namespace gradc::passes::lowering
