// Random words become normal numbers by the inverse of the distribution function: one word a number,
// monotone, and with nothing but + - * / and square roots, which IEEE defines to the last bit. This file is
// compiled without contraction of products and sums (CMakeLists.txt), which would change last bits from one
// machine to another.
#include "runtime/data/random_data.h"

#include <cmath>

#include "support/philox.h"

namespace gradc::runtime {
namespace {

// The random stream of these data, different from those of model files.
constexpr uint32_t kStream = 0x524E444D;

// c[0] + c[1] x + ... + c[7] x^7.
double polynomial(const double (&c)[8], double x) {
  double sum = c[7];
  for (int i = 6; i >= 0; --i) sum = sum * x + c[i];
  return sum;
}

// -log(p) for 2^-34 < p < 1, within a few units in the last place: p = m 2^e with m in [1/2, 1), and log m by
// the series of the inverse hyperbolic tangent, 2 (s + s^3 / 3 + ...) with s = (m - c) / (m + c), around
// c = 1 / sqrt(2), where |s| <= 0.172 and s^22 < 2^-55.
double minus_log(double p) {
  constexpr double kHalfLn2 = 0.34657359027997264, kLn2 = 0.6931471805599453, kCentre = 0.7071067811865476;
  int exponent = 0;
  const double m = std::frexp(p, &exponent);
  const double s = (m - kCentre) / (m + kCentre), square = s * s;
  double sum = 0;
  for (int k = 21; k >= 1; k -= 2) sum = sum * square + 1.0 / k;
  return kHalfLn2 - exponent * kLn2 - 2 * s * sum;
}

}  // namespace

// Wichura 1988, "Algorithm AS 241: The percentage points of the normal distribution", PPND16: one rational
// function of p - 1/2 in the middle, two of sqrt(-log(p)) for the tails.
float normal_from_word(uint32_t word) {
  static constexpr double kMiddle[2][8] = {
      {3.3871328727963666080e+0, 1.3314166789178437745e+2, 1.9715909503065514427e+3, 1.3731693765509461125e+4,
       4.5921953931549871457e+4, 6.7265770927008700853e+4, 3.3430575583588128105e+4,
       2.5090809287301226727e+3},
      {1.0, 4.2313330701600911252e+1, 6.8718700749205790830e+2, 5.3941960214247511077e+3,
       2.1213794301586595867e+4, 3.9307895800092710610e+4, 2.8729085735721942674e+4,
       5.2264952788528545610e+3}};
  static constexpr double kTail[2][8] = {
      {1.42343711074968357734e+0, 4.63033784615654529590e+0, 5.76949722146069140550e+0,
       3.64784832476320460504e+0, 1.27045825245236838258e+0, 2.41780725177450611770e-1,
       2.27238449892691845833e-2, 7.74545014278341407640e-4},
      {1.0, 2.05319162663775882187e+0, 1.67638483018380384940e+0, 6.89767334985100004550e-1,
       1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4,
       1.05075007164441684324e-9}};
  // p = (word + 1/2) / 2^32 exactly, and p - 1/2.
  const double middle = (static_cast<double>(word) + 0.5) * 0x1p-32 - 0.5;
  if (std::fabs(middle) <= 0.425) {
    const double r = 0.180625 - middle * middle;
    return static_cast<float>(middle * polynomial(kMiddle[0], r) / polynomial(kMiddle[1], r));
  }
  // PPND16's far tail, p < exp(-25), begins below 2^-33.
  const double r = std::sqrt(minus_log(0.5 - std::fabs(middle))) - 1.6;
  const double tail = polynomial(kTail[0], r) / polynomial(kTail[1], r);
  return static_cast<float>(middle < 0 ? -tail : tail);
}

RandomExamples make_random_examples(uint64_t seed, uint32_t split, int64_t count, int64_t elements,
                                    int64_t classes) {
  RandomExamples result;
  const auto size = static_cast<size_t>(elements);
  result.images.resize(static_cast<size_t>(count) * size);
  result.labels.resize(static_cast<size_t>(count));
  const auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  // Fields 0 and 1 are the image and the label: splits and fields share no counter.
  const auto words = [&](size_t block, size_t example, uint32_t field) {
    return philox4x32_10(
        {static_cast<uint32_t>(block), static_cast<uint32_t>(example), split * 2 + field, kStream}, key0,
        key1);
  };
  float* to = result.images.data();
  for (size_t example = 0; example < static_cast<size_t>(count); ++example, to += size) {
    for (size_t block = 0; block * 4 < size; ++block) {
      const PhiloxWords w = words(block, example, 0);
      for (size_t i = 0; i < 4 && block * 4 + i < size; ++i) to[block * 4 + i] = normal_from_word(w[i]);
    }
    result.labels[example] =
        static_cast<int32_t>(uint64_t{words(0, example, 1)[0]} * static_cast<uint64_t>(classes) >> 32);
  }
  return result;
}

}  // namespace gradc::runtime
