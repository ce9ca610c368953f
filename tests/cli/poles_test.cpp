// Gradients where a formula divides by zero but its masks or its own definition say that nothing is left:
// norms at 0, and roots, logarithms, quotients and powers after max, select and relu. The values are the
// limits of the formulas, or 0 where PyTorch's subgradient is; tolerance 1e-6 relative, f32's rounding of a
// few operations.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/cli/probe.h"

namespace gradc::test::poles_test {
namespace {

struct Pole {
  const char* name;
  const char* loss;  // of w, the parameter: four numbers
  Values at, gradient;
};

void PrintTo(const Pole& p, std::ostream* out) { *out << p.loss; }

class Poles : public testing::TestWithParam<Pole> {};

TEST_P(Poles, HaveTheGradientOfTheirMasks) {
  const Pole& p = GetParam();
  Probe probe(
      fmt::format("data noise = random(shape=[4], classes=10, train=64, test=32, batch=32)\n"
                  "model net(image: f32[4]) {{\n    p = param[4] ~ 1\n    w = p * image\n    {}\n}}\n"
                  "train {{\n    loss net(noise.image)\n    optimizer sgd(lr=0.5)\n}}\n",
                  p.loss));
  probe.set("p", p.at);
  const auto outputs = probe.run("train_step", {{"image", {1, 1, 1, 1}}}, 1);
  const Values& g = outputs.at("grad.p");
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(g[i], p.gradient[i], 1e-6 * std::abs(p.gradient[i])) << "element " << i;
    EXPECT_TRUE(std::isfinite(probe.get("p")[i])) << "element " << i;
  }
}

const Values kZero = {0, 0, 0, 0};

INSTANTIATE_TEST_SUITE_P(
    All, Poles,
    testing::Values(
        Pole{"Norm", "return norm(w * image)", kZero, kZero},
        Pole{"NormElsewhere", "return norm(w * image)", {3, 0, 4, 0}, {0.6, 0, 0.8, 0}},
        Pole{"RootOfSum", "return sqrt(sum((w * image)^2))", kZero, kZero},
        Pole{"RootOfMean", "return sqrt(mean((w * image)^2))", kZero, kZero},
        Pole{"RootOfTwoSquares", "return sqrt(w[0] * w[0] + w[1]^4)", kZero, kZero},
        Pole{"HalfPower", "return sum((w * w)^0.5)", {0, 2, 0, -2}, {0, 1, 0, -1}},
        Pole{"Distance", "return norm(w - image)", {1, 1, 1, 1}, kZero},
        Pole{"NormBoundedBelow", "return sum(w * image / max(norm(w), 0.25))", kZero, {4, 4, 4, 4}},
        Pole{"NormSelected", "n = norm(w)\n    return sum(select(n > 0, w / n, w))", kZero, {1, 1, 1, 1}},
        Pole{"RootBehindMax", "return sum(max(sqrt(w), 0.5))", {0, 0, 4, 1}, {0, 0, 0.25, 0.5}},
        Pole{"RootBehindMinOfMax", "return sum(min(max(sqrt(w), 0.5), 1.5))", {0, 1, 4, 0}, {0, 0.5, 0, 0}},
        Pole{"RootBehindRelu", "return sum(relu(sqrt(w) - 1))", {0, 4, 0, 0}, {0, 0.25, 0, 0}},
        Pole{"LogBehindMax", "return sum(max(log(w), -3))", {0, 2, 0, 0}, {0, 0.5, 0, 0}},
        Pole{"Log1pBehindMax", "return sum(max(log1p(w), -3))", {-1, 1, -1, -1}, {0, 0.5, 0, 0}},
        Pole{"QuotientBehindMin", "return sum(min(image / w, 5))", {0, 2, 0, 0}, {0, -0.25, 0, 0}},
        Pole{"InverseRootBehindMin", "return sum(min(rsqrt(w), 5))", {0, 4, 0, 0}, {0, -0.0625, 0, 0}},
        Pole{"PowerBehindMax", "return sum(max(w^0.25, 0.5))", {0, 1, 0, 0}, {0, 0.25, 0, 0}},
        Pole{"PowerOfAVariable", "return sum(max(w^(image / 4), 0.5))", {0, 1, 0, 0}, {0, 0.25, 0, 0}},
        Pole{"SelectedTwice",
             "r = sqrt(w)\n    on = w > 0\n    return sum(select(on, r, 0)) + sum(select(on, 3 * r, 0))",
             {0, 4, 0, 1},
             {0, 1, 0, 2}}),
    [](const testing::TestParamInfo<Pole>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace gradc::test::poles_test
