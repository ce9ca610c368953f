// Lowers conv2d_weight_grad, the sum over examples and output pixels of dY[o, y, x] * X[c, y', x'], in two
// calls. The first computes a partial sum for each panel, so that panels are split over threads and the order of
// summation does not depend on their number; the second adds the partial sums in order.
//
// Many channels: lanes along those of one side, L, and tiles of the other's, T. Panels have the examples in
// the lanes, so a band of L's rows is transposed into scratch memory, [row][x][example][channel], that stays
// in the second-level cache; T is read as it is stored, one scalar for a pair of products:
//   for panel, for block of lanes L, for examples of a vector, for band of output rows:
//     transpose L's band
//     for kh, kw, for tile of 8 channels of T:  acc[8][2] = 0
//       for y, x inside the image, for example:  acc[i][j] += broadcast(T[..][t + i][example]) * L[..][j]
//       partial += acc           (the sum of a band, or of a block of it, starts from zero: blocked_sum.h)
// Transposing costs about 4 cycles an element and vector, the products hundreds. L is the operand that leaves fewer
// lanes unused; on a tie it is dY, which has no margins and, with a stride, fewer pixels.
//
// 3 x 3 with stride 1, where it pays: the adjoint of Winograd's filtering (winograd.cpp),
//   dW = G^T [ sum over tiles and examples of (A dY A^T) . (B^T X B) ] G
// strips of tiles at a time:
//   for panel, for blocks of L and T, for examples of a vector, for strip of tiles:
//     transpose the pixels of L (zeros outside the image); transform them, channels in the lanes
//     transform T from the image, examples in the lanes
//     for point:  S[point][t][l] += T[point][tile][t][example] * L[point][tile, example][l]
//   partial = G^T S G
//
// Few channels (or one a group): lanes along the batch (window_weights_batch.cpp).
#include <bit>

#include "passes/kernels/blocked_sum.h"
#include "passes/kernels/tile.h"
#include "passes/kernels/window.h"
#include "passes/kernels/window_weights.h"
#include "passes/kernels/winograd.h"
#include "support/check.h"

namespace gradc::passes::lowering {

namespace {

using loop::BinaryOp;
using loop::CompareOp;
using loop::Expr;

constexpr int64_t kMostTiled = 256;     // channels of side T at once
constexpr int64_t kWinogradBlock = 64;  // of either side at once: S takes 36 x 64 x 64 x 4 bytes, 576 KiB
constexpr int64_t kChannelsAhead = 3;   // prefetch distance of pixels

class WeightGradient : WeightGradientBase {
 public:
  using WeightGradientBase::WeightGradientBase;

  void run() {
    const double whole_c = useful(channels_), whole_o = useful(outputs_);
    lanes_on_channels_ = whole_c > whole_o;
    const int64_t other = lanes_on_channels_ ? outputs_ : channels_;
    if (batched_ && std::max(whole_c, whole_o) >= 0.5 && other >= 4)
      channel_lanes();
    else
      lower_weight_gradient_by_batch(l_, op_);
  }

 private:
  struct Side {
    size_t operand;
    int64_t channels;                // of a group
    int64_t padded;                  // channels in scratch
    loop::Buffer scratch = nullptr;  // L's pixels
    // Winograd: transformed, [point][tile][example][channel] of L, [point][tile][channel][example] of T; a
    // point's plane is longer than its data, against cache aliasing.
    loop::Buffer points = nullptr;
    int64_t plane = 0;
  };

  // The share of the lanes that hold a channel.
  double useful(int64_t channels) const {
    return static_cast<double>(channels) / static_cast<double>(ceil_div(channels, l_.width) * l_.width);
  }
  // --- lanes along channels

  void channel_lanes() {
    lanes_ = {lanes_on_channels_ ? size_t{1} : size_t{0}, lanes_on_channels_ ? channels_ : outputs_, 0,
              nullptr};
    tiled_ = {lanes_on_channels_ ? size_t{0} : size_t{1}, lanes_on_channels_ ? outputs_ : channels_, 0,
              nullptr};
    vectors_ = lanes_.channels > l_.width ? 2 : 1;
    m_ = winograd_tile();
    const int64_t lane_channels = ceil_div(lanes_.channels, l_.width) * l_.width;
    block_ = m_ ? std::min(lane_channels, kWinogradBlock) : vectors_ * l_.width;
    if (block_ == l_.width) vectors_ = 1;
    blocks_ = ceil_div(lanes_.channels, block_);
    lanes_.padded = block_;
    tile_block_ = std::min(tiled_.channels, m_ ? kWinogradBlock : kMostTiled);
    tiled_.padded = tile_block_;
    unit_ = out_[2] * out_[3] * tiled_.channels * block_;
    partial_ = l_.new_allocation(name(" partial sums"), scalar_,
                                 l_.batch_panels() * groups_ * blocks_ * unit_, loop::Space::arena, 0);
    if (m_) {
      sum_panels_winograd();
    } else {
      choose_band();
      sum_panels();
    }
    add_panels();
  }

