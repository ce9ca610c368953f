// The prelude's training methods through optimised native code: twenty steps of every optimizer, every
// schedule step by step, values and gradients of activations, losses and layers, against what PyTorch
// computes in double precision (pytorch.json, made by tools/reference_tables.py) or, where PyTorch has no
// such method, against the published algorithm written here in double precision.
//
// Tolerances, relative with a floor: optimizers 1e-5 of max(1, |w|) after each of 20 f32 steps; schedules
// 1e-11 (computed in double); values and gradients of cases as kOneRow and kRows say.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "support/shape_text.h"
#include "tests/cli/probe.h"

namespace gradc::test::methods_test {
namespace {

using nlohmann::json;

const json& table() {
  static const json value =
      json::parse(std::ifstream(std::string(GRADC_SOURCE_DIR) + "/tests/cli/pytorch.json"));
  return value;
}

std::string test_name(const std::string& text) {
  return std::regex_replace(std::regex_replace(text, std::regex("[^A-Za-z0-9]+"), "_"), std::regex("_$"), "");
}

std::string data(const std::vector<int64_t>& shape) {
  // Labels are given: no class is beyond any case's scores.
  return fmt::format("data noise = random(shape={}, classes=2, train=64, test=32, batch=32)\n",
                     shape_text(shape));
}

// --- optimizers

// The gradient of the loss in w is the image itself, when there is one row.
Probe trace_probe(const std::string& optimizer, const std::vector<int64_t>& shape = {4}) {
  const std::string extents = shape_text(shape);
  return Probe(data(shape) + "model net(image: f32" + extents + ") {\n    w = param" + extents +
               " ~ 0\n    return sum(w * image)\n}\n"
               "train {\n    y = net(noise.image)\n    loss y\n    optimizer " +
               optimizer + "\n}\n");
}

void follow(const std::string& optimizer, const std::vector<int64_t>& shape, const json& trace) {
  const json& t = table().at("optimizers");
  Probe probe = trace_probe(optimizer, shape);
  probe.set("w", t.at("start"));
  Values last = t.at("start");
  for (size_t i = 0; i < t.at("gradients").size(); ++i) {
    const auto outputs =
        probe.run("train_step", {{"image", t["gradients"][i]}}, 1, static_cast<double>(i), 0, 20);
    ASSERT_LE(worst_error(outputs.at("grad.w"), t["gradients"][i], 1), 1e-7);
    last = probe.get("w");
    ASSERT_LE(worst_error(last, trace.at(i), 1), 1e-5) << "after step " << i + 1;
  }
  EXPECT_GT(worst_error(last, t.at("start"), 1), 1e-3) << "the parameter has not moved";
}

class OptimizerTrace : public ::testing::TestWithParam<std::string> {};

TEST_P(OptimizerTrace, FollowsPyTorch) {
  follow(GetParam(), {4}, table().at("optimizers").at("traces").at(GetParam()));
}

TEST(Optimizers, ThoseOfMatricesFollowPyTorch) {
  const std::map<std::string, std::vector<int64_t>> shapes = {
      {"matrix_traces", {2, 2}}, {"tall_traces", {4, 1}}, {"wide_traces", {1, 4}}};
  for (const auto& [part, shape] : shapes)
    for (const auto& [optimizer, trace] : table().at("optimizers").at(part).items()) {
      SCOPED_TRACE(part + " " + optimizer);
      follow(optimizer, shape, trace);
    }
}

std::vector<std::string> traced() {
  std::vector<std::string> names;
  for (const auto& [name, trace] : table().at("optimizers").at("traces").items()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Methods, OptimizerTrace, ::testing::ValuesIn(traced()),
                         [](const auto& info) { return test_name(info.param); });

// What PyTorch does not have: the algorithm as published, in double precision. `slots` are the algorithm's
// own memory, four numbers each.
struct Algorithm {
  std::string optimizer;
  std::function<void(Values& w, std::map<std::string, Values>& slots, const Values& g, double t)> step;
};

double soft(double x, double threshold) { return std::copysign(std::max(std::abs(x) - threshold, 0.0), x); }
double sign(double x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }
double length(const Values& x) {
  double s = 0;
  for (double v : x) s += v * v;
  return std::sqrt(s);
}

// A step of one element at a time.
auto each(std::function<void(double& w, std::map<std::string, double>& slots, double g, double t)> one) {
  return [one](Values& w, std::map<std::string, Values>& slots, const Values& g, double t) {
    for (size_t i = 0; i < w.size(); ++i) {
      std::map<std::string, double> own;
      for (auto& [name, values] : slots) own[name] = values[i];
      one(w[i], own, g[i], t);
      for (const auto& [name, value] : own) {
        auto& values = slots[name];
        values.resize(w.size());
        values[i] = value;
      }
    }
  };
}

using Slots = std::map<std::string, double>;

std::vector<Algorithm> algorithms() {
  const auto proximal = [](double lr, double l1, double l2, bool adaptive) {
    return each([=](double& w, Slots& s, double g, double) {
      s["n"] += g * g;
      const double own = lr / (std::sqrt(s["n"]) + 1e-10), rate = adaptive ? own : lr;
      w = soft(w - own * g, rate * l1) / (1 + rate * l2);
    });
  };
  const auto averaging = [](double lr, double l1, double l2) {
    // The least point of G w + t l1 |w| + t l2 w^2 / 2 + h (w - w0)^2 / 2, found by its subgradient's sign.
    return each([=](double& w, Slots& s, double g, double t) {
      if (t == 1) s["w0"] = w, s["n"] = 0.1;
      s["G"] += g;
      s["n"] += g * g;
      const double h = (1e-8 + std::sqrt(s["n"])) / lr;
      const auto slope = [&](double x, double kink) {
        return s["G"] + t * l1 * kink + t * l2 * x + h * (x - s["w0"]);
      };
      if (slope(0, -1) <= 0 && slope(0, 1) >= 0) {
        w = 0;
      } else {
        const double kink = slope(0, 1) < 0 ? 1 : -1;
        w = (h * s["w0"] - s["G"] - t * l1 * kink) / (h + t * l2);
      }
    });
  };
  const auto ftrl = [](double lr, double beta, double l1, double l2) {
    return each([=](double& w, Slots& s, double g, double t) {
      if (t == 1) s["z"] = -w * beta / lr;
      const double sigma = (std::sqrt(s["n"] + g * g) - std::sqrt(s["n"])) / lr;
      s["z"] += g - sigma * w;
      s["n"] += g * g;
      w = std::abs(s["z"]) <= l1 ? 0 : -(s["z"] - sign(s["z"]) * l1) / ((beta + std::sqrt(s["n"])) / lr + l2);
    });
  };
  const auto lion = [](double lr, double b1, double b2, double decay) {
    return each([=](double& w, Slots& s, double g, double) {
      const double c = b1 * s["m"] + (1 - b1) * g;
      s["m"] = b2 * s["m"] + (1 - b2) * g;
      w -= lr * (sign(c) + decay * w);
    });
  };
  const auto lamb = [](double lr, double decay) {
    return [=](Values& w, std::map<std::string, Values>& s, const Values& g, double t) {
      s["m"].resize(w.size()), s["v"].resize(w.size());
      Values u(w.size());
      for (size_t i = 0; i < w.size(); ++i) {
        s["m"][i] = 0.9 * s["m"][i] + 0.1 * g[i];
        s["v"][i] = 0.999 * s["v"][i] + 0.001 * g[i] * g[i];
        u[i] = s["m"][i] / (1 - std::pow(0.9, t)) / (std::sqrt(s["v"][i] / (1 - std::pow(0.999, t))) + 1e-6) +
               decay * w[i];
      }
      const double ratio = length(w) > 0 && length(u) > 0 ? length(w) / length(u) : 1;
      for (size_t i = 0; i < w.size(); ++i) w[i] -= lr * ratio * u[i];
    };
  };
  return {
      {"nesterov(lr=0.1, momentum=0.8)", each([](double& w, Slots& s, double g, double) {
         // As published: the gradient is taken at the point looked ahead to, which is what w stands for.
         double theta = w - 0.8 * s["v"];
         s["v"] = 0.8 * s["v"] - 0.1 * g;
         theta += s["v"];
         w = theta + 0.8 * s["v"];
       })},
      {"proximal_adagrad(lr=0.1)", proximal(0.1, 0, 0, false)},
      {"proximal_adagrad(lr=0.1, l1=0.3, l2=0.2)", proximal(0.1, 0.3, 0.2, false)},
      {"proximal_adagrad(lr=0.1, l1=0.3, l2=0.2, adaptive=true)", proximal(0.1, 0.3, 0.2, true)},
      {"adagrad_da(lr=0.1)", averaging(0.1, 0, 0)},
      {"adagrad_da(lr=0.1, l1=0.5, l2=0.3)", averaging(0.1, 0.5, 0.3)},
      {"ftrl(lr=0.1)", ftrl(0.1, 1, 0, 0)},
      {"ftrl(lr=0.2, beta=0.5, l1=2.5, l2=0.1)", ftrl(0.2, 0.5, 2.5, 0.1)},
      {"lion(lr=0.01)", lion(0.01, 0.9, 0.99, 0)},
      {"lion(lr=0.01, beta1=0.8, beta2=0.95, weight_decay=0.1)", lion(0.01, 0.8, 0.95, 0.1)},
      {"lamb(lr=0.05)", lamb(0.05, 0)},
      {"lamb(lr=0.05, weight_decay=0.1)", lamb(0.05, 0.1)},
  };
}

class OptimizerAlgorithm : public ::testing::TestWithParam<Algorithm> {};
void PrintTo(const Algorithm& a, std::ostream* out) { *out << a.optimizer; }

TEST_P(OptimizerAlgorithm, FollowsThePaper) {
  const json& t = table().at("optimizers");
  Probe probe = trace_probe(GetParam().optimizer);
  Values w = t.at("start");
  probe.set("w", w);
  std::map<std::string, Values> slots;
  for (const char* name : {"n", "z", "G", "w0", "m", "v"}) slots[name] = Values(w.size());
  bool cut = false;
  for (size_t i = 0; i < t.at("gradients").size(); ++i) {
    probe.run("train_step", {{"image", t["gradients"][i]}}, 1, static_cast<double>(i), 0, 20);
    GetParam().step(w, slots, t["gradients"][i], static_cast<double>(i + 1));
    ASSERT_LE(worst_error(probe.get("w"), w, 1), 1e-5) << "after step " << i + 1;
    cut |= std::count(w.begin(), w.end(), 0.0) > 0;
  }
  EXPECT_GT(worst_error(w, t.at("start"), 1), 1e-3) << "the parameter has not moved";
  // Where l1 is large the traces must have met an exact zero, else nothing was tested of it.
  if (GetParam().optimizer.find("l1=") != std::string::npos) {
    EXPECT_TRUE(cut);
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, OptimizerAlgorithm, ::testing::ValuesIn(algorithms()),
                         [](const auto& info) { return test_name(info.param.optimizer); });

// An optimizer of the prelude without a numerical test is found here.
TEST(Optimizers, EveryOneOfThePreludeIsCompared) {
  std::string compared;
  for (const char* part : {"traces", "matrix_traces"})
    for (const auto& [optimizer, trace] : table().at("optimizers").at(part).items())
      compared += "\n" + optimizer;
  for (const Algorithm& a : algorithms()) compared += "\n" + a.optimizer;
  const json of_all_examples =
      json::parse(std::ifstream(std::string(GRADC_SOURCE_DIR) + "/tests/cli/full_batch_reference.json"));
  for (const auto& [optimizer, losses] : of_all_examples.at("losses").items()) compared += "\n" + optimizer;
  int count = 0;
  for (const std::string& line : lines(read_text(GRADC_SOURCE_DIR "/frontend/prelude/optimizers.nn"))) {
    if (!line.starts_with("optimizer ")) continue;
    const std::string name = line.substr(10, line.find('(') - 10);
    EXPECT_NE(compared.find("\n" + name + "("), std::string::npos) << name << " has no numerical test";
    ++count;
  }
  EXPECT_GT(count, 20);
}

TEST(Optimizers, AsgdAveragesFromItsStepOn) {
  Probe probe = trace_probe("asgd(lr=0.1, from=5)");
  const json& t = table().at("optimizers");
  Values average(4);
  for (size_t i = 0; i < 20; ++i) {
    probe.run("train_step", {{"image", t["gradients"][i]}}, 1, static_cast<double>(i), 0, 20);
    const Values w = probe.get("w");
    for (size_t k = 0; k < 4; ++k)
      average[k] += (w[k] - average[k]) / std::max(1.0, static_cast<double>(i + 1) - 5);
    ASSERT_LE(worst_error(probe.get("w.average"), average, 1), 1e-5) << "after step " << i + 1;
  }
  EXPECT_GT(worst_error(average, probe.get("w"), 1), 1e-2);
}

TEST(Optimizers, FtrlFromZeroIsTheAlgorithmOfThePaper) {
  Probe probe = trace_probe("ftrl(lr=0.2, beta=0.5, l1=0.8, l2=0.1)");
  const json& t = table().at("optimizers");
  Values w(4), z(4), n(4);
  for (size_t i = 0; i < 20; ++i) {
    const Values g = t["gradients"][i];
    for (size_t k = 0; k < 4; ++k) {
      const double sigma = (std::sqrt(n[k] + g[k] * g[k]) - std::sqrt(n[k])) / 0.2;
      z[k] += g[k] - sigma * w[k];
      n[k] += g[k] * g[k];
      w[k] = std::abs(z[k]) <= 0.8 ? 0 : -(z[k] - sign(z[k]) * 0.8) / ((0.5 + std::sqrt(n[k])) / 0.2 + 0.1);
    }
    probe.run("train_step", {{"image", g}}, 1, static_cast<double>(i), 0, 20);
    ASSERT_LE(worst_error(probe.get("w"), w, 1), 1e-5) << "after step " << i + 1;
  }
  EXPECT_GT(length(w), 1e-3);
}

// --- schedules

class ScheduleRates : public ::testing::TestWithParam<size_t> {};

TEST_P(ScheduleRates, FollowPyTorch) {
  const json& s = table().at("schedules").at(GetParam());
  Probe probe = trace_probe("sgd(lr=0.5)\n    schedule " + s.at("schedule").get<std::string>());
  const bool by_epoch = s.at("unit") == "epoch";
  for (size_t i = 0; i < s.at("rates").size(); ++i) {
    const auto at = static_cast<double>(i);
    const auto outputs = probe.run("train_step", {{"image", Values(4)}}, 1, by_epoch ? 10 * at : at,
                                   by_epoch ? at : 0, s.at("total"));
    ASSERT_LE(worst_error(outputs.at("lr"), {s["rates"][i].get<double>()}, 1e-3), 1e-9) << "at " << i;
  }
}

std::vector<size_t> numbers_of(const json& list) {
  std::vector<size_t> numbers(list.size());
  for (size_t i = 0; i < numbers.size(); ++i) numbers[i] = i;
  return numbers;
}

INSTANTIATE_TEST_SUITE_P(Methods, ScheduleRates, ::testing::ValuesIn(numbers_of(table().at("schedules"))),
                         [](const auto& info) {
                           return test_name(table()["schedules"][info.param].at("schedule"));
                         });

// A rate of 1 without a schedule is the run's factor itself, one of several scalars of the step.
TEST(Schedules, ARateOfOneIsReportedAsSuch) {
  Probe probe = trace_probe("adadelta()");
  EXPECT_EQ(probe.run("train_step", {{"image", Values(4)}}, 1, 7, 3, 20).at("lr"), Values{1});
}

// --- cases: the loss is the mean over the rows of (1 + label) sum_j cos(j) y_j

// Of max(|wanted|, a hundredth of the tensor's largest finite number); with several rows there are sums of
// numbers of both signs.
constexpr double kOneRow = 2e-5, kRows = 1e-4;

class Case : public ::testing::TestWithParam<size_t> {};

double floor_of(const Values& wanted) {
  double largest = 0;
  for (double v : wanted)
    if (std::isfinite(v) && std::abs(v) < 1e20) largest = std::max(largest, std::abs(v));
  return std::max(largest / 100, 1e-6);
}

TEST_P(Case, AgreesWithPyTorch) {
  const json& c = table().at("cases").at(GetParam());
  const std::vector<int64_t> shape = c.at("shape");
  const int64_t rows = c.at("rows");
  const double tolerance = rows == 1 ? kOneRow : kRows;
  const std::string shape_of_x = shape_text(shape);
  Probe probe(data(shape) + "model net(image: f32" + shape_of_x + ", label: i32) {\n    x0 = param" +
              shape_of_x + " ~ 0\n    x = image + (1 + cast(label, \"f32\")) * x0\n    return " +
              c.at("expression").get<std::string>() +
              "\n}\ntrain {\n    y = net(noise.image, noise.label)\n    flat = reshape(y, [-1])\n"
              "    loss (1 + cast(noise.label, \"f32\")) * sum(flat * cos(cast(iota(flat.size), \"f32\")))\n "
              "   predict y\n    optimizer "
              "sgd(lr=0)\n}\n");
  for (const auto& [name, values] : c.at("parameters").items()) probe.set(name, values);
  std::map<std::string, Values> inputs = {{"image", c.at("x")}, {"label", c.at("labels")}};
  const Values wanted = c.at("y");
  EXPECT_LE(worst_error(probe.run("predict", inputs, rows).at("predict"), wanted, floor_of(wanted)),
            tolerance)
      << "value";
  const auto outputs = probe.run("train_step", inputs, rows);
  const double loss = c.at("loss");
  EXPECT_NEAR(outputs.at("loss")[0] / static_cast<double>(rows), loss, 1e-5 * std::max(1.0, std::abs(loss)));
  const json after = c.value("after", json::object());
  for (const auto& [name, state] : after.items())
    EXPECT_LE(worst_error(probe.get(name), state, 1), tolerance) << "new value of " << name;
  for (const auto& [name, gradient] : c.at("gradients").items()) {
    const Values g = gradient;
    ASSERT_TRUE(outputs.count("grad." + name)) << name;
    EXPECT_LE(worst_error(outputs.at("grad." + name), g, floor_of(g)), tolerance) << "gradient of " << name;
    EXPECT_GT(floor_of(g), 1e-5) << "the gradient of " << name << " is all zero";
  }
}

std::string case_name(size_t number) {
  const json& c = table()["cases"][number];
  return test_name(c.value("name", c.at("expression").get<std::string>()));
}

INSTANTIATE_TEST_SUITE_P(Methods, Case, ::testing::ValuesIn(numbers_of(table().at("cases"))),
                         [](const auto& info) { return case_name(info.param); });

// --- weights of examples

Probe weighted_probe(const std::string& weight) {
  return Probe(data({4}) +
               "model net(image: f32[4]) {\n    x0 = param[4] ~ 0\n    return image + x0\n}\ntrain {\n    y "
               "= net(noise.image)\n    loss cross_entropy(y, noise.label) weight " +
               weight + "\n    optimizer sgd(lr=0)\n}\n");
}

TEST(WeightedLoss, IsDividedByTheSumOfTheWeights) {
  const json& w = table().at("weighted");
  Probe probe = weighted_probe("class_weight(noise.label, " + w.at("weights").dump() + ")");
  const std::map<std::string, Values> inputs = {{"image", w.at("x")}, {"label", w.at("labels")}};
  const double wanted = w.at("loss");
  const auto outputs = probe.run("train_step", inputs, 5);
  EXPECT_NEAR(outputs.at("loss.0")[0] / outputs.at("weights.0")[0], wanted, 1e-6);
  EXPECT_LE(worst_error(outputs.at("grad.x0"), w.at("gradient"), 0.01), 1e-5);
  const auto evaluated = probe.run("eval", inputs, 5);
  EXPECT_NEAR(evaluated.at("loss.0")[0] / evaluated.at("weights.0")[0], wanted, 1e-6);
}

TEST(WeightedLoss, IsZeroWhereAllWeightsAre) {
  Probe probe = weighted_probe("cast(noise.label > 5, \"f32\")");
  const auto outputs = probe.run("train_step", {{"image", Values(8, 1.0)}, {"label", {0, 5}}}, 2);
  EXPECT_EQ(outputs.at("loss")[0], 0);
  EXPECT_EQ(outputs.at("grad.x0"), Values(4));
}

// --- initialisers, through the native init

struct Moments {
  double mean = 0, deviation = 0, least = 0, greatest = 0;
};

Moments moments(const Values& x) {
  Moments m;
  for (double v : x) m.mean += v / static_cast<double>(x.size());
  for (double v : x) m.deviation += (v - m.mean) * (v - m.mean) / static_cast<double>(x.size());
  m.deviation = std::sqrt(m.deviation);
  m.least = *std::min_element(x.begin(), x.end());
  m.greatest = *std::max_element(x.begin(), x.end());
  return m;
}

Values first_weight(const std::string& init, const std::string& layer = "dense(400, init=") {
  Probe probe(data({250}) + "model net(image: f32[250]) = image |> " + layer + init +
              ")\ntrain {\n    y = net(noise.image)\n    loss sum(y)\n    optimizer sgd()\n}\n");
  return probe.get("dense_1.weight");
}

TEST(Initialisers, HaveTheirMoments) {
  // 100000 numbers: the mean strays by std / 316, the deviation by std / 447; 5 times that is allowed.
  const std::vector<std::tuple<const char*, double, double>> cases = {
      // init, standard deviation, greatest size allowed (infinite: a normal distribution)
      {"uniform(-0.3, 0.3)", 0.3 / std::sqrt(3), 0.3},
      {"normal(0, 0.01)", 0.01, INFINITY},
      {"lecun_normal", std::sqrt(1.0 / 250), INFINITY},
      {"lecun_uniform", std::sqrt(1.0 / 250), std::sqrt(3.0 / 250)},
      {"he_normal", std::sqrt(2.0 / 250), INFINITY},
      {"he_normal_out", std::sqrt(2.0 / 400), INFINITY},
      {"he_uniform", std::sqrt(2.0 / 250), std::sqrt(6.0 / 250)},
      {"he_uniform_out", std::sqrt(2.0 / 400), std::sqrt(6.0 / 400)},
      {"xavier_normal", std::sqrt(2.0 / 650), INFINITY},
      {"xavier_uniform", std::sqrt(2.0 / 650), std::sqrt(6.0 / 650)},
      // A normal distribution cut at b: the variance is 1 - 2 b phi(b) / (2 Phi(b) - 1).
      {"truncated_normal(std=0.02)", 0.02 * 0.8796256610342398, 0.04},
      {"truncated_normal(bound=0.5)", 0.2839336338, 0.5},
  };
  for (const auto& [init, deviation, bound] : cases) {
    const Moments m = moments(first_weight(init));
    EXPECT_NEAR(m.mean, 0, 5 * deviation / 316) << init;
    EXPECT_NEAR(m.deviation, deviation, 5 * deviation / 447) << init;
    const double largest = std::max(-m.least, m.greatest);
    if (std::isfinite(bound)) {
      EXPECT_LE(largest, bound * 1.000001) << init;
      EXPECT_GE(largest, bound * 0.99) << init;
    } else {
      EXPECT_GT(largest, 3.5 * deviation) << init;
    }
  }
  const Moments shifted = moments(first_weight("truncated_normal(mean=3, std=0.5, bound=1)"));
  EXPECT_NEAR(shifted.mean, 3, 0.01);
  EXPECT_GE(shifted.least, 2.5 - 1e-6);
  EXPECT_LE(shifted.greatest, 3.5 + 1e-6);
}

// The scalar products of the rows (or of the columns, where there are fewer) are those of gain times a unit
// matrix.
TEST(Initialisers, OrthogonalMatricesAre) {
  const auto check = [](const Values& w, size_t rows, size_t columns, double gain) {
    const bool wide = rows <= columns;
    const size_t vectors = wide ? rows : columns, length = wide ? columns : rows;
    const auto at = [&](size_t v, size_t k) { return wide ? w[v * columns + k] : w[k * columns + v]; };
    double worst = 0;
    for (size_t a = 0; a < vectors; ++a)
      for (size_t b = 0; b <= a; ++b) {
        double sum = 0;
        for (size_t k = 0; k < length; ++k) sum += at(a, k) * at(b, k);
        worst = std::max(worst, std::abs(sum - (a == b ? gain * gain : 0)));
      }
    EXPECT_LE(worst, 2e-6 * gain * gain) << rows << " x " << columns;
  };
  for (const auto& [out, gain] : {std::pair<size_t, double>{250, 1}, {40, 1.5}, {401, 1}}) {
    const std::string init = fmt::format("orthogonal(gain={})", gain);
    check(first_weight(init, fmt::format("dense({}, init=", out)), out, 250, gain);
  }
  // A convolution's weight is a matrix [out, the rest].
  Probe probe(data({3, 8, 8}) +
              "model net(image: f32[3, 8, 8]) = image |> conv2d(16, 3, init=orthogonal)\n"
              "train {\n    y = net(noise.image)\n    loss sum(y)\n    optimizer sgd()\n}\n");
  check(probe.get("conv2d_1.weight"), 16, 27, 1);
  // Another seed gives another matrix, and no direction is preferred: the elements have mean 0 and variance 1
  // / n.
  const Moments m = moments(first_weight("orthogonal", "dense(250, init="));
  EXPECT_NEAR(m.mean, 0, 5 * std::sqrt(1.0 / 250) / 250);
  EXPECT_NEAR(m.deviation, std::sqrt(1.0 / 250), 1e-5);
}

TEST(Initialisers, WeightnormStartsAsTheUnnormalisedLayer) {
  const std::string tail = "\ntrain {\n    y = net(noise.image)\n    loss sum(y)\n    optimizer sgd()\n}\n";
  Probe probe(data({30}) + "model net(image: f32[30]) = image |> weightnorm_dense(20)" + tail);
  const Values v = probe.get("weightnorm_dense_1.weight_v"), g = probe.get("weightnorm_dense_1.weight_g");
  for (size_t o = 0; o < 20; ++o)
    EXPECT_NEAR(g[o],
                length({v.begin() + static_cast<long>(o * 30), v.begin() + static_cast<long>(o * 30 + 30)}),
                1e-6);
  EXPECT_GT(length(g), 1);
}

// --- random layers

TEST(RandomLayers, FractionalMaxPoolDrawsItsPairsWhileTraining) {
  Probe probe(
      data({1, 9, 9}) +
      "model net(image: f32[1, 9, 9]) {\n    x0 = param[1, 9, 9] ~ 0\n    return (image + x0) |> "
      "fractional_max_pool(1.5)\n}\n"
      "train {\n    y = net(noise.image)\n    loss sum(y)\n    predict y\n    optimizer sgd(lr=0)\n}\n");
  Values image(81);
  for (size_t i = 0; i < 81; ++i) image[i] = std::sin(2.3 * static_cast<double>(i));
  // At evaluation u = 1/2: the pairs of 6 out of 9 start at floor((i + 1/2) 7/5) and, the last, at 7.
  const std::vector<size_t> starts = {0, 2, 3, 4, 6, 7};
  Values wanted;
  for (const size_t r : starts)
    for (const size_t c : starts)
      wanted.push_back(
          std::max({image[r * 9 + c], image[r * 9 + c + 1], image[r * 9 + 9 + c], image[r * 9 + c + 10]}));
  EXPECT_LE(worst_error(probe.run("predict", {{"image", image}}, 1).at("predict"), wanted, 1), 1e-6);
  // Each of the 36 results hands its gradient to one element; which ones differ from step to step.
  std::set<Values> seen;
  for (int step = 0; step < 8; ++step) {
    const Values g = probe.run("train_step", {{"image", image}}, 1, step).at("grad.x0");
    double sum = 0;
    for (double v : g) {
      EXPECT_EQ(v, std::round(v));
      sum += v;
    }
    EXPECT_EQ(sum, 36);
    seen.insert(g);
  }
  EXPECT_GE(seen.size(), 4u);
}

TEST(RandomLayers, DropconnectSwitchesWeightsOffWhileTraining) {
  for (const bool per_example : {false, true}) {
    Probe probe(data({8}) +
                "model net(image: f32[8]) {\n    x0 = param[8] ~ 0\n    return (image + x0) |> "
                "dropconnect(50, rate=0.25, bias=false, per_example=" +
                (per_example ? "true" : "false") +
                ")\n}\ntrain {\n    y = net(noise.image)\n    loss sum(y)\n    predict y\n    optimizer "
                "sgd(lr=0)\n}\n");
    const std::string name = "dropconnect_1.weight";
    probe.set(name, Values(400, 1.0));
    const int64_t rows = 4;
    const Values ones(32, 1.0);
    EXPECT_EQ(probe.run("predict", {{"image", ones}}, rows).at("predict"), Values(200, 8.0));
    // The gradient in the weights is the mask over 1 - rate, averaged over the rows.
    const Values mask = probe.run("train_step", {{"image", ones}}, rows).at("grad." + name);
    double mean = 0;
    std::map<double, int> counts;
    for (double v : mask) {
      ++counts[std::round(v * 0.75 * 1000) / 1000];
      mean += v / 400;
    }
    EXPECT_NEAR(mean, 1, per_example ? 0.1 : 0.15);
    EXPECT_EQ(counts.size(), per_example ? 5u : 2u);
    EXPECT_NE(probe.run("train_step", {{"image", ones}}, rows, 1).at("grad." + name), mask)
        << "the same mask in the next step";
    EXPECT_EQ(probe.run("train_step", {{"image", ones}}, rows, 0).at("grad." + name), mask)
        << "another mask in the same step";
  }
}

}  // namespace
}  // namespace gradc::test::methods_test
