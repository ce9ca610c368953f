// Convolutions of few channels a group go by tiles of pixels that share what they load. That their values are
// right is tested by the samples of conv2d and its gradients (ops_native_test.cpp); here, that they share: at
// most four vectors are loaded from images for five multiply-adds, where a tile of one channel loads one for
// each, and a weight gradient's two.
#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

#include "passes/pipeline.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::pixel_tiles_test {
namespace {

struct Convolution {
  const char* name;
  const char* text;
};
void PrintTo(const Convolution& c, std::ostream* out) { *out << c.name; }

const Convolution kConvolutions[] = {
    {"depthwise", R"(param @w : f32[4,1,3,3]
func @f(%x: f32[n,4,6,40]) {
  %1 = conv2d %x, @w {dilation=[1,1], groups=4, padding=[1,1], stride=[1,1]} : f32[n,4,6,40]
  return y=%1
})"},
    {"depthwise_input_gradient", R"(param @w : f32[4,1,3,3]
func @f(%x: f32[n,4,6,40]) {
  %1 = conv2d_input_grad %x, @w {dilation=[1,1], groups=4, input=[4,6,40], padding=[1,1], stride=[1,1]} : f32[n,4,6,40]
  return y=%1
})"},
    {"depthwise_weight_gradient", R"(param @w : f32[4,1,3,3]
func @f(%x: f32[n,4,6,40], %g: f32[n,4,6,40]) {
  %1 = conv2d_weight_grad %g, %x {dilation=[1,1], groups=4, kernel=[3,3], padding=[1,1], stride=[1,1]} : f32[4,1,3,3]
  update @w = %1
  return y=%x
})"},
    {"first_layer_weight_gradient", R"(param @w : f32[6,1,5,5]
func @f(%x: f32[n,1,28,28], %g: f32[n,6,28,28]) {
  %1 = conv2d_weight_grad %g, %x {dilation=[1,1], groups=1, kernel=[5,5], padding=[2,2], stride=[1,1]} : f32[6,1,5,5]
  update @w = %1
  return y=%x
})"},
};

class PixelTiles : public ::testing::TestWithParam<Convolution> {};

TEST_P(PixelTiles, ShareWhatTheyLoad) {
  for (const int registers : {32, 16}) {
    passes::PipelineOptions options;
    options.batch = 32;
    options.machine.lanes = registers == 32 ? 16 : 8;
    options.machine.registers = registers;
    const passes::Lowered lowered = passes::lower(*fused_module(GetParam().text), options);
    std::istringstream text(loop::print(lowered.programs.at("f").program));
    std::string line;
    int products = 0, loads = 0;
    bool convolves = false;  // else a copy between layouts
    while (std::getline(text, line)) {
      if (line.find("kernel \"") != std::string::npos) convolves = line.find("conv2d") != std::string::npos;
      if (!convolves) continue;
      products += line.find("fma(") != std::string::npos ? 1 : 0;
      for (const char* image : {" x[", "(x[", " g[", "(g["})
        if (line.find("let") != std::string::npos && line.find(image) != std::string::npos) ++loads;
    }
    EXPECT_GT(products, 0);
    EXPECT_GT(loads, 0);
    EXPECT_LE(loads, products * 4 / 5) << registers << " registers";
  }
}

INSTANTIATE_TEST_SUITE_P(Lowering, PixelTiles, ::testing::ValuesIn(kConvolutions),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace gradc::testing::pixel_tiles_test