  // Of both operands' bands, and of patches and points at once: well inside the second-level cache.
  int64_t band_bytes() const { return l_.options.machine.l2 / 8 * 3; }
  int64_t most_strip_bytes() const { return l_.options.machine.l2 / 8; }
  // Rows of transposed memory for a band of so many output rows.
  int64_t input_rows(int64_t band) const {
    return std::min(x_shape_[1] + 2 * rows_.padding,
                    (band - 1) * rows_.stride + (out_[2] - 1) * rows_.dilation + 1);
  }
  int64_t bytes_of(const Side& side, int64_t band) const {
    const int64_t pixels = side.operand == 1 ? input_rows(band) * x_shape_[2] : band * g_shape_[2];
    return pixels * l_.width * side.padded * loop::bytes(scalar_);
  }
  void choose_band() {
    band_ = 1;
    while (band_ < g_shape_[1] && bytes_of(lanes_, band_ + 1) + bytes_of(tiled_, band_ + 1) <= band_bytes())
      ++band_;
    // Bands of equal height where that takes no more bands.
    band_ = ceil_div(g_shape_[1], ceil_div(g_shape_[1], band_));
  }

  void sum_panels() {
    KernelBuilder kb(l_, name(""), op_->name());
    begin(kb);
    kb.flop = flop();
    kb.declare_written(partial_);
    int64_t scratch = 0;
    const int a =
        l_.new_scratch(name(" lanes"), scalar_, bytes_of(lanes_, band_) / loop::bytes(scalar_), scratch);
    kb.declare_written(a);
    lanes_.scratch = kb.buffer(a, true, AccessScope::anything);
    const loop::Buffer partial = kb.buffer(partial_, true, AccessScope::own_panels);
    loop::Builder& b = kb.b;
    const int64_t units = groups_ * blocks_;
    b.loop("u", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), 1, [&](Expr u) {
      const Expr q = b.let("q", u / loop::index(units));
      const Expr unit = b.let("part", loop::binary(BinaryOp::rem, u, loop::index(units)));
      const Expr group = b.let("group", unit / loop::index(blocks_));
      const Expr block = b.let("block", loop::binary(BinaryOp::rem, unit, loop::index(blocks_)));
      const Expr mine = b.let("mine", u * loop::index(unit_));
      b.loop("z", loop::index(0), loop::index(unit_), l_.width,
             [&](Expr z) { b.store(partial, mine + z, loop::constant(vector_type(l_.width), 0)); });
      b.loop("t0", loop::index(0), loop::index(tiled_.channels), tile_block_, [&](Expr t0) {
        b.loop("s", loop::index(0), loop::index(kPanel / l_.width), 1, [&](Expr s) {
          const Expr exists = existing(kb, q, s);
          b.loop("band", loop::index(0), loop::index(g_shape_[1]), band_, [&](Expr y0) {
            const Expr y1 = b.let("y1", minimum(y0 + loop::index(band_), loop::index(g_shape_[1])));
            transpose(kb, q, group * loop::index(lanes_.channels), block * loop::index(block_), s, exists, y0,
                      y1);
            multiply(kb, partial, mine, q, group * loop::index(tiled_.channels) + t0, t0, s, y0, y1);
          });
        });
      });
    });
    l_.finish(kb, {loop::Partition::Extent::panels, units, 1});
  }

  // Transposes a band of L, from channel `first` of its group on, into scratch as [row][x][example][channel].
  void transpose(KernelBuilder& kb, const Expr& q, const Expr& group_first, const Expr& first, const Expr& s,
                 const Expr& exists, const Expr& y0, const Expr& y1) {
    loop::Builder& b = kb.b;
    const bool is_input = lanes_.operand == 1;
    const int64_t width = is_input ? x_shape_[2] : g_shape_[2];
    const Expr base = is_input ? y0 * loop::index(rows_.stride) - loop::index(rows_.padding) : y0;
    const Expr begin = is_input ? at_least_0(base) : y0;
    const Expr last = (y1 - loop::index(1)) * loop::index(rows_.stride) +
                      loop::index((out_[2] - 1) * rows_.dilation + 1 - rows_.padding);
    const Expr end = is_input ? at_least_0(minimum(loop::index(x_shape_[1]), last)) : y1;
    b.loop("row", begin, end, 1, [&](Expr row) {
      b.loop("column", loop::index(0), loop::index(width), 1, [&](Expr column) {
        const Expr to =
            b.let("to", ((row - base) * loop::index(width) + column) * loop::index(l_.width * lanes_.padded));
        transpose_pixel(kb, q, group_first, first, s, exists, row, column, to);
      });
    });
  }

