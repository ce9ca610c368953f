// Matrix product in double precision for the reference evaluation of contractions: plain, blocked, quick
// enough for convolutional networks. It must not know what is contracted, and shares nothing with generated
// code.
#pragma once
#include <cstdint>
#include <vector>

namespace gradc::ops {

// c[m, n] += a[m, k] b[k, n]; all row-major and dense.
void gemm(int64_t m, int64_t n, int64_t k, const double* a, const double* b, double* c);

// The elements of a dense row-major array with its axes put in another order: result axis i is axis order[i].
std::vector<double> permuted(const double* data, const std::vector<int64_t>& shape,
                             const std::vector<int>& order);

}  // namespace gradc::ops
