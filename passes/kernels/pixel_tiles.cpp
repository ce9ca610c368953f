#include "passes/kernels/pixel_tiles.h"

#include <algorithm>

namespace gradc::passes::lowering {

std::optional<PixelTiles> pixel_tiles(const Axis& axis, bool back, int64_t most, int64_t work) {
  constexpr int64_t kMostInstructions = 256, kMostBodies = 8;  // of one body, of bodies
  PixelTiles tiles{axis, back, 1};
  const int64_t step = back ? axis.stride : 1;
  if (axis.window > kMostInstructions) return std::nullopt;
  most = std::min(most, kMostInstructions / (work * axis.window)) / step * step;
  if (most < 1) return std::nullopt;
  const int64_t points = tiles.points();
  tiles.tile = std::min(most, ceil_div(ceil_div(points, ceil_div(points, most)), step) * step);
  if (tiles.bodies() > kMostBodies) return std::nullopt;
  return tiles;
}

}  // namespace gradc::passes::lowering
