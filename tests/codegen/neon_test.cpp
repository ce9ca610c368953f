// Code for aarch64: what the hot loops become, and, where QEMU is installed, that elementary functions keep
// their bounds and the processor's state is as it was.
#include <gtest/gtest.h>

#include <cstring>

#include "assembly.h"
#include "elementary.h"
#include "harness.h"
#include "tests/cli/emulator.h"

namespace gradc::testing::neon_test {
namespace {

using loop::Expr;
using loop::Scalar;

codegen::Target neon() { return codegen::find_target("aarch64", /*must_run=*/false); }

TEST(Neon, TheTileLoopIsMultiplyAddsAndLoadsOnly) {
  for (const auto& [rows, columns] : {std::pair{8, 2}, {4, 2}, {8, 3}, {6, 4}}) {
    const codegen::Target target = neon();
    const loop::Program p = one_call(tile(target.vector_width, rows, columns, 512), 16);
    const auto code = loop_with(codegen::emit_assembly({&p}, target, plain), "fmla\tv", "\tb.");
    ASSERT_FALSE(code.empty());
    std::string text;
    for (const auto& l : code) text += l + '\n';
    const auto tiles = static_cast<size_t>(rows * columns);
    EXPECT_EQ(count(code, "fmla\tv"), tiles) << text;
    EXPECT_EQ(count(code, "[sp"), 0u) << "spills\n" << text;
    EXPECT_EQ(count(code, "dup\t"), 0u) << text;
    EXPECT_EQ(count(code, "fmul\t"), 0u) << text;
    EXPECT_EQ(count(code, "mov\tv"), 0u) << text;
    // Scalars are multiplied as lane 0 of the register they were loaded into: broadcasting loads would take
    // the multipliers' time on many processors.
    EXPECT_GE(count(code, ".s[0]"), tiles / 2) << text;
    EXPECT_LE(code.size(), tiles + static_cast<size_t>(rows + columns) + 10)
        << "more than a few instructions beside them\n"
        << text;
  }
}

TEST(Neon, ReluIsOneMaximum) {
  const auto code = loop_with(
      elementwise(
          neon(),
          [](Expr x) { return loop::binary(loop::BinaryOp::max, x, loop::constant({Scalar::f32, 1}, 0)); }),
      "fmax\tv", "\tb.");
  EXPECT_EQ(count(code, "fmax\tv"), 1u) << "NaN stays with fmax, and fmaxnm would drop it";
  EXPECT_EQ(count(code, "fcm"), 0u);
}

TEST(Neon, PhiloxMultipliesHalves) {
  const Expr key = loop::constant_int({Scalar::i32, 1}, 7);
  const auto code = loop_with(
      elementwise(neon(),
                  [&](Expr x) {
                    return loop::cast(Scalar::f32,
                                      loop::philox(0, loop::cast(Scalar::i32, x), key, key, key, key, key));
                  }),
      "umull", "\tb.");
  EXPECT_GE(count(code, "umull"), 28u);
  EXPECT_LE(count(code, "\tmul\tx") + count(code, "\tumulh\t"), 0u) << "lane by lane";
}

TEST(Neon, TheEntryFlushesSubnormalsAndRestoresTheControlRegister) {
  const loop::Program p = one_call(tile(4, 4, 2, 16), 4);
  const std::string text = codegen::emit_llvm({&p}, neon(), plain);
  EXPECT_NE(text.find("@llvm.aarch64.get.fpcr"), std::string::npos);
  EXPECT_NE(text.find("16777216"), std::string::npos) << "FZ, bit 24";
  EXPECT_NE(text.find("@llvm.aarch64.set.fpcr"), std::string::npos);
  EXPECT_EQ(text.find("x86"), std::string::npos);
}

// One program that maps the same numbers through all functions, at several widths.
struct Maps {
  loop::Program program;
  int outputs = 0;

