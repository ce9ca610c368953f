// Segments: calls that run panel by panel, a band of images at a time, give what they give one after the
// other, on any number of threads, and are there where they should be.
#include <gtest/gtest.h>

#include "passes/tensor/passes.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::segments_test {
namespace {

struct Program {
  const char* name;
  const char* text;
  Type input;
  int calls;  // of the longest segment
};

void PrintTo(const Program& p, std::ostream* out) { *out << p.name; }

const Program kPrograms[] = {
    {"convolutions",
     R"(param @v : f32[4,3,3,3]
param @w : f32[5,4,3,3]
func @f(%x: f32[n,3,11,9]) {
  %1 = conv2d %x, @v {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} : f32[n,4,11,9]
  %2 = conv2d %1, @w {dilation=[1,1], groups=1, padding=[1,1], stride=[2,2]} : f32[n,5,6,5]
  return y=%2
})",
     {DType::f32, true, {3, 11, 9}},
     3},
    {"winograd_and_pooling",
     R"(param @v : f32[16,16,3,3]
func @f(%x: f32[n,16,12,12]) {
  %1 = conv2d %x, @v {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} : f32[n,16,12,12]
  %2 = max_pool2d %1 {padding=[0,0], stride=[2,2], window=[2,2]} : f32[n,16,6,6]
  return y=%2
})",
     {DType::f32, true, {16, 12, 12}},
     3},
    {"strided_backward",
     R"(param @v : f32[3,4,3,3]
func @f(%x: f32[n,3,6,4]) {
  %1 = exp %x : f32[n,3,6,4]
  %2 = conv2d_input_grad %1, @v {dilation=[1,1], groups=1, input=[4,12,8], padding=[1,1], stride=[2,2]} : f32[n,4,12,8]
  %3 = avg_pool2d %2 {padding=[0,0], stride=[3,3], window=[3,3]} : f32[n,4,4,2]
  return y=%3
})",
     {DType::f32, true, {3, 6, 4}},
     4},
    {"a_sum_over_the_batch_ends_it",
     R"(param @v : f32[4,4,3,3]
func @f(%x: f32[n,4,8,8]) {
  %1 = conv2d %x, @v {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} : f32[n,4,8,8]
  %2 = reduce_sum %1 {axes=[1,2], batch=true, keep=true} : f32[4,1,1]
  %3 = mul %1, %2 : f32[n,4,8,8]
  %4 = conv2d %3, @v {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} : f32[n,4,8,8]
  return y=%4
})",
     {DType::f32, true, {4, 8, 8}},
     3},
    {"whole_images_wait_for_the_last_band",
     R"(param @v : f32[4,4,3,3]
func @f(%x: f32[n,4,8,8]) {
  %1 = conv2d %x, @v {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} : f32[n,4,8,8]
  %2 = transpose %1 {permutation=[0,2,1]} : f32[n,4,8,8]
  %3 = conv2d %2, @v {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} : f32[n,4,8,8]
  return y=%3
})",
     {DType::f32, true, {4, 8, 8}},
     3},
};

constexpr int64_t kRows = 80;             // three panels, the last of which is not full
constexpr int64_t kSmallCache = 6 << 10;  // bytes of the second-level cache: bands of some KiB

class Segments : public ::testing::TestWithParam<Program> {
 protected:
  void SetUp() override {
    const ModuleParseResult parsed = parse_module(GetParam().text);
    ASSERT_TRUE(parsed.module) << parsed.error;
    module_ = std::move(*parsed.module);
    Function& f = *module_.functions.front();
    input_ = uniform_input(module_, "x", GetParam().input, kRows, 7);
    passes::assign_layout(f);
    passes::fuse_elementwise(f);
    f.renumber();
  }
  interpreter::Tensor run(const RunnerOptions& options) {
    return run_lowered(module_, "f", input_, options).outputs.at("y");
  }
  Module module_;
  interpreter::RunInput input_;
};

