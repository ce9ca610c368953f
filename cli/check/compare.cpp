// Compares a native tensor with the reference's, element by element; knows nothing of programs.
#include "cli/check/compare.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <limits>

#include "support/check.h"

namespace gradc::cli {

using interpreter::Tensor;

namespace {

bool same(double native, double reference) {
  if (native == reference || (std::isnan(native) && std::isnan(reference))) return true;
  return std::isinf(native) && std::fabs(reference) > FLT_MAX &&
         std::signbit(native) == std::signbit(reference);
}

double root_mean_square(const double* values, size_t count) {
  double sum = 0;
  size_t finite = 0;
  for (size_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) continue;
    sum += values[i] * values[i];
    ++finite;
  }
  return finite ? std::sqrt(sum / static_cast<double>(finite)) : 0;
}

}  // namespace

Comparison compare(const Tensor& native, const Tensor& reference, double tolerance) {
  const size_t count = reference.data.size();
  GRADC_CHECK(native.data.size() == count, "{} native elements for {}", native.data.size(), count);
  Comparison result;
  const double *a = native.data.data(), *b = reference.data.data();
  const double scale = root_mean_square(b, count);
  for (size_t i = 0; i < count; ++i) {
    if (same(a[i], b[i])) continue;
    const double error = std::fabs(a[i] - b[i]);
    double relative = error / std::max(std::fabs(b[i]), scale);
    if (!reference.type.is_float() || std::isnan(relative))
      relative = std::numeric_limits<double>::infinity();
    if (!(error <= result.max_absolute)) result.max_absolute = error;
    if (relative > result.max_relative) result.max_relative = relative;
    if (relative > tolerance) ++result.beyond;
  }
  return result;
}

RoundingBound::RoundingBound(const Tensor& reference)
    : reference_(reference), spread_(reference.data.size(), 0.0) {}

void RoundingBound::add_run(const Tensor& perturbed, double size) {
  const double *p = perturbed.data.data(), *r = reference_.data.data();
  for (size_t i = 0; i < spread_.size(); ++i) {
    if (same(p[i], r[i])) continue;
    const double distance = std::fabs(p[i] - r[i]) / size;
    if (!(distance <= spread_[i])) spread_[i] = std::isnan(distance) ? HUGE_VAL : distance;
  }
}

bool RoundingBound::covers(const Tensor& native, double factor) const {
  // The spread of nearly all elements: a few that flip at a tie must not widen the tolerance of the others.
  std::vector<double> sorted;
  for (const double spread : spread_)
    if (std::isfinite(spread)) sorted.push_back(spread);
  const auto ninth = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() * 9 / 10);
  if (ninth != sorted.end()) std::nth_element(sorted.begin(), ninth, sorted.end());
  const double common = ninth != sorted.end() ? *ninth : 0;
  const double *a = native.data.data(), *b = reference_.data.data();
  for (size_t i = 0; i < spread_.size(); ++i) {
    if (same(a[i], b[i]) || std::isinf(spread_[i])) continue;
    if (!(std::fabs(a[i] - b[i]) <= factor * std::max(spread_[i], common))) return false;
  }
  return true;
}

}  // namespace gradc::cli
