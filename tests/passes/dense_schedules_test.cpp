// The schedules of dense layers: packed weights in blocks, bands of weight gradients, tiles with a late epilogue. Small
// second-level caches make small layers take what large ones do. Forward, both gradients and an update against double
// precision, and the same bits for any number of threads and any cache.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "ir/tensor/module.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::dense_schedules_test {
namespace {

using interpreter::Tensor;

struct Layer {
  int64_t rows, inputs, outputs;
};
void PrintTo(const Layer& l, std::ostream* out) { *out << l.rows << " " << l.inputs << " " << l.outputs; }

// The update divides, as Adam's does, so that its tiles wait for their epilogue.
std::string text_of(const Layer& l) {
  const auto [k, o] = std::pair{l.inputs, l.outputs};
  return fmt::format(R"(
param @w : f32[{1},{0}]
param @m : f32[{1},{0}]
func @train_step(%x: f32[n,{0}]) {{
  %1 = einsum %x, @w {{spec="nk,ok->no"}} : f32[n,{1}]
  %2 = relu %1 : f32[n,{1}]
  %3 = einsum %2, @w {{spec="no,ok->nk"}} : f32[n,{0}]
  %4 = einsum %2, %x {{spec="no,nk->ok"}} : f32[{1},{0}]
  %5 = mul %4, %4 : f32[{1},{0}]
  %6 = constant {{dtype="f32", value=1.0}} : f32
  %7 = add %5, %6 : f32[{1},{0}]
  %8 = div %4, %7 : f32[{1},{0}]
  %9 = sub @w, %8 : f32[{1},{0}]
  %10 = add @m, %4 : f32[{1},{0}]
  return y=%2, dx=%3
  update @w = %9
  update @m = %10
}}
)",
                     k, o);
}

class DenseSchedules : public ::testing::TestWithParam<Layer> {};

// Sums of up to 1100 products in single precision, each rounded by half a unit: 1100 / 2 * 2^-24 = 3e-5 of the terms'
// size at most, which is that of the result's root mean square times a few; and sums of such results.
constexpr double kTolerance = 2e-4;

void expect_near(const Tensor& made, const Tensor& right, const std::string& what) {
  double squares = 0;
  for (const double v : right.data) squares += v * v;
  const double scale = std::sqrt(squares / static_cast<double>(right.data.size()));
  for (size_t i = 0; i < right.data.size(); ++i)
    ASSERT_NEAR(made.data.data()[i], right.data.data()[i], kTolerance * scale) << what << "[" << i << "]";
}

TEST_P(DenseSchedules, AgreeWithTheDefinition) {
  const Layer& layer = GetParam();
  const std::unique_ptr<Module> module = fused_module(text_of(layer));
  const interpreter::RunInput input =
      uniform_input(*module, "x", {DType::f32, true, {layer.inputs}}, layer.rows, 7);
  const interpreter::RunResult right = interpreter::run(*module->function("train_step"), input);
  for (const char* target : {"native", "x86-64-v3", "x86-64-v2"}) {
    std::optional<RunnerResult> first;  // on one thread with a small cache: neither changes bits
    for (const int64_t l2 : {int64_t{8} << 10, int64_t{1} << 20})
      for (const RunnerResult& made :
           run_lowered(*module, "train_step", input, {.target = target, .l2 = l2}, {1, 2, 5})) {
        const std::string how = fmt::format("{}, L2 {} KiB", target, l2 >> 10);
        const bool is_first = !first;
        if (is_first) first = made;
        for (const auto& [name, expected] : right.outputs) {
          if (is_first) expect_near(made.outputs.at(name), expected, name + ", " + how);
          EXPECT_EQ(made.outputs.at(name).data, first->outputs.at(name).data) << name << ", " << how;
        }
        for (const auto& [name, expected] : right.updates) {
          if (is_first) expect_near(made.symbols.at(name), expected, "@" + name + ", " + how);
          EXPECT_EQ(made.symbols.at(name).data, first->symbols.at(name).data) << name << ", " << how;
        }
      }
  }
}

// Whole blocks and tiles; remainders of every kind; the least that is packed; a sum in several blocks.
INSTANTIATE_TEST_SUITE_P(Layers, DenseSchedules,
                         ::testing::Values(Layer{64, 128, 192}, Layer{37, 75, 101}, Layer{1, 64, 64},
                                           Layer{33, 1100, 83}, Layer{300, 70, 130}),
                         [](const auto& info) {
                           return fmt::format("rows{}_inputs{}_outputs{}", info.param.rows, info.param.inputs,
                                              info.param.outputs);
                         });

}  // namespace
}  // namespace gradc::testing::dense_schedules_test
