// Offsets of values in memory, and what kernels prefetch: nothing that changes a result,
// so its tests look at the offsets and at the loop IR. What both are worth is in docs/performance.md.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <sstream>

#include "passes/kernels/lowering.h"
#include "passes/pipeline.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::memory_offsets_test {
namespace {

using passes::lowering::plane_distance;
using passes::lowering::spaced_bytes;

constexpr int64_t kLine = 64, kPeriod = 2048;  // bytes

TEST(MemoryPlaces, LargeValuesMoveOnByAnEvenNumberOfLines) {
  for (const int64_t bytes : {32 << 10, 64 << 10, 100000, 8 << 20, (8 << 20) + 4}) {
    const int64_t spaced = spaced_bytes(bytes);
    EXPECT_GE(spaced, bytes);
    EXPECT_LT(spaced, bytes + kPeriod + 7 * kLine);
    EXPECT_EQ(spaced % kPeriod, 6 * kLine) << bytes;
  }
  for (const int64_t bytes : {4, 64, 128, 129, 32000}) {
    EXPECT_GE(spaced_bytes(bytes), bytes);
    EXPECT_LT(spaced_bytes(bytes), bytes + 2 * kLine);
    EXPECT_EQ(spaced_bytes(bytes) % (2 * kLine), 0) << bytes;
  }
}

TEST(MemoryPlaces, PlanesAreTwiceAnOddNumberOfLinesApart) {
  for (const int64_t elements : {16, 32, 33, 512, 520, 2048, 8192}) {
    const int64_t lines = plane_distance(elements) * 4 / kLine;
    EXPECT_GE(plane_distance(elements), elements);
    EXPECT_LT(plane_distance(elements), elements + 4 * kLine / 4);
    EXPECT_EQ(lines % 4, 2) << elements;
  }
}

// Loop IR of the one function of a module.
passes::LoweredProgram lowered(const char* text, int width = 16, bool keep_all = false) {
  passes::PipelineOptions options;
  options.batch = 32;
  options.machine.lanes = width;
  options.machine.registers = width == 16 ? 32 : 16;
  options.keep_all_values = keep_all;
  return passes::lower(*fused_module(text), options).programs.at("f");
}

TEST(MemoryPlaces, ImagesBeginAtOtherLowBits) {
  const auto program = lowered(R"(param @w : f32[16,16,3,3]
func @f(%x: f32[n,16,32,32]) {
  %1 = conv2d %x, @w {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} : f32[n,16,32,32]
  %2 = conv2d %1, @w {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} : f32[n,16,32,32]
  %3 = conv2d %2, @w {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} : f32[n,16,32,32]
  return y=%3
})",
                               16, true);
  std::set<int64_t> starts;
  int images = 0;
  for (const loop::Allocation& a : program.program.allocations) {
    if (a.space != loop::Space::arena || a.elements != 32 * 16 * 32 * 32) continue;
    ++images;
    starts.insert(a.offset % kPeriod);
    EXPECT_EQ(a.offset % (2 * kLine), 0) << a.name;
  }
  EXPECT_GE(images, 4);
  EXPECT_EQ(static_cast<int>(starts.size()), images) << "images that begin alike in their lowest 11 bits";
}

// Statements `prefetch` of a program, by the buffer's name.
std::map<std::string, int> asked_for(const passes::LoweredProgram& program) {
  std::istringstream text(loop::print(program.program));
  std::map<std::string, int> result;
  std::string line;
  while (std::getline(text, line)) {
    const size_t at = line.find("prefetch ");
    if (at != std::string::npos) ++result[line.substr(at + 9, line.find('[', at) - at - 9)];
  }
  return result;
}

// A stride of two goes by direct kernels; each tile prefetches the next point's mask and results.
TEST(MemoryPlaces, DirectConvolutionsAskForWhatTheirEpilogueTouches) {
  const auto asked = asked_for(lowered(R"(param @w : f32[32,16,3,3]
func @f(%g: f32[n,32,16,16], %y: f32[n,16,32,32]) {
  %1 = conv2d_input_grad %g, @w {dilation=[1,1], groups=1, input=[16,32,32], padding=[1,1], stride=[2,2]} : f32[n,16,32,32]
  %2 = relu_grad %1, %y : f32[n,16,32,32]
  return z=%2
})"));
  ASSERT_EQ(asked.size(), 2u) << "the mask and the result";
  for (const auto& [name, lines] : asked) EXPECT_EQ(lines, 16) << name;  // 8 channels, 2 lines each
}

// Winograd's scratch memory for 64 channels fills the second-level cache, so channels are prefetched one by
// one: per line 24 pixels of the input and 16 of each image the outputs touch, once while a channel before is
// at work and once for the first channels.
TEST(MemoryPlaces, WinogradAsksForImagesChannelByChannelWhereItsScratchIsLarge) {
  const auto program = [](int channels, int width) {
    const std::string c = std::to_string(channels);
    return lowered(
        ("param @w : f32[" + c + "," + c + ",3,3]\nfunc @f(%x: f32[n," + c +
         ",32,32]) {\n  %1 = conv2d %x, @w {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} "
         ": f32[n," +
         c + ",32,32]\n  return y=%1\n}")
            .c_str(),
        width);
  };
  for (const int width : {16, 8, 4}) {
    std::multiset<int> lines;
    for (const auto& [name, n] : asked_for(program(64, width))) lines.insert(n);
    EXPECT_EQ(lines, (std::multiset<int>{2 * 16, 2 * 24})) << width;
  }
  // At 16 channels everything is prefetched during the products, in 36 steps.
  std::multiset<int> lines;
  for (const auto& [name, n] : asked_for(program(16, 16))) lines.insert(n);
  EXPECT_EQ(lines, (std::multiset<int>{15, 22}));
}

}  // namespace
}  // namespace gradc::testing::memory_offsets_test
