// What backward computes again without a limit on memory.
#include <gtest/gtest.h>

#include "passes/pipeline.h"
#include "passes/tensor/passes.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::recompute_test {
namespace {

// A step's function with what it recomputes: forward's elementwise operations that backward has copies of.
struct Copies {
  explicit Copies(const std::string& text) {
    ModuleParseResult parsed = parse_module(text);
    EXPECT_TRUE(parsed.module) << parsed.error;
    if (!parsed.module) return;
    module = std::move(*parsed.module);
    Function& f = *module.functions.front();
    changed = passes::recompute(f, 0);
    for (const auto& op : f.body) ++count[op->name()];
  }
  Module module;
  bool changed = false;
  std::map<std::string, int> count;
};

// Two convolutions with `between` from %1 to %3 and `gradient` from %9 (of %3) to %10 (of %1).
std::string two_convolutions(const std::string& between, const std::string& gradient) {
  const std::string same = "dilation=[1,1], groups=1, padding=[1,1], stride=[1,1]";
  return "param @v : f32[8,8,3,3]\nparam @w : f32[8,8,3,3]\n"
         "func @train_step(%x: f32[n,8,8,8]) {\n"
         "  %1 = conv2d %x, @v {" +
         same + "} : f32[n,8,8,8]\n" + between + "  %4 = conv2d %3, @w {" + same +
         "} : f32[n,8,8,8]\n"
         "  %5 = reduce_sum %4 {axes=[0,1,2], batch=true, keep=false} : f32\n"
         "  %6 = cos %4 : f32[n,8,8,8]\n"
         "  %7 = conv2d_input_grad %6, @w {dilation=[1,1], groups=1, input=[8,8,8], padding=[1,1], "
         "stride=[1,1]} : "
         "f32[n,8,8,8]\n"
         "  %8 = conv2d_weight_grad %6, %3 {dilation=[1,1], groups=1, kernel=[3,3], padding=[1,1], "
         "stride=[1,1]} "
         ": f32[8,8,3,3]\n" +
         gradient +
         "  %11 = conv2d_weight_grad %10, %x {dilation=[1,1], groups=1, kernel=[3,3], padding=[1,1], "
         "stride=[1,1]} "
         ": f32[8,8,3,3]\n"
         "  update @v = %11\n  update @w = %8\n  guard loss\n  return loss=%5\n}\n";
}

// Backward reads %1 for the gradient of `sin`, and %3 for the weights: %3 is made of %1 again.
TEST(Recompute, MakesAgainWhatCostsLess) {
  const Copies light(two_convolutions("  %2 = neg %1 : f32[n,8,8,8]\n  %3 = relu %2 : f32[n,8,8,8]\n",
                                      "  %9 = relu_grad %7, %3 : f32[n,8,8,8]\n"
                                      "  %10 = mul %9, %1 : f32[n,8,8,8]\n"));
  EXPECT_TRUE(light.changed);
  EXPECT_EQ(light.count.at("after"), 1);
  EXPECT_EQ(light.count.at("relu"), 2);
  EXPECT_EQ(light.count.at("neg"), 2);
  EXPECT_EQ(light.count.at("conv2d"), 2);
}

TEST(Recompute, KeepsWhatTakesLonger) {
  const Copies heavy(two_convolutions("  %2 = exp %1 : f32[n,8,8,8]\n  %3 = tanh %2 : f32[n,8,8,8]\n",
                                      "  %9 = mul %7, %3 : f32[n,8,8,8]\n"
                                      "  %10 = mul %9, %1 : f32[n,8,8,8]\n"));
  EXPECT_FALSE(heavy.changed);
  EXPECT_EQ(heavy.count.count("after"), 0u);
}

// A sum of two kept values is kept itself: a chain of such sums would be read from its start.
TEST(Recompute, KeepsSumsOfKeptValues) {
  const Copies sum(
      two_convolutions("  %12 = max_pool2d %1 {padding=[1,1], stride=[1,1], window=[3,3]} : f32[n,8,8,8]\n"
                       "  %2 = add %1, %12 : f32[n,8,8,8]\n  %3 = relu %2 : f32[n,8,8,8]\n",
                       "  %9 = relu_grad %7, %3 : f32[n,8,8,8]\n"
                       "  %10 = mul %9, %1 : f32[n,8,8,8]\n"));
  EXPECT_FALSE(sum.changed);
}

// Values that are no images stay, as their kernels do.
TEST(Recompute, LeavesDenseLayersAlone) {
  const Copies dense(R"(param @w : f32[8,8]
param @v : f32[8,8]
func @train_step(%x: f32[n,8]) {
  %1 = einsum %x, @w {spec="nk,ok->no"} : f32[n,8]
  %2 = relu %1 : f32[n,8]
  %3 = einsum %2, @v {spec="nk,ok->no"} : f32[n,8]
  %4 = reduce_sum %3 {axes=[0], batch=true, keep=false} : f32
  %5 = cos %3 : f32[n,8]
  %6 = einsum %5, @v {spec="no,ok->nk"} : f32[n,8]
  %7 = einsum %5, %2 {spec="no,nk->ok"} : f32[8,8]
  %8 = mul %6, %1 : f32[n,8]
  %9 = einsum %8, %x {spec="no,nk->ok"} : f32[8,8]
  update @w = %9
  update @v = %7
  guard loss
  return loss=%4
})");
  EXPECT_FALSE(dense.changed);
}

}  // namespace
}  // namespace gradc::testing::recompute_test
