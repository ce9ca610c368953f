// Operations on images, pixel by pixel.
#include "runtime/data/image_ops.h"

#include <algorithm>
#include <cmath>

#include "support/check.h"

namespace gradc::runtime {
namespace {

float unit(float v) { return std::clamp(v, 0.0f, 1.0f); }

// Two neighbours and the second's weight for the source position `at` of an axis, clamped to its ends.
struct Tap {
  int64_t first, second;
  float weight;
};

Tap tap(double at, int64_t extent) {
  const double position = std::clamp(at - 0.5, 0.0, static_cast<double>(extent - 1));
  const auto first = static_cast<int64_t>(position);
  return {first, std::min(first + 1, extent - 1), static_cast<float>(position - static_cast<double>(first))};
}

}  // namespace

void flip_horizontal(Image& image) {
  for (int64_t r = 0; r < image.channels * image.height; ++r) {
    float* row = image.values.data() + r * image.width;
    std::reverse(row, row + image.width);
  }
}

void flip_vertical(Image& image) {
  for (int64_t c = 0; c < image.channels; ++c)
    for (int64_t y = 0; y < image.height / 2; ++y)
      std::swap_ranges(image.row(c, y), image.row(c, y) + image.width, image.row(c, image.height - 1 - y));
}

Box inside(const Image& image, const Box& box) {
  const int64_t top = std::max<int64_t>(box.top, 0), left = std::max<int64_t>(box.left, 0);
  return {top, left, std::max<int64_t>(std::min(box.top + box.height, image.height) - top, 0),
          std::max<int64_t>(std::min(box.left + box.width, image.width) - left, 0)};
}

Image crop(const Image& image, const Box& box) {
  Image result(image.channels, box.height, box.width);
  const Box part = inside(image, box);
  for (int64_t c = 0; c < image.channels; ++c)
    for (int64_t y = 0; y < part.height; ++y) {
      const float* from = image.row(c, part.top + y) + part.left;
      std::copy(from, from + part.width, result.row(c, part.top - box.top + y) + (part.left - box.left));
    }
  return result;
}

Image resized_crop(const Image& image, const Box& box, int64_t height, int64_t width) {
  Image result(image.channels, height, width);
  std::vector<Tap> columns;
  for (int64_t x = 0; x < width; ++x)
    columns.push_back(
        tap((static_cast<double>(x) + 0.5) * static_cast<double>(box.width) / static_cast<double>(width),
            box.width));
  for (int64_t y = 0; y < height; ++y) {
    const Tap r =
        tap((static_cast<double>(y) + 0.5) * static_cast<double>(box.height) / static_cast<double>(height),
            box.height);
    for (int64_t c = 0; c < image.channels; ++c) {
      const float* upper = image.row(c, box.top + r.first) + box.left;
      const float* lower = image.row(c, box.top + r.second) + box.left;
      float* out = result.row(c, y);
      for (int64_t x = 0; x < width; ++x) {
        const Tap& t = columns[static_cast<size_t>(x)];
        const float a = upper[t.first] + t.weight * (upper[t.second] - upper[t.first]);
        const float b = lower[t.first] + t.weight * (lower[t.second] - lower[t.first]);
        out[x] = a + r.weight * (b - a);
      }
    }
  }
  return result;
}

Box middle_box(const Image& image, int64_t height, int64_t width) {
  Box box{0, 0, image.height, image.width};
  const int64_t by_height = image.height * width, by_width = image.width * height;
  if (by_height < by_width) box.width = std::max<int64_t>((by_height + height / 2) / height, 1);
  if (by_height > by_width) box.height = std::max<int64_t>((by_width + width / 2) / width, 1);
  box.top = (image.height - box.height) / 2;
  box.left = (image.width - box.width) / 2;
  return box;
}

Affine Affine::then(const Affine& n) const {
  return {n.a * a + n.b * c, n.a * b + n.b * d,          n.c * a + n.d * c,
          n.c * b + n.d * d, n.a * tx + n.b * ty + n.tx, n.c * tx + n.d * ty + n.ty};
}

Affine Affine::inverse() const {
  const double det = a * d - b * c;
  GRADC_CHECK(det != 0, "a map without inverse");
  const Affine m{d / det, -b / det, -c / det, a / det, 0, 0};
  return {m.a, m.b, m.c, m.d, -(m.a * tx + m.b * ty), -(m.c * tx + m.d * ty)};
}

Image transformed(const Image& image, const Affine& map) {
  Image result(image.channels, image.height, image.width);
  const Affine back = map.inverse();
  const double middle_x = (static_cast<double>(image.width) - 1) / 2,
               middle_y = (static_cast<double>(image.height) - 1) / 2;
  const auto at = [&](int64_t c, int64_t y, int64_t x) {
    return x < 0 || y < 0 || x >= image.width || y >= image.height ? 0.0f : image.row(c, y)[x];
  };
  for (int64_t y = 0; y < image.height; ++y)
    for (int64_t x = 0; x < image.width; ++x) {
      const double rx = static_cast<double>(x) - middle_x, ry = static_cast<double>(y) - middle_y;
      const double sx = back.a * rx + back.b * ry + back.tx + middle_x,
                   sy = back.c * rx + back.d * ry + back.ty + middle_y;
      if (sx <= -1 || sy <= -1 || sx >= static_cast<double>(image.width) ||
          sy >= static_cast<double>(image.height))
        continue;
      const double left = std::floor(sx), top = std::floor(sy);
      const auto ix = static_cast<int64_t>(left), iy = static_cast<int64_t>(top);
      const auto wx = static_cast<float>(sx - left), wy = static_cast<float>(sy - top);
      for (int64_t c = 0; c < image.channels; ++c) {
        const float a = at(c, iy, ix) + wx * (at(c, iy, ix + 1) - at(c, iy, ix));
        const float b = at(c, iy + 1, ix) + wx * (at(c, iy + 1, ix + 1) - at(c, iy + 1, ix));
        result.row(c, y)[x] = a + wy * (b - a);
      }
    }
  return result;
}

float grey(const Image& image, int64_t pixel) {
  const auto size = static_cast<size_t>(image.height * image.width), at = static_cast<size_t>(pixel);
  const float* v = image.values.data();
  if (image.channels == 1) return v[at];
  if (image.channels == 3) return 0.299f * v[at] + 0.587f * v[size + at] + 0.114f * v[2 * size + at];
  float sum = 0;
  for (size_t c = 0; c < static_cast<size_t>(image.channels); ++c) sum += v[c * size + at];
  return sum / static_cast<float>(image.channels);
}

void scale_brightness(Image& image, float factor) {
  for (float& v : image.values) v = unit(v * factor);
}

void scale_contrast(Image& image, float factor) {
  const int64_t pixels = image.height * image.width;
  double sum = 0;
  for (int64_t i = 0; i < pixels; ++i) sum += grey(image, i);
  const auto mean = static_cast<float>(sum / static_cast<double>(pixels));
  for (float& v : image.values) v = unit(mean + factor * (v - mean));
}

void scale_saturation(Image& image, float factor) {
  const int64_t pixels = image.height * image.width;
  for (int64_t i = 0; i < pixels; ++i) {
    const float g = grey(image, i);
    for (int64_t c = 0; c < image.channels; ++c) {
      float& v = image.values[static_cast<size_t>(c * pixels + i)];
      v = unit(g + factor * (v - g));
    }
  }
}

// Through hue, saturation and value (Smith 1978, "Color gamut transform pairs").
void turn_hue(Image& image, float turn) {
  GRADC_CHECK(image.channels == 3, "{} channels", image.channels);
  const auto pixels = static_cast<size_t>(image.height * image.width);
  float *red = image.values.data(), *green = red + pixels, *blue = green + pixels;
  for (size_t i = 0; i < pixels; ++i) {
    const float r = red[i], g = green[i], b = blue[i];
    const float high = std::max({r, g, b}), low = std::min({r, g, b}), range = high - low;
    if (range <= 0) continue;  // grey has no hue
    // In sixths of the circle, red at 0.
    float hue = high == r ? (g - b) / range : high == g ? 2 + (b - r) / range : 4 + (r - g) / range;
    hue += 6 * turn;
    hue -= 6 * std::floor(hue / 6);
    // A channel is `high` within a sixth of its own hue, falls to `low` over the next.
    const auto channel = [&](float own) {
      float away = std::fabs(hue - own);
      away = std::min(away, 6 - away);
      return low + range * std::clamp(2 - away, 0.0f, 1.0f);
    };
    red[i] = unit(channel(0));
    green[i] = unit(channel(2));
    blue[i] = unit(channel(4));
  }
}

void add_colour(Image& image, const std::array<float, 3>& offset) {
  GRADC_CHECK(image.channels == 3, "{} channels", image.channels);
  const auto pixels = static_cast<size_t>(image.height * image.width);
  for (size_t c = 0; c < 3; ++c)
    for (size_t i = 0; i < pixels; ++i) {
      float& v = image.values[c * pixels + i];
      v = unit(v + offset[c]);
    }
}

void fill_box(Image& image, const Box& box, float value) {
  const Box part = inside(image, box);
  for (int64_t c = 0; c < image.channels; ++c)
    for (int64_t y = 0; y < part.height; ++y)
      std::fill_n(image.row(c, part.top + y) + part.left, part.width, value);
}

}  // namespace gradc::runtime
