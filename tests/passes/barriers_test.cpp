// Where one thread's part meets another's there is a barrier: functions whose kernels read beyond the part
// their thread made, on the loop interpreter with threads taking turns backwards, so that a missing barrier
// reads what is not there yet.
#include <gtest/gtest.h>

#include "passes/tensor/passes.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::barriers_test {
namespace {

struct Program {
  const char* name;
  const char* text;
  Type input;
};

void PrintTo(const Program& p, std::ostream* out) { *out << p.name; }

const Program kPrograms[] = {
    {"rows_of_images_exchanged",
     R"(param @w : f32[2,2,1,1]
func @f(%x: f32[n,2,5,5]) {
  %1 = conv2d %x, @w {dilation=[1,1], groups=1, padding=[0,0], stride=[1,1]} : f32[n,2,5,5]
  %2 = exp %1 : f32[n,2,5,5]
  %3 = transpose %2 {permutation=[0,2,1]} : f32[n,2,5,5]
  return y=%3
})",
     {DType::f32, true, {2, 5, 5}}},
    {"pooled_rows_and_image_rows",  // the gradient's kernel is split by the former
     R"(func @f(%x: f32[n,2,6,6]) {
  %1 = max_pool2d %x {padding=[0,0], stride=[2,2], window=[2,2]} : f32[n,2,3,3]
  %2 = exp %1 : f32[n,2,3,3]
  %3 = max_pool2d_grad %2, %x {padding=[0,0], stride=[2,2], window=[2,2]} : f32[n,2,6,6]
  %4 = mul %3, %x : f32[n,2,6,6]
  %5 = transpose %4 {permutation=[0,2,1]} : f32[n,2,6,6]
  return y=%5
})",
     {DType::f32, true, {2, 6, 6}}},
    {"sums_by_pooled_rows",
     R"(func @f(%x: f32[n,2,6,6]) {
  %1 = max_pool2d %x {padding=[0,0], stride=[2,2], window=[2,2]} : f32[n,2,3,3]
  %2 = max_pool2d_grad %1, %x {padding=[0,0], stride=[2,2], window=[2,2]} : f32[n,2,6,6]
  %3 = relu_grad %2, %x : f32[n,2,6,6]
  %4 = reduce_sum %3 {axes=[1,2], batch=true, keep=false} : f32[2]
  %5 = constant {dtype="f32", value=0.001} : f32
  %6 = mul %4, %5 : f32[2]
  return y=%6
})",
     {DType::f32, true, {2, 6, 6}}},
    {"first_axis_exchanged",
     R"(func @f(%x: f32[n,70,70]) {
  %1 = exp %x : f32[n,70,70]
  %2 = transpose %1 {permutation=[1,0]} : f32[n,70,70]
  return y=%2
})",
     {DType::f32, true, {70, 70}}},
    {"unbatched_axis_exchanged",
     R"(param @w : f32[70,70]
func @f(%x: f32[n,1]) {
  %1 = exp @w : f32[70,70]
  %2 = transpose %1 {permutation=[1,0]} : f32[70,70]
  return y=%2
})",
     {DType::f32, true, {1}}},
};

class Barriers : public ::testing::TestWithParam<Program> {};

TEST_P(Barriers, StandWherePartsMeet) {
  const ModuleParseResult parsed = parse_module(GetParam().text);
  ASSERT_TRUE(parsed.module) << parsed.error;
  Module& module = *parsed.module;
  Function& f = *module.functions.front();
  const interpreter::RunInput input = uniform_input(module, "x", GetParam().input, 40, 5);
  const auto expected = interpreter::run(f, input).outputs.at("y");
  passes::assign_layout(f);
  passes::fuse_elementwise(f);
  f.renumber();
  for (const bool reversed : {false, true}) {
    const auto got =
        run_lowered(module, "f", input, {.engine = Engine::loops, .threads = 3, .reversed = reversed})
            .outputs.at("y");
    ASSERT_EQ(got.data.size(), expected.data.size());
    for (size_t i = 0; i < got.data.size(); ++i)
      ASSERT_NEAR(got.data.data()[i], expected.data.data()[i], 1e-5)
          << "backwards " << reversed << ", element " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Lowering, Barriers, ::testing::ValuesIn(kPrograms),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace gradc::testing::barriers_test
