// Every file of tests/errors is wrong in one way; its message is in the file beside it. GRADC_UPDATE_GOLDENS=1
// writes the messages again.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <regex>
#include <set>

#include "frontend/error_codes.h"
#include "frontend/explanations.h"
#include "tests/frontend/helpers.h"

namespace gradc::frontend_test::errors_test {
namespace {

std::vector<std::string> error_files() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(GRADC_SOURCE_DIR) + "/tests/errors"))
    if (entry.path().extension() == ".nn") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

// The message with LINE in place of the prelude's line numbers, which change with every definition added there. Instead
// each is compared with the prelude: "in `NAME` (prelude/FILE:LINE:COLUMN)" is within NAME's definition.
std::string without_prelude_lines(const std::string& message) {
  std::string text;
  const std::regex place("in `(\\w+)` \\((prelude/\\w+\\.nn):(\\d+)"),
      definition("\\b(fn|layer|init|optimizer|schedule) (\\w+)\\(.*");
  auto rest = message.cbegin();
  for (std::sregex_iterator i(message.begin(), message.end(), place), end; i != end; ++i) {
    std::string within;
    std::istringstream lines(read_file(std::string(GRADC_SOURCE_DIR) + "/frontend/" + (*i)[2].str()));
    std::string line;
    for (int number = std::stoi((*i)[3]); number > 0 && std::getline(lines, line); --number)
      if (std::smatch match; std::regex_match(line, match, definition)) within = match[2];
    EXPECT_EQ(within, (*i)[1].str()) << (*i)[0];
    text.append(rest, (*i)[3].first).append("LINE");
    rest = (*i)[3].second;
  }
  return text.append(rest, message.cend());
}

class ErrorFile : public testing::TestWithParam<std::string> {};

TEST_P(ErrorFile, SaysWhatIsExpected) {
  const std::string path = std::string(GRADC_SOURCE_DIR) + "/tests/errors/" + GetParam();
  const std::string text = read_file(path + ".nn");
  const auto c = compile(text, frontend::settings_in(text), GetParam() + ".nn");
  ASSERT_TRUE(c->diagnostics.has_errors()) << "this file compiles";
  const std::string got = without_prelude_lines(c->diagnostics.render());
  if (std::getenv("GRADC_UPDATE_GOLDENS")) {
    std::ofstream(path + ".expected", std::ios::binary) << got;
    return;
  }
  EXPECT_EQ(got, read_file(path + ".expected")) << "run with GRADC_UPDATE_GOLDENS=1 and read the difference";
}
INSTANTIATE_TEST_SUITE_P(Frontend, ErrorFile, testing::ValuesIn(error_files()),
                         [](const auto& info) { return info.param; });

// What a message says of expectation, finding and a name nearby is there as fields too.
TEST(ErrorFields, HoldWhatTheMessagesSay) {
  size_t all = 0, both = 0;
  std::map<std::string, std::vector<std::string>> fields;  // of each file's first error
  const std::regex must_be("must be (.+), not (.+)"), did_you_mean("did you mean [`\"](.*)[`\"]\\?");
  for (const std::string& name : error_files()) {
    const std::string text = read_file(std::string(GRADC_SOURCE_DIR) + "/tests/errors/" + name + ".nn");
    const auto c = compile(text, frontend::settings_in(text), name + ".nn");
    for (const Diagnostic& d : c->diagnostics.all()) {
      ++all;
      both += !d.expected.empty();
      EXPECT_TRUE(d.expected.empty() || !d.found.empty()) << name << ": " << d.message;
      std::smatch match;
      if (std::regex_search(d.message, match, must_be)) {
        EXPECT_EQ(d.expected, match[1].str()) << name;
        EXPECT_EQ(d.found, match[2].str()) << name;
      }
      std::string suggested;
      for (const std::string& help : d.helps)
        if (std::regex_search(help, match, did_you_mean)) suggested = match[1];
      EXPECT_EQ(d.suggestion, suggested) << name;
      fields.emplace(name, std::vector<std::string>{d.expected, d.found, d.suggestion});
    }
  }
  EXPECT_GT(5 * both, 2 * all)
      << both;  // others are no mistake of one thing for another: "never used", "is given twice"
  using Fields = std::vector<std::string>;
  EXPECT_EQ(fields["shapes_add"], (Fields{"f32[8, 14, 14]", "f32[1, 28, 28]", ""}));
  EXPECT_EQ(fields["model_input"], (Fields{"f32[784]", "f32[1, 28, 28]", ""}));
  EXPECT_EQ(fields["unknown_argument"], (Fields{"x, out, bias, init", "biass", "bias"}));
  EXPECT_EQ(fields["unknown_source"],
            (Fields{"mnist, synthetic_digits, idx, cifar10, npy, csv, arrays, folder, text, random", "mnits",
                    "mnist"}));
  EXPECT_EQ(fields["shapes_matmul"], (Fields{"an inner extent of 100", "784", ""}));
  EXPECT_EQ(fields["for_syntax"], (Fields{"the loop variable's name", "`3`", ""}));
  EXPECT_EQ(fields["shapes_channels"], (Fields{"f32[32, 28, 28]", "f32[16, 28, 28]", ""}));
}

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
}  // namespace gradc::frontend_test::errors_test
