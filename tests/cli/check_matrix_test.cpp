// `gradc check` of one small network that has a bit of everything (convolutions, some of few channels a
// group, batchnorm, pooling, dropout, a residual sum, dense layers, momentum with decay), on every target
// this machine runs, with every pass and with each optional pass left out.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::check_matrix_test {
namespace {

constexpr const char* kModel = R"(data noise = random(shape=[3, 8, 8], train=80, test=40, batch=40)

layer block(x, width) = x |> conv2d(width, 3, padding=1, bias=false) |> batchnorm |> relu

model net(image: f32[3, 8, 8]) {
    x = image |> block(16)
    y = x |> block(16) |> conv2d(32, 3, padding=1, groups=16) |> relu |> conv2d(16, 1)
    z = (x + y) |> conv2d(16, 3, padding=1, groups=8) |> relu
    return z |> max_pool(2) |> flatten |> dense(24) |> tanh |> dropout(0.25) |> dense(10)
}

train {
    logits = net(noise.image)
    loss cross_entropy(logits, noise.label)
    optimizer momentum(lr=0.05, weight_decay=1e-4)
}
)";

std::vector<std::string> passes() {
  std::vector<std::string> names = {"none"};
  for (const std::string& line : lines(run_tool({"passes", "--json"}).out)) {
    const auto pass = nlohmann::json::parse(line);
    if (pass.at("optional")) names.push_back(pass.at("name"));
  }
  return names;
}

class CheckMatrix : public ::testing::TestWithParam<std::tuple<std::string, std::string>> {};

TEST_P(CheckMatrix, NativeCodeAgrees) {
  const auto& [target, pass] = GetParam();
  TemporaryFolder folder;
  folder.write("net.nn", kModel);
  std::vector<std::string> arguments = {"check", "net.nn", "--target", target};
  if (pass != "none") arguments.push_back("--disable-pass=" + pass);
  const ToolResult r = run_tool(arguments, folder.path());
  if (r.exit_code == kExitUsage && r.err.find("cannot run") != std::string::npos) GTEST_SKIP() << r.err;
  EXPECT_EQ(r.exit_code, kExitOk) << r.out << r.err;
}

INSTANTIATE_TEST_SUITE_P(Driver, CheckMatrix,
                         ::testing::Combine(::testing::Values("x86-64-v2", "x86-64-v3", "native"),
                                            ::testing::ValuesIn(passes())),
                         [](const auto& info) {
                           std::string name = std::get<0>(info.param) + "_without_" + std::get<1>(info.param);
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace gradc::test::check_matrix_test
