// Methods of the prelude that PyTorch's table (methods_test.cpp) does not hold, run as native code against
// their definitions in double precision: rates that follow the batch, warm-ups and chains of schedules,
// pooling, layers that draw random numbers, penalties, metrics.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "tests/cli/probe.h"

namespace gradc::test::methods_native_test {
namespace {

// --- rates

// The gradient of the loss in w is the mean of the images.
std::string rate_model(int64_t batch, const std::string& optimizer, const std::string& more = "") {
  return fmt::format(
      "set batch = {}\n"
      "data noise = random(shape=[4], classes=10, train=2048, test=32, batch=batch)\n"
      "model net(image: f32[4]) {{\n    w = param[4] ~ 0\n    return sum(w * image)\n}}\n"
      "train {{\n    loss net(noise.image)\n    optimizer {}\n{}}}\n",
      batch, optimizer, more);
}

struct Scaling {
  int64_t batch;
  const char* reference;  // as it is written
  double value;
};

class LinearScaling : public testing::TestWithParam<Scaling> {};

// Goyal et al. 2017, section 2.1: the rate that was found with one batch size, times the ratio of batches.
TEST_P(LinearScaling, MultipliesTheRateByTheRatioOfBatches) {
  const auto [batch, reference, value] = GetParam();
  Probe probe(rate_model(batch, fmt::format("sgd(lr=linear_scaling(0.1, batch{}))", reference)));
  const double rate = 0.1 * static_cast<double>(batch) / value;
  probe.set("w", {1, 2, 3, 4});
  const Values g = {0.5, -1, 2, 0};
  EXPECT_DOUBLE_EQ(probe.run("train_step", {{"image", g}}, 1).at("lr")[0], rate);
  Values wanted;
  for (size_t i = 0; i < 4; ++i) wanted.push_back(static_cast<double>(i + 1) - rate * g[i]);
  EXPECT_LE(worst_error(probe.get("w"), wanted, 1), 1e-6);
  EXPECT_GT(worst_error(probe.get("w"), {1, 2, 3, 4}, 1), 1e-5) << "the parameter has not moved";
}

INSTANTIATE_TEST_SUITE_P(Batches, LinearScaling,
                         testing::Values(Scaling{1, "", 256}, Scaling{32, "", 256}, Scaling{100, "", 256},
                                         Scaling{256, "", 256}, Scaling{1024, "", 256},
                                         Scaling{96, ", reference=32", 32}, Scaling{8, ", 128", 128}));

// Under a schedule the scaled rate is what the schedule starts from.
TEST(LinearScaling, ComesBeforeTheSchedule) {
  Probe probe(rate_model(64, "momentum(lr=linear_scaling(0.4, batch, reference=32))",
                         "    schedule warmup(10) then linear\n"));
  const auto rate = [&](double step) {
    return probe.run("train_step", {{"image", Values(4)}}, 1, step, 0, 110).at("lr")[0];
  };
  EXPECT_NEAR(rate(0), 0.08, 1e-12);
  EXPECT_NEAR(rate(9), 0.8, 1e-12);
  EXPECT_NEAR(rate(60), 0.4, 1e-12);
}

TEST(NativeSchedules, FollowTheirDefinitions) {
  const double lr = 0.5, pi = std::acos(-1.0);
  struct Case {
    const char* schedule;
    std::function<double(double)> rate;
  };
  const std::vector<Case> cases = {
      {"constant_rate", [&](double) { return lr; }},
      {"warmup(10)", [&](double s) { return lr * (s + 1) / 10; }},
      {"warmup(20) then cosine",
       [&](double s) { return s < 20 ? lr * (s + 1) / 20 : lr * (1 + std::cos(pi * (s - 20) / 80)) / 2; }},
      {"warmup(5) then hold(15) then linear", [&](double s) {
         return s < 5 ? lr * (s + 1) / 5 : s < 20 ? lr : lr * (1 - (s - 20) / 80);
       }}};
  for (const Case& c : cases) {
    Probe probe(rate_model(32, "sgd(lr=0.5)", fmt::format("    schedule {}\n", c.schedule)));
    for (const double step : {0., 1., 4., 5., 9., 19., 20., 21., 60., 99.})
      EXPECT_NEAR(probe.run("train_step", {{"image", Values(4)}}, 1, step, 0, 100).at("lr")[0], c.rate(step),
                  1e-12)
          << c.schedule << " at " << step;
  }
}

// --- pooling

constexpr int64_t kChannels = 2, kHeight = 7, kWidth = 6;

// What a window of the image gives: the greatest element, or the mean with padding as zeros; and the gradient
// of sum_j cos(j) y_j in the image.
struct Pool {
  int64_t window, stride, padding;
  bool greatest;
};
void pool(const Pool& p, const Values& x, Values& y, Values& gradient) {
  const int64_t oh = (kHeight + 2 * p.padding - p.window) / p.stride + 1;
  const int64_t ow = (kWidth + 2 * p.padding - p.window) / p.stride + 1;
  gradient.assign(x.size(), 0);
  y.clear();
  for (int64_t c = 0; c < kChannels; ++c)
    for (int64_t i = 0; i < oh; ++i)
      for (int64_t j = 0; j < ow; ++j) {
        const double slope = std::cos(static_cast<double>(y.size()));
        double sum = 0, best = -INFINITY;
        size_t first = 0;
        for (int64_t k = 0; k < p.window * p.window; ++k) {
          const int64_t row = i * p.stride - p.padding + k / p.window;
          const int64_t column = j * p.stride - p.padding + k % p.window;
          if (row < 0 || row >= kHeight || column < 0 || column >= kWidth) continue;
          const auto at = static_cast<size_t>((c * kHeight + row) * kWidth + column);
          sum += x[at];
          if (x[at] > best) {  // the first of equal ones
            best = x[at];
            first = at;
          }
          if (!p.greatest) gradient[at] += slope / static_cast<double>(p.window * p.window);
        }
        if (p.greatest) gradient[first] += slope;
        y.push_back(p.greatest ? best : sum / static_cast<double>(p.window * p.window));
      }
}

TEST(NativePooling, GivesEachWindowItsValueAndItsGradient) {
  struct Case {
    const char* call;
    Pool pool;
  };
  for (const auto& [call, p] :
       {Case{"max_pool(2)", {2, 2, 0, true}}, Case{"max_pool(3, stride=2)", {3, 2, 0, true}},
        Case{"max_pool(3, stride=1, padding=1)", {3, 1, 1, true}}, Case{"avg_pool(2)", {2, 2, 0, false}},
        Case{"avg_pool(3, stride=2, padding=1)", {3, 2, 1, false}}}) {
    Probe probe(fmt::format(
        "data noise = random(shape=[2, 7, 6], train=64, test=32, batch=32)\n"
        "model net(image: f32[2, 7, 6]) {{\n    p = param[2, 7, 6] ~ 0\n    return (image + p) |> {}\n}}\n"
        "train {{\n    y = net(noise.image)\n    flat = reshape(y, [-1])\n"
        "    loss sum(flat * cos(cast(iota(flat.size), \"f32\")))\n    predict y\n    optimizer "
        "sgd(lr=0)\n}}\n",
        call));
    Values x(kChannels * kHeight * kWidth), y, gradient;
    // Few different values, so that windows have equal greatest ones.
    for (size_t i = 0; i < x.size(); ++i) x[i] = std::floor(3 * std::sin(2.3 * static_cast<double>(i)));
    pool(p, x, y, gradient);
    EXPECT_LE(worst_error(probe.run("predict", {{"image", x}}, 1).at("predict"), y, 0.1), 1e-6) << call;
    EXPECT_LE(worst_error(probe.run("train_step", {{"image", x}}, 1).at("grad.p"), gradient, 0.1), 1e-6)
        << call;
  }
}

TEST(NativePooling, GlobalIsTheMeanOfAChannel) {
  Probe probe(
      "data noise = random(shape=[2, 7, 6], train=64, test=32, batch=32)\n"
      "model net(image: f32[2, 7, 6]) {\n    p = param[2, 7, 6] ~ 0\n    return (image + p) |> "
      "global_avg_pool\n}\n"
      "train {\n    y = net(noise.image)\n    loss y[0] + 3 * y[1]\n    predict y\n    optimizer "
      "sgd(lr=0)\n}\n");
  Values x(84), wanted(2), gradient(84);
  for (size_t i = 0; i < 84; ++i) {
    x[i] = std::sin(static_cast<double>(i));
    wanted[i / 42] += x[i] / 42;
    gradient[i] = (i < 42 ? 1.0 : 3.0) / 42;
  }
  EXPECT_LE(worst_error(probe.run("predict", {{"image", x}}, 1).at("predict"), wanted, 0.01), 1e-5);
  EXPECT_LE(worst_error(probe.run("train_step", {{"image", x}}, 1).at("grad.p"), gradient, 0.01), 1e-5);
}

// --- layers that draw random numbers: what they add up to while training, and what evaluation makes of them

struct Moments {
  double mean, square;  // of y over 32 rows of 500 elements, while training
  Values predicted;     // of one row
};
Moments moments(const std::string& expression) {
  Probe probe(
      fmt::format("data noise = random(shape=[500], train=64, test=32, batch=32)\n"
                  "model net(image: f32[500]) {{\n    p = param[1] ~ 0\n    x = image + p\n"
                  "    return {}\n}}\n"
                  "train {{\n    y = net(noise.image)\n    loss mean(y)\n    metric square = mean(y^2)\n"
                  "    predict y\n    optimizer sgd(lr=0)\n}}\n",
                  expression));
  const auto trained = probe.run("train_step", {{"image", Values(32 * 500, 2)}}, 32);
  return {trained.at("loss")[0] / 32, trained.at("square")[0] / 32,
          probe.run("predict", {{"image", Values(500, 2)}}, 1).at("predict")};
}

TEST(NativeNoise, HasItsMomentsWhileTrainingAndIsExactAtEvaluation) {
  // 16,000 draws: six standard deviations of their mean are below 6 sigma / 126.
  const Moments dropped = moments("x |> vanilla_dropout(0.25)");
  EXPECT_NEAR(dropped.mean, 2 * 0.75, 6 * 0.87 / 126);
  EXPECT_NEAR(dropped.square, 4 * 0.75, 6 * 1.74 / 126) << "each element is 0 or 2";
  EXPECT_EQ(dropped.predicted, Values(500, 1.5));
  const Moments inverted = moments("x |> dropout(0.25)");
  EXPECT_NEAR(inverted.mean, 2, 6 * 1.16 / 126);
  EXPECT_NEAR(inverted.square, 4 / 0.75, 6 * 3.1 / 126) << "each element is 0 or 2 / 0.75";
  EXPECT_EQ(inverted.predicted, Values(500, 2));
  const Moments noisy = moments("x |> gaussian_noise(0.5)");
  EXPECT_NEAR(noisy.mean, 2, 6 * 0.5 / 126);
  EXPECT_NEAR(noisy.square, 4.25, 6 * 2.1 / 126);
  EXPECT_EQ(noisy.predicted, Values(500, 2));
  // One draw an example: 3 x or x.
  const Moments branched = moments("stochastic_depth(x, 2 * x, keep=0.75)");
  const double kept = (branched.mean - 2) / 4;
  EXPECT_NEAR(kept * 32, std::round(kept * 32), 1e-3) << "a part of the examples, whole";
  EXPECT_GT(kept, 0.3);
  EXPECT_LT(kept, 1);
  EXPECT_NEAR(branched.square, 4 + 32 * kept, 1e-3);
  EXPECT_EQ(branched.predicted, Values(500, 5));
}

// --- penalties and metrics

TEST(NativePenalties, AreTheirFormulaOfTheParameter) {
  const Values w = {0.5, -1.5, 2, 0};
  double squares = 0, sizes = 0;
  for (const double v : w) {
    squares += v * v;
    sizes += std::abs(v);
  }
  struct Case {
    const char* penalty;
    double value;
    std::function<double(double)> slope;
  };
  const auto sign = [](double v) { return v > 0 ? 1.0 : v < 0 ? -1.0 : 0.0; };
  for (const Case& c : {Case{"l2(0.3)", 0.15 * squares, [](double v) { return 0.3 * v; }},
                        Case{"l1(0.2)", 0.2 * sizes, [&](double v) { return 0.2 * sign(v); }},
                        Case{"elastic_net(0.1, beta=3.0)", 0.1 * (3 * squares + sizes),
                             [&](double v) { return 0.1 * (6 * v + sign(v)); }}}) {
    Probe probe(rate_model(32, "sgd(lr=0)", fmt::format("    penalty {}\n", c.penalty)));
    probe.set("w", w);
    const auto got = probe.run("train_step", {{"image", Values(4)}}, 1);
    EXPECT_LE(worst_error(got.at("loss"), {c.value}, 1e-3), 1e-6) << c.penalty;
    Values slopes;
    for (const double v : w) slopes.push_back(c.slope(v));
    EXPECT_LE(worst_error(got.at("grad.w"), slopes, 0.1), 1e-6) << c.penalty;
  }
}

TEST(NativeMetrics, CountWhatIsRight) {
  Probe probe(
      "data noise = random(shape=[6], classes=6, train=64, test=32, batch=32)\n"
      "model net(image: f32[6]) {\n    p = param[1] ~ 0\n    return image + p\n}\n"
      "train {\n    y = net(noise.image)\n    loss mean(y)\n    metric accuracy(y, noise.label)\n"
      "    metric three = top_k(y, noise.label, k=3)\n    metric five = top_k(y, noise.label)\n"
      "    metric binary = binary_accuracy(y[0], cast(noise.label > 2, \"f32\"))\n    optimizer "
      "sgd(lr=0)\n}\n");
  // How many scores are greater than the label's.
  const Values scores = {-1, 3, 0, 2, 1, -2};
  const std::vector<double> rank = {4, 0, 3, 1, 2, 5};
  // Equal scores count once each, by class, and what is NaN is before all others and never right.
  const double nan = std::nan("");
  const Values tied = {1, 3, 3, 3, 0, 3}, broken = {nan, 3, nan, 3, 0, 1};
  const std::vector<double> tied_right = {0, 1, 1, 1, 0, 0}, broken_right = {0, 1, 0, 0, 0, 0};
  for (size_t label = 0; label < 6; ++label) {
    const Values at = {static_cast<double>(label)};
    EXPECT_EQ(probe.run("eval", {{"image", tied}, {"label", at}}, 1).at("three")[0], tied_right[label])
        << label;
    const auto got = probe.run("eval", {{"image", broken}, {"label", at}}, 1);
    EXPECT_EQ(got.at("three")[0], broken_right[label]) << label;
    EXPECT_EQ(got.at("binary")[0], 0) << label;
  }
  for (int label = 0; label < 6; ++label) {
    const auto got = probe.run("eval", {{"image", scores}, {"label", {static_cast<double>(label)}}}, 1);
    const double r = rank[static_cast<size_t>(label)];
    EXPECT_EQ(got.at("accuracy")[0], r == 0) << label;
    EXPECT_EQ(got.at("three")[0], r < 3) << label;
    EXPECT_EQ(got.at("five")[0], r < 5) << label;
    EXPECT_EQ(got.at("binary")[0], label <= 2) << label;
  }
}

}  // namespace
}  // namespace gradc::test::methods_native_test
