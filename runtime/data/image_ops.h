// Operations on an image in memory: mirror, crop, resample, colours. Knows nothing of random numbers and data sets.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace gradc::runtime {

// channels x height x width values, row-major.
struct Image {
  int64_t channels = 0, height = 0, width = 0;
  std::vector<float> values;

  Image() = default;
  Image(int64_t c, int64_t h, int64_t w)
      : channels(c), height(h), width(w), values(static_cast<size_t>(c * h * w)) {}
  float* row(int64_t channel, int64_t y) { return values.data() + (channel * height + y) * width; }
  const float* row(int64_t channel, int64_t y) const {
    return values.data() + (channel * height + y) * width;
  }
};

// A rectangle of pixels; it may extend beyond the image.
struct Box {
  int64_t top = 0, left = 0, height = 0, width = 0;
};

void flip_horizontal(Image& image);
void flip_vertical(Image& image);

// The pixels of the box; zeros outside the image.
Image crop(const Image& image, const Box& box);

// The box, which lies inside, resized by bilinear interpolation: output pixel centre i + 1/2 is source position (i +
// 1/2) extent / size, clamped to the outermost centres; PyTorch's `interpolate` with align_corners=False
// and no antialiasing.
Image resized_crop(const Image& image, const Box& box, int64_t height, int64_t width);

// The largest central box with this aspect ratio.
Box middle_box(const Image& image, int64_t height, int64_t width);

// Maps positions relative to an image's centre, x to the right and y down: x' = a x + b y + tx, y' = c x + d y +
// ty.
struct Affine {
  double a = 1, b = 0, c = 0, d = 1, tx = 0, ty = 0;
  Affine then(const Affine& next) const;  // this first
  Affine inverse() const;
};

// The image moved by `map`, sampled by bilinear interpolation; zeros from outside.
Image transformed(const Image& image, const Affine& map);

// The colour operations take values in 0..1 and keep them there.
void scale_brightness(Image& image, float factor);  // v * factor
void scale_contrast(Image& image, float factor);    // m + factor (v - m), m: mean grey of the image
void scale_saturation(Image& image, float factor);  // g + factor (v - g), g: the pixel's grey
void turn_hue(Image& image, float turn);            // of the colour circle, -0.5..0.5
void add_colour(Image& image, const std::array<float, 3>& offset);

// Grey of a colour: 0.299 R + 0.587 G + 0.114 B (Rec. 601); of one channel, itself; of others the mean.
float grey(const Image& image, int64_t pixel);

// Sets the pixels of the box that are inside the image to `value`.
void fill_box(Image& image, const Box& box, float value);
// The box clipped to the image.
Box inside(const Image& image, const Box& box);

}  // namespace gradc::runtime
