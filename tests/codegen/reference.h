// A second, plain evaluation of loop IR expressions, lane by lane in C++, to test generated code against.
#pragma once
#include <bit>
#include <cmath>
#include <vector>

#include "ir/loop/loop_ir.h"

namespace gradc::testing {

// One lane: floats in `real` (already rounded to their type), everything else in `integer`.
struct Lane {
  double real = 0;
  int64_t integer = 0;
};
using Lanes = std::vector<Lane>;

class Reference {
 public:
  std::function<Lane(const loop::Buffer&, int64_t)> read;
  std::function<Lanes(const loop::Variable&)> variable;
  bool fused = true;  // fma rounds once

  Lanes operator()(const loop::Expr& e) const {
    using namespace loop;
    std::vector<Lanes> a;
    for (const Expr& arg : e->args) a.push_back((*this)(arg));
    const size_t n = e->type.lanes;
    Lanes out(n);
    const auto each = [&](auto f) {
      for (size_t i = 0; i < n; ++i) out[i] = rounded(e->type.scalar, f(i));
      return out;
    };
    const auto real = [](double v) { return Lane{v, 0}; };
    const auto whole = [](int64_t v) { return Lane{0, v}; };
    switch (e->kind) {
      case ExprKind::constant: return each([&](size_t) { return Lane{e->number, e->integer}; });
      case ExprKind::variable: return variable(e->variable);
      case ExprKind::load:
        return each([&](size_t i) {
          if (a.size() > 1 && !a[1][i].integer) return Lane{};
          return read(e->buffer,
                      a[0].size() == 1 ? a[0][0].integer + static_cast<int64_t>(i) : a[0][i].integer);
        });
      case ExprKind::broadcast: return each([&](size_t) { return a[0][0]; });
      case ExprKind::ramp:
        return each([&](size_t i) {
          return whole(a[0][0].integer + static_cast<int64_t>(e->number) * static_cast<int64_t>(i));
        });
      case ExprKind::unary: return each([&](size_t i) { return unary_lane(*e, a[0][i]); });
      case ExprKind::binary:
        return each([&](size_t i) { return binary_lane(e->binary, e->type.scalar, a[0][i], a[1][i]); });
      case ExprKind::compare:
        return each([&](size_t i) { return whole(compare_lane(*e, a[0][i], a[1][i])); });
      case ExprKind::select: return each([&](size_t i) { return a[0][i].integer ? a[1][i] : a[2][i]; });
      case ExprKind::fma:
        return each([&](size_t i) {
          const double x = a[0][i].real, y = a[1][i].real, z = a[2][i].real;
          if (e->type.scalar == Scalar::f64) return real(fused ? std::fma(x, y, z) : x * y + z);
          if (fused)
            return real(std::fma(static_cast<float>(x), static_cast<float>(y), static_cast<float>(z)));
          return real(static_cast<float>(x) * static_cast<float>(y) + static_cast<float>(z));
        });
      case ExprKind::cast:
        return each([&](size_t i) { return cast_lane(e->args[0]->type.scalar, e->type.scalar, a[0][i]); });
      case ExprKind::reduce: {
        Lanes v = a[0];
        while (v.size() > 1) {
          const size_t half = v.size() / 2;
          for (size_t i = 0; i < half; ++i)
            v[i] = rounded(e->type.scalar, binary_lane(e->binary, e->type.scalar, v[i], v[i + half]));
          v.resize(half);
        }
        return v;
      }
      case ExprKind::zip: return each([&](size_t i) { return a[i % 2][(e->integer ? n / 2 : 0) + i / 2]; });
      case ExprKind::concat: return each([&](size_t i) { return a[i < n / 2 ? 0 : 1][i % (n / 2)]; });
      case ExprKind::philox: break;  // support/philox.h is its reference
    }
    throw std::logic_error("no reference");
  }

 private:
  static Lane rounded(loop::Scalar s, Lane v) {
    if (s == loop::Scalar::f32) v.real = static_cast<double>(static_cast<float>(v.real));
    if (s == loop::Scalar::i32) v.integer = static_cast<int32_t>(static_cast<uint32_t>(v.integer));
    if (s == loop::Scalar::i1) v.integer = v.integer & 1;
    return v;
  }

  static bool is_real(loop::Scalar s) { return s == loop::Scalar::f32 || s == loop::Scalar::f64; }

