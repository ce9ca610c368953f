// Tokens: kinds, places, line starts, and what cannot be read.
#include "frontend/lexer.h"
#include "frontend/error_codes.h"
#include "tests/frontend/helpers.h"

namespace gradc::frontend_test {
namespace {

using frontend::TokenKind;

struct Lexed {
  SourceManager sources;
  Diagnostics diagnostics{sources};
  std::vector<frontend::Token> tokens;
  explicit Lexed(const std::string& text) {
    tokens = frontend::tokenize(sources, sources.add("t.nn", text), diagnostics);
  }
  std::string joined() const {
    std::string out;
    for (const auto& t : tokens)
      out += (t.line_start && !out.empty() ? "\n"
              : out.empty()                ? ""
                                           : " ") +
             (t.kind == TokenKind::end ? "END" : t.text);
    return out;
  }
};

TEST(Lexer, SplitsSymbolsAtTheLongest) {
  EXPECT_EQ(Lexed("a|>b//c==d..e<=f").joined(), "a |> b // c == d .. e <= f\nEND");
  EXPECT_EQ(Lexed("0..3").joined(), "0 .. 3\nEND");
  EXPECT_EQ(Lexed("x[-1]^2").joined(), "x [ - 1 ] ^ 2\nEND");
}

TEST(Lexer, ReadsNumbers) {
  const Lexed l("1 12.5 1e-3 .5 2. 1e+2 7e");
  EXPECT_EQ(l.tokens[0].kind, TokenKind::integer);
  EXPECT_EQ(l.tokens[0].integer, 1);
  EXPECT_EQ(l.tokens[1].number, 12.5);
  EXPECT_EQ(l.tokens[2].number, 1e-3);
  EXPECT_EQ(l.tokens[3].number, 0.5);
  EXPECT_EQ(l.tokens[4].number, 2.0);
  EXPECT_EQ(l.tokens[5].number, 100.0);
  EXPECT_EQ(l.diagnostics.count(), 1u);  // 7e
}

TEST(Lexer, ReadsStringsAndComments) {
  const Lexed l("s = \"a # \\\"b\\\" \\n\" # comment \"x\ny");
  ASSERT_EQ(l.tokens.size(), 5u);
  EXPECT_EQ(l.tokens[2].text, "a # \"b\" \n");
  EXPECT_EQ(l.tokens[3].text, "y");
  EXPECT_TRUE(l.tokens[3].line_start);
  EXPECT_FALSE(l.diagnostics.has_errors());
}

TEST(Lexer, KnowsPlaces) {
  const Lexed l("a\r\n  bc\n");
  EXPECT_TRUE(l.tokens[0].column_one);
  EXPECT_FALSE(l.tokens[1].column_one);
  EXPECT_TRUE(l.tokens[1].line_start);
  EXPECT_EQ(l.tokens[1].span.begin, 5u);
  EXPECT_EQ(l.tokens[1].span.end, 7u);
}

TEST(Lexer, KeywordsAreFew) {
  for (const char* word : {"if", "else", "for", "in", "return", "as", "reuse", "and", "or", "not", "true",
                           "false", "param", "state"})
    EXPECT_EQ(Lexed(word).tokens[0].kind, TokenKind::keyword) << word;
  for (const char* word : {"data", "train", "model", "layer", "init", "optimizer", "weight", "loss", "then",
                           "on", "of", "set", "require"})
    EXPECT_EQ(Lexed(word).tokens[0].kind, TokenKind::name) << word;
}

TEST(Lexer, RefusesHugeFiles) {
  const Lexed l(std::string(5 << 20, 'a'));
  EXPECT_EQ(l.diagnostics.count(), 1u);
  EXPECT_EQ(l.diagnostics.all()[0].code, frontend::codes::bad_file);
  EXPECT_EQ(l.tokens.size(), 1u);
}

TEST(Lexer, SurvivesEveryByte) {
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const Lexed l(all + all);
  EXPECT_EQ(l.tokens.back().kind, TokenKind::end);
  EXPECT_TRUE(l.diagnostics.has_errors());
}

}  // namespace
}  // namespace gradc::frontend_test
