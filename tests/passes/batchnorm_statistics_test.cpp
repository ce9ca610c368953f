// Batchnorm of values with any offset: mean, variance, result and gradients of native code against double
// precision, dense and on images, by every kernel that ends in sums over batch and space.
//
// Tolerances. The mean is one number of single precision, half a unit of whose last place is ratio * 2^-24
// standard deviations, ratio being |mean| over the deviation; inputs have as much rounding of their own. So
// deviations may shift by a few of that, and nothing may grow with the ratio's square.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "codegen/jit.h"
#include "ir/tensor/op_def.h"
#include "passes/tensor/passes.h"
#include "support/check.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::batchnorm_statistics_test {
namespace {

using interpreter::Tensor;

// What is normalised.
struct Form {
  const char* name;
  Type input;
  Shape weight;  // of a convolution before it, whose result gets the offset as a bias
  int64_t padding = 0, groups = 1;
};
void PrintTo(const Form& f, std::ostream* out) { *out << f.name; }

const Type kImage{DType::f32, true, {16, 10, 11}};

class BatchnormStatistics : public ::testing::TestWithParam<Form> {
 protected:
  static constexpr double kEps = 1e-5;

  // mean and var of a channel, y = batch_norm, and the gradients of x, gamma and beta for a given gradient.
  void build(double offset, double deviation, int64_t rows) {
    const Form& form = GetParam();
    module_ = std::make_unique<Module>();
    input_ = {};
    input_.context.rows = rows;
    std::mt19937_64 random(3);
    const auto fill = [&](const Type& type, double middle, double spread) {
      std::normal_distribution<double> normal;
      Tensor t = interpreter::make_tensor(type, rows);
      for (double& v : t.data) v = static_cast<float>(middle + spread * normal(random));
      return t;
    };
    Function& f = module_->add_function("f");
    Builder b(f);
    const auto symbol = [&](const std::string& name, const Type& type, double middle, double spread) {
      input_.symbols[name] = fill(type, middle, spread);
      return f.read(module_->add_symbol({name, type, SymbolKind::parameter, {}}));
    };
    const bool product = !form.weight.empty();
    Op* v = f.add_input("x", form.input);
    input_.inputs["x"] = fill(form.input, product ? 0 : offset, product ? 1 : deviation);
    if (product) {
      const double terms = static_cast<double>(form.weight[1] * form.weight[2] * form.weight[3]);
      Op* w = symbol("w", {DType::f32, false, form.weight}, 0, deviation / std::sqrt(terms));
      v = b.create("conv2d", {v, w},
                   {{"stride", std::vector<int64_t>{1, 1}},
                    {"dilation", std::vector<int64_t>{1, 1}},
                    {"padding", std::vector<int64_t>{form.padding, form.padding}},
                    {"groups", form.groups}});
      v = b.add(v, symbol("offset", {DType::f32, false, {v->type.shape[0], 1, 1}}, offset, 0));
    }
    Type channel{DType::f32, false, v->type.shape};
    std::vector<int64_t> axes;
    for (int64_t a = 1; a < v->type.rank(); ++a) {
      axes.push_back(a);
      channel.shape[static_cast<size_t>(a)] = 1;
    }
    Op* mean = b.create("batch_mean", {v}, {{"axes", axes}});
    Op* var = b.create("batch_var", {v}, {{"axes", axes}});
    Op* gamma = symbol("gamma", channel, 1, 0.1);
    Op* beta = symbol("beta", channel, 0, 0.1);
    Op* y = b.create("batch_norm", {v, mean, var, gamma, beta}, {{"eps", kEps}, {"training", true}});
    Op* g = f.add_input("g", v->type);
    input_.inputs["g"] = fill(v->type, 0.5, 1);
    const std::vector<Op*> gradients = y->def->gradient(b, y, g);
    f.outputs = {{"mean", mean},
                 {"var", var},
                 {"y", y},
                 {"dx", gradients[0]},
                 {"dgamma", b.sum_to(gradients[3], channel)},
                 {"dbeta", b.sum_to(gradients[4], channel)}};
    f.renumber();
    right_ = interpreter::run(f, input_).outputs;
    for (const auto pass : {passes::decompose, passes::cse, passes::hoist_channels, passes::dce,
                            passes::assign_layout, passes::fuse_elementwise})
      pass(f);
    f.renumber();
    ASSERT_TRUE(verify(*module_).empty()) << verify(*module_).front();
  }

  static double largest(const Tensor& t) {
    double most = 0;
    for (const double v : t.data) most = std::max(most, std::abs(v));
    return most;
  }

