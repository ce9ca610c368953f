// The weight gradient of a dense layer, whose epilogue (Adam's, say) may come late, in between the next
// tile's sums: every element once, with its own sum, however tiles, rows and threads divide.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/tensor/module.h"
#include "passes/tensor/passes.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing::weight_gradient_test {
namespace {

// y = s / sqrt(s^2 + 1) with s the sum of g x over the rows.
struct Gradient {
  Gradient(int64_t outputs, int64_t inputs, int64_t rows) {
    const Type g{DType::f32, true, {outputs}}, x{DType::f32, true, {inputs}};
    Function& f = module.add_function("f");
    Builder b(f);
    Op* s =
        b.create("einsum", {f.add_input("g", g), f.add_input("x", x)}, {{"spec", std::string("no,nk->ok")}});
    Op* root = b.create("sqrt", {b.add(b.create("mul", {s, s}), 1.0)});
    f.outputs.push_back({"y", b.create("div", {s, root})});
    f.renumber();
    passes::assign_layout(f);
    passes::fuse_elementwise(f);
    f.renumber();
    input.context.rows = rows;
    double at = 0;
    for (const auto& [name, type] : {std::pair{"g", g}, std::pair{"x", x}}) {
      interpreter::Tensor t = interpreter::make_tensor(type, rows);
      for (size_t i = 0; i < t.data.size(); ++i)
        t.data.data()[i] = static_cast<double>(static_cast<float>(0.3 * std::sin(++at)));
      input.inputs[name] = t;
    }
  }
  std::vector<double> run(const RunnerOptions& options) const {
    const interpreter::Tensor y = run_lowered(module, "f", input, options).outputs.at("y");
    return {y.data.data(), y.data.data() + y.data.size()};
  }
  Module module;
  interpreter::RunInput input;
};

TEST(WeightGradient, LateEpiloguesReachEveryElementOnce) {
  for (const auto& [outputs, inputs] : {std::pair{24, 32}, std::pair{67, 70}, std::pair{128, 112}}) {
    for (const auto& [rows, batch] :
         {std::pair{128, 128}, std::pair{100, 128}, std::pair{3, 300}, std::pair{70, 70}}) {
      const Gradient gradient(outputs, inputs, rows);
      const interpreter::Tensor y =
          interpreter::run(*gradient.module.function("f"), gradient.input).outputs.at("y");
      const std::vector<double> one = gradient.run({.batch = batch});
      ASSERT_EQ(one.size(), y.data.size());
      for (size_t i = 0; i < one.size(); ++i)
        ASSERT_NEAR(one[i], y.data.data()[i], 2e-6)
            << outputs << " x " << inputs << ", " << rows << " rows, " << i;
      for (const int threads : {2, 3})
        EXPECT_EQ(gradient.run({.threads = threads, .batch = batch}), one) << threads << " threads";
      EXPECT_EQ(gradient.run({.engine = Engine::loops, .threads = 3, .reversed = true, .batch = batch}), one);
    }
  }
}

// A tile's sums wait in scratch memory where the epilogue takes long, and not for a short one.
TEST(WeightGradient, OnlyLongEpiloguesComeLate) {
  const auto sums = [](const Gradient& g) {
    passes::PipelineOptions options;
    options.batch = 128;
    const passes::Lowered lowered = passes::lower(g.module, options);
    int count = 0;
    for (const loop::Allocation& a : lowered.programs.at("f").program.allocations)
      count += a.space == loop::Space::scratch && a.name.find("sums") != std::string::npos;
    return count;
  };
  EXPECT_EQ(sums(Gradient(64, 64, 128)), 1);
  EXPECT_EQ(sums(Gradient(16, 64, 128)), 0) << "two tiles";
}

}  // namespace
}  // namespace gradc::testing::weight_gradient_test
