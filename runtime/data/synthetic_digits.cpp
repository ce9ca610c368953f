// Draws digits as strokes: lines and quadratic curves, shaken, bent by a random affine map, inked with a
// random pen, with noise.
#include "runtime/data/synthetic_digits.h"

#include <algorithm>
#include <array>

#include "support/philox.h"

namespace gradc::runtime {
namespace {

// Lengths on the canvas are in 1/256 pixel; factors have 16 fractional bits.
constexpr int64_t kPixel = 256;
constexpr int64_t kOne = 65536;
constexpr int kCurvePieces = 5;
// The random stream of the drawings, different from those of model files.
constexpr uint32_t kStream = 0x44494754;

struct Point {
  int64_t x = 0, y = 0;
};

// One stroke on a board of 100 x 100, y downwards: a start, then pieces, each a quadratic curve by its
// control point and its end; a straight piece has its control point in the middle.
struct Stroke {
  Point start;
  std::vector<std::array<Point, 2>> pieces;
};
using Glyph = std::vector<Stroke>;

Stroke lines(const std::vector<Point>& points) {
  Stroke stroke{points[0], {}};
  for (size_t i = 1; i < points.size(); ++i) {
    const Point a = points[i - 1], b = points[i];
    stroke.pieces.push_back({Point{(a.x + b.x) / 2, (a.y + b.y) / 2}, b});
  }
  return stroke;
}

// points: start, then control and end of each piece.
Stroke curves(const std::vector<Point>& points) {
  Stroke stroke{points[0], {}};
  for (size_t i = 1; i + 1 < points.size(); i += 2) stroke.pieces.push_back({points[i], points[i + 1]});
  return stroke;
}

// The ways people write each digit.
const std::array<std::vector<Glyph>, 10>& glyphs() {
  static const std::array<std::vector<Glyph>, 10> table = {{
      // 0
      {{curves({{50, 0}, {88, 0}, {88, 50}, {88, 100}, {50, 100}, {12, 100}, {12, 50}, {12, 0}, {50, 0}})},
       {curves({{60, 4}, {20, -6}, {14, 46}, {10, 102}, {48, 100}, {90, 98}, {86, 44}, {82, 2}, {48, 6}})}},
      // 1
      {{lines({{50, 0}, {50, 100}})},
       {lines({{30, 24}, {55, 0}, {55, 100}})},
       {lines({{30, 24}, {52, 0}, {52, 100}}), lines({{24, 100}, {80, 100}})}},
      // 2
      {{curves({{14, 26}, {18, 0}, {50, 0}, {88, 0}, {82, 30}, {76, 55}, {12, 100}, {50, 100}, {90, 100}})},
       {curves({{16, 20},
                {30, -4},
                {56, 2},
                {86, 8},
                {76, 42},
                {64, 72},
                {30, 96},
                {4, 104},
                {14, 84},
                {30, 66},
                {90, 98}})}},
      // 3
      {{curves({{18, 12},
                {30, 0},
                {50, 0},
                {85, 0},
                {82, 25},
                {78, 46},
                {45, 48},
                {88, 50},
                {86, 75},
                {82, 100},
                {48, 100},
                {25, 100},
                {12, 86}})},
       {curves({{16, 2}, {50, 2}, {82, 2}, {60, 24}, {44, 42}, {92, 44}, {86, 76}, {78, 104}, {14, 94}})}},
      // 4
      {{lines({{62, 0}, {10, 66}, {92, 66}}), lines({{68, 30}, {68, 100}})},
       {lines({{20, 0}, {14, 52}, {86, 52}}), lines({{76, 0}, {74, 100}})},
       {lines({{72, 100}, {72, 0}, {10, 64}, {94, 64}})}},
      // 5
      {{curves({{82, 0},
                {52, 0},
                {25, 0},
                {22, 20},
                {20, 42},
                {50, 30},
                {72, 42},
                {95, 58},
                {80, 82},
                {65, 102},
                {40, 100},
                {22, 98},
                {12, 86}})},
       {curves({{22, 4}, {20, 24}, {18, 46}, {88, 36}, {84, 74}, {78, 102}, {14, 98}}),
        lines({{22, 4}, {86, 0}})}},
      // 6
      {{curves({{70, 2},
                {20, 20},
                {15, 65},
                {12, 100},
                {50, 100},
                {86, 100},
                {86, 72},
                {86, 45},
                {52, 45},
                {22, 45},
                {16, 70}})},
       {curves({{46, 0},
                {16, 40},
                {16, 72},
                {18, 102},
                {52, 100},
                {84, 96},
                {80, 72},
                {74, 52},
                {46, 56},
                {22, 62},
                {18, 82}})}},
      // 7
      {{curves({{12, 2}, {50, 2}, {88, 2}, {60, 40}, {42, 100}})},
       {curves({{12, 2}, {50, 2}, {88, 2}, {60, 40}, {42, 100}}), lines({{30, 52}, {78, 52}})},
       {lines({{10, 18}, {12, 2}, {86, 4}, {38, 100}})}},
      // 8
      {{curves({{50, 48},
                {14, 40},
                {18, 20},
                {22, 0},
                {50, 0},
                {80, 0},
                {82, 20},
                {84, 38},
                {50, 48},
                {10, 58},
                {12, 78},
                {14, 100},
                {50, 100},
                {88, 100},
                {88, 78},
                {88, 58},
                {50, 48}})},
       {curves({{80, 10},
                {50, -8},
                {26, 12},
                {14, 32},
                {50, 50},
                {92, 70},
                {78, 90},
                {50, 110},
                {22, 90},
                {8, 70},
                {50, 48},
                {90, 28},
                {78, 8}})}},
      // 9
      {{curves({{82, 32},
                {80, 55},
                {48, 55},
                {14, 55},
                {14, 28},
                {16, 0},
                {50, 0},
                {84, 0},
                {83, 32},
                {82, 70},
                {62, 100}})},
       {curves({{80, 26}, {70, 58}, {38, 50}, {10, 40}, {20, 16}, {34, -6}, {66, 2}, {80, 6}, {80, 26}}),
        lines({{80, 26}, {78, 100}})}},
  }};
  return table;
}

// Random words of one example, in order of use.
class DigitDraws {
 public:
  DigitDraws(uint64_t seed, uint32_t split, uint64_t index)
      : counter_{0, static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32) ^ split << 24, kStream},
        key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)} {}

  uint32_t word() {
    if (used_ == 4) {
      words_ = philox4x32_10(counter_, key_[0], key_[1]);
      ++counter_[0];
      used_ = 0;
    }
    return words_[used_++];
  }
  // Even over low..high.
  int64_t even(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(uint64_t{word()} * static_cast<uint64_t>(high - low + 1) >> 32);
  }
  // Around the middle of low..high, the ends rare: the mean of three even draws.
  int64_t around(int64_t low, int64_t high) {
    return (even(low, high) + even(low, high) + even(low, high)) / 3;
  }

 private:
  PhiloxWords counter_, words_{};
  std::array<uint32_t, 2> key_;
  uint32_t used_ = 4;
};