  std::map<std::string, Tensor> compare(const RunnerOptions& options, const std::string& how) {
    const std::map<std::string, Tensor> made = run_lowered(*module_, "f", input_, options).outputs;
    double ratio = 0, slope = 0;  // the largest of all channels
    const size_t channels = right_.at("var").data.size();
    for (size_t c = 0; c < channels; ++c) {
      const double deviation = std::sqrt(right_.at("var").data.data()[c] + kEps);
      ratio = std::max(ratio, std::abs(right_.at("mean").data.data()[c]) / deviation);
      slope = std::max(slope, 1.5 / deviation);
    }
    const double shift = 4 * ratio * 0x1p-24,
                 count = static_cast<double>(right_.at("y").data.size() / channels);
    // Winograd's rounding of values is 1e-5 of the largest.
    const double rounding = options.strict_math ? 2e-5 : 1e-4, g = largest(input_.inputs.at("g"));
    // What a convolution makes has been rounded when it is summed, an input before both sum it.
    const double values = GetParam().weight.empty() ? shift * shift : shift;
    const std::map<std::string, std::pair<double, double>> allowed = {
        // relative, absolute
        {"mean", {0x1p-22, rounding / slope}},       {"var", {rounding + values, kEps * rounding}},
        {"y", {shift + rounding, shift + rounding}}, {"dx", {0, 2 * (shift + rounding) * slope * g}},
        {"dgamma", {0, (shift + rounding) * count}}, {"dbeta", {rounding, 1e-6 * count}}};
    for (const auto& [name, expected] : right_) {
      const auto [relative, absolute] = allowed.at(name);
      for (size_t i = 0; i < expected.data.size(); ++i) {
        const double e = expected.data.data()[i];
        EXPECT_NEAR(made.at(name).data.data()[i], e, relative * std::abs(e) + absolute)
            << name << "[" << i << "], ratio " << ratio << ", " << how;
        if (HasFailure()) return made;
      }
    }
    return made;
  }

  std::unique_ptr<Module> module_;
  interpreter::RunInput input_;
  std::map<std::string, Tensor> right_;
};

TEST_P(BatchnormStatistics, AreRightForEveryOffset) {
  for (const auto& [offset, deviation] :
       {std::pair{0.0, 1.0}, std::pair{1.0, 1.0}, std::pair{-100.0, 1.0}, std::pair{1e3, 1.0},
        std::pair{273.15, 0.1}, std::pair{1e4, 1.0}, std::pair{-1e5, 1.0}, std::pair{1e-3, 1e-6}}) {
    build(offset, deviation, 33);
    if (HasFatalFailure()) return;
    compare({.threads = 2, .strict_math = true}, fmt::format("mean {}, strict", offset));
    if (!GetParam().weight.empty()) compare({.threads = 2}, fmt::format("mean {}", offset));
    if (HasFailure()) return;
  }
}

TEST_P(BatchnormStatistics, AreTheSameForAnyThreadsAndRightOnEveryTarget) {
  for (const int64_t rows : {2, 35, 70}) {
    build(1e4, 1, rows);
    if (HasFatalFailure()) return;
    const auto one = compare({.batch = 70}, fmt::format("{} rows", rows));
    for (const int threads : {2, 3})
      for (const auto& [name, value] : compare({.threads = threads, .batch = 70}, "threads"))
        EXPECT_EQ(value.data, one.at(name).data)
            << name << ", " << threads << " threads, " << rows << " rows";
    for (const char* target : {"x86-64-v2", "x86-64-v3", "x86-64-v4"}) {
      try {
        codegen::find_target(target);
      } catch (const RunError&) {
        continue;  // this machine cannot run it
      }
      compare({.threads = 2, .target = target, .batch = 70}, fmt::format("{} rows on {}", rows, target));
      compare({.target = target, .batch = 70, .strict_math = true}, target);
    }
    compare({.engine = Engine::loops, .threads = 3, .reversed = true, .vector_width = 4, .batch = 70},
            "loops");
    if (HasFailure()) return;
  }
}

// A constant channel has the variance 0, not what is left of a difference.
TEST_P(BatchnormStatistics, AreExactForConstants) {
  build(1000.1, 0, 41);
  if (HasFatalFailure()) return;
  const RunnerResult made = run_lowered(*module_, "f", input_, {.strict_math = true});
  for (const double v : made.outputs.at("var").data) EXPECT_LE(std::abs(v), 1e-8);
  for (const double v : made.outputs.at("mean").data) EXPECT_NEAR(v, 1000.1, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Every, BatchnormStatistics,
                         ::testing::Values(Form{"dense", {DType::f32, true, {21}}, {}},
                                           Form{"sequence", {DType::f32, true, {5, 9}}, {}},
                                           Form{"images", {DType::f32, true, {5, 6, 7}}, {}},
                                           Form{"one_pixel", {DType::f32, true, {70, 1, 1}}, {}},
                                           Form{"long_rows", {DType::f32, true, {2, 2, 1500}}, {}},
                                           Form{"pointwise", kImage, {24, 16, 1, 1}},
                                           Form{"convolution", kImage, {16, 16, 3, 3}, 1},
                                           Form{"depthwise", kImage, {16, 1, 3, 3}, 1, 16},
                                           Form{"narrow", kImage, {3, 16, 5, 5}, 2}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace gradc::testing::batchnorm_statistics_test
