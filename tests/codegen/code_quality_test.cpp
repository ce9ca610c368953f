// The assembly that hot loops become: no spills, no wasted instructions, no more than a budget of compile
// time.
#include <gtest/gtest.h>

#include <algorithm>
#include <ctime>
#include <sstream>

#include "harness.h"

namespace gradc::testing {
namespace {

using loop::Access;
using loop::Buffer;
using loop::Builder;
using loop::Expr;
using loop::Kernel;
using loop::Scalar;
using loop::Type;

const codegen::CodegenOptions plain{false, true};

std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

// The innermost loop that holds the instruction: from the label before its first use to the first jump behind
// it.
std::vector<std::string> loop_with(const std::string& assembly, const std::string& instruction) {
  const auto all = lines(assembly);
  const auto use = std::find_if(
      all.begin(), all.end(), [&](const std::string& l) { return l.find(instruction) != std::string::npos; });
  if (use == all.end()) return {};
  auto begin = use, end = use;
  while (begin != all.begin() && begin->rfind(".LBB", 0) != 0) --begin;
  while (end != all.end() && end->rfind("\tj", 0) != 0) ++end;
  return {begin, end};
}

size_t count(const std::vector<std::string>& code, const std::string& what) {
  return static_cast<size_t>(std::count_if(
      code.begin(), code.end(), [&](const std::string& l) { return l.find(what) != std::string::npos; }));
}

// out[m][n lanes] = sum over k of a[m][k] x[k][n lanes]: rows x columns vectors of accumulators.
Kernel tile(int lanes, int rows, int columns, int64_t depth) {
  Kernel k = loop::make_kernel("tile");
  Builder b(k);
  const Buffer a = b.buffer("a", Scalar::f32, Access::read), x = b.buffer("x", Scalar::f32, Access::read),
               y = b.buffer("y", Scalar::f32, Access::write);
  const Type vector{Scalar::f32, static_cast<uint16_t>(lanes)};
  b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1, [&](Expr i) {
    std::vector<loop::Variable> sums;
    for (int m = 0; m < rows * columns; ++m) sums.push_back(b.declare("sum", loop::constant(vector, 0)));
    b.loop("k", loop::index(0), loop::index(depth), 1, [&](Expr at) {
      std::vector<Expr> row;
      for (int n = 0; n < columns; ++n)
        row.push_back(
            b.let("x", loop::load(x, at * loop::index(columns * lanes) + loop::index(n * lanes), lanes)));
      for (int m = 0; m < rows; ++m) {
        const Expr w = b.let(
            "w",
            loop::broadcast(loop::load(a, (i * loop::index(rows) + loop::index(m)) * loop::index(depth) + at),
                            lanes));
        for (int n = 0; n < columns; ++n) {
          const loop::Variable& sum = sums[static_cast<size_t>(m * columns + n)];
          b.assign(sum, loop::fma(w, row[static_cast<size_t>(n)], loop::ref(sum)));
        }
      }
    });
    for (int m = 0; m < rows * columns; ++m)
      b.store(y, (i * loop::index(rows * columns) + loop::index(m)) * loop::index(lanes),
              loop::ref(sums[static_cast<size_t>(m)]));
  });
  return k;
}

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

std::string elementwise(const codegen::Target& target, const std::function<Expr(Expr)>& f) {
  Kernel k = loop::make_kernel("map");
  Builder b(k);
  const int lanes = target.vector_width;
  const Buffer x = b.buffer("x", Scalar::f32, Access::read), y = b.buffer("y", Scalar::f32, Access::write);
  b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1, [&](Expr i) {
    b.store(y, i * loop::index(lanes), f(loop::load(x, i * loop::index(lanes), lanes)));
  });
  const loop::Program p = one_call(std::move(k), 64);
  return codegen::emit_assembly({&p}, target, plain);
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
}  // namespace gradc::testing
