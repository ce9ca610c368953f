// Every error code has an explanation, whose example gives that error and, mended, compiles.
#include "frontend/explanations.h"

#include <algorithm>
#include <filesystem>
#include <regex>
#include <set>

#include "frontend/error_codes.h"
#include "tests/frontend/helpers.h"

namespace gradc::frontend_test::explanations_test {
namespace {

TEST(Explanations, EveryCodeHasOneInTheTablesOrder) {
  std::vector<std::string> codes, explained;
  for (const frontend::ErrorCode& e : frontend::error_codes()) codes.push_back(e.code);
  for (const frontend::Explanation& e : frontend::explanations()) {
    explained.push_back(e.code);
    EXPECT_GE(e.text.size(), 40u) << e.code;
  }
  EXPECT_EQ(explained, codes);
}

// Codes come from the table alone: none is written anywhere else, so that none can lack an explanation.
TEST(Explanations, SourcesTakeCodesFromTheTable) {
  const std::regex code("\"E[0-9]{4}\"");
  for (const char* folder : {"frontend", "cli", "support", "passes", "ir", "runtime"})
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(std::string(GRADC_SOURCE_DIR) + "/" + folder)) {
      if (entry.path().extension() != ".cpp") continue;
      const std::string text = read_file(entry.path().string());
      std::smatch found;
      EXPECT_FALSE(std::regex_search(text, found, code)) << entry.path() << ": " << found.str();
    }
}

TEST(Explanations, ExamplesGiveTheirErrorAndCompileWhenMended) {
  for (const frontend::Explanation& e : frontend::explanations()) {
    if (e.code == "E0109") {  // its example would be a file of megabytes
      EXPECT_EQ(e.example, "");
      continue;
    }
    SCOPED_TRACE(e.code);
    ASSERT_NE(e.example, "");
    const std::string wrong = e.wrong(), mended = e.mended();
    EXPECT_NE(wrong, mended);
    const auto bad = compile(wrong, frontend::settings_in(wrong), "example.nn");
    ASSERT_TRUE(bad->diagnostics.has_errors()) << wrong;
    std::set<std::string> codes;
    for (const Diagnostic& d : bad->diagnostics.all()) codes.insert(d.code);
    EXPECT_EQ(codes, std::set<std::string>{e.code}) << bad->diagnostics.render();
    const auto good = compile(mended, frontend::settings_in(mended), "example.nn");
    EXPECT_FALSE(good->diagnostics.has_errors()) << good->diagnostics.render() << mended;
  }
}

}  // namespace
}  // namespace gradc::frontend_test::explanations_test
