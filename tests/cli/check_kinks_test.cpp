// `gradc check` puts values at kinks, where no random example comes: it accepts what lies between the slopes
// of both sides, and finds what does not.
#include <gtest/gtest.h>

#include <algorithm>

#include "cli/check/check.h"

namespace gradc::test::check_kinks_test {
namespace {

cli::CheckReport check(const std::string& activation, const std::string& break_gradient = "") {
  cli::CheckRequest request;
  request.compile.file = "m.nn";
  request.compile.text =
      "data noise = random(shape=[6], train=80, test=40, batch=40)\n"
      "layer act(x) = " +
      activation +
      "\nmodel net(image: f32[6]) = image |> dense(8) |> act |> dense(10)\n"
      "train {\n    logits = net(noise.image)\n    loss cross_entropy(logits, noise.label)\n"
      "    optimizer sgd(lr=0.01)\n}\n";
  request.break_gradient = break_gradient;
  return cli::check_model(request);
}

int failures(const cli::CheckReport& report, const std::string& kind) {
  return static_cast<int>(std::count_if(report.rows.begin(), report.rows.end(),
                                        [&](const cli::CheckRow& r) { return !r.pass && r.kind == kind; }));
}

TEST(CheckKinks, AcceptsTheSlopesOfEitherSide) {
  for (const char* sound :
       {"relu6(x)", "elu(x)", "abs(x)", "max(x, 0.5 * x)", "hard_shrink(x)", "soft_shrink(x)",
        "concat([relu(x), relu(-x)], 0)", "x + abs(x)", "log(max(x, 1e-30))", "min(max(x, -1), 1) * x",
        "select(x > 0, sqrt(max(x, 1e-6)), x)"}) {
    const cli::CheckReport report = check(sound);
    EXPECT_TRUE(report.pass()) << sound << "\n" << cli::render_check(report);
    EXPECT_TRUE(std::any_of(report.rows.begin(), report.rows.end(), [](const auto& r) {
      return r.kind == "kink";
    })) << sound;
  }
}

// The values are right, and so is the gradient everywhere but at 0, where no random example comes.
TEST(CheckKinks, FindsASlopeThatIsNoneOfTheFunction) {
  for (const char* wrong : {"select(x > 0, x, expm1((x - abs(x)) / 2))", "relu(x) - relu(-x)"}) {
    const cli::CheckReport report = check(wrong);
    EXPECT_GT(failures(report, "kink"), 0) << wrong << "\n" << cli::render_check(report);
    for (const cli::CheckRow& r : report.rows)
      if (!r.pass) {
        EXPECT_EQ(r.kind, "kink") << r.name;
      }
  }
  EXPECT_GT(failures(check("elu(x)", "expm1"), "kink"), 0);
}

}  // namespace
}  // namespace gradc::test::check_kinks_test
