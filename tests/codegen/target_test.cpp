// Targets by name, dumps, debug information, and that mistakes become exceptions.
#include <gtest/gtest.h>

#include "harness.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace llvm {
[[noreturn]] void report_fatal_error(const char* reason, bool generate_crash_diagnostic);
}

namespace gradc::testing::target_test {
namespace {

using loop::Expr;
using loop::Scalar;

loop::Program small() {
  loop::Kernel k = loop::make_kernel("double it");
  loop::Builder b(k);
  auto file = std::make_shared<const std::string>("mlp.nn");
  auto prelude = std::make_shared<const std::string>("prelude/layers.nn");
  k.locations = {{file, 7, 3, nullptr}};
  const auto x = b.buffer("x", Scalar::f32, loop::Access::read),
             y = b.buffer("y", Scalar::f32, loop::Access::write);
  b.set_location({file, 8, 5, nullptr});
  b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1, [&](Expr i) {
    b.set_location({prelude, 21, 9, nullptr});
    b.store(y, i * loop::index(16),
            loop::load(x, i * loop::index(16), 16) * loop::constant({Scalar::f32, 1}, 2));
  });
  return one_call(std::move(k), 4);
}

std::string failure(const std::function<void()>& f) {
  try {
    f();
  } catch (const RunError& e) {
    EXPECT_EQ(e.exit_code, kExitUsage);
    return e.what();
  }
  return "no RunError";
}

TEST(Target, NativeIsALevelThatRuns) {
  const codegen::Target t = codegen::find_target("native");
  EXPECT_FALSE(t.cpu.empty());
  EXPECT_TRUE(t.vector_width == 4 || t.vector_width == 8 || t.vector_width == 16);
  EXPECT_EQ(t.architecture, codegen::host_architecture());
  if (t.architecture == codegen::Architecture::x86_64) {
    EXPECT_EQ(t.registers, t.vector_width == 16 ? 32 : 16);
  }
}

TEST(Target, LevelsHaveTheirWidths) {
  EXPECT_EQ(codegen::find_target("x86-64-v2", false).vector_width, 4);
  EXPECT_EQ(codegen::find_target("x86-64-v3", false).vector_width, 8);
  EXPECT_EQ(codegen::find_target("x86-64-v4", false).vector_width, 16);
  EXPECT_EQ(codegen::find_target("x86-64-v4", false).registers, 32);
  EXPECT_EQ(codegen::find_target("aarch64", false).vector_width, 4);
  EXPECT_EQ(codegen::find_target("aarch64", false).registers, 32);
}

TEST(Target, ProcessorsOfBothArchitectures) {
  const codegen::Target zen = codegen::find_cpu("znver4"), n1 = codegen::find_cpu("neoverse-n1");
  EXPECT_EQ(zen.architecture, codegen::Architecture::x86_64);
  EXPECT_EQ(zen.vector_width, 16);
  EXPECT_EQ(n1.architecture, codegen::Architecture::aarch64);
  EXPECT_EQ(n1.triple.find("aarch64"), 0u);
  EXPECT_EQ(n1.vector_width, 4);
  EXPECT_NE(("," + n1.required + ",").find(",dotprod,"), std::string::npos) << n1.required;
  EXPECT_EQ(("," + codegen::find_cpu("cortex-a72").required + ",").find(",dotprod,"), std::string::npos);
  EXPECT_NE(failure([] { codegen::find_cpu("cortex-a720x"); }).find("did you mean `cortex-a720`"),
            std::string::npos);
  EXPECT_NE(failure([] { codegen::find_cpu("x86-64"); }).find("SSE4.2"), std::string::npos);
}

TEST(Target, OfAnotherArchitectureDoesNotRunHere) {
  const bool x86 = codegen::host_architecture() == codegen::Architecture::x86_64;
  const std::string other = x86 ? "aarch64" : "x86-64-v2";
  const std::string text = failure([&] { codegen::find_target(other); });
  EXPECT_EQ(
      text.find("target `" + other + "` cannot run here: this machine is " + (x86 ? "x86-64" : "aarch64")),
      0u)
      << text;
  EXPECT_NE(text.find("`gradc compile MODEL --target " + other + "`"), std::string::npos) << text;
}

TEST(Target, UnknownNamesAreTheUsersMistake) {
  EXPECT_EQ(failure([] { codegen::find_target("x86-64-v5"); })
                .find("unknown target `x86-64-v5`; known are native, x86-64-v2, x86-64-v3, x86-64-v4, "
                      "aarch64; did you mean"),
            0u);
  EXPECT_NE(failure([] { codegen::find_target("quantum"); }).find("known are native"), std::string::npos);
  codegen::Target t = codegen::find_target("x86-64-v3", false);
  t.cpu = "abacus";
  const loop::Program p = small();
  EXPECT_NE(failure([&] { codegen::emit_llvm({&p}, t); }).find("abacus"), std::string::npos);
}

TEST(Dump, IsTheSameEveryTime) {
  const loop::Program p = small();
  for (const auto emit : {codegen::emit_llvm, codegen::emit_assembly})
    EXPECT_EQ(emit({&p}, native(), {}), emit({&p}, native(), {}));
}

TEST(Dump, HasTheTargetsWidth) {
  const loop::Program p = small();
  EXPECT_NE(codegen::emit_assembly({&p}, codegen::find_target("x86-64-v4", false)).find("%zmm"),
            std::string::npos);
  const std::string v3 = codegen::emit_assembly({&p}, codegen::find_target("x86-64-v3", false));
  EXPECT_EQ(v3.find("%zmm"), std::string::npos);
  EXPECT_NE(v3.find("%ymm"), std::string::npos);
  EXPECT_EQ(codegen::emit_assembly({&p}, codegen::find_target("x86-64-v2", false)).find("%ymm"),
            std::string::npos);
  EXPECT_NE(codegen::emit_llvm({&p}, native()).find("<16 x float>"), std::string::npos);
}

TEST(DebugInfo, NamesTheModelsLines) {
  const loop::Program p = small();
  const std::string text = codegen::emit_assembly({&p}, native(), {true, true});
  EXPECT_NE(text.find("mlp.nn"), std::string::npos);
  EXPECT_NE(text.find("prelude/layers.nn"), std::string::npos);
  EXPECT_NE(text.find("double it"), std::string::npos);
  EXPECT_NE(text.find(" 21 9"), std::string::npos) << "a .loc of the store";
  EXPECT_EQ(codegen::emit_assembly({&p}, native(), {false, true}).find("mlp.nn"), std::string::npos);
}

TEST(Mistakes, AnUnsoundProgramIsACompilerMistake) {
  loop::Program p = small();
  p.calls[0].buffers.pop_back();
  EXPECT_THROW(codegen::Jit({&p}, native()), InternalError);
  const loop::Program good = small();
  EXPECT_THROW(codegen::Jit({&good, &good}, native()), InternalError) << "two programs of one name";
}

TEST(Mistakes, LlvmsFatalErrorsAreExceptions) {
  codegen::find_target("native");
  EXPECT_THROW(llvm::report_fatal_error("on purpose", false), InternalError);
}

}  // namespace
}  // namespace gradc::testing::target_test
