// Words of Philox blocks, and the distributions made of them.
#include "runtime/data/draws.h"

#include <cmath>

#include "runtime/data/random_data.h"

namespace gradc::runtime {
namespace {

// Far above the streams of model files, and different from that of the order of examples (runtime/data/dataset.cpp).
constexpr uint32_t kStream = 0xFFFE0000u;

}  // namespace

Draws::Draws(const EpochKey& key, int64_t example, size_t method)
    : counter_{0, static_cast<uint32_t>(example), kStream + static_cast<uint32_t>(method),
               static_cast<uint32_t>(key.epoch >> 32) ^ static_cast<uint32_t>(example >> 32)},
      key0_(static_cast<uint32_t>(key.seed) ^ static_cast<uint32_t>(key.seed >> 32) * 0x9E3779B9u),
      key1_(static_cast<uint32_t>(key.epoch)) {}

uint32_t Draws::word() {
  if (used_ == 4) {
    words_ = philox4x32_10(counter_, key0_, key1_);
    ++counter_[0];
    used_ = 0;
  }
  return words_[used_++];
}

int64_t Draws::below(int64_t count) {
  const uint64_t high = word(), random = high << 32 | word();
  return static_cast<int64_t>(static_cast<unsigned __int128>(random) * static_cast<uint64_t>(count) >> 64);
}

double Draws::normal() { return normal_from_word(word()); }

// Marsaglia and Tsang 2000, "A simple method for generating gamma variables"; a shape below 1 through shape
// + 1.
double Draws::gamma(double shape) {
  const double boost = shape < 1 ? std::pow((word() + 0.5) * 0x1p-32, 1 / shape) : 1;
  const double d = (shape < 1 ? shape + 1 : shape) - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  for (;;) {
    const double x = normal(), root = 1 + c * x;
    if (root <= 0) continue;
    const double v = root * root * root, u = (word() + 0.5) * 0x1p-32;
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return boost * d * v;
  }
}

double Draws::beta(double alpha) {
  const double x = gamma(alpha), y = gamma(alpha);
  // Both can underflow for a very small alpha, where the distribution is all but a coin.
  return x + y > 0 ? x / (x + y) : (word() & 1 ? 1.0 : 0.0);
}

}  // namespace gradc::runtime
