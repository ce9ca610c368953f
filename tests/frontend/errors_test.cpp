// Every file of tests/errors is wrong in one way; its message stands beside it. GRADC_UPDATE_GOLDENS=1 writes
// the messages anew.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "frontend/error_codes.h"
#include "frontend/explanations.h"
#include "tests/frontend/helpers.h"

namespace gradc::frontend_test {
namespace {

std::vector<std::string> error_files() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(GRADC_SOURCE_DIR) + "/tests/errors"))
    if (entry.path().extension() == ".nn") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

class ErrorFile : public testing::TestWithParam<std::string> {};

TEST_P(ErrorFile, SaysWhatIsExpected) {
  const std::string path = std::string(GRADC_SOURCE_DIR) + "/tests/errors/" + GetParam();
  const std::string text = read_file(path + ".nn");
  const auto c = compile(text, frontend::settings_in(text), GetParam() + ".nn");
  ASSERT_TRUE(c->diagnostics.has_errors()) << "this file compiles";
  const std::string got = c->diagnostics.render();
  if (std::getenv("GRADC_UPDATE_GOLDENS")) {
    std::ofstream(path + ".expected", std::ios::binary) << got;
    return;
  }
  EXPECT_EQ(got, read_file(path + ".expected")) << "run with GRADC_UPDATE_GOLDENS=1 and read the difference";
}
INSTANTIATE_TEST_SUITE_P(Frontend, ErrorFile, testing::ValuesIn(error_files()),
                         [](const auto& info) { return info.param; });

TEST(ErrorCodes, AreUniqueAndAllPinned) {
  std::set<std::string> codes;
  std::string all;
  for (const std::string& name : error_files())
    all += read_file(std::string(GRADC_SOURCE_DIR) + "/tests/errors/" + name + ".expected");
  for (const frontend::ErrorCode& e : frontend::error_codes()) {
    EXPECT_TRUE(codes.insert(e.code).second) << e.code;
    if (std::string(e.code) == "E0109") continue;  // a file of megabytes: see lexer_test.cpp
    EXPECT_NE(all.find(std::string("error[") + e.code + "]"), std::string::npos)
        << e.code << " (" << e.meaning << ") has no test";
  }
}

}  // namespace
}  // namespace gradc::frontend_test