  static Lane unary_lane(const loop::ExprData& e, Lane x) {
    using loop::UnaryOp;
    const bool real = is_real(e.args[0]->type.scalar);
    switch (e.unary) {
      case UnaryOp::neg: return {-x.real, static_cast<int64_t>(-static_cast<uint64_t>(x.integer))};
      case UnaryOp::abs: return {std::fabs(x.real), x.integer < 0 ? -x.integer : x.integer};
      case UnaryOp::sqrt: return {std::sqrt(x.real), 0};
      case UnaryOp::floor: return {std::floor(x.real), 0};
      case UnaryOp::round: return {std::nearbyint(x.real), 0};
      case UnaryOp::logical_not: return {0, !x.integer};
      case UnaryOp::is_finite: return {0, real && std::isfinite(x.real)};
      default: throw std::logic_error("no exact reference");
    }
  }

  static Lane binary_lane(loop::BinaryOp op, loop::Scalar s, Lane a, Lane b) {
    using loop::BinaryOp;
    const double x = a.real, y = b.real;
    const auto m = static_cast<uint64_t>(a.integer), n = static_cast<uint64_t>(b.integer);
    if (is_real(s)) {
      switch (op) {
        case BinaryOp::add: return {x + y, 0};
        case BinaryOp::sub: return {x - y, 0};
        case BinaryOp::mul: return {x * y, 0};
        case BinaryOp::div: return {x / y, 0};
        case BinaryOp::min: return {std::isnan(x) || std::isnan(y) ? NAN : std::fmin(x, y), 0};
        case BinaryOp::max: return {std::isnan(x) || std::isnan(y) ? NAN : std::fmax(x, y), 0};
        default: throw std::logic_error("no exact reference");
      }
    }
    const auto out = [](uint64_t v) { return Lane{0, static_cast<int64_t>(v)}; };
    switch (op) {
      case BinaryOp::add: return out(m + n);
      case BinaryOp::sub: return out(m - n);
      case BinaryOp::mul: return out(m * n);
      case BinaryOp::div: return out(m / n);
      case BinaryOp::rem: return out(m % n);
      case BinaryOp::min: return {0, std::min(a.integer, b.integer)};
      case BinaryOp::max: return {0, std::max(a.integer, b.integer)};
      case BinaryOp::bit_and: return out(m & n);
      case BinaryOp::bit_or: return out(m | n);
      case BinaryOp::bit_xor: return out(m ^ n);
      case BinaryOp::shift_left: return out(m << n);
      case BinaryOp::shift_right: return out((s == loop::Scalar::i32 ? static_cast<uint32_t>(m) : m) >> n);
      case BinaryOp::pow: break;
    }
    throw std::logic_error("no exact reference");
  }

  static bool compare_lane(const loop::ExprData& e, Lane a, Lane b) {
    const auto holds = [&](auto x, auto y) {
      switch (e.compare) {
        case loop::CompareOp::lt: return x < y;
        case loop::CompareOp::le: return x <= y;
        case loop::CompareOp::gt: return x > y;
        case loop::CompareOp::ge: return x >= y;
        case loop::CompareOp::eq: return x == y;
        case loop::CompareOp::ne: return x != y;
      }
      return false;
    };
    return is_real(e.args[0]->type.scalar) ? holds(a.real, b.real) : holds(a.integer, b.integer);
  }

  static Lane cast_lane(loop::Scalar from, loop::Scalar to, Lane x) {
    if (is_real(from) && is_real(to)) return {x.real, 0};
    if (is_real(to))
      return {to == loop::Scalar::f32 ? static_cast<double>(static_cast<float>(x.integer))
                                      : static_cast<double>(x.integer),
              0};
    if (!is_real(from)) return {0, x.integer};
    const double low = to == loop::Scalar::i32 ? -0x1p31 : -0x1p63,
                 high = to == loop::Scalar::i32 ? 0x1p31 : 0x1p63;
    const int64_t least = to == loop::Scalar::i32 ? INT32_MIN : INT64_MIN,
                  most = to == loop::Scalar::i32 ? INT32_MAX : INT64_MAX;
    if (std::isnan(x.real)) return {0, 0};
    return {0, x.real < low ? least : x.real >= high ? most : static_cast<int64_t>(x.real)};
  }
};

}  // namespace gradc::testing
