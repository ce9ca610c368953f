// A network whose images are stored for one panel a thread trains to the same bits however threads share
// the work: whole panels, calls, part batches, and with neither segments nor recomputed values.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "support/diagnostic.h"
#include "tests/cli/tool.h"

namespace gradc::test::local_values_test {
namespace {

using Json = nlohmann::json;

// Eight panels a batch, then five.
constexpr const char* kNetwork = R"(
data noise = random(shape=[1, 12, 12], train=416, test=64, batch=256)
layer block(x) = relu(x + (x |> conv2d(8, 3, padding=1) |> batchnorm |> relu
                             |> conv2d(8, 3, padding=1) |> batchnorm))
model net(image: f32[1, 12, 12]) {
    h = image |> conv2d(8, 3, padding=1) |> relu
    for i in 0..2 as blocks { h = block(h) }
    return h |> max_pool(2) |> conv2d(12, 3, padding=1, stride=2) |> batchnorm |> relu |> global_avg_pool |> dense(10)
}
train {
    logits    = net(noise.image)
    loss      cross_entropy(logits, noise.label)
    optimizer sgd(lr=0.1)
    epochs    3
    seed      3
}
)";

Json last_epoch(const TemporaryFolder& folder, const std::vector<std::string>& options) {
  std::vector<std::string> arguments{"train", "m.nn", "--json"};
  arguments.insert(arguments.end(), options.begin(), options.end());
  const ToolResult r = run_tool(arguments, folder.path());
  EXPECT_EQ(r.exit_code, kExitOk) << r.err;
  Json result;
  std::istringstream lines(r.out);
  for (std::string line; std::getline(lines, line);)
    if (const Json event = Json::parse(line); event.at("event") == "epoch") result = event;
  return result;
}

int64_t peak(const TemporaryFolder& folder, std::vector<std::string> options) {
  options.insert(options.begin(), {"plan", "m.nn", "--json", "--threads", "2"});
  const ToolResult r = run_tool(options, folder.path());
  EXPECT_EQ(r.exit_code, kExitOk) << r.err;
  return Json::parse(r.out).at("peak_bytes");
}

TEST(LocalValues, TrainToTheSameBits) {
  TemporaryFolder folder;
  folder.write("m.nn", kNetwork);
  const Json expected = last_epoch(folder, {"--disable-pass", "segments", "--disable-pass", "recompute"});
  ASSERT_TRUE(expected.contains("train_loss")) << expected;
  const std::vector<std::vector<std::string>> ways = {{"--threads", "1"},
                                                      {"--threads", "2"},
                                                      {"--threads", "3"},  // calls one by one
                                                      {"--threads", "4"},
                                                      {"--disable-pass", "segments"},
                                                      {"--disable-pass", "recompute"}};
  for (const std::vector<std::string>& way : ways)
    EXPECT_EQ(last_epoch(folder, way).at("train_loss"), expected.at("train_loss")) << way[0] << ' ' << way[1];
}

TEST(LocalValues, TakeLessMemory) {
  TemporaryFolder folder;
  folder.write("m.nn", kNetwork);
  const int64_t both = peak(folder, {}), kept = peak(folder, {"--disable-pass", "recompute"}),
                whole = peak(folder, {"--disable-pass", "segments", "--disable-pass", "recompute"});
  EXPECT_LT(both, kept);
  EXPECT_LT(static_cast<double>(both), 0.9 * static_cast<double>(whole));
}

}  // namespace
}  // namespace gradc::test::local_values_test