  // One pixel's channels of L, from `first` on, of the examples of a vector: to scratch as
  // [example][channel].
  void transpose_pixel(KernelBuilder& kb, const Expr& q, const Expr& group_first, const Expr& first,
                       const Expr& s, const Expr& exists, const Expr& y, const Expr& x, const Expr& to) {
    loop::Builder& b = kb.b;
    b.loop("c", loop::index(0), loop::index(lanes_.padded), l_.width, [&](Expr c) {
      std::vector<Expr> v;
      for (int i = 0; i < l_.width; ++i) {
        const Expr channel = some_channel(lanes_, first + c + loop::index(i));
        v.push_back(b.let("v", existing_only(lanes_,
                                             load_panel(kb, lanes_.operand, q, group_first + channel, y, x, s,
                                                        AccessScope::panel),
                                             exists)));
      }
      v = transposed(b, std::move(v));
      for (int i = 0; i < l_.width; ++i)
        b.store(lanes_.scratch, to + loop::index(i * lanes_.padded) + c, v[static_cast<size_t>(i)]);
    });
  }

  // A channel that exists, in lanes past the last one; their results are never read.
  Expr some_channel(const Side& side, const Expr& channel) const {
    return side.channels % side.padded == 0 ? channel : minimum(channel, loop::index(side.channels - 1));
  }
  // Examples that do not exist count nothing, as their gradient is zero.
  Expr existing_only(const Side& side, const Expr& v, const Expr& exists) const {
    return side.operand == 0 ? loop::select(exists, v, loop::constant(v->type, 0)) : v;
  }

  // acc[i][j] += broadcast(T[t + i][example]) * L[example][j] over the band's pixels and examples; `first` is
  // the channel of t0 among those of all groups.
  void multiply(KernelBuilder& kb, const loop::Buffer& partial, const Expr& mine, const Expr& q,
                const Expr& first, const Expr& t0, const Expr& s, const Expr& y0, const Expr& y1) {
    loop::Builder& b = kb.b;
    const int many = l_.options.machine.registers >= 32 ? 8 : 4;
    const auto tile_rows = static_cast<int>(std::min<int64_t>(vectors_ == 1 ? 2 * many : many, tile_block_));
    const Type& tiled_type = op_->operands[tiled_.operand]->type;
    const loop::Buffer tiled =
        kb.buffer(l_.storage(op_->operands[tiled_.operand]).allocation, false, AccessScope::panel);
    // Examples that do not exist count nothing: L's gradient is zero for them, T's is not read.
    const bool input_in_lanes = lanes_.operand == 1;
    const int64_t step = input_in_lanes ? 1 : columns_.stride;
    const Expr left = loop::ref(b.predefined().rows) - q * loop::index(kPanel) - s * loop::index(l_.width);
    const Expr examples = input_in_lanes ? b.let("examples", at_least_0(minimum(left, loop::index(l_.width))))
                                         : loop::index(l_.width);
    b.loop("kh", loop::index(0), loop::index(out_[2]), 1, [&](Expr kh) {
      const Expr y_begin = b.let("y_begin", maximum(y0, rows_.out_begin(kh)));
      const Expr y_end = b.let("y_end", minimum(y1, rows_.out_end(kh)));
      b.loop("kw", loop::index(0), loop::index(out_[3]), 1, [&](Expr kw) {
        const Expr x_begin = b.let("x_begin", columns_.out_begin(kw)),
                   x_end = b.let("x_end", columns_.out_end(kw));
        const auto tile = [&](const Expr& t, int count) {
          const Expr at =
              b.let("at", mine + ((kh * loop::index(out_[3]) + kw) * loop::index(tiled_.channels) + t0 + t) *
                                     loop::index(block_));
          const auto place = [&](int i, int j) { return at + loop::index(i * block_ + j * l_.width); };
          Accumulators acc(b, count, vectors_,
                           [&](int, int) { return loop::constant(vector_type(l_.width), 0); });
          Expr y, x;
          const std::vector<SumLoop> pixels = {
              {"y", [&] { return std::pair{y_begin, y_end}; }, 1, band_, [&](const Expr& i) { y = i; }},
              {"x", [&] { return std::pair{x_begin, x_end}; }, 1, g_shape_[2],
               [&](const Expr& i) { x = i; }}};
          blocked_sum(b, acc.variables(), pixels, kBlockProducts, l_.width, [&] {
            const Expr in_y = rows_.input(y, kh), in_x = columns_.input(x, kw);
            const Expr from_band =
                input_in_lanes ? (in_y - y0 * loop::index(rows_.stride) + loop::index(rows_.padding)) *
                                         loop::index(x_shape_[2]) +
                                     in_x
                               : (y - y0) * loop::index(g_shape_[2]) + x;
            const Expr from_lanes = b.let("from_lanes", from_band * loop::index(l_.width * lanes_.padded));
            const Expr from_tile = b.let(
                "from_tile", input_in_lanes
                                 ? WeightGradientBase::place(tiled_.operand, q, first + t, y, x, s)
                                 : WeightGradientBase::place(tiled_.operand, q, first + t, in_y, in_x, s));
            b.loop("e", loop::index(0), examples, 1, [&](Expr e) {
              // Prefetch a line of the next pixel: example e's turn takes that of channel e.
              const Expr next = l_.element(tiled_type, {e, loop::index(0), loop::index(step)});
              b.prefetch(tiled, from_tile + next * loop::index(kPanel));
              acc.multiply_add(
                  [&](int i) {
                    const Expr channel =
                        l_.element(tiled_type, {loop::index(i), loop::index(0), loop::index(0)});
                    return loop::load(tiled, from_tile + channel * loop::index(kPanel) + e);
                  },
                  [&](int j) {
                    return loop::load(lanes_.scratch,
                                      from_lanes + e * loop::index(lanes_.padded) + loop::index(j * l_.width),
                                      l_.width);
                  });
            });
          });
          acc.add_to(partial, place);
        };
        const auto tiles = [&](int64_t extent) {
          const int64_t full = extent / tile_rows * tile_rows;
          b.loop("t", loop::index(0), loop::index(full), tile_rows, [&](Expr t) { tile(t, tile_rows); });
          if (full != extent) tile(loop::index(full), static_cast<int>(extent - full));
        };
        const int64_t rest = tiled_.channels % tile_block_;
        if (rest == 0) return tiles(tile_block_);
        b.if_else(
            loop::compare(CompareOp::lt, t0 + loop::index(tile_block_), loop::index(tiled_.channels + 1)),
            [&] { tiles(tile_block_); }, [&] { tiles(rest); });
      });
    });
  }

