// The geometry that convolutions and pooling share: windows of two spatial axes with stride, padding and
// dilation, out of [C, H, W] examples. It must not know what is done with a window.
#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "ir/ops/common.h"

namespace gradc::ops {

struct Window {
  std::array<int64_t, 2> window{1, 1}, stride{1, 1}, padding{0, 0}, dilation{1, 1};
  // Extent of output axis i (0: height, 1: width) for an input extent: floor((input + 2 padding - dilation
  // (window-1) - 1) / stride) + 1.
  int64_t output(size_t i, int64_t input) const {
    return (input + 2 * padding[i] - dilation[i] * (window[i] - 1) - 1) / stride[i] + 1;
  }
  bool fits(size_t i, int64_t input) const {
    return dilation[i] * (window[i] - 1) + 1 <= input + 2 * padding[i];
  }
  // The outputs [first, end) for which window element k of axis i reads inside an input of this extent.
  int64_t first_inside(size_t i, int64_t k) const {
    const int64_t before = padding[i] - k * dilation[i];
    return before <= 0 ? 0 : (before + stride[i] - 1) / stride[i];
  }
  int64_t end_inside(size_t i, int64_t k, int64_t input, int64_t outputs) const {
    const int64_t last = input - 1 + padding[i] - k * dilation[i];  // greatest stride * output that is inside
    return last < 0 ? 0 : std::min(outputs, last / stride[i] + 1);
  }
};

inline constexpr int64_t kMaxWindow =
    int64_t{1} << 24;  // of window extents, strides, paddings, dilations: no product overflows

// stride, padding and dilation of a convolution, or stride and padding of pooling, as attributes with
// defaults.
std::vector<AttributeSpec> convolution_specs();
std::vector<AttributeSpec> pooling_specs();

// Reads and checks; the window extents of a convolution come from its kernel.
std::string check_convolution(const Attributes& a);  // strides, paddings, dilations, groups in range
Window convolution_window(const Attributes& a, int64_t height, int64_t width);
std::string check_pooling(const Attributes& a);
Window pooling_window(const Attributes& a);

// "a window of 5 x 5 (dilation 1 x 1) does not fit an input of 3 x 3 with padding 0 x 0", or nothing.
std::string check_fits(const Window& w, int64_t height, int64_t width);

// For a batched pooling gradient: whether small windows tile the image, so that every element belongs to one.
bool windows_tile_image(const Op& gradient);
// Whether the operation's kernel writes each element of the result once, so that elementwise operations may
// follow as its epilogue (OpDef::epilogue). For max_pool2d_grad only where windows tile the image: where they
// overlap, an element is final after the last of its windows.
bool makes_elements_once(const Op& op);

}  // namespace gradc::ops
