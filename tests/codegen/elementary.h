// The elementary functions of generated code: what each must be, how far it may be off, and where to ask.
#pragma once
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "ir/loop/loop_ir.h"

namespace gradc::testing {

inline constexpr double inf = std::numeric_limits<double>::infinity();
inline constexpr double never = 1e9;
inline constexpr double least = 0x1p-125;  // results this small may be flushed to 0

// In units of the last place of an f32 of the wanted size.
inline double ulps(float got, double want) {
  if (std::isnan(want)) return std::isnan(got) ? 0 : never;
  if (std::isnan(got)) return never;
  if (std::fabs(want) < least) return std::fabs(got - want) <= least ? 0 : never;
  const double limit = 0x1.ffffffp127;  // from here on f32 rounds to infinity
  if (std::fabs(want) >= limit || std::isinf(got)) {
    const bool both_large =
        std::fabs(want) > 0x1.fffffp127 && std::fabs(got) > 0x1.fffffp127f && (want > 0) == (got > 0);
    return both_large ? (std::fabs(want) >= 0x1.00001p128 && !std::isinf(got) ? never : 0) : never;
  }
  int exponent = 0;
  std::frexp(want, &exponent);
  return std::fabs(got - want) / std::ldexp(1.0, exponent - 24);
}

struct Function {
  loop::UnaryOp op;
  double (*reference)(double);
  double low, high;     // where the bound holds
  double bound;         // ulp
  double bound_no_fma;  // ulp, x86-64-v2
};

inline const Function functions[] = {
    {loop::UnaryOp::exp, [](double x) { return std::exp(x); }, -inf, inf, 1, 1.5},
    {loop::UnaryOp::expm1, [](double x) { return std::expm1(x); }, -inf, inf, 2, 2},
    {loop::UnaryOp::log, [](double x) { return std::log(x); }, -inf, inf, 1, 1},
    {loop::UnaryOp::log1p, [](double x) { return std::log1p(x); }, -inf, inf, 1.5, 1.5},
    {loop::UnaryOp::tanh, [](double x) { return std::tanh(x); }, -inf, inf, 3, 3},
    {loop::UnaryOp::sigmoid,
     [](double x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }, -inf, inf,
     1.6, 2.4},
    {loop::UnaryOp::softplus, [](double x) { return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x))); },
     -inf, inf, 2, 2},
    {loop::UnaryOp::erf, [](double x) { return std::erf(x); }, -inf, inf, 1.5, 2.5},
    {loop::UnaryOp::sin, [](double x) { return std::sin(x); }, -1e6, 1e6, 1.5, 1.5},
    {loop::UnaryOp::cos, [](double x) { return std::cos(x); }, -1e6, 1e6, 1.5, 1.5},
    {loop::UnaryOp::rsqrt, [](double x) { return 1 / std::sqrt(x); }, 0, inf, 1.5, 1.5},
    {loop::UnaryOp::sqrt, [](double x) { return std::sqrt(x); }, -inf, inf, 0.5, 0.5},
};

// Every `stride`-th float of either sign that is zero or normal, the values around where results overflow or
// vanish, and more of the range where most uses are.
inline std::vector<float> samples(uint32_t stride) {
  std::vector<float> x;
  for (uint64_t bits = 0; bits <= 0xFFFFFFFF; bits += stride) {
    const auto v = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (std::isfinite(v) && (v == 0 || std::fabs(v) >= 0x1p-126f)) x.push_back(v);
  }
  for (int i = -20000; i <= 20000; ++i) x.push_back(static_cast<float>(i) * 0.005f);
  const auto f = std::numeric_limits<float>::infinity();
  for (const float v :
       {0.0f,    -0.0f,   1.0f,       -1.0f,      f,           -f,           std::nanf(""), 100.0f,
        -100.0f, 1e30f,   -1e30f,     88.72283f,  88.72284f,   88.7229f,     -87.3f,        -87.33654f,
        -103.9f, -104.1f, 0.9999999f, 1.0000001f, -0.9999999f, 3.4028235e38f})
    x.push_back(v);
  while (x.size() % 32 != 0) x.push_back(0.5f);
  return x;
}

}  // namespace gradc::testing
