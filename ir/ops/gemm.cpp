// Matrix product in blocks of 4 x 8 accumulators; depth and width are cut so that the block of b stays in
// cache.
#include "ir/ops/gemm.h"

#include <algorithm>

namespace gradc::ops {
namespace {

constexpr int64_t kRows = 4, kColumns = 8, kDepth = 256;

void tile(int64_t k, const double* a, int64_t lda, const double* b, int64_t ldb, double* c, int64_t ldc) {
  double sum[kRows][kColumns] = {};
  for (int64_t p = 0; p < k; ++p) {
    for (int64_t i = 0; i < kRows; ++i) {
      const double x = a[i * lda + p];
      for (int64_t j = 0; j < kColumns; ++j) sum[i][j] += x * b[p * ldb + j];
    }
  }
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < kColumns; ++j) c[i * ldc + j] += sum[i][j];
  }
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
  std::vector<double> packed(static_cast<size_t>(kDepth * kColumns));
  for (int64_t p = 0; p < k; p += kDepth) {
    const int64_t depth = std::min(kDepth, k - p);
    int64_t j = 0;
    for (; j + kColumns <= n; j += kColumns) {
      for (int64_t q = 0; q < depth; ++q)
        std::copy_n(b + (p + q) * n + j, kColumns, packed.data() + q * kColumns);
      int64_t i = 0;
      for (; i + kRows <= m; i += kRows)
        tile(depth, a + i * k + p, k, packed.data(), kColumns, c + i * n + j, n);
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
