// The small ones among bench/workloads/*.nn pass `gradc check` and train as native code; tests/passes lowers
// all of them.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/cli/tool.h"

namespace gradc::test::workloads_test {
namespace {

using Json = nlohmann::json;

std::string file_of(const std::string& workload) {
  return std::string(GRADC_SOURCE_DIR) + "/bench/workloads/" + workload + ".nn";
}

class SmallWorkloadTest : public testing::TestWithParam<const char*> {};

TEST_P(SmallWorkloadTest, PassesTheCheckOnItsOwnData) {
  const ToolResult r = run_tool({"check", file_of(GetParam())}, {}, {}, 500);
  EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
}

TEST_P(SmallWorkloadTest, TrainsToTheSameBitsOnAnyNumberOfThreads) {
  std::string sha;
  for (const char* threads : {"1", "2"}) {
    const ToolResult r =
        run_tool({"train", file_of(GetParam()), "--json", "--steps", "3", "--threads", threads}, {}, {}, 500);
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const Json end = Json::parse(lines(r.out).back());
    EXPECT_EQ(end.at("steps"), 3);
    EXPECT_NEAR(end.at("train_loss").get<double>(), std::log(10.0), 0.3);
    if (sha.empty()) sha = end.at("weights_sha256");
    EXPECT_EQ(end.at("weights_sha256"), sha);
  }
}

INSTANTIATE_TEST_SUITE_P(Workloads, SmallWorkloadTest, testing::Values("tiny", "lenet", "mlp"),
                         [](const auto& info) { return info.param; });

TEST(RandomData, OptionsReachTheRuntime) {
  TemporaryFolder folder;
  std::string text = small_model();
  const std::string source = "synthetic_digits(train=256, test=96, batch=32)";
  text.replace(text.find(source), source.size(),
               "random(shape=[1, 28, 28], classes=10, train=96, test=32, seed=SEED, batch=32)");
  std::set<std::string> results;
  for (const char* seed : {"1", "2", "1"}) {
    std::string seeded = text;
    seeded.replace(seeded.find("SEED"), 4, seed);
    folder.write("m.nn", seeded);
    const ToolResult r = run_tool({"train", "m.nn", "--json"}, folder.path());
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const Json end = Json::parse(lines(r.out).back());
    EXPECT_EQ(end.at("steps"), 6);  // two epochs of three batches
    results.insert(end.at("weights_sha256"));
  }
  EXPECT_EQ(results.size(), 2u);
}

TEST(RandomData, TooLargePartsAreRefusedBeforeAnyWork) {
  TemporaryFolder folder;
  std::string text = small_model();
  const std::string source = "synthetic_digits(train=256, test=96, batch=32)";
  folder.write("m.nn", text.replace(text.find(source), source.size(), "random(train=9000000000, batch=32)"));
  for (const char* command : {"train", "check"}) {
    const ToolResult r = run_tool({command, "m.nn"}, folder.path());
    EXPECT_EQ(r.exit_code, 3);
    for (const char* piece : {"error[E0212]", "m.nn:1:", "8 GiB", "at most"})
      EXPECT_NE(r.err.find(piece), std::string::npos) << piece << "\n" << r.err;
  }
}

}  // namespace
}  // namespace gradc::test::workloads_test
