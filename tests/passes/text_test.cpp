// Text tests of passes: every tests/passes/ir/NAME.ir names a pass in its first line and holds a module;
// NAME.expected holds the module after that pass, or "(unchanged)". GRADC_UPDATE_GOLDENS=1 rewrites the
// expectations; read the difference before committing it.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "ir/module.h"
#include "passes/pipeline.h"
#include "support/check.h"

namespace gradc {
namespace {

std::string read(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::vector<std::filesystem::path> files() {
  std::vector<std::filesystem::path> list;
  for (const auto& entry : std::filesystem::directory_iterator(GRADC_SOURCE_DIR "/tests/passes/ir"))
    if (entry.path().extension() == ".ir") list.push_back(entry.path());
  std::sort(list.begin(), list.end());
  return list;
}

class PassText : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(PassText, MakesWhatIsExpected) {
  const std::string text = read(GetParam());
  const std::string tag = "# pass: ";
  ASSERT_EQ(text.compare(0, tag.size(), tag), 0) << "the first line names the pass";
  const std::string pass = text.substr(tag.size(), text.find('\n') - tag.size());
  ModuleParseResult parsed = parse_module(text);
  ASSERT_EQ(parsed.error, "");
  ASSERT_TRUE(verify(*parsed.module).empty()) << verify(*parsed.module).front();
  const bool changed = passes::run_pass(*parsed.module, pass);
  ASSERT_TRUE(verify(*parsed.module).empty()) << verify(*parsed.module).front();
  const std::string got = changed ? print(*parsed.module) : "(unchanged)\n";
  const std::filesystem::path expected = std::filesystem::path(GetParam()).replace_extension(".expected");
  if (std::getenv("GRADC_UPDATE_GOLDENS")) std::ofstream(expected) << got;
  EXPECT_EQ(got, read(expected));
  // What the pass made is text like any other.
  const ModuleParseResult again = parse_module(print(*parsed.module));
  ASSERT_EQ(again.error, "");
  EXPECT_EQ(print(*again.module), print(*parsed.module));
}

INSTANTIATE_TEST_SUITE_P(Files, PassText, ::testing::ValuesIn(files()),
                         [](const auto& info) { return info.param.stem().string(); });

TEST(PassNames, UnknownOnesAreUsageErrors) {
  Module module;
  passes::PipelineOptions options;
  options.print_after = {"fuse_dropuot"};
  try {
    passes::run_tensor_passes(module, options);
    FAIL();
  } catch (const RunError& e) {
    EXPECT_EQ(e.exit_code, 2);
    EXPECT_NE(std::string(e.what()).find("did you mean fuse_dropout?"), std::string::npos) << e.what();
  }
  options.print_after = {};
  options.disable = {"decompose"};
  EXPECT_THROW(passes::run_tensor_passes(module, options), RunError);
}

}  // namespace
}  // namespace gradc
