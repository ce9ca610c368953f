// Convolutions of 3 x 3 pixels and both their gradients for numbers of channels that divide into vectors,
// blocks and tiles in every way: a part of one vector, one and a half, between 32 and 48 (two vectors and
// one), more than a block. By Winograd's filtering and by the definition, with lanes along either side's
// channels.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ir/tensor/module.h"
#include "passes/pipeline.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::convolution_channels_test {
namespace {

struct Channels {
  int64_t inputs, outputs, stride;
};
void PrintTo(const Channels& c, std::ostream* out) {
  *out << c.inputs << " to " << c.outputs << ", stride " << c.stride;
}

class ConvolutionChannels : public ::testing::TestWithParam<Channels> {};

constexpr int64_t kHeight = 7, kWidth = 10, kBatch = 70;

// y = conv2d(x, w), z the gradient of x and w that of w, given the gradient g.
std::unique_ptr<Module> module_of(const Channels& c) {
  const auto windows = [&](int64_t extent) { return (extent - 1) / c.stride + 1; };
  return fused_module(fmt::format(
      R"(param @w : f32[{1},{0},3,3]
param @v : f32[{1},{0},3,3]
func @f(%x: f32[n,{0},{2},{3}], %g: f32[n,{1},{4},{5}]) {{
  %1 = conv2d %x, @w {{dilation=[1,1], groups=1, padding=[1,1], stride=[{6},{6}]}} : f32[n,{1},{4},{5}]
  %2 = conv2d_input_grad %g, @w {{dilation=[1,1], groups=1, input=[{0},{2},{3}], padding=[1,1], stride=[{6},{6}]}} : f32[n,{0},{2},{3}]
  %3 = conv2d_weight_grad %g, %x {{dilation=[1,1], groups=1, kernel=[3,3], padding=[1,1], stride=[{6},{6}]}} : f32[{1},{0},3,3]
  update @v = %3
  return y=%1, z=%2
}})",
      c.inputs, c.outputs, kHeight, kWidth, windows(kHeight), windows(kWidth), c.stride));
}

std::map<std::string, std::vector<double>> all(const interpreter::Tensor& y, const interpreter::Tensor& z,
                                               const interpreter::Tensor& v) {
  const auto values = [](const interpreter::Tensor& t) {
    return std::vector<double>(t.data.begin(), t.data.end());
  };
  return {{"conv2d", values(y)}, {"conv2d_input_grad", values(z)}, {"conv2d_weight_grad", values(v)}};
}

// Values below 1: sums of 9 products for each channel, or of at most 41 x 70, that Winograd rounds to 1e-5 of
// the largest.
TEST_P(ConvolutionChannels, DivideIntoVectorsInEveryWay) {
  const std::unique_ptr<Module> module = module_of(GetParam());
  const Function& f = *module->function("f");
  for (const int64_t rows : {3, 41}) {
    interpreter::RunInput input = uniform_input(*module, "x", f.inputs[0]->type, rows, 1);
    input.inputs["g"] = uniform_input(*module, "g", f.inputs[1]->type, rows, 2).inputs.at("g");
    const interpreter::RunResult right = interpreter::run(f, input);
    const auto expected = all(right.outputs.at("y"), right.outputs.at("z"), right.updates.at("v"));
    const auto compare = [&](const RunnerOptions& options) {
      const RunnerResult r = run_lowered(*module, "f", input, options);
      auto made = all(r.outputs.at("y"), r.outputs.at("z"), r.symbols.at("v"));
      for (const auto& [name, values] : expected) {
        double largest = 0, worst = 0;
        EXPECT_EQ(made.at(name).size(), values.size());
        for (size_t i = 0; i < values.size(); ++i) {
          largest = std::max(largest, std::abs(values[i]));
          worst = std::max(worst, std::abs(made.at(name)[i] - values[i]));
        }
        EXPECT_LE(worst, 2e-5 * largest)
            << name << ", " << rows << " rows, " << options.target << (options.strict_math ? ", strict" : "");
      }
      return made;
    };
    const auto made = compare({.threads = 2, .batch = kBatch});
    EXPECT_EQ(compare({.threads = 1, .batch = kBatch}), made);
    compare({.batch = kBatch, .strict_math = true});
    if (rows == 3) continue;
    compare({.target = "x86-64-v2", .batch = kBatch});
    compare({.target = "x86-64-v3", .batch = kBatch});
  }
}

INSTANTIATE_TEST_SUITE_P(Lowering, ConvolutionChannels,
                         ::testing::Values(Channels{16, 16, 1}, Channels{32, 8, 1}, Channels{8, 32, 1},
                                           Channels{20, 40, 1}, Channels{48, 21, 1}, Channels{70, 17, 1},
                                           Channels{36, 100, 1}, Channels{16, 32, 2}, Channels{32, 8, 2},
                                           Channels{20, 40, 2}, Channels{70, 17, 2}),
                         [](const auto& info) {
                           return fmt::format("from_{}_to_{}_stride_{}", info.param.inputs,
                                              info.param.outputs, info.param.stride);
                         });

}  // namespace
}  // namespace gradc::testing::convolution_channels_test