// x' = a x + b y + dx, y' = c x + d y + dy: from the board, its middle at 0, to the canvas.
struct Affine {
  int64_t a, b, c, d, dx, dy;
  Point operator()(Point p) const {
    return {(a * p.x + b * p.y) / kOne + dx, (c * p.x + d * p.y) / kOne + dy};
  }
};

Affine random_affine(DigitDraws& draws) {
  // Rotation by the angle whose half has tangent t: up to about 30 degrees, mostly far less.
  const int64_t t = draws.around(-kOne * 27 / 100, kOne * 27 / 100);
  const int64_t t2 = t * t / kOne;
  const int64_t cosine = (kOne - t2) * kOne / (kOne + t2);
  const int64_t sine = 2 * t * kOne / (kOne + t2);
  const int64_t shear = draws.around(-kOne * 45 / 100, kOne * 45 / 100);
  // The board's 100 units become 14 to 24 pixels in height and 8 to 21 in width, mostly near the middle.
  const int64_t height = draws.around(kOne * kPixel * 14 / 100, kOne * kPixel * 24 / 100);
  const int64_t width = draws.around(kOne * kPixel * 8 / 100, kOne * kPixel * 21 / 100);
  const int64_t xx = width, xy = -shear * (height / 256) / (kOne / 256), yy = height;
  Affine map{};
  map.a = cosine * (xx / 256) / (kOne / 256);
  map.b = (cosine * (xy / 256) - sine * (yy / 256)) / (kOne / 256);
  map.c = sine * (xx / 256) / (kOne / 256);
  map.d = (sine * (xy / 256) + cosine * (yy / 256)) / (kOne / 256);
  map.dx = kPixel * kDigitSide / 2 + draws.around(-kPixel * 4, kPixel * 4);
  map.dy = kPixel * kDigitSide / 2 + draws.around(-kPixel * 4, kPixel * 4);
  return map;
}