  // --- Winograd

  // Outputs a tile along each axis, or 0.
  int64_t winograd_tile() const {
    if (l_.options.strict_math || op_->type.dtype != DType::f32 || groups_ != 1) return 0;
    if (rows_.window != 3 || columns_.window != 3) return 0;
    for (const Axis* a : {&rows_, &columns_})
      if (a->stride != 1 || a->dilation != 1) return 0;
    // Vector instructions for the examples of a vector: products, transposing (about 6 an example and pixel),
    // transforms.
    const auto vectors = [&](int64_t channels) { return static_cast<double>(ceil_div(channels, l_.width)); };
    const double examples = l_.width, pairs = static_cast<double>(tiled_.channels) * vectors(lanes_.channels);
    const auto pixels = static_cast<double>(g_shape_[1] * g_shape_[2]);
    double best = 9 * pixels * pairs * examples;
    int64_t choice = 0;
    for (const int64_t m : {2, 4}) {
      const auto tiles = static_cast<double>(ceil_div(g_shape_[1], m) * ceil_div(g_shape_[2], m));
      const auto points = static_cast<double>((m + 2) * (m + 2)), area = static_cast<double>(m * m);
      const double transposes = lanes_on_channels_ ? 9 * vectors(channels_) : 6 * vectors(outputs_);
      const double cost = tiles * examples *
                          (points * pairs + vectors(channels_) * 7 * points +
                           vectors(outputs_) * 5.5 * points + transposes * area);
      if (cost >= 0.9 * best) continue;
      best = cost;
      choice = m;
    }
    return choice;
  }

  int64_t examples_in(int64_t tiles) const { return tiles * l_.width; }
  int64_t patch_side(const Side& side, int64_t tiles) const {
    return side.operand == 1 ? tiles * m_ + 2 : tiles * m_;
  }
  int64_t strip_bytes(int64_t tiles) const {
    int64_t elements = 0;
    for (const Side* side : {&lanes_, &tiled_})
      elements += (patch_side(*side, 1) * patch_side(*side, tiles) + (m_ + 2) * (m_ + 2) * tiles) * l_.width *
                  side->padded;
    return elements * loop::bytes(scalar_);
  }

