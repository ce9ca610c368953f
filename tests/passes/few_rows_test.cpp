// Dense layers of few rows, outputs in the lanes: each row has the bits that it has among many, on every target and for any
// number of threads, for sums in one block and in several.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "ir/tensor/module.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::few_rows_test {
namespace {

using interpreter::Tensor;

struct Layer {
  int64_t inputs, outputs;
};
void PrintTo(const Layer& l, std::ostream* out) { *out << l.inputs << " " << l.outputs; }

std::unique_ptr<Module> layer(const Layer& l, const std::string& function) {
  return fused_module(fmt::format(R"(
param @w : f32[{1},{0}]
param @b : f32[{1}]
func @{2}(%x: f32[n,{0}]) {{
  %1 = einsum %x, @w {{spec="nk,ok->no"}} : f32[n,{1}]
  %2 = add %1, @b : f32[n,{1}]
  %3 = relu %2 : f32[n,{1}]
  return y=%3
}}
)",
                                  l.inputs, l.outputs, function));
}

// The first rows of a batch.
interpreter::RunInput first_rows(interpreter::RunInput input, int64_t rows) {
  Tensor& x = input.inputs.at("x");
  Tensor cut = interpreter::make_tensor(x.type, rows);
  std::copy(x.data.begin(), x.data.begin() + static_cast<int64_t>(cut.data.size()), cut.data.begin());
  x = std::move(cut);
  input.context.rows = rows;
  return input;
}

class FewRows : public ::testing::TestWithParam<Layer> {};

TEST_P(FewRows, HaveTheBitsOfMany) {
  constexpr int64_t kBatch = 64;
  const std::unique_ptr<Module> module = layer(GetParam(), "predict");
  const interpreter::RunInput all =
      uniform_input(*module, "x", {DType::f32, true, {GetParam().inputs}}, kBatch, 5);
  for (const char* target : {"native", "x86-64-v3", "x86-64-v2"}) {
    const RunnerOptions options{.target = target, .batch = kBatch};
    const Tensor many = run_lowered(*module, "predict", all, options).outputs.at("y");
    for (const int64_t rows : {1, 2, 4, 5, 8, 9, 33, 40, 41})
      for (const RunnerResult& made :
           run_lowered(*module, "predict", first_rows(all, rows), options, {1, 2, 3})) {
        const Tensor& few = made.outputs.at("y");
        ASSERT_EQ(few.data.size(), static_cast<size_t>(rows * GetParam().outputs));
        for (size_t i = 0; i < few.data.size(); ++i)
          ASSERT_EQ(few.data.data()[i], many.data.data()[i])
              << target << ", " << rows << " rows, [" << i << "]";
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Layers, FewRows,
                         ::testing::Values(Layer{64, 64}, Layer{784, 80}, Layer{1088, 128}, Layer{75, 64},
                                           Layer{64, 75}),
                         [](const auto& info) {
                           return fmt::format("inputs{}_outputs{}", info.param.inputs, info.param.outputs);
                         });

// The kernel of a program has the form where its rows may be few: of predictions, of a batch that leaves few.
TEST(FewRowsForm, IsWhereRowsMayBeFew) {
  const auto has = [](const std::string& function, int64_t batch) {
    const std::unique_ptr<Module> module = layer({64, 64}, function);
    passes::PipelineOptions options;
    options.batch = batch;
    const passes::Lowered lowered = passes::lower(*module, options);
    return print(lowered.programs.at(function).program).find("let few") != std::string::npos;
  };
  EXPECT_TRUE(has("predict", 128));
  EXPECT_TRUE(has("eval", 64));
  EXPECT_FALSE(has("train_step", 128));
  EXPECT_TRUE(has("train_step", 33));
  EXPECT_FALSE(has("train_step", 31));
}

}  // namespace
}  // namespace gradc::testing::few_rows_test
