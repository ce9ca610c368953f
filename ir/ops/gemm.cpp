// Matrix product in tiles of 4 x 8 accumulators; depth and width are cut so that the block of b stays in cache.
// Compiled without contraction (CMakeLists.txt): products and sums have the same bits on every processor.
#include "ir/ops/gemm.h"

#include <algorithm>
#include <cstring>

namespace gradc::ops {
namespace {

constexpr int64_t kRows = 4, kColumns = 8, kDepth = 256;

// A row of the tile: one register of AVX-512, two of AVX, four of SSE2.
using Row __attribute__((vector_size(kColumns * sizeof(double)))) = double;

// `b` is packed: kColumns values for each of the k terms.
[[gnu::always_inline]] inline void multiply_tile(int64_t k, const double* a, int64_t lda, const double* b,
                                                 double* c, int64_t ldc) {
  Row sum[kRows] = {};
  for (int64_t p = 0; p < k; ++p) {
    Row terms;
    std::memcpy(&terms, b + p * kColumns, sizeof terms);
#pragma GCC unroll 4
    for (int64_t i = 0; i < kRows; ++i) sum[i] += a[i * lda + p] * terms;
  }
#pragma GCC unroll 4
  for (int64_t i = 0; i < kRows; ++i) {
    Row out;
    std::memcpy(&out, c + i * ldc, sizeof out);
    out += sum[i];
    std::memcpy(c + i * ldc, &out, sizeof out);
  }
}

using Tile = void (*)(int64_t k, const double* a, int64_t lda, const double* b, double* c, int64_t ldc);

void tile_baseline(int64_t k, const double* a, int64_t lda, const double* b, double* c, int64_t ldc) {
  multiply_tile(k, a, lda, b, c, ldc);
}

#ifdef __x86_64__
[[gnu::target("avx2")]] void tile_avx2(int64_t k, const double* a, int64_t lda, const double* b, double* c,
                                       int64_t ldc) {
  multiply_tile(k, a, lda, b, c, ldc);
}

[[gnu::target("avx512f")]] void tile_avx512(int64_t k, const double* a, int64_t lda, const double* b,
                                            double* c, int64_t ldc) {
  multiply_tile(k, a, lda, b, c, ldc);
}
#endif

Tile choose_tile() {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx512f")) return tile_avx512;
  if (__builtin_cpu_supports("avx2")) return tile_avx2;
#endif
  return tile_baseline;
}

void edge(int64_t m, int64_t n, int64_t k, const double* a, int64_t lda, const double* b, int64_t ldb,
          double* c, int64_t ldc) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t p = 0; p < k; ++p) {
      const double x = a[i * lda + p];
      for (int64_t j = 0; j < n; ++j) c[i * ldc + j] += x * b[p * ldb + j];
    }
  }
}

}  // namespace

void gemm(int64_t m, int64_t n, int64_t k, const double* a, const double* b, double* c) {
  static const Tile tile = choose_tile();
  std::vector<double> packed(static_cast<size_t>(kDepth * kColumns));
  for (int64_t p = 0; p < k; p += kDepth) {
    const int64_t depth = std::min(kDepth, k - p);
    int64_t j = 0;
    for (; j + kColumns <= n; j += kColumns) {
      for (int64_t q = 0; q < depth; ++q)
        std::copy_n(b + (p + q) * n + j, kColumns, packed.data() + q * kColumns);
      int64_t i = 0;
      for (; i + kRows <= m; i += kRows) tile(depth, a + i * k + p, k, packed.data(), c + i * n + j, n);
      edge(m - i, kColumns, depth, a + i * k + p, k, packed.data(), kColumns, c + i * n + j, n);
    }
    edge(m, n - j, depth, a + p, k, b + p * n + j, n, c + j, n);
  }
}

std::vector<double> permuted(const double* data, const std::vector<int64_t>& shape,
                             const std::vector<int>& order) {
  const size_t rank = shape.size();
  std::vector<int64_t> stride(rank, 1);
  for (size_t i = rank; i-- > 1;) stride[i - 1] = stride[i] * shape[i];
  int64_t total = 1;
  for (const int64_t extent : shape) total *= extent;
  std::vector<double> out(static_cast<size_t>(total));
  if (rank == 0) {
    out[0] = data[0];
    return out;
  }
  const auto extent = [&](size_t i) { return shape[static_cast<size_t>(order[i])]; };
  const auto step = [&](size_t i) { return stride[static_cast<size_t>(order[i])]; };
  std::vector<int64_t> count(rank, 0);
  const int64_t run = extent(rank - 1), inner = step(rank - 1);
  int64_t from = 0;
  for (int64_t at = 0; at < total; at += run) {
    for (int64_t i = 0; i < run; ++i) out[static_cast<size_t>(at + i)] = data[from + i * inner];
    for (size_t a = rank - 1; a-- > 0;) {
      from += step(a);
      if (++count[a] < extent(a)) break;
      from -= step(a) * extent(a);
      count[a] = 0;
    }
  }
  return out;
}

}  // namespace gradc::ops
