#include "ir/ops/convolution.h"

#include "ir/ops/gemm.h"

namespace gradc::ops {

Convolution convolution(const Attributes& a, const Shape& x, const Shape& kernel) {
  Convolution g;
  g.window = convolution_window(a, kernel[2], kernel[3]);
  g.groups = a.integer("groups");
  g.c = x[0], g.h = x[1], g.w = x[2], g.o = kernel[0];
  g.oh = g.window.output(0, g.h), g.ow = g.window.output(1, g.w);
  return g;
}

std::string check_shapes(const Attributes& a, const Shape& x, const Shape& kernel) {
  const int64_t groups = a.integer("groups"), c = x[0], o = kernel[0];
  if (c % groups != 0 || o % groups != 0) {
    return fmt::format("`groups` {} does not divide both the {} input and the {} output channels", groups, c,
                       o);
  }
  if (kernel[1] != c / groups) {
    return groups == 1 ? fmt::format("the input has {} channels, but the kernel {} is for {}", c,
                                     to_string(kernel), kernel[1])
                       : fmt::format("the input has {} channels, {} a group, but the kernel {} is for {}", c,
                                     c / groups, to_string(kernel), kernel[1]);
  }
  if (kernel[2] > kMaxWindow || kernel[3] > kMaxWindow)
    return fmt::format("the kernel {} is too large", to_string(kernel));
  return check_fits(convolution_window(a, kernel[2], kernel[3]), x[1], x[2]);
}

Attributes window_attributes(const Op& op) {
  Attributes a;
  for (const char* key : {"stride", "padding", "dilation", "groups"}) a.set(key, *op.attributes.find(key));
  return a;
}

double product_flop(const Shape& result, const Shape& kernel) {
  double n = 2;
  for (const int64_t extent : result) n *= static_cast<double>(extent);
  return n * static_cast<double>(kernel[1] * kernel[2] * kernel[3]);
}

namespace {

// Visits, for one group of one example, each run of outputs along the width that reads one tap: visit(tap,
// output offset, input offset, count); outputs are contiguous, inputs `stride` apart.
template <class F>
void for_each_tap_run(const Convolution& g, F&& visit) {
  const Window& k = g.window;
  int64_t tap = 0;
  for (int64_t c = 0; c < g.c / g.groups; ++c) {
    for (int64_t kh = 0; kh < k.window[0]; ++kh) {
      for (int64_t kw = 0; kw < k.window[1]; ++kw, ++tap) {
        const int64_t first = k.first_inside(1, kw), count = k.end_inside(1, kw, g.w, g.ow) - first;
        if (count <= 0) continue;
        const int64_t column = first * k.stride[1] - k.padding[1] + kw * k.dilation[1];
        const int64_t end = k.end_inside(0, kh, g.h, g.oh);
        for (int64_t oh = k.first_inside(0, kh); oh < end; ++oh) {
          const int64_t row = oh * k.stride[0] - k.padding[0] + kh * k.dilation[0];
          visit(tap, oh * g.ow + first, (c * g.h + row) * g.w + column, count);
        }
      }
    }
  }
}

// im2col: columns[tap][output position] is the input under each tap, zero outside.
void gather_columns(const Convolution& g, const double* x, std::vector<double>& columns) {
  std::fill(columns.begin(), columns.end(), 0.0);
  const int64_t stride = g.window.stride[1], positions = g.oh * g.ow;
  for_each_tap_run(g, [&](int64_t tap, int64_t to, int64_t from, int64_t count) {
    double* out = columns.data() + tap * positions + to;
    for (int64_t i = 0; i < count; ++i) out[i] = x[from + i * stride];
  });
}

void scatter_columns(const Convolution& g, const std::vector<double>& columns, double* x) {
  const int64_t stride = g.window.stride[1], positions = g.oh * g.ow;
  for_each_tap_run(g, [&](int64_t tap, int64_t from, int64_t to, int64_t count) {
    const double* in = columns.data() + tap * positions + from;
    for (int64_t i = 0; i < count; ++i) x[to + i * stride] += in[i];
  });
}

// Elements of a group's images.
int64_t group_input(const Convolution& g) { return g.c / g.groups * g.h * g.w; }

}  // namespace

void convolve_images(const Convolution& g, int64_t images, const double* x, const double* w, double* y) {
  const int64_t positions = g.oh * g.ow, o = g.o / g.groups;
  std::vector<double> columns(static_cast<size_t>(g.taps() * positions));
  for (int64_t r = 0; r < images * g.groups; ++r) {
    gather_columns(g, x + r * group_input(g), columns);
    gemm(o, positions, g.taps(), w + r % g.groups * o * g.taps(), columns.data(), y + r * o * positions);
  }
}

void convolve_images_back(const Convolution& g, int64_t images, const double* y, const double* w, double* x) {
  const int64_t positions = g.oh * g.ow, o = g.o / g.groups;
  const auto turned = permuted(w, {g.groups, o, g.taps()}, {0, 2, 1});
  std::vector<double> columns(static_cast<size_t>(g.taps() * positions));
  for (int64_t r = 0; r < images * g.groups; ++r) {
    std::fill(columns.begin(), columns.end(), 0.0);
    gemm(g.taps(), positions, o, turned.data() + r % g.groups * o * g.taps(), y + r * o * positions,
         columns.data());
    scatter_columns(g, columns, x + r * group_input(g));
  }
}

void add_kernel_gradient(const Convolution& g, int64_t images, const double* y, const double* x, double* w) {
  const int64_t positions = g.oh * g.ow, o = g.o / g.groups;
  std::vector<double> columns(static_cast<size_t>(g.taps() * positions));
  for (int64_t r = 0; r < images * g.groups; ++r) {
    gather_columns(g, x + r * group_input(g), columns);
    const auto turned = permuted(columns.data(), {g.taps(), positions}, {1, 0});
    gemm(o, g.taps(), positions, y + r * o * positions, turned.data(), w + r % g.groups * o * g.taps());
  }
}

}  // namespace gradc::ops