  void sum_panels_winograd() {
    const int64_t points = (m_ + 2) * (m_ + 2), t_blocks = ceil_div(tiled_.channels, tile_block_);
    const int64_t across = ceil_div(g_shape_[2], m_);
    int64_t tiles = 1;
    while (tiles < across && strip_bytes(tiles + 1) <= most_strip_bytes()) ++tiles;
    tiles = ceil_div(across, ceil_div(across, tiles));

    KernelBuilder kb(l_, name(""), op_->name());
    begin(kb);
    kb.flop = flop();
    kb.declare_written(partial_);
    loop::Builder& b = kb.b;
    int64_t scratch = 0;
    const auto own = [&](const std::string& what, int64_t elements) {
      const int a = l_.new_scratch(name(what.c_str()), scalar_, elements, scratch);
      kb.declare_written(a);
      return kb.buffer(a, true, AccessScope::anything);
    };
    for (Side* side : {&lanes_, &tiled_}) {
      const std::string which = side->operand == 1 ? " X" : " dY";
      if (side == &lanes_)
        side->scratch = own(which, patch_side(*side, 1) * patch_side(*side, tiles) * l_.width * side->padded);
      side->plane = plane_distance(examples_in(tiles) * side->padded);
      side->points = own(which + " points", points * side->plane);
    }
    const int64_t rows = ceil_div(tile_block_, 8) * 8, sums_plane = plane_distance(rows * block_);
    const loop::Buffer sums = own(" S", points * sums_plane);
    const loop::Buffer partial = kb.buffer(partial_, true, AccessScope::own_panels);
    const int64_t units = blocks_ * t_blocks;
    b.loop("u", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), 1, [&](Expr u) {
      const Expr q = b.let("q", u / loop::index(units));
      const Expr unit = b.let("part", loop::binary(BinaryOp::rem, u, loop::index(units)));
      const Expr block = b.let("block", unit / loop::index(t_blocks));
      const Expr t0 =
          b.let("t0", loop::binary(BinaryOp::rem, unit, loop::index(t_blocks)) * loop::index(tile_block_));
      b.loop("z", loop::index(0), loop::index(points * sums_plane), l_.width,
             [&](Expr z) { b.store(sums, z, loop::constant(vector_type(l_.width), 0)); });
      b.loop("s", loop::index(0), loop::index(kPanel / l_.width), 1, [&](Expr s) {
        const Expr exists = existing(kb, q, s);
        b.loop("y", loop::index(0), loop::index(g_shape_[1]), m_, [&](Expr y) {
          b.loop("x", loop::index(0), loop::index(across * m_), tiles * m_, [&](Expr x) {
            patch(kb, q, block * loop::index(block_), s, exists, y, x, tiles);
            transform_lanes(b, tiles);
            transform_tiled(kb, q, t0, s, exists, y, x, tiles);
            accumulate(b, sums, sums_plane, tiles, [&](const Expr& p) {
              for (const Side* side : {&lanes_, &tiled_})
                prefetch(kb, *side, q, side == &lanes_ ? block * loop::index(block_) : t0, s, y, x, tiles, p);
            });
          });
        });
      });
      finish_unit(b, sums, sums_plane, partial, (q * loop::index(blocks_) + block) * loop::index(unit_), t0);
    });
    l_.finish(kb, {loop::Partition::Extent::panels, units, 1});
  }

  // L's pixels of a strip of tiles, transposed to [row][x][example][channel]; zeros outside the image.
  void patch(KernelBuilder& kb, const Expr& q, const Expr& first, const Expr& s, const Expr& exists,
             const Expr& y, const Expr& x, int64_t tiles) {
    loop::Builder& b = kb.b;
    const bool is_input = lanes_.operand == 1;
    const Shape& shape = is_input ? x_shape_ : g_shape_;
    const int64_t wide = patch_side(lanes_, tiles), pixel = l_.width * lanes_.padded;
    const Expr top = is_input ? y - loop::index(rows_.padding) : y;
    const Expr left = is_input ? x - loop::index(columns_.padding) : x;
    b.loop("row", loop::index(0), loop::index(patch_side(lanes_, 1)), 1, [&](Expr row) {
      b.loop("column", loop::index(0), loop::index(wide), 1, [&](Expr column) {
        const Expr at_y = b.let("at_y", top + row), at_x = b.let("at_x", left + column);
        const auto within = [&](const Expr& at, int64_t extent) {
          return loop::binary(BinaryOp::bit_and, loop::compare(CompareOp::ge, at, loop::index(0)),
                              loop::compare(CompareOp::lt, at, loop::index(extent)));
        };
        const Expr inside = loop::binary(BinaryOp::bit_and, within(at_y, shape[1]), within(at_x, shape[2]));
        const Expr to = b.let("to", (row * loop::index(wide) + column) * loop::index(pixel));
        b.if_else(
            inside, [&] { transpose_pixel(kb, q, loop::index(0), first, s, exists, at_y, at_x, to); },
            [&] {
              b.loop("z", loop::index(0), loop::index(pixel), l_.width, [&](Expr z) {
                b.store(lanes_.scratch, to + z, loop::constant(vector_type(l_.width), 0));
              });
            });
      });
    });
  }

