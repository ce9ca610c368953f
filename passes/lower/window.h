// What the lowering of window operations shares: positions on one spatial axis, and transposing panels.
#pragma once
#include "passes/lower/lowering.h"

namespace gradc::passes::lowering {

inline loop::Expr minimum(const loop::Expr& a, const loop::Expr& b) {
  return loop::binary(loop::BinaryOp::min, a, b);
}
inline loop::Expr maximum(const loop::Expr& a, const loop::Expr& b) {
  return loop::binary(loop::BinaryOp::max, a, b);
}
inline loop::Expr at_least_0(const loop::Expr& a) { return maximum(a, loop::index(0)); }

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// One spatial axis of a window operation: in(put) i, out(put) o and window k positions with i = o * stride +
// k * dilation - padding.
struct Axis {
  int64_t in, out, window, stride, padding, dilation;

  // Window positions that fall inside the input for output position o.
  loop::Expr begin(const loop::Expr& o) const {
    return at_least_0(loop::index(padding + dilation - 1) - o * loop::index(stride)) / loop::index(dilation);
  }
  loop::Expr end(const loop::Expr& o) const {
    return minimum(loop::index(window),
                   at_least_0(loop::index(in - 1 + padding + dilation) - o * loop::index(stride)) /
                       loop::index(dilation));
  }
  loop::Expr input(const loop::Expr& o, const loop::Expr& k) const {
    return o * loop::index(stride) + k * loop::index(dilation) - loop::index(padding);
  }
  // Output positions for which window position k falls inside the input.
  loop::Expr out_begin(const loop::Expr& k) const {
    return at_least_0(loop::index(padding + stride - 1) - k * loop::index(dilation)) / loop::index(stride);
  }
  loop::Expr out_end(const loop::Expr& k) const {
    return minimum(
        loop::index(out),
        at_least_0(loop::index(in - 1 + padding + stride) - k * loop::index(dilation)) / loop::index(stride));
  }
};

// What conv2d, its gradients and pooling say of one spatial axis (0: height, 1: width); `in` and `out` end
// with the two spatial extents.
Axis spatial_axis(const Op* op, size_t axis, const Shape& in, const Shape& out, int64_t window);
int64_t group_count(const Op* op);  // of a convolution's channels

// Rows to columns: n vectors of n lanes (a power of two), vector i of the result has lane i of each.
std::vector<loop::Expr> transposed(loop::Builder& b, std::vector<loop::Expr> v);

// Sum over the batch of products over all output pixels (window_weights.cpp).
void lower_weight_gradient(Lowering& lowering, const KernelGroup& group);

// Outputs a tile along each axis, 2 or 4, when a convolution or its input gradient is cheaper by Winograd's
// minimal filtering (winograd.cpp); 0 when it is not, or must not be.
int winograd_tile(const Lowering& lowering, const Op* convolution);
void lower_winograd(Lowering& lowering, const KernelGroup& group, int m);

}  // namespace gradc::passes::lowering
