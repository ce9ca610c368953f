// `gradc check` compiles the definition, and what training makes in another way, convolutions by Winograd's
// filtering, once more: product by product. Here, that it sees an error that only that code has.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "cli/check/check.h"
#include "ir/loop/loop_ir.h"

namespace gradc::test::check_trained_test {
namespace {

compiler::CompileRequest model(const std::string& body) {
  compiler::CompileRequest request;
  request.file = "m.nn";
  request.text =
      "data noise = random(shape=[20, 8, 8], train=80, test=40, batch=40)\n\nmodel net(image: f32[20, 8, 8]) "
      "= " +
      body + R"(

train {
    logits = net(noise.image)
    loss cross_entropy(logits, noise.label)
    optimizer sgd(lr=0.01)
}
)";
  return request;
}

constexpr const char* kConvolutions =
    "image |> conv2d(40, 3, padding=1) |> relu |> conv2d(16, 3, padding=1) |> flatten |> dense(10)";

int trained_rows(const cli::CheckReport& report) {
  return static_cast<int>(std::count_if(report.rows.begin(), report.rows.end(),
                                        [](const cli::CheckRow& r) { return r.kind == "trained"; }));
}

TEST(CheckTrained, LooksAtProductsAsTrainingMakesThem) {
  const cli::CheckReport report = cli::check_model({model(kConvolutions)});
  EXPECT_TRUE(report.pass()) << cli::render_check(report);
  std::set<std::string> ops;
  for (const cli::CheckRow& r : report.rows)
    if (r.kind == "trained") ops.insert(r.name.substr(r.name.find(' ') + 1));
  EXPECT_TRUE(ops.count("conv2d_weight_grad"));
  EXPECT_TRUE(ops.count("relu")) << "the first convolution's kernel ends with it";
  EXPECT_NE(cli::render_check(report).find("Winograd"), std::string::npos);
}

TEST(CheckTrained, HasNothingToDoWhereTrainingFollowsTheDefinition) {
  EXPECT_EQ(trained_rows(cli::check_model({model("image |> flatten |> dense(10)")})), 0);
  compiler::CompileRequest strict = model(kConvolutions);
  strict.passes.strict_math = true;
  EXPECT_EQ(trained_rows(cli::check_model({strict})), 0);
}

// The weights' transform stores values so many times too large.
void break_winograd(double factor, const passes::PassInfo& pass, loop::Program& program) {
  if (pass.name != "lower") return;
  const std::function<void(const std::vector<loop::Stmt>&)> scale = [&](const std::vector<loop::Stmt>& body) {
    for (const loop::Stmt& s : body) {
      if (s->kind == loop::StmtKind::store)
        s->value = s->value * loop::constant(loop::Type{s->value->type.scalar, 1}, factor);
      scale(s->body);
    }
  };
  for (loop::Kernel& kernel : program.kernels)
    if (kernel.name.find("_weights") != std::string::npos) scale(kernel.body);
}

// 1 % shows in the products; 1e30 leaves no finite loss to compare.
TEST(CheckTrained, SeesAnErrorThatOnlyTrainingHas) {
  for (const double factor : {1.01, 1e30}) {
    compiler::CompileRequest request = model(kConvolutions);
    request.passes.tamper_loops = [factor](const passes::PassInfo& pass, loop::Program& program) {
      break_winograd(factor, pass, program);
    };
    const cli::CheckReport report = cli::check_model({request});
    EXPECT_FALSE(report.pass()) << factor;
    for (const cli::CheckRow& r : report.rows)
      if (!r.pass) {
        EXPECT_EQ(r.kind, "trained") << r.name;
      }
  }
}

}  // namespace
}  // namespace gradc::test::check_trained_test