  // Prefetches some of the next strip's pixels; `p` is the point of (m_ + 2)^2 that is being worked on.
  void prefetch(KernelBuilder& kb, const Side& side, const Expr& q, const Expr& first, const Expr& s,
                const Expr& y, const Expr& x, int64_t tiles, const Expr& p) {
    loop::Builder& b = kb.b;
    const bool is_input = side.operand == 1;
    const Op* value = op_->operands[side.operand];
    const loop::Buffer buffer = kb.buffer(l_.storage(value).allocation, false, AccessScope::panel);
    const int64_t rows = patch_side(side, 1), pieces = (m_ + 2) * (m_ + 2) / rows;
    const int64_t pixels = ceil_div(tiles * m_, pieces);
    const Expr row = p / loop::index(pieces), piece = loop::binary(BinaryOp::rem, p, loop::index(pieces));
    const Expr at_y = is_input ? y + row - loop::index(rows_.padding) : y + row;
    const Expr next = x + loop::index(tiles * m_ + (is_input ? 2 - columns_.padding : 0));
    const Expr place = l_.element(value->type, {first, at_y, next + piece * loop::index(pixels)});
    const Expr from = b.let("ahead", (q * loop::index(value->type.elements()) + place) * loop::index(kPanel) +
                                         s * loop::index(l_.width));
    const Expr step = l_.element(value->type, {loop::index(0), loop::index(0), loop::index(1)});
    b.loop("pixel", loop::index(0), loop::index(pixels), 1, [&](Expr pixel) {
      b.loop("c", loop::index(0), loop::index(side.padded), 1,
             [&](Expr c) { b.prefetch(buffer, from + (pixel * step + c) * loop::index(kPanel)); });
    });
  }

  // A side's points from a square of its pixels, stored from `to` on.
  void transform(loop::Builder& b, const Side& side, const std::vector<std::vector<Expr>>& square,
                 const Expr& to) {
    WinogradTransform t(b, m_);
    const int64_t n = m_ + 2;
    const auto points = both(
        square, [&](const std::vector<Expr>& v) { return side.operand == 1 ? t.input(v) : t.gradient(v); });
    for (int64_t p = 0; p < n * n; ++p)
      b.store(side.points, to + loop::index(p * side.plane),
              points[static_cast<size_t>(p / n)][static_cast<size_t>(p % n)]);
  }

  // Transforms L's pixels: the points of every tile, example and vector of channels of a strip.
  void transform_lanes(loop::Builder& b, int64_t tiles) {
    const int64_t side = patch_side(lanes_, 1), wide = patch_side(lanes_, tiles);
    const int64_t pixel = l_.width * lanes_.padded;
    b.loop("tile", loop::index(0), loop::index(tiles), 1, [&](Expr tile) {
      b.loop("e", loop::index(0), loop::index(pixel), l_.width, [&](Expr e) {
        const Expr from = b.let("from", tile * loop::index(m_ * pixel) + e);
        std::vector<std::vector<Expr>> square(static_cast<size_t>(side));
        for (int64_t i = 0; i < side; ++i)
          for (int64_t j = 0; j < side; ++j)
            square[static_cast<size_t>(i)].push_back(
                b.let("d", loop::load(lanes_.scratch, from + loop::index((i * wide + j) * pixel), l_.width)));
        transform(b, lanes_, square, b.let("to", tile * loop::index(pixel) + e));
      });
    });
  }

  // Transforms T's pixels, read from the image in place: the points of every tile and channel of a strip, for the
  // examples of a vector.
  void transform_tiled(KernelBuilder& kb, const Expr& q, const Expr& t0, const Expr& s, const Expr& exists,
                       const Expr& y, const Expr& x, int64_t tiles) {
    loop::Builder& b = kb.b;
    const bool is_input = tiled_.operand == 1;
    const Type& type = op_->operands[tiled_.operand]->type;
    const loop::Buffer image =
        kb.buffer(l_.storage(op_->operands[tiled_.operand]).allocation, false, AccessScope::panel);
    ImagePatch::Window window{patch_side(tiled_, 1), {0, 0}, {0, 0}};
    if (is_input) window.padding = {rows_.padding, columns_.padding};
    window.last = {(ceil_div(g_shape_[1], m_) - 1) * m_,
                   (ceil_div(ceil_div(g_shape_[2], m_), tiles) * tiles - 1) * m_};
    b.loop("tile", loop::index(0), loop::index(tiles), 1, [&](Expr tile) {
      const ImagePatch patch(l_, b, image, type, window, q, y, b.let("x0", x + tile * loop::index(m_)));
      b.loop("t", loop::index(0), loop::index(tiled_.padded), 1, [&](Expr t) {
        const Expr channel = l_.element(type, {some_channel(tiled_, t0 + t), loop::index(0), loop::index(0)});
        const Expr ahead =
            l_.element(type, {t0 + t + loop::index(kChannelsAhead), loop::index(0), loop::index(0)});
        std::vector<std::vector<Expr>> square =
            patch.load(b.let("channel", channel * loop::index(kPanel) + s * loop::index(l_.width)));
        patch.prefetch(b.let("ahead", ahead * loop::index(kPanel) + s * loop::index(l_.width)));
        for (std::vector<Expr>& row : square)
          for (Expr& v : row) v = b.let("d", existing_only(tiled_, v, exists));
        transform(b, tiled_, square,
                  b.let("to", (tile * loop::index(tiled_.padded) + t) * loop::index(l_.width)));
      });
    });
  }

