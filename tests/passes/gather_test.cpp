// Sums of rows into a table have the same bits for any number of threads; their values are checked with all
// other primitives (ops_native_test.cpp).
#include <gtest/gtest.h>

#include <cmath>

#include "ir/tensor/module.h"
#include "passes/tensor/passes.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::gather_test {
namespace {

TEST(ScatterAdd, HasTheSameBitsForAnyNumberOfThreads) {
  const int64_t rows = 45;
  Module module;
  Function& f = module.add_function("f");
  interpreter::RunInput input;
  input.context.rows = rows;
  const Type values{DType::f32, true, {6, 5}}, names{DType::i32, true, {6}};
  interpreter::Tensor x = interpreter::make_tensor(values, rows),
                      index = interpreter::make_tensor(names, rows);
  for (size_t i = 0; i < x.data.size(); ++i)
    x.data.data()[i] = std::sin(static_cast<double>(i)) * std::exp(std::cos(static_cast<double>(3 * i)));
  // Few of the 100 places, so that each is a sum of many numbers.
  for (size_t i = 0; i < index.data.size(); ++i) index.data.data()[i] = static_cast<double>(i * i % 7 * 13);
  input.inputs["x"] = x;
  input.inputs["index"] = index;
  Builder b(f);
  f.outputs.push_back({"y", b.create("scatter_add", {f.add_input("x", values), f.add_input("index", names)},
                                     {{"axis", int64_t{0}}, {"extent", int64_t{100}}, {"batched", false}})});
  f.renumber();
  passes::assign_layout(f);
  passes::fuse_elementwise(f);
  f.renumber();
  const auto run = [&](int threads, bool reversed) {
    const RunnerResult r = run_lowered(
        module, "f", input,
        {.engine = reversed ? Engine::loops : Engine::native, .threads = threads, .reversed = reversed});
    const interpreter::Tensor& y = r.outputs.at("y");
    return std::vector<double>(y.data.data(), y.data.data() + y.data.size());
  };
  const std::vector<double> one = run(1, false);
  EXPECT_GT(std::abs(one[13 * 5]), 1e-3);
  for (const int threads : {2, 3, 7}) {
    EXPECT_EQ(run(threads, false), one) << threads << " threads";
    EXPECT_EQ(run(threads, true), one) << threads << " threads backwards, loop IR";
  }
}

}  // namespace
}  // namespace gradc::testing::gather_test
