// Sound models on which `gradc check` once failed, each for values that are zero by their nature or decisions
// at a tie, and faults that these must not hide.
#include <gtest/gtest.h>

#include <functional>

#include "cli/check/check.h"
#include "ir/loop/loop_ir.h"

namespace gradc::test::check_sound_test {
namespace {

std::string model(const std::string& body, const std::string& optimizer = "sgd(lr=0.05)") {
  const std::string fast = body.find("fast(") == std::string::npos ? "" : "fn fast(x, by) = cos(x * by)\n";
  return "data d = random(shape=[3, 8, 8], train=80, test=40, batch=40)\n" + fast +
         "model net(image: f32[3, 8, 8]) = " + body +
         "\ntrain {\n    logits = net(d.image)\n    loss cross_entropy(logits, d.label)\n    optimizer " +
         optimizer + "\n}\n";
}

cli::CheckReport check(const std::string& text, const std::string& target = "native") {
  cli::CheckRequest request;
  request.compile.file = "m.nn";
  request.compile.text = text;
  request.compile.target = target;
  return cli::check_model(request);
}

struct Sound {
  const char *name, *body, *optimizer;
};
void PrintTo(const Sound& s, std::ostream* out) { *out << s.name; }

class CheckSound : public testing::TestWithParam<Sound> {};

TEST_P(CheckSound, Passes) {
  const cli::CheckReport report = check(model(GetParam().body, GetParam().optimizer));
  EXPECT_TRUE(report.pass()) << cli::render_check(report);
}

INSTANTIATE_TEST_SUITE_P(
    Models, CheckSound,
    testing::Values(
        // The keys' bias has no gradient: what is computed is nothing but rounding.
        Sound{"max_over_attention",
              "reshape(image, [12, 16]) |> multi_head_attention(2) |> max_over(0) |> dense(10)",
              "sgd(lr=0.05)"},
        Sound{"min_over_causal_attention",
              "reshape(image, [24, 8]) |> multi_head_attention(4, causal=true) |> layernorm |> min_over(0) "
              "|> dense(10)",
              "adam(lr=0.01)"},
        // Nor has a bias before a batch renormalisation.
        Sound{"batchrenorm",
              "image |> conv2d(8, 3, padding=1) |> batchrenorm |> relu |> conv2d(8, 3) |> batchrenorm |> "
              "flatten |> "
              "dense(10)",
              "sgd(lr=0.05)"},
        Sound{"batchrenorm_few_channels",
              "image |> conv2d(1, 3) |> batchrenorm |> tanh |> avg_pool(2) |> flatten |> dense(4) |> "
              "batchrenorm |> "
              "dense(10)",
              "momentum(lr=0.05)"},
        // Corners where the padded patch is all zeros, and biases that are zeros: relu decides at exactly 0.
        // The loss bends within the step of central differences, by a little and many times over.
        Sound{"cosine_of_large_numbers", "image |> flatten |> dense(4) |> fast(3e3) |> dense(10)",
              "sgd(lr=0.0)"},
        Sound{"cosine_of_huge_numbers", "image |> flatten |> dense(4) |> fast(1e8) |> dense(10)",
              "sgd(lr=0.0)"},
        Sound{"relu_at_zero",
              "image |> relu |> conv2d(8, 3, padding=2) |> relu |> conv2d(8, 3, padding=2) |> relu |> "
              "max_pool(2) |> "
              "flatten |> dense(10)",
              "sgd(lr=0.0)"},
        Sound{
            "relu6_and_hard_swish_at_zero",
            "image |> relu6 |> conv2d(4, 3, padding=2) |> hard_swish |> conv2d(4, 3, padding=2) |> relu6 |> "
            "avg_pool(2) |> flatten |> dense(10)",
            "sgd(lr=0.0)"},
        Sound{
            "abs_and_max_at_zero",
            "max(abs(image |> relu |> conv2d(4, 3, padding=2)), image |> relu |> conv2d(4, 3, padding=2)) |> "
            "flatten |> dense(10)",
            "sgd(lr=0.0)"}),
    [](const auto& info) { return std::string(info.param.name); });

// Gradients of several batches add up in @update: they too are the interpreter's own in the comparison with
// central differences.
TEST(CheckSound, AccumulatedGradients) {
  std::string text = model("image |> flatten |> dense(32) |> gelu |> dense(10)");
  text.replace(text.rfind("}\n"), 2, "    accumulate 4\n}\n");
  const cli::CheckReport report = check(text);
  EXPECT_TRUE(report.pass()) << cli::render_check(report);
}

// A decision within rounding of a tie, which AVX2's order of sums takes otherwise than the interpreter,
// changes the gradient of every layer before it: twenty layers, batchnorm over few examples.
TEST(CheckSound, DecisionsThatRoundingTakesOtherwise) {
  std::string body = "image |> conv2d(8, 3, padding=1, bias=false) |> batchnorm |> relu";
  for (int i = 0; i < 14; ++i) body += " |> conv2d(8, 3, padding=1, bias=false) |> batchnorm |> relu";
  for (const char* target : {"x86-64-v2", "x86-64-v3"}) {
    const cli::CheckReport report = check(model(body + " |> global_avg_pool |> dense(10)"), target);
    EXPECT_TRUE(report.pass()) << target << cli::render_check(report);
  }
}

// Scales what a kernel stores.
void scale_stores(loop::Program& program, const std::string& kernel_name, double factor) {
  const std::function<void(const std::vector<loop::Stmt>&)> scale = [&](const std::vector<loop::Stmt>& body) {
    for (const loop::Stmt& s : body) {
      if (s->kind == loop::StmtKind::store && s->value->type.scalar == loop::Scalar::f32)
        s->value = s->value * loop::constant(loop::Type{s->value->type.scalar, 1}, factor);
      scale(s->body);
    }
  };
  for (loop::Kernel& kernel : program.kernels)
    if (kernel.name.find(kernel_name) != std::string::npos) scale(kernel.body);
}

// 1 % too much in what native code computes for the gradient of an extremum, which a bound on rounding
// must not explain: an extremum is not rounded, so what equals it still does.
TEST(CheckSound, StillFindsFaultsBehindAnExtremum) {
  cli::CheckRequest request;
  request.compile.file = "m.nn";
  request.compile.text = model("reshape(image, [12, 16]) |> dense(16) |> max_over(0) |> dense(10)");
  request.compile.passes.tamper_loops = [](const passes::PassInfo& pass, loop::Program& program) {
    if (pass.name == "lower" && program.name == "train_step") scale_stores(program, "_eq", 1.01);
  };
  const cli::CheckReport report = cli::check_model(request);
  int gradients = 0, values = 0;
  for (const cli::CheckRow& r : report.rows) {
    gradients += !r.pass && r.kind == "gradient";
    values += !r.pass && r.kind == "value";
  }
  EXPECT_GT(gradients, 0) << cli::render_check(report);
  EXPECT_GT(values, 0);
}

// sqrt has an infinite slope at 0, and 0 times infinity is NaN: that is no bend of the loss within a step.
TEST(CheckFaults, AGradientThatIsNotANumberIsNoCurvature) {
  std::string text = model("sqrt(image |> flatten |> dense(4) |> zero) |> dense(10)", "sgd(lr=0.0)");
  text.insert(text.find("model net"), "fn zero(x) = abs(x) - abs(x)\n");
  const cli::CheckReport report = check(text);
  EXPECT_FALSE(report.pass());
  for (const cli::CheckRow& r : report.rows) EXPECT_FALSE(r.curved) << r.kind << " " << r.name;
}

}  // namespace
}  // namespace gradc::test::check_sound_test
