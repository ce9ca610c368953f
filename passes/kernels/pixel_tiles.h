// Tiles over several points of an image row, for window operations whose tile over channels would be short:
// groups of few channels (depthwise convolutions: one), first layers. The column of the other image that a point and a
// window position access is known when the kernel is generated. So every column is loaded once for all points and
// positions that use it, and only tiles at the borders skip positions.
//
//   stride 1, window 3, tile of 4:    points      0   1   2   3
//                                     columns  0   1   2   3   4   5     (6 loads for 12 multiply-adds)
#pragma once
#include <optional>

#include "passes/kernels/window.h"

namespace gradc::passes::lowering {

// Points along one axis of an image, and the columns of the other image that window positions take them to:
// from outputs to inputs, or back, where only every stride-th position has an output.
struct PixelTiles {
  Axis axis;
  bool back = false;  // points are inputs, columns outputs
  int64_t tile = 1;   // points at once; with `back` a multiple of the stride

  int64_t points() const { return back ? axis.in : axis.out; }
  int64_t columns() const { return back ? axis.out : axis.in; }
  // The column of a tile's first point at window position 0, without padding; `x` is that point.
  loop::Expr base(const loop::Expr& x) const {
    return back ? x / loop::index(axis.stride) : x * loop::index(axis.stride);
  }
  int64_t base(int64_t x) const { return back ? x / axis.stride : x * axis.stride; }
  // The column, counted from the tile's base, that point i of a tile accesses at window position k; none where there is
  // no output.
  std::optional<int64_t> offset(int64_t i, int64_t k) const {
    if (!back) return i * axis.stride + k * axis.dilation - axis.padding;
    const int64_t scaled = i + axis.padding - k * axis.dilation;
    const int64_t rest = (scaled % axis.stride + axis.stride) % axis.stride;
    return rest ? std::nullopt : std::optional<int64_t>(scaled / axis.stride);
  }
  // The same, but none outside the image; `first` is the tile's first point where it is known.
  std::optional<int64_t> inside(std::optional<int64_t> first, int64_t i, int64_t k) const {
    const std::optional<int64_t> at = offset(i, k);
    if (!at || !first) return at;
    const int64_t column = base(*first) + *at;
    return column >= 0 && column < columns() ? at : std::nullopt;
  }

  // Calls body(first point, its number where it is known, points) for the tiles of a row, in order: once for each tile
  // at a border, and once in a loop over all others.
  template <class F>
  void each(loop::Builder& b, F&& body) const {
    const int64_t full = points() / tile, all = ceil_div(points(), tile);
    int64_t begin = 0, end = full;
    while (begin < end && !interior(begin * tile)) ++begin;
    while (end > begin && !interior((end - 1) * tile)) --end;
    const auto border = [&](int64_t t) {
      body(loop::index(t * tile), std::optional<int64_t>(t * tile), std::min(tile, points() - t * tile));
    };
    for (int64_t t = 0; t < begin; ++t) border(t);
    if (begin < end)
      b.loop("x", loop::index(begin * tile), loop::index(end * tile), tile,
             [&](loop::Expr x) { body(x, std::optional<int64_t>(), tile); });
    for (int64_t t = end; t < all; ++t) border(t);
  }
  // Copies of the body that each() makes.
  int64_t bodies() const {
    int64_t inner = 0;
    for (int64_t t = 0; t < points() / tile; ++t) inner += interior(t * tile) ? 1 : 0;
    return ceil_div(points(), tile) - inner + (inner ? 1 : 0);
  }

 private:
  bool interior(int64_t x) const {
    for (int64_t i = 0; i < tile; ++i)
      for (int64_t k = 0; k < axis.window; ++k)
        if (offset(i, k) && !inside(x, i, k)) return false;
    return true;
  }
};

// Tiles of at most `most` points, of equal width where that takes no more tiles; none where a kernel would become too
// large, with `work` instructions a point and window position.
std::optional<PixelTiles> pixel_tiles(const Axis& axis, bool back, int64_t most, int64_t work);

}  // namespace gradc::passes::lowering