  // S[point][t][l] += sum over tiles and examples.
  template <class F>
  void accumulate(loop::Builder& b, const loop::Buffer& sums, int64_t sums_plane, int64_t tiles,
                  F&& prefetch) {
    const int many = l_.options.machine.registers >= 32 ? 8 : 4, rows = vectors_ == 1 ? 2 * many : many;
    b.loop("p", loop::index(0), loop::index((m_ + 2) * (m_ + 2)), 1, [&](Expr p) {
      prefetch(p);
      const auto tile = [&](const Expr& t, int count, const Expr& l, int vectors) {
        const Expr at = b.let("at", p * loop::index(sums_plane) + t * loop::index(block_) + l);
        const Expr from_lanes = b.let("from_lanes", p * loop::index(lanes_.plane) + l);
        const Expr from_tiled =
            b.let("from_tiled", p * loop::index(tiled_.plane) + t * loop::index(l_.width));
        const auto place = [&](int i, int j) { return at + loop::index(i * block_ + j * l_.width); };
        Accumulators acc(b, count, vectors,
                         [&](int, int) { return loop::constant(vector_type(l_.width), 0); });
        b.loop("tile", loop::index(0), loop::index(tiles), 1, [&](Expr tile) {
          const Expr lanes = b.let("lanes", from_lanes + tile * loop::index(l_.width * lanes_.padded));
          const Expr tiled = b.let("tiled", from_tiled + tile * loop::index(l_.width * tiled_.padded));
          b.loop("e", loop::index(0), loop::index(l_.width), 1, [&](Expr e) {
            // Prefetch a line of the next sums: example e's turn takes that of vector e.
            const Expr row = loop::index(rows) + e / loop::index(vectors);
            const Expr vector = loop::binary(BinaryOp::rem, e, loop::index(vectors));
            b.prefetch(sums, at + row * loop::index(block_) + vector * loop::index(l_.width));
            acc.multiply_add(
                [&](int i) { return loop::load(tiled_.points, tiled + loop::index(i * l_.width) + e); },
                [&](int j) {
                  return loop::load(lanes_.points,
                                    lanes + e * loop::index(lanes_.padded) + loop::index(j * l_.width),
                                    l_.width);
                });
          });
        });
        acc.add_to(sums, place);
      };
      const auto row_of_tiles = [&](const Expr& t, int count) {
        const int64_t step = vectors_ * l_.width, full = block_ / step * step;
        b.loop("l", loop::index(0), loop::index(full), step, [&](Expr l) { tile(t, count, l, vectors_); });
        if (full != block_) tile(t, count, loop::index(full), static_cast<int>((block_ - full) / l_.width));
      };
      const int64_t full = tile_block_ / rows * rows;
      b.loop("t", loop::index(0), loop::index(full), rows, [&](Expr t) { row_of_tiles(t, rows); });
      if (full != tile_block_) row_of_tiles(loop::index(full), static_cast<int>(tile_block_ - full));
    });
  }

  // partial[k][t][l] = G^T S G.
  void finish_unit(loop::Builder& b, const loop::Buffer& sums, int64_t sums_plane,
                   const loop::Buffer& partial, const Expr& mine, const Expr& t0) {
    WinogradTransform transform(b, m_);
    const int64_t n = m_ + 2;
    const Expr end = tiled_.channels % tile_block_
                         ? minimum(loop::index(tile_block_), loop::index(tiled_.channels) - t0)
                         : loop::index(tile_block_);
    b.loop("t", loop::index(0), end, 1, [&](Expr t) {
      b.loop("l", loop::index(0), loop::index(block_), l_.width, [&](Expr l) {
        const Expr from = b.let("from", t * loop::index(block_) + l);
        std::vector<std::vector<Expr>> square(static_cast<size_t>(n));
        for (int64_t p = 0; p < n * n; ++p)
          square[static_cast<size_t>(p / n)].push_back(
              b.let("s", loop::load(sums, from + loop::index(p * sums_plane), l_.width)));
        const auto taps =
            both(square, [&](const std::vector<Expr>& v) { return transform.weight_gradient(v); });
        for (int64_t k = 0; k < 9; ++k)
          b.store(partial, mine + (loop::index(k * tiled_.channels) + t0 + t) * loop::index(block_) + l,
                  taps[static_cast<size_t>(k / 3)][static_cast<size_t>(k % 3)]);
      });
    });
  }

