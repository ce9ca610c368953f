// Networks over sequences: axes folded into rows, and attention. Native code against the interpreter and central
// differences for lengths that fill panels, share them and exceed them; equal bits for any number of threads; memory
// linear in the length.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::sequences_test {
namespace {

using Json = nlohmann::json;

// Attention over a memory of another length, causal attention, dense layers, and a mean over positions.
constexpr const char* kNetwork = R"(
set length = 32
set heads = 2
set batch = 4
data noise = random(shape=[length, 12], train=4 * batch, test=2 * batch, batch=batch)
layer block(x, memory) {
    x = x + (x |> layernorm |> multi_head_attention(heads, causal=true))
    x = x + multi_head_attention(layernorm(x), heads, memory=memory)
    return x + (x |> layernorm |> dense(48) |> gelu |> dense(12))
}
model net(x: f32[length, 12]) {
    memory = slice(x, [0, 0], [length // 2 + 1, 12])
    return block(x, memory) |> layernorm |> dense(32) |> relu |> dense(10) |> mean(0)
}
train {
    logits    = net(noise.image)
    loss      cross_entropy(logits, noise.label)
    optimizer sgd(lr=0.1)
    epochs    3
    seed      3
}
)";

struct Case {
  int length, heads, batch;
  const char* target;
};

class Sequences : public testing::TestWithParam<Case> {};

TEST_P(Sequences, PassTheCheck) {
  const Case& c = GetParam();
  TemporaryFolder folder;
  folder.write("m.nn", kNetwork);
  const ToolResult r = run_tool(
      {"check", "m.nn", "--set", "length=" + std::to_string(c.length), "--set",
       "heads=" + std::to_string(c.heads), "--set", "batch=" + std::to_string(c.batch), "--target", c.target},
      folder.path());
  EXPECT_EQ(r.exit_code, kExitOk) << r.out << r.err;
  const ToolResult ir = run_tool({"dump", "m.nn", "--stage", "opt"}, folder.path());
  EXPECT_NE(ir.out.find("attention_key_grad"), std::string::npos);
  EXPECT_EQ(ir.out.find("log_softmax"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Lengths, Sequences,
                         testing::Values(Case{32, 2, 4, "native"}, Case{64, 3, 2, "native"},
                                         Case{7, 1, 33, "native"}, Case{37, 4, 3, "native"},
                                         Case{2, 2, 5, "native"}, Case{32, 2, 3, "x86-64-v3"},
                                         Case{45, 2, 3, "x86-64-v3"}, Case{33, 2, 2, "x86-64-v2"}),
                         [](const auto& info) {
                           std::string target = info.param.target;
                           for (char& c : target)
                             if (c == '-') c = '_';
                           return target + "_length" + std::to_string(info.param.length) + "_batch" +
                                  std::to_string(info.param.batch);
                         });

TEST(SequencesTrain, ToTheSameBitsForAnyThreads) {
  TemporaryFolder folder;
  folder.write("m.nn", kNetwork);
  for (const char* length : {"length=32", "length=37"}) {
    const double expected = last_training_loss(folder.path(), "m.nn", {"--set", length, "--threads", "1"});
    EXPECT_TRUE(std::isfinite(expected));
    for (const char* threads : {"2", "3", "5"})
      EXPECT_EQ(last_training_loss(folder.path(), "m.nn", {"--set", length, "--threads", threads}), expected)
          << length << threads;
    // Other kernels sum in other orders: rounding, over twelve steps.
    for (const char* pass : {"fold_rows", "fuse_attention"})
      EXPECT_NEAR(last_training_loss(folder.path(), "m.nn", {"--set", length, "--disable-pass", pass}),
                  expected, 2e-5)
          << pass;
  }
}

TEST(SequencesMemory, IsLinearInTheLength) {
  TemporaryFolder folder;
  folder.write("m.nn", kNetwork);
  const auto peak = [&](const char* length) -> double {
    const ToolResult r =
        run_tool({"plan", "m.nn", "--json", "--threads", "2", "--set", length}, folder.path());
    EXPECT_EQ(r.exit_code, kExitOk) << r.err;
    return Json::parse(r.out).at("peak_bytes");
  };
  // A value of length x length for each of two heads would be 20 times as large as one of length x 12.
  EXPECT_LT(peak("length=1024"), 2.1 * peak("length=512"));
}

}  // namespace
}  // namespace gradc::test::sequences_test