TEST_P(Segments, GiveTheBitsOfCallsOneByOne) {
  for (const Engine engine : {Engine::loops, Engine::native}) {
    const interpreter::Tensor expected = run({.engine = engine, .disable = {"segments"}});
    // Two threads would have unequal parts of three panels, so that calls run one by one.
    for (const int threads : {1, 2, 3})
      for (const bool reversed : {false, true})
        for (const int64_t l2 : {kSmallCache, int64_t{1} << 20}) {
          if (engine == Engine::native && reversed) continue;
          const interpreter::Tensor got =
              run({.engine = engine, .threads = threads, .reversed = reversed, .l2 = l2});
          ASSERT_EQ(got.data, expected.data)
              << threads << " threads, backwards " << reversed << ", a cache of " << l2;
        }
  }
}

// Seven panels of a batch of eight: two threads have room for one panel each, for any split.
TEST_P(Segments, GiveTheBitsInPartBatches) {
  const int64_t rows = 7 * 32 - 5;
  const interpreter::RunInput part = uniform_input(module_, "x", GetParam().input, rows, 9);
  const auto run = [&](RunnerOptions options) {
    options.batch = 8 * 32;
    options.l2 = kSmallCache;
    return run_lowered(module_, "f", part, options).outputs.at("y").data;
  };
  const auto expected = run({.disable = {"segments"}});
  for (const int threads : {1, 2, 3, 8}) ASSERT_EQ(run({.threads = threads}), expected) << threads;
}

// What only a segment's calls touch has room for the panels at hand.
TEST_P(Segments, KeepWhatIsTheirsForOnePanel) {
  passes::PipelineOptions options;
  options.batch = 8 * 32;
  const auto program = [&] { return std::move(passes::lower(module_, options).programs.at("f").program); };
  const loop::Program with = program();
  for (const loop::Allocation& a : with.allocations)
    if (a.name == "x") {
      EXPECT_EQ(a.space, loop::Space::local) << loop::print(with);
    }
  EXPECT_GT(with.local_bytes, 0);
  options.keep_all_values = true;  // to be read after a run
  EXPECT_EQ(program().local_bytes, 0);
  options.keep_all_values = false;
  options.disable = {"segments"};
  EXPECT_LT(working_bytes(with, 2), working_bytes(program(), 2));
}

TEST_P(Segments, AreAsLongAsTheyMayBe) {
  passes::PipelineOptions options;
  options.batch = kRows;
  options.machine.l2 = kSmallCache;
  const passes::Lowered lowered = passes::lower(module_, options);
  const loop::Program& program = lowered.programs.at("f").program;
  int longest = 0;
  bool banded = false;
  for (const loop::Segment& s : program.segments) {
    longest = std::max(longest, s.last - s.first);
    banded = banded || s.bands.size() > 1;
  }
  EXPECT_EQ(longest, GetParam().calls) << loop::print(program);
  EXPECT_TRUE(banded);
}

INSTANTIATE_TEST_SUITE_P(Lowering, Segments, ::testing::ValuesIn(kPrograms),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(SegmentsMemory, EndWhereMemoryWouldLieIdle) {
  std::string text = "param @v : f32[8,8,3,3]\nfunc @f(%x: f32[n,8,8,8]) {\n", last = "%x";
  for (int i = 1; i <= 8; ++i) {
    const std::string value = "%" + std::to_string(i);
    text += "  " + value + " = conv2d " + last +
            ", @v {dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]} : f32[n,8,8,8]\n";
    last = value;
  }
  const auto module = fused_module(text + "  return y=" + last + "\n}");
  passes::PipelineOptions options;
  options.batch = 64;
  const auto memory = [&] {  // of two threads
    return working_bytes(passes::lower(*module, options).programs.at("f").program, 2);
  };
  const int64_t with = memory();
  options.disable = {"segments"};
  const int64_t value = 64 * 8 * 8 * 8 * 4;
  EXPECT_LE(with, memory() + 3 * value);  // one, Winograd's weights of neighbouring layers, and spacing
}

}  // namespace
}  // namespace gradc::testing::segments_test
