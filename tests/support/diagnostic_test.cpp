// Diagnostics as a user sees them: every form is compared with its whole text.
#include "support/diagnostic.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>

#include "support/source_view.h"

namespace gradc::diagnostic_test {
namespace {

// The span of the `nth` (from 0) occurrence of `text` in a file.
Span find(const SourceManager& sources, uint32_t file, const std::string& text, int nth = 0) {
  size_t at = sources.text(file).find(text);
  for (; nth > 0; --nth) at = sources.text(file).find(text, at + 1);
  EXPECT_NE(at, std::string::npos) << text;
  return {file, static_cast<uint32_t>(at), static_cast<uint32_t>(at + text.size())};
}

TEST(Diagnostic, the_designs_example) {
  SourceManager sources;
  std::string text(16, '\n');
  text +=
      "        h = x |> conv_bn(channels, stride=stride) |> relu |> conv_bn(channels)\n"
      "\n\n"
      "    return relu(h + x)\n";
  const uint32_t file = sources.add("resnet20.nn", text);
  Diagnostics diagnostics(sources);
  Diagnostic& d = diagnostics.error("E0203", find(sources, file, "h + x"),
                                    "these shapes do not add: f32[16, 32, 32] and f32[32, 16, 16]",
                                    "channels 16 and 32 differ");
  d.related.push_back({find(sources, file, "h"), "f32[16, 32, 32], from here"});
  d.notes.push_back("in `residual`, called at line 26 with channels=32, stride=2 (round 0 of `stage2`)");
  d.helps.push_back("project the shortcut, for example `conv_bn(x, channels, kernel=1, stride=stride)`");
  EXPECT_EQ(diagnostics.render(),
            "error[E0203]: these shapes do not add: f32[16, 32, 32] and f32[32, 16, 16]\n"
            "  --> resnet20.nn:20:17\n"
            "   |\n"
            "17 |         h = x |> conv_bn(channels, stride=stride) |> relu |> conv_bn(channels)\n"
            "   |         - f32[16, 32, 32], from here\n"
            "20 |     return relu(h + x)\n"
            "   |                 ^^^^^ channels 16 and 32 differ\n"
            "   = in `residual`, called at line 26 with channels=32, stride=2 (round 0 of `stage2`)\n"
            "   = help: project the shortcut, for example `conv_bn(x, channels, kernel=1, stride=stride)`\n");
}

TEST(Diagnostic, several_labels_on_a_line_hang_below_it) {
  SourceManager sources;
  const uint32_t file = sources.add("a.nn", "y = alpha + beta * gamma\n");
  Diagnostics diagnostics(sources);
  Diagnostic& d = diagnostics.error("E1", find(sources, file, "beta"), "no", "this");
  d.related = {{find(sources, file, "alpha"), "the first"}, {find(sources, file, "gamma"), "the last"}};
  EXPECT_EQ(diagnostics.render(),
            "error[E1]: no\n"
            " --> a.nn:1:13\n"
            "  |\n"
            "1 | y = alpha + beta * gamma\n"
            "  |     -----   ^^^^   ----- the last\n"
            "  |     |       |\n"
            "  |     |       this\n"
            "  |     |\n"
            "  |     the first\n");
}

TEST(Diagnostic, overlapping_labels_have_rows_of_their_own) {
  SourceManager sources;
  const uint32_t file = sources.add("a.nn", "y = relu(x)\n");
  Diagnostics diagnostics(sources);
  Diagnostic& d = diagnostics.error("E1", find(sources, file, "x"), "no", "inner");
  d.related = {{find(sources, file, "relu(x)"), "outer"}};
  EXPECT_EQ(diagnostics.render(),
            "error[E1]: no\n"
            " --> a.nn:1:10\n"
            "  |\n"
            "1 | y = relu(x)\n"
            "  |          ^ inner\n"
            "  |     ------- outer\n");
}

TEST(Diagnostic, tabs_and_utf8_keep_the_carets_in_place) {
  SourceManager sources;
  const uint32_t file =
      sources.add("a.nn", "\tx = \"\xC3\xA9\xE6\x97\xA5\" + oops\n");  // e acute: one column; a kanji: two
  Diagnostics diagnostics(sources);
  diagnostics.error("E1", find(sources, file, "oops"), "no", "here");
  EXPECT_EQ(diagnostics.render(),
            "error[E1]: no\n"
            " --> a.nn:1:16\n"
            "  |\n"
            "1 |     x = \"\xC3\xA9\xE6\x97\xA5\" + oops\n"
            "  |                 ^^^^ here\n");
}

TEST(Diagnostic, a_span_over_lines_shows_its_ends) {
  SourceManager sources;
  const uint32_t file = sources.add("a.nn", "f(a,\n  b,\n  c)\nend\n");
  Diagnostics diagnostics(sources);
  diagnostics.error("E1", {file, 0, 14}, "no", "too many");
  EXPECT_EQ(diagnostics.render(),
            "error[E1]: no\n"
            " --> a.nn:1:1\n"
            "  |\n"
            "1 | f(a,\n"
            "  | ^^^^\n"
            "3 |   c)\n"
            "  |   ^^ too many\n");
}

TEST(Diagnostic, places_in_other_files_follow) {
  SourceManager sources;
  const uint32_t mine = sources.add("mine.nn", "relu(3)\n");
  const uint32_t prelude = sources.add("prelude/layers.nn", "\n\nfn relu(x) = max(x, 0)\n");
  Diagnostics diagnostics(sources);
  Diagnostic& d = diagnostics.error("E1", find(sources, mine, "3"), "no", "a number");
  d.related.push_back({find(sources, prelude, "x"), "a tensor is wanted"});
  EXPECT_EQ(diagnostics.render(),
            "error[E1]: no\n"
            " --> mine.nn:1:6\n"
            "  |\n"
            "1 | relu(3)\n"
            "  |      ^ a number\n"
            " ::: prelude/layers.nn:3:9\n"
            "  |\n"
            "3 | fn relu(x) = max(x, 0)\n"
            "  |         - a tensor is wanted\n");
}

TEST(Diagnostic, no_place_and_places_at_the_end_of_the_file) {
  SourceManager sources;
  const uint32_t file = sources.add("a.nn", "x = (\n");
  Diagnostics diagnostics(sources);
  diagnostics.error("E1", {}, "nowhere").helps.push_back("look\nelsewhere");
  diagnostics.error("E2", {file, 6, 6}, "the file ends");
  diagnostics.error("E3", {file, 400, 900}, "behind its end");
  EXPECT_EQ(diagnostics.render(),
            "error[E1]: nowhere\n"
            "  = help: look\n"
            "    elsewhere\n"
            "\n"
            "error[E2]: the file ends\n"
            " --> a.nn:2:1\n"
            "  |\n"
            "2 |\n"
            "  | ^\n"
            "\n"
            "error[E3]: behind its end\n"
            " --> a.nn:2:1\n"
            "  |\n"
            "2 |\n"
            "  | ^\n");
}

TEST(Diagnostic, a_line_without_end_is_cropped) {
  SourceManager sources;
  const std::string filler(100000, 'a');
  const uint32_t file = sources.add("a.nn", filler + " oops " + filler);
  Diagnostics diagnostics(sources);
  diagnostics.error("E1", find(sources, file, "oops"), "no", "here");
  EXPECT_EQ(diagnostics.render(),
            "error[E1]: no\n"
            " --> a.nn:1:100002\n"
            "  |\n"
            "1 | ..." +
                std::string(59, 'a') + " oops " + std::string(95, 'a') +
                "...\n"
                "  | " +
                std::string(63, ' ') + "^^^^ here\n");
}

TEST(Diagnostic, a_terminal_gets_no_control_characters) {
  SourceManager sources;
  const uint32_t file = sources.add("\x1b[2J.nn", "a\x1b[31m\xff \xE2\x80\xAE b\n");
  Diagnostics diagnostics(sources);
  diagnostics.error("E1", {file, 0, 1}, "bad \x07 name", "x\x1b]0;");
  const std::string text = diagnostics.render();
  for (const char c : text)
    EXPECT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20) << static_cast<int>(c);
  EXPECT_EQ(text.find("\xE2\x80\xAE"), std::string::npos);
  EXPECT_EQ(text.find('\xff'), std::string::npos);
}

// Any bytes, any spans: every line of the text is whole, and no caret is outside its line's
// neighbourhood.
TEST(Diagnostic, any_bytes_and_any_spans) {
  std::mt19937 random(11);
  const auto below = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  for (int round = 0; round < 3000; ++round) {
    SourceManager sources;
    std::string text;
    for (uint32_t i = below(600); i > 0; --i)
      text += below(3) == 0 ? static_cast<char>(random()) : "ab \t\n"[below(5)];
    const uint32_t file = sources.add("a.nn", text);
    const uint32_t other = sources.add("b.nn", "one\ntwo\n");
    const auto span = [&] { return Span{below(4), below(700), below(700)}; };  // files 0 and 3 are not there
    Diagnostics diagnostics(sources);
    Diagnostic& d = diagnostics.error("E1", span(), "m", "l");
    for (uint32_t i = below(5); i > 0; --i) d.related.push_back({span(), below(2) == 0 ? "" : "r"});
    d.related.push_back({{other, 0, 1}, "seen"});
    d.related.push_back({{file, 0, 0}, "seen"});
    const std::string rendered = diagnostics.render();
    ASSERT_EQ(rendered.back(), '\n');
    size_t seen = 0;
    for (size_t at = rendered.find("seen"); at != rendered.npos; at = rendered.find("seen", at + 1)) ++seen;
    ASSERT_EQ(seen, 2u) << rendered;
    for (const char c : rendered) ASSERT_TRUE(c == '\n' || static_cast<unsigned char>(c) >= 0x20);
    ASSERT_NO_THROW(nlohmann::json::parse(diagnostics.render_json()));
  }
}

TEST(Diagnostic, colour_adds_escapes_and_nothing_else) {
  SourceManager sources;
  const uint32_t file = sources.add("a.nn", "y = alpha + beta\n");
  Diagnostics diagnostics(sources, 1);
  Diagnostic& d = diagnostics.error("E1", find(sources, file, "beta"), "no", "this");
  d.related = {{find(sources, file, "alpha"), "that"}};
  d.notes = {"a note"};
  diagnostics.error("E2", {}, "one more");
  const std::string colored = diagnostics.render(true);
  std::string plain;
  for (size_t i = 0; i < colored.size(); ++i) {
    if (colored[i] == '\x1b') {
      i = colored.find('m', i);
    } else {
      plain += colored[i];
    }
  }
  EXPECT_EQ(plain, diagnostics.render(false));
  EXPECT_NE(colored, plain);
  EXPECT_NE(colored.find("\x1b[1;31m^^^^\x1b[0m"), std::string::npos);
}

TEST(Diagnostic, errors_beyond_the_limit_are_counted) {
  SourceManager sources;
  Diagnostics diagnostics(sources, 2);
  EXPECT_FALSE(diagnostics.has_errors());
  Diagnostic& first = diagnostics.error("E1", {}, "one");
  diagnostics.error("E2", {}, "two");
  EXPECT_TRUE(diagnostics.full());
  diagnostics.error("E3", {}, "three").notes.push_back("dropped");
  diagnostics.error("E4", {}, "four");
  first.notes.push_back("still there");
  EXPECT_EQ(diagnostics.count(), 4u);
  EXPECT_EQ(diagnostics.all().size(), 2u);
  EXPECT_EQ(diagnostics.render(),
            "error[E1]: one\n"
            "  = still there\n"
            "\n"
            "error[E2]: two\n"
            "\n"
            "error: 2 more errors not shown\n");
}

TEST(Diagnostic, json_is_an_object_a_line) {
  SourceManager sources;
  const uint32_t file = sources.add("a.nn", "x = 1\ny = \"\xff\" + x\n");
  Diagnostics diagnostics(sources, 2);
  Diagnostic& d =
      diagnostics.error("E7", find(sources, file, "y = \"\xff\" + x"), "quote \" and\nline", "here");
  d.related.push_back({find(sources, file, "x"), "there"});
  d.notes.push_back("n1");
  d.helps = {"h1", "h2"};
  d.expect("f32[2]", "a string");
  diagnostics.error("E8", {}, "bad \xff byte");
  diagnostics.error("E9", {}, "not shown");
  const std::string text = diagnostics.render_json();
  std::vector<nlohmann::json> objects;
  for (size_t at = 0; at < text.size(); at = text.find('\n', at) + 1)
    objects.push_back(nlohmann::json::parse(text.substr(at, text.find('\n', at) - at)));
  ASSERT_EQ(objects.size(), 3u);
  EXPECT_EQ(
      objects[0],
      nlohmann::json::parse(
          R"({"severity":"error","code":"E7","message":"quote \" and\nline","file":"a.nn","line":2,"column":1,"end_line":2,
    "end_column":12,"label":"here","related":[{"file":"a.nn","line":1,"column":1,"end_line":1,"end_column":2,"label":"there"}],
    "notes":["n1"],"helps":["h1","h2"],"expected":"f32[2]","found":"a string","suggestion":""})"));
  EXPECT_EQ(objects[1]["message"], "bad \xEF\xBF\xBD byte");
  EXPECT_TRUE(objects[1]["file"].is_null());
  EXPECT_EQ(objects[2]["message"], "1 more error not shown");
}

TEST(Diagnostic, names_are_suggested_as_text_and_as_a_field) {
  Diagnostic near, far, one_of;
  EXPECT_TRUE(near.suggest("widht", {"depth", "width"}));
  EXPECT_EQ(near.found, "widht");
  EXPECT_EQ(near.suggestion, "width");
  EXPECT_EQ(near.helps, std::vector<std::string>{"did you mean `width`?"});
  EXPECT_FALSE(far.suggest("zoom", {"depth", "width"}));
  EXPECT_EQ(far.found, "zoom");
  EXPECT_TRUE(far.suggestion.empty() && far.helps.empty() && far.expected.empty());
  one_of.choose("dept", {"depth", "width"}, "there are");
  EXPECT_EQ(one_of.expected, "depth, width");
  EXPECT_EQ(one_of.helps, (std::vector<std::string>{"did you mean `depth`?", "there are depth, width"}));
}

TEST(NearestName, finds_what_was_meant) {
  const std::vector<std::string> names = {"relu", "conv2d", "batchnorm", "dropout", "sigmoid", "Dense"};
  EXPECT_EQ(nearest_name("rleu", names), "relu");          // one swap
  EXPECT_EQ(nearest_name("con2d", names), "conv2d");       // one insertion
  EXPECT_EQ(nearest_name("bachnrm", names), "batchnorm");  // two
  EXPECT_EQ(nearest_name("dense", names), "Dense");
  EXPECT_EQ(nearest_name("RELU", names), "relu");
  EXPECT_EQ(nearest_name("softmax", names), "");
  EXPECT_EQ(nearest_name("rxyu", names), "");
  EXPECT_EQ(nearest_name("", names), "");
  EXPECT_EQ(nearest_name("x", {"y", "z"}), "");   // nothing would be left of it
  EXPECT_EQ(nearest_name("relu", {"relu"}), "");  // it is no other name
  EXPECT_EQ(nearest_name(std::string(5000, 'a'), {std::string(5000, 'a') + "b"}), "");
}

TEST(SourceView, width_of_text) {
  EXPECT_EQ(display_width("abc"), 3);
  EXPECT_EQ(display_width("\xE6\x97\xA5\xE6\x9C\xAC"), 4);
  EXPECT_EQ(display_width("e\xCC\x81"), 1);  // a combining accent
  EXPECT_EQ(display_width("\xff\xfe"), 2);
  EXPECT_EQ(printable("a\xC0\x80\xED\xA0\x80z"),
            "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDz");  // overlong, surrogate
}

TEST(SourceView, a_cropped_line_never_splits_a_character) {
  std::string line;
  for (int i = 0; i < 300; ++i) line += "\xC3\xA9";
  for (size_t mark = 0; mark <= line.size(); ++mark) {
    const SourceView view(line, mark);
    EXPECT_EQ(view.text().find("\xEF\xBF\xBD"), std::string::npos) << mark;
    const int column = view.column(mark);
    EXPECT_GE(column, 0);
    EXPECT_LE(column, display_width(view.text()));
  }
}

}  // namespace
}  // namespace gradc::diagnostic_test
