// The assembly that hot loops become: no spills, no wasted instructions, no more than a budget of compile
// time.
#include <gtest/gtest.h>

#include <ctime>

#include "assembly.h"

namespace gradc::testing::code_quality_test {
namespace {

using loop::Expr;
using loop::Scalar;

TEST(CodeQuality, TheTileLoopIsMultiplyAddsAndLoadsOnly) {
  struct Case {
    const char* target;
    int rows, columns;
  };
  for (const Case& c : {Case{"x86-64-v4", 8, 2},
                        {"x86-64-v4", 14, 2},
                        {"x86-64-v4", 6, 4},
                        {"x86-64-v3", 6, 2},
                        {"x86-64-v3", 4, 2}}) {
    const codegen::Target target = codegen::find_target(c.target, false);
    const loop::Program p = one_call(tile(target.vector_width, c.rows, c.columns, 512), 16);
    const auto code = loop_with(codegen::emit_assembly({&p}, target, plain), "vfmadd");
    ASSERT_FALSE(code.empty());
    std::string text;
    for (const auto& l : code) text += l + '\n';
    const auto tiles = static_cast<size_t>(c.rows * c.columns);
    EXPECT_EQ(count(code, "vfmadd231ps"), tiles) << text;
    EXPECT_EQ(count(code, "vbroadcastss"), static_cast<size_t>(c.rows)) << text;
    EXPECT_EQ(count(code, "{1to"), 0u)
        << "a broadcast as a memory operand is loaded once for each of its uses\n"
        << text;
    EXPECT_EQ(count(code, "rsp"), 0u) << "spills\n" << text;
    EXPECT_EQ(count(code, target.vector_width == 16 ? "%zmm" : "%ymm"),
              tiles + static_cast<size_t>(c.rows + c.columns))
        << text;
    EXPECT_LE(code.size(), tiles + static_cast<size_t>(c.rows + c.columns) + 6)
        << "more than a few instructions beside them\n"
        << text;
  }
}

TEST(CodeQuality, ReluIsOneMaximum) {
  for (const char* name : {"x86-64-v2", "x86-64-v3", "x86-64-v4"}) {
    const codegen::Target target = codegen::find_target(name, false);
    const auto code = loop_with(
        elementwise(
            target,
            [](Expr x) { return loop::binary(loop::BinaryOp::max, x, loop::constant({Scalar::f32, 1}, 0)); }),
        "maxps");
    EXPECT_EQ(count(code, "maxps"), 1u);
    EXPECT_EQ(count(code, "cmp") - count(code, "cmpq"), 0u) << "no comparison of its own for NaN";
    EXPECT_EQ(count(code, "blend"), 0u);
  }
}

TEST(CodeQuality, ExpIsFifteenVectorInstructions) {
  const codegen::Target target = codegen::find_target("x86-64-v4", false);
  const auto code =
      loop_with(elementwise(target, [](Expr x) { return loop::unary(loop::UnaryOp::exp, x); }), "vscalefps");
  EXPECT_EQ(count(code, "vscalefps"), 1u);
  const size_t moves = count(code, "vmovaps");
  EXPECT_LE(count(code, "%zmm") - moves, 15u);
}

TEST(CodeQuality, PhiloxMultipliesHalves) {
  const codegen::Target target = codegen::find_target("x86-64-v4", false);
  const loop::Expr key = loop::constant_int({Scalar::i32, 1}, 7);
  const auto code = loop_with(
      elementwise(target,
                  [&](Expr x) {
                    return loop::cast(Scalar::f32,
                                      loop::philox(0, loop::cast(Scalar::i32, x), key, key, key, key, key));
                  }),
      "vpmuludq");
  // 10 rounds of 2 products in 2 halves, less what is scalar in the first rounds and unused in the last.
  EXPECT_GE(count(code, "vpmuludq"), 28u);
  EXPECT_LE(count(code, "vpmuludq") + count(code, "vpmullq"), 36u);
  EXPECT_LE(count(code, "vpmullq"), 2u) << "three times as slow";
  EXPECT_LE(count(code, "%zmm"), 115u);
}

TEST(CodeQuality, NoFastMath) {
  const loop::Program p = one_call(tile(16, 8, 2, 512), 16);
  const std::string text = codegen::emit_llvm({&p}, codegen::find_target("x86-64-v4", false), plain);
  for (const char* flag : {" fast ", " nnan ", " reassoc ", " contract ", " arcp ", " nsz "})
    EXPECT_EQ(text.find(flag), std::string::npos) << flag;
}

// Processor time, and generous: a machine may be slow, but not ten times.
TEST(CodeQuality, CompilesWithinABudget) {
  loop::Program p = one_call(tile(16, 8, 2, 512), 16);
  for (int i = 1; i < 20; ++i) {
    p.kernels.push_back(tile(16, 8, 2, 512 + i));
    p.calls.push_back(p.calls[0]);
    p.calls.back().kernel = i;
  }
  const std::clock_t begin = std::clock();
  codegen::emit_assembly({&p}, codegen::find_target("x86-64-v4", false));
  const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds / 20, 0.1) << "a kernel; measured 0.007";
}

}  // namespace
}  // namespace gradc::testing::code_quality_test
