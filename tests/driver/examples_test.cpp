// Every example compiles, passes `gradc check` and trains; mlp.nn learns the real digits, where they are
// there. What examples say of data is tested by data_test.cpp.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/driver/tool.h"

namespace gradc::test {
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
    if (has(example, "set width = 16")) arguments.insert(arguments.end(), {"--set", "width=8"});  // for time
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
    EXPECT_LT(end.at("train_loss").get<double>(), has(GetParam(), "cifar10(") ? 2.33 : 2.2);
    if (sha.empty()) sha = end.at("weights_sha256");
    EXPECT_EQ(end.at("weights_sha256"), sha);
  }
}

INSTANTIATE_TEST_SUITE_P(Examples, ExampleTest, testing::ValuesIn(examples()), [](const auto& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
});

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
}  // namespace gradc::test
