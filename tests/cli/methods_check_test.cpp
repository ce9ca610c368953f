// `gradc check` of networks made of what the prelude has beyond the plain layers: normalisations, random
// layers, attention, embeddings, weighted losses, and an update that needs norms.
#include <gtest/gtest.h>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::methods_check_test {
namespace {

struct Network {
  const char* name;
  const char* text;
};

class CheckMethods : public ::testing::TestWithParam<Network> {};
void PrintTo(const Network& n, std::ostream* out) { *out << n.name; }

TEST_P(CheckMethods, NativeCodeAndCentralDifferencesAgree) {
  TemporaryFolder folder;
  folder.write("net.nn", GetParam().text);
  const ToolResult r = run_tool({"check", "net.nn"}, folder.path());
  EXPECT_EQ(r.exit_code, kExitOk) << r.out << r.err;
  EXPECT_EQ(r.out.find("every gradient is zero"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Driver, CheckMethods,
                         ::testing::Values(Network{"images", R"(
data noise = random(shape=[3, 12, 12], train=80, test=40, batch=40)

model net(image: f32[3, 12, 12]) {
    h = image |> weightnorm_conv2d(8, 3, padding=1) |> groupnorm(4) |> hard_swish |> fractional_max_pool(1.5)
    h = h |> conv2d(8, 3, padding=1, init=orthogonal) |> instancenorm(affine=true) |> mish |> batchrenorm(rmax=1.5, dmax=0.5)
    return h |> flatten |> dropconnect(24, rate=0.25) |> batchnorm |> celu |> weightnorm_dense(10)
}

train {
    logits = net(noise.image)
    loss cross_entropy(logits, noise.label) weight class_weight(noise.label, [1, 2, 1, 1, 0.5, 1, 1, 1, 1, 1])
    penalty elastic_net(1e-4) on "*.weight"
    optimizer lamb(lr=1e-2)
}
)"},
                                           Network{"sequences", R"(
data noise = random(shape=[6, 2], train=80, test=40, batch=40)

model net(image: f32[6, 2]) {
    tokens = cast(floor(abs(image[0..6, 0]) * 8), "i32")
    h = embedding(tokens, 12, 16) + sinusoidal_positions(6, 16)
    h = h + (h |> layernorm |> multi_head_attention(4, causal=true))
    last = h |> dense(16) |> glu
    return gather(last, cast(image[0, 1] > 0, "i32")) |> dense(10, init=truncated_normal(std=0.1))
}

train {
    logits = net(noise.image)
    loss cross_entropy(logits, noise.label, label_smoothing=0.1)
    optimizer nadam(lr=1e-2)
    schedule one_cycle
}
)"}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace gradc::test::methods_check_test
