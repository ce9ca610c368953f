// Winograd's transforms for F(m x m, 3 x 3), m = 2 or 4 (Lavin and Gray 2015, equations 8 to 13 and
// appendix), as arithmetic on vectors of the loop IR.
#pragma once
#include <array>

#include "passes/kernels/lowering.h"

namespace gradc::passes::lowering {

// One-dimensional transforms on vectors; every intermediate gets a name, so that it is computed once.
class WinogradTransform {
 public:
  WinogradTransform(loop::Builder& b, int64_t m) : b_(b), m_(m) {}

  std::vector<loop::Expr> input(const std::vector<loop::Expr>& d) {  // B^T d
    if (m_ == 2) return {sub(d[0], d[2]), add(d[1], d[2]), sub(d[2], d[1]), sub(d[1], d[3])};
    const loop::Expr a = fma(-4, d[2], d[4]), b = fma(-4, d[1], d[3]), c = sub(d[4], d[2]),
                     e = sub(d[3], d[1]);
    return {fma(4, d[0], fma(-5, d[2], d[4])), add(a, b), sub(a, b), fma(2, e, c), fma(-2, e, c),
            fma(4, d[1], fma(-5, d[3], d[5]))};
  }
  std::vector<loop::Expr> output(const std::vector<loop::Expr>& m) {  // A^T m
    if (m_ == 2) return {add(add(m[0], m[1]), m[2]), sub(sub(m[1], m[2]), m[3])};
    const loop::Expr s = add(m[1], m[2]), d = sub(m[1], m[2]), p = add(m[3], m[4]), r = sub(m[3], m[4]);
    return {add(add(m[0], s), p), fma(2, r, d), fma(4, p, s), add(fma(8, r, d), m[5])};
  }
  std::vector<loop::Expr> weight(const std::vector<loop::Expr>& g) {  // G g
    if (m_ == 2) {
      const loop::Expr s = scale(0.5, add(g[0], g[2]));
      return {g[0], fma(0.5, g[1], s), fma(-0.5, g[1], s), g[2]};
    }
    const loop::Expr s = scale(-1.0 / 6, add(g[0], g[2]));
    const loop::Expr t = fma(1.0 / 6, g[2], scale(1.0 / 24, g[0]));
    return {scale(0.25, g[0]),      fma(-1.0 / 6, g[1], s),  fma(1.0 / 6, g[1], s),
            fma(1.0 / 12, g[1], t), fma(-1.0 / 12, g[1], t), g[2]};
  }
  std::vector<loop::Expr> gradient(const std::vector<loop::Expr>& y) {  // A y
    if (m_ == 2) return {y[0], add(y[0], y[1]), sub(y[0], y[1]), scale(-1, y[1])};
    const loop::Expr e = add(y[0], y[2]), o = add(y[1], y[3]), f = fma(4, y[2], y[0]), g = fma(4, y[3], y[1]);
    return {y[0], add(e, o), sub(e, o), fma(2, g, f), fma(-2, g, f), y[3]};
  }
  std::vector<loop::Expr> weight_gradient(const std::vector<loop::Expr>& s) {  // G^T s
    const loop::Expr p = add(s[1], s[2]), d = sub(s[2], s[1]);
    if (m_ == 2) return {fma(0.5, p, s[0]), scale(-0.5, d), fma(0.5, p, s[3])};
    const loop::Expr q = add(s[3], s[4]), r = sub(s[3], s[4]), sixth = scale(-1.0 / 6, p);
    return {fma(0.25, s[0], fma(1.0 / 24, q, sixth)), fma(1.0 / 12, r, scale(1.0 / 6, d)),
            add(fma(1.0 / 6, q, sixth), s[5])};
  }

 private:
  loop::Expr add(const loop::Expr& a, const loop::Expr& b) { return b_.let("w", a + b); }
  loop::Expr sub(const loop::Expr& a, const loop::Expr& b) { return b_.let("w", a - b); }
  loop::Expr scale(double k, const loop::Expr& a) { return b_.let("w", a * loop::constant(a->type, k)); }
  loop::Expr fma(double k, const loop::Expr& a, const loop::Expr& b) {
    return b_.let("w", loop::fma(loop::constant(a->type, k), a, b));
  }
  loop::Builder& b_;
  int64_t m_;
};

// A one-dimensional transform along both axes of a square of vectors [row][column].
template <class F>
std::vector<std::vector<loop::Expr>> both(const std::vector<std::vector<loop::Expr>>& square, F&& transform) {
  std::vector<std::vector<loop::Expr>> columns;  // [column][new row]
  for (size_t j = 0; j < square.front().size(); ++j) {
    std::vector<loop::Expr> column;
    for (const auto& row : square) column.push_back(row[j]);
    columns.push_back(transform(column));
  }
  std::vector<std::vector<loop::Expr>> result;
  for (size_t i = 0; i < columns.front().size(); ++i) {
    std::vector<loop::Expr> row;
    for (const auto& column : columns) row.push_back(column[i]);
    result.push_back(transform(row));
  }
  return result;
}

// The pixels around a tile of an image in panels, as vectors of examples; zeros outside of the image.
class ImagePatch {
 public:
  struct Window {
    int64_t side;                    // pixels along each axis
    std::array<int64_t, 2> padding;  // pixels from the patch's first to the tile's first
    std::array<int64_t, 2> last;     // the greatest row and column of a tile's first pixel
  };
  // The patch of the tile at row y0, column x0 in panel q.
  ImagePatch(const Lowering& l, loop::Builder& b, loop::Buffer image, const Type& type, const Window& window,
             const loop::Expr& q, const loop::Expr& y0, const loop::Expr& x0);

  // [row][column]: the vectors that start `element` elements after the first of each pixel.
  std::vector<std::vector<loop::Expr>> load(const loop::Expr& element) const;
  // Prefetches the cache lines of such vectors.
  void prefetch(const loop::Expr& element) const;

 private:
  std::vector<loop::Expr> inside(size_t axis, const loop::Expr& first) const;
  // The address of the pixel at row i, column j of the patch.
  loop::Expr pixel(int64_t i, int64_t j) const;

  const Lowering& l_;
  loop::Builder& b_;
  const loop::Buffer image_;
  const Type& type_;
  const Window window_;
  loop::Expr base_;
  std::vector<std::vector<loop::Expr>> masks_;  // null where a pixel always lies inside
};

// Outputs per tile along each axis, 2 or 4, when a convolution or its input gradient is cheaper by Winograd's minimal
// filtering; 0 when it is not, or the method is not allowed.
int winograd_tile(const Lowering& lowering, const Op* convolution);
void lower_winograd(Lowering& lowering, const KernelGroup& group, int m);

}  // namespace gradc::passes::lowering