  // The second call: result[o][c][kh][kw] = the partial sums of all panels, in order. A block's sums are computed in
  // vectors into scratch memory, then stored one by one in the order of the result, where those of a channel are
  // consecutive. Scattering the vectors to the result takes a third longer (VGG's largest: 0.95 ms against 0.69).
  void add_panels() {
    const std::vector<int>& targets = l_.targets.at(op_);
    KernelBuilder kb(l_, name("_sum"), "sum of partial weight gradients");
    begin(kb);
    for (int t : targets) kb.declare_written(t);
    const loop::Buffer partial = kb.buffer(partial_, false, AccessScope::anything);
    // Strides in the result between neighbouring lanes, and between neighbouring channels of the tiled operand.
    const int64_t window = out_[2] * out_[3];
    const int64_t lane_step = lanes_on_channels_ ? window : channels_ * window;
    const int64_t tile_step = lanes_on_channels_ ? channels_ * window : window;
    const int64_t group_step = outputs_ * channels_ * window;
    int64_t bytes = 0;
    const int scratch = l_.new_scratch(name(" block"), scalar_, window * block_, bytes);
    kb.declare_written(scratch);
    const loop::Buffer sums = kb.buffer(scratch, true, AccessScope::anything);
    loop::Builder& b = kb.b;
    b.loop("t", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), 1, [&](Expr t) {
      b.loop("group", loop::index(0), loop::index(groups_), 1, [&](Expr group) {
        b.loop("block", loop::index(0), loop::index(blocks_), 1, [&](Expr block) {
          b.loop("k", loop::index(0), loop::index(window), 1, [&](Expr k) {
            b.loop("j", loop::index(0), loop::index(block_), l_.width, [&](Expr j) {
              const loop::Variable sum = b.declare("sum", loop::constant(vector_type(l_.width), 0));
              const Expr from =
                  b.let("from", (k * loop::index(tiled_.channels) + t) * loop::index(block_) + j);
              b.loop("q", loop::index(0), loop::ref(b.predefined().panels), 1, [&](Expr q) {
                const Expr unit = (q * loop::index(groups_) + group) * loop::index(blocks_) + block;
                b.assign(sum,
                         loop::ref(sum) + loop::load(partial, unit * loop::index(unit_) + from, l_.width));
              });
              b.store(sums, k * loop::index(block_) + j, loop::ref(sum));
            });
          });
          const Expr first_lane = block * loop::index(block_);
          const Expr lanes = lanes_.channels % block_
                                 ? minimum(loop::index(block_), loop::index(lanes_.channels) - first_lane)
                                 : loop::index(block_);
          b.loop("lane", loop::index(0), lanes, 1, [&](Expr lane) {
            const Expr first =
                b.let("first", group * loop::index(group_step) +
                                   (first_lane + lane) * loop::index(lane_step) + t * loop::index(tile_step));
            b.loop("k", loop::index(0), loop::index(window), 1, [&](Expr k) {
              const Expr sum = b.let("sum", loop::load(sums, k * loop::index(block_) + lane));
              for (int target : targets)
                b.store(kb.buffer(target, true, AccessScope::anything), first + k, sum);
            });
          });
        });
      });
    });
    l_.finish(kb, {loop::Partition::Extent::fixed, tiled_.channels, 1});
  }

  bool lanes_on_channels_ = true;  // else on outputs
  Side lanes_{}, tiled_{};
  int vectors_ = 1;
  int64_t block_ = 0, blocks_ = 0;  // lanes a block, blocks
  int64_t tile_block_ = 0;          // channels of the tiled side at once
  int64_t band_ = 1;                // output rows at once
  int64_t m_ = 0;                   // Winograd: outputs a tile along each axis; 0: by the definition
  int64_t unit_ = 0;                // partial sums of one panel, group and block
};

}  // namespace

void lower_weight_gradient(Lowering& lowering, const KernelGroup& group) {
  GRADC_CHECK(group.ops.size() == 1, "conv2d_weight_grad carries no epilogue");
  WeightGradient(lowering, group.ops.front()).run();
}

}  // namespace gradc::passes::lowering
