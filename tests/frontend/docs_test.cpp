// docs/language.md names everything there is: built-in functions, definitions of the prelude, data sources,
// error codes, limits.
#include <iterator>
#include <regex>
#include <set>

#include "frontend/builtins.h"
#include "frontend/data_methods.h"
#include "frontend/data_sources.h"
#include "frontend/error_codes.h"
#include "frontend/evaluator.h"
#include "frontend/parser.h"
#include "frontend/prelude.h"
#include "ir/tensor/op_def.h"
#include "tests/frontend/helpers.h"

namespace gradc::frontend_test::docs_test {
namespace {

TEST(Docs, NameEverything) {
  const std::string text = read_file(std::string(GRADC_SOURCE_DIR) + "/docs/language.md");
  const auto names = [&](const std::string& piece) {
    EXPECT_NE(text.find(piece), std::string::npos) << piece;
  };
  for (const frontend::Builtin& b : frontend::builtins())
    EXPECT_TRUE(text.find("`" + std::string(b.name) + "(") != std::string::npos ||
                text.find("`" + std::string(b.name) + "`") != std::string::npos)
        << b.name;
  for (const frontend::SourceKind& s : frontend::source_kinds()) {
    names("`" + std::string(s.name) + "(");
    for (const frontend::SourceOption& o : s.options) names(o.name);
  }
  for (const auto* table : {&frontend::normalizations(), &frontend::augmentations()})
    for (const frontend::MethodKind& m : *table) {
      names("`" + std::string(m.name));
      for (const frontend::MethodOption& o : m.options) names(o.name);
    }
  for (const frontend::ErrorCode& e : frontend::error_codes())
    names("| " + std::string(e.code) + " | " + e.meaning + " |");
  names(std::to_string(frontend::kMaxRounds) + " rounds");
  names(std::to_string(frontend::kMaxCallDepth) + " calls");
  names(std::to_string(frontend::kMaxOps) + " operations");
  names(std::to_string(frontend::kMaxNesting) + " levels");
  SourceManager sources;
  Diagnostics diagnostics(sources);
  for (const frontend::PreludeFile& f : frontend::prelude_files()) {
    const frontend::File file = frontend::parse(sources, sources.add(f.name, f.text), diagnostics);
    EXPECT_FALSE(file.definitions.empty()) << f.name;
    for (const auto& d : file.definitions) names("`" + d->name + "`");
  }
}

// The primitives that need no `primitive.` before their names are listed in one paragraph, which holds no other names.
TEST(Docs, ListThePrimitivesThatCanBeCalled) {
  const std::string text = read_file(std::string(GRADC_SOURCE_DIR) + "/docs/language.md");
  const size_t begin = text.find("Primitives that can be called by their own names");
  ASSERT_NE(begin, std::string::npos);
  const std::string paragraph = text.substr(begin, text.find("The others", begin) - begin);
  std::set<std::string> listed, callable;
  const std::regex quoted("`([a-z0-9_ ]+)`");
  for (std::sregex_iterator list(paragraph.begin(), paragraph.end(), quoted), end; list != end; ++list) {
    std::istringstream names((*list)[1]);
    listed.insert(std::istream_iterator<std::string>(names), {});
  }
  for (const OpDef& def : op_defs())
    if (frontend::find_callable_op(def.name, "")) callable.insert(def.name);
  for (const frontend::Builtin& b : frontend::builtins()) callable.erase(b.name);
  EXPECT_EQ(listed, callable);
}

// The file on the first screen, which is indented by four blanks.
TEST(Docs, TheFirstExampleCompiles) {
  std::istringstream lines(read_file(std::string(GRADC_SOURCE_DIR) + "/docs/language.md"));
  std::string text;
  for (std::string line; std::getline(lines, line) && line.rfind("## ", 0) != 0;)
    if (line.empty() || line.rfind("    ", 0) == 0) text += (line.empty() ? "" : line.substr(4)) + "\n";
  EXPECT_NE(text.find("train {"), std::string::npos);
  const auto c = compile(text);
  EXPECT_TRUE(c->model) << c->diagnostics.render();
}

}  // namespace
}  // namespace gradc::frontend_test::docs_test
