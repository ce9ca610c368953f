// Tokens: kinds, places, line starts, and what cannot be read.
#include "frontend/lexer.h"
#include "frontend/error_codes.h"
#include "tests/frontend/helpers.h"

namespace gradc::frontend_test::lexer_test {
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

TEST(Lexer, TakesEveryLineEnd) {
  const std::string text = "a # one\nbc = \"s\"\n  d\n";
  for (const char* end : {"\n", "\r\n", "\r"}) {
    std::string written;
    for (const char c : text) written += c == '\n' ? end : std::string(1, c);
    const Lexed l(written);
    EXPECT_EQ(l.joined(), "a\nbc = s\nd\nEND") << written;
    EXPECT_FALSE(l.diagnostics.has_errors());
    EXPECT_TRUE(l.tokens[1].column_one);
    EXPECT_FALSE(l.tokens[4].column_one);
    const LineColumn at = l.sources.line_column(1, l.tokens[4].span.begin);
    EXPECT_EQ(at.line, 3u);
    EXPECT_EQ(at.column, 3u);
    EXPECT_EQ(l.sources.line(1, 2), "bc = \"s\"");
    EXPECT_EQ(l.sources.line(1, 3), "  d");
    EXPECT_EQ(l.sources.line(1, 4), "");
  }
  EXPECT_EQ(Lexed("s = \"a\rb\"").diagnostics.all()[0].code, frontend::codes::bad_string);
}

TEST(Lexer, SkipsAByteOrderMark) {
  const Lexed l(
      "\xEF\xBB\xBF"
      "ab\nc");
  EXPECT_EQ(l.joined(), "ab\nc\nEND");
  EXPECT_FALSE(l.diagnostics.has_errors());
  EXPECT_TRUE(l.tokens[0].column_one);
  EXPECT_EQ(l.tokens[0].span.begin, 3u);  // offsets are those of the file
  EXPECT_EQ(l.sources.line_column(1, 3).column, 1u);
  EXPECT_EQ(l.sources.line_column(1, 0).line, 1u);
  EXPECT_EQ(l.sources.line(1, 1), "ab");
  for (const std::string mark : {"\xFF\xFE", "\xFE\xFF"}) {
    const Lexed wide(mark + std::string("a\0b\0", 4));
    ASSERT_EQ(wide.diagnostics.count(), 1u);
    EXPECT_NE(wide.diagnostics.all()[0].message.find("UTF-16"), std::string::npos);
    EXPECT_EQ(wide.tokens.size(), 1u);
  }
}

TEST(Lexer, RefusesNumbersThatWouldBeZero) {
  for (const char* zero : {"0.0", "0e5", "0.000e-999", "5e-324", "1e-310"})
    EXPECT_FALSE(Lexed(zero).diagnostics.has_errors()) << zero;
  for (const char* lost : {"1e-400", "0.001e-330", "10.0e-999"}) {
    const Lexed l(lost);
    ASSERT_EQ(l.diagnostics.count(), 1u) << lost;
    EXPECT_EQ(l.diagnostics.all()[0].code, frontend::codes::bad_number);
    EXPECT_NE(l.diagnostics.all()[0].message.find("too small for a double"), std::string::npos);
  }
  EXPECT_NE(Lexed("1e400").diagnostics.all()[0].message.find("too large"), std::string::npos);
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
}  // namespace gradc::frontend_test::lexer_test
