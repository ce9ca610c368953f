// One convolution: its shapes, and its three products on plain arrays in double precision, for the operators that are
// defined by them (conv2d.cpp, conv2d_rows.cpp). It must not know how images are stored or tiled.
#pragma once
#include <string>

#include "ir/ops/window.h"

namespace gradc::ops {

// x [c, h, w], kernel [o, c / groups, kh, kw], y [o, oh, ow].
struct Convolution {
  Window window;
  int64_t groups = 1, c = 0, h = 0, w = 0, o = 0, oh = 0, ow = 0;
  int64_t taps() const {
    return c / groups * window.window[0] * window.window[1];
  }  // products in the sum of one output
};

// Of the attributes of convolution_specs() and the shapes of x and of the kernel.
Convolution convolution(const Attributes& a, const Shape& x, const Shape& kernel);
// What is wrong with these shapes, which have the right ranks; empty: nothing.
std::string check_shapes(const Attributes& a, const Shape& x, const Shape& kernel);
// The attributes of convolution_specs() alone, for a related operator.
Attributes window_attributes(const Op& op);
// FLOP of one example: two for each product.
double product_flop(const Shape& result, const Shape& kernel);

// y = conv2d(x, w); x = its gradient in x for the gradient y; w += its gradient in w. Arrays hold `images` images,
// row-major.
void convolve_images(const Convolution& g, int64_t images, const double* x, const double* w, double* y);
void convolve_images_back(const Convolution& g, int64_t images, const double* y, const double* w, double* x);
void add_kernel_gradient(const Convolution& g, int64_t images, const double* y, const double* x, double* w);

}  // namespace gradc::ops
