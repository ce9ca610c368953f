// Sums of many terms that are all alike, the worst case for one accumulator: rounding then goes one way, and
// tens of thousands of terms lose a thousandth. Every kernel that sums, against double precision.
//
// Tolerance: 2e-5 of the value. No accumulator takes more than 1024 terms (blocked_sum.h), each rounded by at
// most half a unit of the sum so far: 1024 / 2 * 2^-24 = 3e-5 at most, and less where not all go one way.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "ir/tensor/module.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::long_sums_test {
namespace {

using interpreter::Tensor;

struct LongSum {
  const char* name;
  const char* text;  // a module with the function @f
  int64_t rows = 1;
  bool strict = false;
};
void PrintTo(const LongSum& s, std::ostream* out) { *out << s.name; }

class LongSums : public ::testing::TestWithParam<LongSum> {};

// .1 and .7, which single precision has not exactly; integers are 0 but for some of 1.
Tensor alike(const Type& type, int64_t rows, double value) {
  Tensor t = interpreter::make_tensor(type, rows);
  int64_t i = 0;
  for (double& v : t.data)
    v = type.is_float() ? static_cast<float>(value) : static_cast<double>(++i % 7 == 0);
  return t;
}

TEST_P(LongSums, AreRight) {
  const LongSum& sum = GetParam();
  const std::unique_ptr<Module> module = fused_module(sum.text);
  const Function& f = *module->function("f");
  interpreter::RunInput input;
  input.context.rows = sum.rows;
  for (const auto& in : f.inputs) input.inputs[in->symbol()] = alike(in->type, sum.rows, 0.1);
  for (const Symbol& s : module->symbols) input.symbols[s.name] = alike(s.type, 1, 0.7);
  const std::map<std::string, Tensor> right = interpreter::run(f, input).outputs;
  const auto run = [&](int threads, const char* target) {
    return run_lowered(*module, "f", input, {.threads = threads, .target = target, .strict_math = sum.strict})
        .outputs;
  };
  const auto one = run(1, "native");
  const auto check = [&](const std::map<std::string, Tensor>& made, const char* how) {
    for (const auto& [name, expected] : right)
      for (size_t i = 0; i < expected.data.size(); ++i) {
        const double e = expected.data.data()[i], v = made.at(name).data.data()[i];
        ASSERT_NEAR(v, e, 2e-5 * std::abs(e))
            << name << "[" << i << "], " << how << ": off by " << std::abs(v - e) / std::abs(e);
      }
  };
  check(one, "native");
  check(run(1, "x86-64-v2"), "x86-64-v2");
  for (const auto& [name, value] : run(3, "native")) EXPECT_EQ(value.data, one.at(name).data) << "3 threads";
}

const LongSum kSums[] = {
    {"elements", R"(func @f(%x: f32[n,3,300,300]) {
  %1 = reduce_sum %x {axes=[0,1,2], batch=false, keep=false} : f32[n]
  return y=%1
})"},
    {"parameters", R"(param @w : f32[1000,1000]
func @f() {
  %1 = mul @w, @w : f32[1000,1000]
  %2 = reduce_sum %1 {axes=[0,1], batch=false, keep=false} : f32
  return y=%2
})"},
    {"classes", R"(func @f(%x: f32[n,50000]) {
  %1 = exp %x : f32[n,50000]
  %2 = reduce_sum %1 {axes=[0], batch=false, keep=false} : f32[n]
  return y=%2
})",
     3},
    {"batch", R"(func @f(%x: f32[n,2]) {
  %1 = reduce_sum %x {axes=[], batch=true, keep=false} : f32[2]
  return y=%1
})",
     300000},
    {"batch_and_positions", R"(func @f(%x: f32[n,2,3000]) {
  %1 = reduce_sum %x {axes=[1], batch=true, keep=false} : f32[2]
  return y=%1
})",
     70},
    {"image_rows", R"(param @w : f32[2,1,1,1]
func @f(%x: f32[n,1,2,20000]) {
  %1 = conv2d %x, @w {dilation=[1,1], groups=1, padding=[0,0], stride=[1,1]} : f32[n,2,2,20000]
  %2 = reduce_sum %1 {axes=[1,2], batch=true, keep=true} : f32[2,1,1]
  return y=%2
})",
     33},
    {"dense", R"(param @w : f32[20,20000]
func @f(%x: f32[n,20000]) {
  %1 = einsum %x, @w {spec="nk,ok->no"} : f32[n,20]
  return y=%1
})",
     3},
    {"dense_input_gradient", R"(param @w : f32[20000,64]
func @f(%g: f32[n,20000]) {
  %1 = einsum %g, @w {spec="no,ok->nk"} : f32[n,64]
  return y=%1
})",
     3},
    {"dense_weight_gradient", R"(func @f(%g: f32[n,10], %x: f32[n,20]) {
  %1 = einsum %g, %x {spec="no,nk->ok"} : f32[10,20]
  return y=%1
})",
     20000},
    {"late_weight_gradient", R"(func @f(%g: f32[n,24], %x: f32[n,32]) {
  %1 = einsum %g, %x {spec="no,nk->ok"} : f32[24,32]
  %2 = sqrt %1 : f32[24,32]
  return y=%2
})",
     20000},
    {"attention_weight_gradient", R"(func @f(%g: f32[n,300,5], %x: f32[n,300,20]) {
  %1 = einsum %g, %x {spec="nto,ntk->ok"} : f32[5,20]
  return y=%1
})",
     70},
    {"plain_product", R"(param @v : f32[20000]
param @w : f32[20000]
func @f() {
  %1 = einsum @v, @w {spec="k,k->"} : f32
  return y=%1
})"},
    {"convolution", R"(param @w : f32[8,9000,1,1]
func @f(%x: f32[n,9000,1,2]) {
  %1 = conv2d %x, @w {dilation=[1,1], groups=1, padding=[0,0], stride=[1,1]} : f32[n,8,1,2]
  return y=%1
})"},
    {"convolution_few", R"(param @w : f32[2,900,3,3]
func @f(%x: f32[n,900,4,8]) {
  %1 = conv2d %x, @w {dilation=[1,1], groups=1, padding=[0,0], stride=[1,1]} : f32[n,2,2,6]
  return y=%1
})"},
    {"convolution_input_gradient", R"(param @w : f32[900,8,3,3]
func @f(%g: f32[n,900,6,6]) {
  %1 = conv2d_input_grad %g, @w {dilation=[1,1], groups=1, input=[8,8,8], padding=[0,0], stride=[1,1]} : f32[n,8,8,8]
  return y=%1
})",
     1, true},
    {"convolution_weight_gradient", R"(func @f(%g: f32[n,16,126,126], %x: f32[n,16,128,128]) {
  %1 = conv2d_weight_grad %g, %x {dilation=[1,1], groups=1, kernel=[3,3], padding=[0,0], stride=[1,1]} : f32[16,16,3,3]
  return y=%1
})",
     5},
    {"strict_weight_gradient", R"(func @f(%g: f32[n,16,126,126], %x: f32[n,16,128,128]) {
  %1 = conv2d_weight_grad %g, %x {dilation=[1,1], groups=1, kernel=[3,3], padding=[0,0], stride=[1,1]} : f32[16,16,3,3]
  return y=%1
})",
     5, true},
    {"narrow_weight_gradient", R"(func @f(%g: f32[n,2,300,300], %x: f32[n,1,302,302]) {
  %1 = conv2d_weight_grad %g, %x {dilation=[1,1], groups=1, kernel=[3,3], padding=[0,0], stride=[1,1]} : f32[2,1,3,3]
  return y=%1
})",
     2},
    {"pointwise_weight_gradient", R"(func @f(%g: f32[n,2,300,300], %x: f32[n,2,300,300]) {
  %1 = conv2d_weight_grad %g, %x {dilation=[1,1], groups=1, kernel=[1,1], padding=[0,0], stride=[1,1]} : f32[2,2,1,1]
  return y=%1
})",
     2},
    {"average_pooling", R"(func @f(%x: f32[n,2,400,400]) {
  %1 = avg_pool2d %x {padding=[0,0], stride=[400,400], window=[400,400]} : f32[n,2,1,1]
  return y=%1
})"},
    {"scatter", R"(func @f(%x: f32[n,300,2], %i: i32[n,300]) {
  %1 = scatter_add %x, %i {axis=0, batched=false, extent=5} : f32[5,2]
  return y=%1
})",
     200},
    {"scatter_each", R"(func @f(%x: f32[n,60000,1], %i: i32[n,60000]) {
  %1 = scatter_add %x, %i {axis=0, batched=true, extent=3} : f32[n,3,1]
  return y=%1
})",
     2},
};

INSTANTIATE_TEST_SUITE_P(Every, LongSums, ::testing::ValuesIn(kSums),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace gradc::testing::long_sums_test
