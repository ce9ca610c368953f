// Every example compiles, passes `gradc check` and trains; mlp.nn learns the real digits, where they are
// there. What examples say of data is tested by data_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tests/cli/tool.h"

namespace gradc::test::examples_test {
namespace {

using Json = nlohmann::json;

const std::string kSource = GRADC_SOURCE_DIR;
const std::string kMnist = kSource + "/../shared/data/mnist";

std::vector<std::string> examples() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kSource + "/examples"))
    if (entry.path().extension() == ".nn") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

bool has(const std::string& example, const char* text) {
  return read_text(kSource + "/examples/" + example + ".nn").find(text) != std::string::npos;
}

bool reads_files(const std::string& example) { return has(example, "set data "); }

// The folder of the real images that the example reads.
std::string data_of(const std::string& example) {
  return kSource + "/../shared/data/" + (has(example, "cifar10(") ? "cifar10" : "mnist");
}

// The command on an example, with the real digits where it wants files and they are there.
std::vector<std::string> with_data(const std::string& command, const std::string& example) {
  std::vector<std::string> arguments = {command, kSource + "/examples/" + example + ".nn"};
  if (reads_files(example) && std::filesystem::is_directory(data_of(example))) {
    arguments.push_back("--set");
    arguments.push_back("data=" + data_of(example));
    if (has(example, "set width = 16") || has(example, "set width  = 16") || has(example, "set width = 32"))
      arguments.insert(arguments.end(), {"--set", "width=8"});  // for time
  }
  return arguments;
}

class ExampleTest : public testing::TestWithParam<std::string> {};

TEST_P(ExampleTest, PassesTheCheck) {
  const ToolResult r = run_tool(with_data("check", GetParam()), {}, {}, 500);
  EXPECT_EQ(r.exit_code, 0) << r.out << r.err;
}

TEST_P(ExampleTest, TrainsToTheSameBitsOnAnyNumberOfThreads) {
  if (reads_files(GetParam()) && !std::filesystem::is_directory(data_of(GetParam())))
    GTEST_SKIP() << data_of(GetParam()) << " is not there";
  const char* steps = has(GetParam(), "cifar10(") ? "12" : "60";  // these take longer, and learn more slowly
  std::string sha;
  for (const char* threads : {"1", "2", "2"}) {
    std::vector<std::string> arguments = with_data("train", GetParam());
    for (const char* a : {"--json", "--steps", steps, "--threads", threads}) arguments.push_back(a);
    const ToolResult r = run_tool(arguments, {}, {}, 500);
    ASSERT_EQ(r.exit_code, 0) << r.err;
    const Json end = Json::parse(lines(r.out).back());
    // Below the loss of guessing among 10, or 96.
    EXPECT_LT(end.at("train_loss").get<double>(), has(GetParam(), "cifar10(") ? 2.33
                                                  : has(GetParam(), "text(")  ? 3.6
                                                                              : 2.2);
    if (sha.empty()) sha = end.at("weights_sha256");
    EXPECT_EQ(end.at("weights_sha256"), sha);
  }
}

TEST_P(ExampleTest, HasStatisticsOfItsLayers) {
  if (reads_files(GetParam()) && !std::filesystem::is_directory(data_of(GetParam())))
    GTEST_SKIP() << data_of(GetParam()) << " is not there";
  std::vector<std::string> arguments = with_data("stats", GetParam());
  for (const char* a : {"--json", "--batches", "1"}) arguments.push_back(a);
  const ToolResult r = run_tool(arguments, {}, {}, 500);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  int layers = 0, gradients = 0;
  for (const std::string& line : lines(r.out)) {
    const Json e = Json::parse(line);
    if (e.at("event") != "layer") continue;
    ++layers;
    gradients += e.contains("gradient");
    EXPECT_GT(e["value"]["count"].get<int64_t>(), 0);
    EXPECT_EQ(e["value"]["not_finite"], 0) << e.at("name");
    if (e.contains("gradient")) {
      EXPECT_EQ(e["gradient"]["not_finite"], 0) << e.at("name");
    }
  }
  EXPECT_GE(layers, 1);
  EXPECT_GE(gradients, 1);
}

// Without weight on any class a network guesses: -log(1 / classes). What the small first weights of the last
// layer add is half the variance of its scores, and a batch varies by a few hundredths.
TEST_P(ExampleTest, BeginsAtTheLossOfGuessing) {
  if (!has(GetParam(), "cross_entropy(")) GTEST_SKIP() << "no cross entropy";
  if (reads_files(GetParam()) && !std::filesystem::is_directory(data_of(GetParam())))
    GTEST_SKIP() << data_of(GetParam()) << " is not there";
  std::vector<std::string> arguments = with_data("train", GetParam());
  for (const char* a : {"--json", "--steps", "1", "--log-every", "1"}) arguments.push_back(a);
  const ToolResult r = run_tool(arguments, {}, {}, 500);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json first = Json::parse(lines(r.out).front());
  ASSERT_EQ(first.at("event"), "step");
  const double classes = has(GetParam(), "text(") ? 96 : 10;
  // Of several losses the cross entropy is shown by itself.
  const double loss = first.contains("digit_loss") ? first.at("digit_loss") : first.at("loss");
  EXPECT_NEAR(loss, std::log(classes), 0.1);
}

INSTANTIATE_TEST_SUITE_P(Examples, ExampleTest, testing::ValuesIn(examples()), [](const auto& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

// What takes long to learn gets better within a few steps.
class FallingLoss : public testing::TestWithParam<std::string> {};

TEST_P(FallingLoss, IsSeenWithinSomeSteps) {
  if (reads_files(GetParam()) && !std::filesystem::is_directory(data_of(GetParam())))
    GTEST_SKIP() << data_of(GetParam()) << " is not there";
  const bool images = reads_files(GetParam());
  std::vector<std::string> arguments = with_data("train", GetParam());
  for (const char* a : {"--json", "--steps", images ? "70" : "80", "--log-every", "1"})
    arguments.push_back(a);
  if (images)
    for (const char* a : {"--lr-factor", "4"}) arguments.push_back(a);
  const ToolResult r = run_tool(arguments, {}, {}, 500);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  std::vector<double> losses;
  for (const std::string& line : lines(r.out))
    if (const Json e = Json::parse(line); e.at("event") == "step") losses.push_back(e.at("loss"));
  ASSERT_GE(losses.size(), 70u);
  double first = 0, last = 0;
  for (size_t i = 0; i < 10; ++i) {
    first += losses[i] / 10;
    last += losses[losses.size() - 1 - i] / 10;
  }
  EXPECT_LT(last, first - 0.1);
}

INSTANTIATE_TEST_SUITE_P(Examples, FallingLoss, testing::Values("transformer", "vgg", "wide_resnet"),
                         [](const auto& info) { return info.param; });

TEST(Examples, MlpLearnsTheRealDigits) {
  if (!std::filesystem::is_directory(kMnist)) GTEST_SKIP() << kMnist << " is not there";
  std::vector<std::string> arguments = with_data("train", "mlp");
  arguments.push_back("--json");
  const ToolResult r = run_tool(arguments, {}, {}, 560);
  ASSERT_EQ(r.exit_code, 0) << r.err;
  const Json end = Json::parse(lines(r.out).back());
  EXPECT_GE(end.at("test_accuracy").get<double>(), 0.98);
  EXPECT_LE(end.at("epochs").get<int>(), 10);
}

}  // namespace
}  // namespace gradc::test::examples_test
