// Errors of the inline elementary functions against the C library in double, over every kind of float, on
// every target that runs here.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "elementary.h"
#include "harness.h"

namespace gradc::testing::vector_math_test {
namespace {

using loop::Expr;
using loop::Scalar;
using loop::UnaryOp;

TEST(VectorMath, ErrorsAreWithinTheirBounds) {
  const std::vector<float> x = samples(16381);
  const bool table = std::getenv("GRADC_TEST_TABLE") != nullptr;  // prints what was measured
  for (const codegen::Target& target : runnable_targets()) {
    for (const Function& f : functions) {
      std::vector<double> want;
      for (const float v : x) want.push_back(f.reference(static_cast<double>(v)));
      for (const int lanes : {1, 2, 4, 8, 16, 32}) {
        const auto y = map<float, float>(target, Scalar::f32, Scalar::f32, lanes, x,
                                         [&](Expr e) { return loop::unary(f.op, e); });
        double worst = 0;
        size_t at = 0;
        for (size_t i = 0; i < x.size(); ++i) {
          if (x[i] < f.low || x[i] > f.high) continue;
          const double e = ulps(y[i], want[i]);
          if (e > worst) {
            worst = e;
            at = i;
          }
        }
        if (table)
          printf("%-9s %-9s %2d lanes: %.3f ulp at %.9g\n", target.name.c_str(),
                 std::string(loop::name(f.op)).c_str(), lanes, worst, static_cast<double>(x[at]));
        EXPECT_LE(worst, target.name == "x86-64-v2" ? f.bound_no_fma : f.bound)
            << loop::name(f.op) << '(' << x[at] << ") = " << y[at] << ", not " << want[at] << "; "
            << target.name << ", " << lanes << " lanes";
      }
    }
  }
}

// An operation is exact, or its error and its double form are tested by a row of `functions`.
TEST(VectorMath, EveryOperationIsExactOrHasABound) {
  const std::set<UnaryOp> exact = {UnaryOp::neg,   UnaryOp::abs,         UnaryOp::floor,
                                   UnaryOp::round, UnaryOp::logical_not, UnaryOp::is_finite};
  std::set<UnaryOp> bounded;
  for (const Function& f : functions) bounded.insert(f.op);
  for (int i = 0; i <= static_cast<int>(UnaryOp::is_finite); ++i) {
    const auto op = static_cast<UnaryOp>(i);
    EXPECT_NE(exact.contains(op), bounded.contains(op)) << loop::name(op);
  }
}

TEST(VectorMath, SineAndCosineStaySaneForHugeArguments) {
  const std::vector<float> x = {1e7f, 1e9f, 1e15f, 1e20f, 1e30f, 3e38f, -1e9f, -3e38f};
  for (const UnaryOp op : {UnaryOp::sin, UnaryOp::cos}) {
    const auto y = map<float, float>(native(), Scalar::f32, Scalar::f32, 8, x,
                                     [&](Expr e) { return loop::unary(op, e); });
    for (const float v : y) EXPECT_LE(std::fabs(v), 1.0f);
  }
}

TEST(VectorMath, PowFollowsC) {
  std::vector<float> bases = {0.0f,   -0.0f, 1.0f,   -1.0f,  2.0f, -2.0f,  0.5f,     -0.5f,     10.0f, -3.0f,
                              1e-20f, 1e20f, 0.999f, 1.001f, 3.7f, -1e10f, INFINITY, -INFINITY, NAN};
  for (float v = 1e-30f; v < 1e30f; v *= 1.37f) bases.push_back(v);
  std::vector<float> exponents = {0.0f,   -0.0f,    1.0f,      -1.0f, 2.0f,        3.0f,        -3.0f,
                                  0.5f,   -0.5f,    1.0f / 3,  7.0f,  16777216.0f, 16777215.0f, 1e30f,
                                  -1e30f, INFINITY, -INFINITY, NAN,   12.25f,      -0.1f};
  std::vector<float> x, p;
  for (const float a : bases)
    for (const float b : exponents) {
      x.push_back(a);
      p.push_back(b);
    }
  while (x.size() % 16 != 0) {
    x.push_back(2);
    p.push_back(2);
  }
  for (const codegen::Target& target : runnable_targets()) {
    for (const int lanes : {1, 4, 16}) {
      loop::Kernel k = loop::make_kernel("pow");
      loop::Builder b(k);
      const auto xb = b.buffer("x", Scalar::f32, loop::Access::read),
                 pb = b.buffer("p", Scalar::f32, loop::Access::read);
      const auto yb = b.buffer("y", Scalar::f32, loop::Access::write);
      b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1, [&](Expr i) {
        const Expr at = i * loop::index(lanes);
        b.store(yb, at,
                loop::binary(loop::BinaryOp::pow, loop::load(xb, at, lanes), loop::load(pb, at, lanes)));
      });
      const loop::Program program = one_call(std::move(k), static_cast<int64_t>(x.size()) / lanes);
      const codegen::Jit jit({&program}, target);
      std::vector<float> y(x.size());
      Arguments a;
      a.inputs = {x.data(), p.data()};
      a.outputs = {y.data()};
      jit.entry("run")(a.get(), 0, 1);
      for (size_t i = 0; i < x.size(); ++i) {
        const double want = std::pow(static_cast<double>(x[i]), static_cast<double>(p[i]));
        ASSERT_LE(ulps(y[i], want), 1)
            << x[i] << " ** " << p[i] << " = " << y[i] << ", not " << want << "; " << target.name;
        if (want == 0) {
          ASSERT_EQ(std::signbit(y[i]), std::signbit(want)) << x[i] << " ** " << p[i];
        }
      }
    }
  }
}

TEST(VectorMath, DoublesAreTheCLibrarys) {
  std::vector<double> x;
  for (int i = -40; i < 40; ++i) x.push_back(i * 0.37 + 0.01);
  x.insert(x.end(), {0.0, inf, -inf, std::nan(""), 700, -700, 1e300, 1.0});
  for (const Function& f : functions) {
    for (const int lanes : {1, 4}) {
      const auto y = map<double, double>(native(), Scalar::f64, Scalar::f64, lanes, x,
                                         [&](Expr e) { return loop::unary(f.op, e); });
      for (size_t i = 0; i < x.size(); ++i) {
        const double want = f.reference(x[i]);
        if (std::isnan(want)) {
          EXPECT_TRUE(std::isnan(y[i])) << loop::name(f.op) << '(' << x[i] << ')';
        } else if (std::isinf(want)) {
          EXPECT_EQ(y[i], want) << loop::name(f.op) << '(' << x[i] << ')';
        } else {
          EXPECT_NEAR(y[i], want, 1e-15 * std::fabs(want) + 1e-307) << loop::name(f.op) << '(' << x[i] << ')';
        }
      }
    }
  }
}

}  // namespace
}  // namespace gradc::testing::vector_math_test
