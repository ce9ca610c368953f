// What the lowering of window operations shares: positions on one spatial axis, and register tiles of accumulators.
#pragma once
#include <algorithm>
#include <functional>

#include "passes/kernels/lowering.h"

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
  // By output position, the input positions that it reads; by input position, the output positions that read it. For
  // rows of images, when each row is a chunk of its panel.
  std::vector<RowRange> inputs_read() const {
    std::vector<RowRange> rows;
    for (int64_t o = 0; o < out; ++o)
      rows.push_back({std::clamp<int64_t>(o * stride - padding, 0, in),
                      std::clamp<int64_t>(o * stride - padding + (window - 1) * dilation + 1, 0, in)});
    return rows;
  }
  std::vector<RowRange> outputs_reading() const {
    std::vector<RowRange> rows;
    for (int64_t i = 0; i < in; ++i)
      rows.push_back({ceil_div(std::max<int64_t>(i + padding - (window - 1) * dilation, 0), stride),
                      std::min((i + padding) / stride + 1, out)});
    return rows;
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

// The attributes of conv2d, its gradients and pooling on one spatial axis (0: height, 1: width); `in` and `out` end
// with the two spatial extents.
Axis spatial_axis(const Op* op, size_t axis, const Shape& in, const Shape& out, int64_t window);
int64_t group_count(const Op* op);  // of a convolution's channels

// A register tile in a kernel's body: rows x vectors accumulators of outer products.
class Accumulators {
 public:
  using At = std::function<loop::Expr(int row, int vector)>;
  Accumulators(loop::Builder& b, int rows, int vectors, const At& initial) : b_(b), vectors_(vectors) {
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < vectors; ++j) registers_.push_back(b_.declare("acc", initial(i, j)));
  }
  // acc[i][j] += rows(i) * vectors(j), all of vectors first; a row of one lane is broadcast.
  void multiply_add(const std::function<loop::Expr(int)>& rows,
                    const std::function<loop::Expr(int)>& vectors) {
    std::vector<loop::Expr> shared;
    for (int j = 0; j < vectors_; ++j) shared.push_back(b_.let("b", vectors(j)));
    for (size_t at = 0; at < registers_.size(); at += shared.size()) {
      const loop::Expr row = rows(static_cast<int>(at) / vectors_);
      const loop::Expr a = b_.let("a", loop::broadcast(row, registers_[at]->type.lanes));
      for (size_t j = 0; j < shared.size(); ++j)
        b_.assign(registers_[at + j], loop::fma(a, shared[j], loop::ref(registers_[at + j])));
    }
  }
  void store(const loop::Buffer& buffer, const At& place) const {
    for (size_t at = 0; at < registers_.size(); ++at)
      b_.store(buffer, place(static_cast<int>(at) / vectors_, static_cast<int>(at) % vectors_),
               loop::ref(registers_[at]));
  }
  // Adds the accumulators to memory.
  void add_to(const loop::Buffer& buffer, const At& place) const {
    for (size_t at = 0; at < registers_.size(); ++at) {
      const loop::Expr to = place(static_cast<int>(at) / vectors_, static_cast<int>(at) % vectors_);
      const loop::Expr sum = loop::ref(registers_[at]);
      b_.store(buffer, to, loop::load(buffer, to, sum->type.lanes) + sum);
    }
  }
  std::vector<loop::Variable*> variables() {
    std::vector<loop::Variable*> all;
    for (loop::Variable& v : registers_) all.push_back(&v);
    return all;
  }

 private:
  loop::Builder& b_;
  int vectors_;
  std::vector<loop::Variable> registers_;
};

}  // namespace gradc::passes::lowering