  explicit Maps(int64_t elements) {
    program.name = "run";
    program.vector_width = 4;
    program.allocations.push_back({"x", Scalar::f32, elements, loop::Space::input, 0});
  }
  void add(int lanes, int64_t elements, const std::function<Expr(Expr)>& f) {
    loop::Kernel k = loop::make_kernel("map");
    loop::Builder b(k);
    const loop::Buffer x = b.buffer("x", Scalar::f32, loop::Access::read, alignof(float));
    const loop::Buffer y = b.buffer("y", Scalar::f32, loop::Access::write, alignof(float));
    b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1, [&](Expr i) {
      b.store(y, i * loop::index(lanes), f(loop::load(x, i * loop::index(lanes), lanes)));
    });
    loop::Call call;
    call.kernel = static_cast<int>(program.kernels.size());
    call.buffers = {0, static_cast<int>(program.allocations.size())};
    call.partition.extent = elements / lanes;
    program.allocations.push_back({"y", Scalar::f32, elements, loop::Space::output, outputs++});
    program.kernels.push_back(std::move(k));
    program.calls.push_back(std::move(call));
  }
};

// Reads x.bin, writes every output to y.bin; fails when the control register is not what it was.
constexpr const char* kMain = R"(
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "abi.h"

int32_t run(const gradc_step_args*, int32_t, int32_t);

static uint64_t control(void) {
  uint64_t value;
  __asm__ volatile("mrs %0, fpcr" : "=r"(value));
  return value;
}

int main(int argc, char** argv) {
  const size_t count = (size_t)atol(argv[1]), outputs = (size_t)atol(argv[2]);
  float* x = malloc(count * sizeof *x);
  float* y = malloc(count * outputs * sizeof *y);
  const void* in[1];
  void** out = malloc(outputs * sizeof *out);
  double scalars[GRADC_SCALAR_COUNT] = {0};
  gradc_step_args args = {0};
  const uint64_t before = control();
  size_t i;
  FILE* f = fopen("x.bin", "rb");
  if (fread(x, sizeof *x, count, f) != count) return 2;
  fclose(f);
  in[0] = x;
  for (i = 0; i < outputs; ++i) out[i] = y + i * count;
  args.inputs = in;
  args.outputs = out;
  args.scalars = scalars;
  args.rows = 1;
  if (run(&args, 0, 1) != 0) return 3;
  if (control() != before) return 4;
  f = fopen("y.bin", "wb");
  if (fwrite(y, sizeof *y, count * outputs, f) != count * outputs) return 5;
  return fclose(f);
}
)";

TEST(Neon, ElementaryFunctionsKeepTheirBounds) {
  if (const std::string missing = test::missing_for_aarch64(); !missing.empty()) GTEST_SKIP() << missing;
  const std::vector<float> x = samples(16381 * 8);
  const auto elements = static_cast<int64_t>(x.size());
  const std::vector<int> widths = {1, 4, 32};
  Maps maps(elements);
  for (const Function& f : functions)
    for (const int lanes : widths) maps.add(lanes, elements, [&](Expr e) { return loop::unary(f.op, e); });
  maps.add(4, elements, [](Expr e) { return e * loop::constant({Scalar::f32, 1}, 0.5); });

  const test::TemporaryFolder folder;
  folder.write("run.s", codegen::emit_assembly({&maps.program}, neon(), plain));
  folder.write("main.c", kMain);
  folder.write("abi.h", test::read_text(GRADC_SOURCE_DIR "/runtime/abi.h"));
  folder.write("x.bin", {reinterpret_cast<const char*>(x.data()), x.size() * sizeof(float)});
  const test::ToolResult made = test::run_bare(
      {"/usr/bin/env", test::aarch64_compiler(), "-O1", "main.c", "run.s", "-lm", "-o", "main"},
      folder.path(), {{"PATH", getenv("PATH")}});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  const test::ToolResult ran =
      test::run_aarch64({"./main", std::to_string(elements), std::to_string(maps.outputs)}, folder.path());
  ASSERT_EQ(ran.exit_code, 0) << "4: the control register was changed\n" << ran.err;
  const std::string bytes = test::read_text(folder.path("y.bin"));
  ASSERT_EQ(bytes.size(), x.size() * static_cast<size_t>(maps.outputs) * sizeof(float));
  std::vector<float> y(bytes.size() / sizeof(float));
  std::memcpy(y.data(), bytes.data(), bytes.size());

  const float* at = y.data();
  for (const Function& f : functions)
    for (const int lanes : widths) {
      double worst = 0;
      size_t where = 0;
      for (size_t i = 0; i < x.size(); ++i) {
        if (x[i] < f.low || x[i] > f.high) continue;
        const double e = ulps(at[i], f.reference(static_cast<double>(x[i])));
        if (e > worst) {
          worst = e;
          where = i;
        }
      }
      if (std::getenv("GRADC_TEST_TABLE"))
        printf("%-9s %2d lanes: %.3f ulp at %.9g\n", std::string(loop::name(f.op)).c_str(), lanes, worst,
               static_cast<double>(x[where]));
      EXPECT_LE(worst, f.bound) << loop::name(f.op) << '(' << x[where] << ") = " << at[where] << ", " << lanes
                                << " lanes";
      at += x.size();
    }
  size_t flushed = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] == 0 || std::fabs(x[i]) * 0.5f >= std::numeric_limits<float>::min()) continue;
    if (std::isnan(x[i])) continue;
    ++flushed;
    EXPECT_EQ(at[i], 0) << "a subnormal result of " << x[i];
  }
  EXPECT_GT(flushed, 0u);
}

}  // namespace
}  // namespace gradc::testing::neon_test