// Inks the line from a to b: full within radius - 1/2 pixel of it, nothing beyond radius + 1/2.
void draw_line(Point a, Point b, int64_t radius, std::array<uint8_t, kDigitPixels>& canvas) {
  const int64_t outer = radius + kPixel / 2, inner = std::max<int64_t>(radius - kPixel / 2, 0);
  const int64_t outer2 = outer * outer, inner2 = inner * inner;
  const int64_t limit = kDigitSide - 1;
  const int64_t x0 = std::clamp<int64_t>((std::min(a.x, b.x) - outer) / kPixel, 0, limit);
  const int64_t x1 = std::clamp<int64_t>((std::max(a.x, b.x) + outer) / kPixel, 0, limit);
  const int64_t y0 = std::clamp<int64_t>((std::min(a.y, b.y) - outer) / kPixel, 0, limit);
  const int64_t y1 = std::clamp<int64_t>((std::max(a.y, b.y) + outer) / kPixel, 0, limit);
  const int64_t vx = b.x - a.x, vy = b.y - a.y, length2 = vx * vx + vy * vy;
  for (int64_t y = y0; y <= y1; ++y)
    for (int64_t x = x0; x <= x1; ++x) {
      const int64_t px = x * kPixel + kPixel / 2 - a.x, py = y * kPixel + kPixel / 2 - a.y;
      const int64_t along = px * vx + py * vy;
      int64_t distance2;
      if (along <= 0) {
        distance2 = px * px + py * py;
      } else if (along >= length2) {
        distance2 = (px - vx) * (px - vx) + (py - vy) * (py - vy);
      } else {
        const int64_t cross = px * vy - py * vx;
        distance2 = cross * cross / length2;
      }
      if (distance2 >= outer2) continue;
      const int64_t ink = distance2 <= inner2 ? 255 : 255 * (outer2 - distance2) / (outer2 - inner2);
      uint8_t& pixel = canvas[static_cast<size_t>(y * kDigitSide + x)];
      pixel = std::max(pixel, static_cast<uint8_t>(ink));
    }
}

void draw_glyph(const Glyph& glyph, DigitDraws& draws, std::array<uint8_t, kDigitPixels>& canvas) {
  const Affine map = random_affine(draws);
  const int64_t radius = draws.around(kPixel * 30 / 100, kPixel * 190 / 100);
  const int64_t shake = draws.even(2, 12);
  const auto placed = [&](Point p) {
    return map({p.x - 50 + draws.around(-shake, shake), p.y - 50 + draws.around(-shake, shake)});
  };
  for (const Stroke& stroke : glyph) {
    Point start = placed(stroke.start);
    for (const auto& piece : stroke.pieces) {
      const Point control = placed(piece[0]), end = placed(piece[1]);
      Point last = start;
      for (int64_t k = 1; k <= kCurvePieces; ++k) {
        const int64_t u = kCurvePieces - k, n2 = kCurvePieces * kCurvePieces;
        const Point next = {(u * u * start.x + 2 * k * u * control.x + k * k * end.x) / n2,
                            (u * u * start.y + 2 * k * u * control.y + k * k * end.y) / n2};
        draw_line(last, next, radius, canvas);
        last = next;
      }
      start = end;
    }
  }
}

}  // namespace

DigitImages make_synthetic_digits(uint64_t seed, uint32_t split, int64_t count) {
  DigitImages result;
  result.images.resize(static_cast<size_t>(count) * kDigitPixels);
  result.labels.resize(static_cast<size_t>(count));
  for (int64_t index = 0; index < count; ++index) {
    DigitDraws draws(seed, split, static_cast<uint64_t>(index));
    const auto label = static_cast<size_t>(draws.even(0, 9));
    const auto& ways = glyphs()[label];
    std::array<uint8_t, kDigitPixels> canvas{};
    draw_glyph(ways[static_cast<size_t>(draws.even(0, static_cast<int64_t>(ways.size()) - 1))], draws,
               canvas);
    const int64_t ink = draws.even(130, 255), noise = draws.even(0, 70);
    uint8_t* image = result.images.data() + static_cast<size_t>(index) * kDigitPixels;
    for (int pixel = 0; pixel < kDigitPixels; pixel += 4) {
      const uint32_t word = draws.word();
      for (int k = 0; k < 4; ++k) {
        const int64_t grain = (static_cast<int64_t>(word >> (8 * k) & 255) - 128) * noise / 128;
        const int at = pixel + k;
        image[at] = static_cast<uint8_t>(
            std::clamp<int64_t>(canvas[static_cast<size_t>(at)] * ink / 255 + grain, 0, 255));
      }
    }
    result.labels[static_cast<size_t>(index)] = static_cast<int32_t>(label);
  }
  return result;
}

}  // namespace gradc::runtime
