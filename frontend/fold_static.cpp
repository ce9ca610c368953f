// Elementwise primitives of static numbers, computed in double when compiling.
#include <algorithm>
#include <cmath>

#include "frontend/builtins.h"

namespace gradc::frontend {

namespace {

struct Unary {
  const char* name;
  double (*value)(double);
};
struct Binary {
  const char* name;
  double (*value)(double, double);
};

constexpr Unary kUnary[] = {
    {"neg", [](double x) { return -x; }},
    {"exp", [](double x) { return std::exp(x); }},
    {"expm1", [](double x) { return std::expm1(x); }},
    {"log", [](double x) { return std::log(x); }},
    {"log1p", [](double x) { return std::log1p(x); }},
    {"sqrt", [](double x) { return std::sqrt(x); }},
    {"rsqrt", [](double x) { return 1 / std::sqrt(x); }},
    {"tanh", [](double x) { return std::tanh(x); }},
    {"sigmoid", [](double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }},
    {"softplus", [](double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }},
    {"relu", [](double x) { return std::max(x, 0.0); }},
    {"abs", [](double x) { return std::abs(x); }},
    {"sign", [](double x) { return x > 0   ? 1.0
                                   : x < 0 ? -1.0
                                           : 0.0; }},
    {"floor", [](double x) { return std::floor(x); }},
    {"erf", [](double x) { return std::erf(x); }},
    {"sin", [](double x) { return std::sin(x); }},
    {"cos", [](double x) { return std::cos(x); }},
};

constexpr Binary kBinary[] = {
    {"min", [](double a, double b) { return std::min(a, b); }},
    {"max", [](double a, double b) { return std::max(a, b); }},
    {"pow", [](double a, double b) { return std::pow(a, b); }},
};

}  // namespace

bool fold_static(const std::string& op, std::span<const double> x, double& result) {
  for (const Unary& u : kUnary)
    if (x.size() == 1 && op == u.name) {
      result = u.value(x[0]);
      return true;
    }
  for (const Binary& b : kBinary)
    if (x.size() == 2 && op == b.name) {
      result = b.value(x[0], x[1]);
      return true;
    }
  return false;
}

}  // namespace gradc::frontend
