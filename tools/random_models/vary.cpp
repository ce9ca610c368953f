// Parses an example, collects edits of its text by position, and applies some of them.
#include "tools/random_models/vary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <vector>

#include "frontend/parser.h"
#include "support/check.h"
#include "tools/random_models/catalogue.h"

namespace gradc::random_models {

using frontend::Expr;
using frontend::ExprKind;

namespace {

constexpr int64_t kMostExtent = 24;  // of what an integer may become: models stay small

struct Edit {
  size_t begin, end;
  std::string text;
};

// From the '(' at `open` to after its ')'.
size_t closing(const std::string& text, size_t open) {
  int depth = 0;
  for (size_t i = open; i < text.size(); ++i) {
    if (text[i] == '(' || text[i] == '[') ++depth;
    if ((text[i] == ')' || text[i] == ']') && --depth == 0) return i;
  }
  return text.size() - 1;
}

class Varier {
 public:
  Varier(const std::string& text, const Variation& variation, Draw& draw)
      : text_(text), variation_(variation), draw_(draw) {}

  std::string run(const Expr& e) {
    walk(e);
    std::stable_sort(edits_.begin(), edits_.end(),
                     [](const Edit& a, const Edit& b) { return a.begin > b.begin; });
    std::string result = text_;
    for (const Edit& edit : edits_) result.replace(edit.begin, edit.end - edit.begin, edit.text);
    return result;
  }

 private:
  void walk(const Expr& e) {
    switch (e.kind) {
      case ExprKind::name:
        if (const std::string by = variation_.name(e.text); !by.empty())
          edits_.push_back({e.span.begin, e.span.end, by});
        return;
      case ExprKind::integer: return integer(e);
      case ExprKind::number:
        if (draw_.chance(variation_.boldness / 2))
          edits_.push_back({e.span.begin, e.span.end, number_text(e.number * (0.5 + draw_.share()))});
        return;
      case ExprKind::boolean:
        if (draw_.chance(variation_.boldness))
          edits_.push_back({e.span.begin, e.span.end, e.boolean ? "false" : "true"});
        return;
      case ExprKind::call: options(e); break;
      default: break;
    }
    for (const auto& o : e.operands) walk(*o);
    for (const auto& a : e.arguments) walk(*a.value);
  }

  void integer(const Expr& e) {
    int64_t value = e.integer;
    const auto extent = variation_.extents.find(value);
    if (extent != variation_.extents.end() && draw_.chance(0.8)) {
      value = extent->second;
    } else if (draw_.chance(variation_.boldness)) {
      value = draw_.chance(0.5) ? draw_.between(1, 4) : value + draw_.between(-2, 2);
    }
    value = std::clamp<int64_t>(value, 0, kMostExtent);
    if (value != e.integer) edits_.push_back({e.span.begin, e.span.end, std::to_string(value)});
  }

  // Adds some of the arguments that a call leaves out.
  void options(const Expr& e) {
    const Callable* callee = catalogue().find(e.text);
    if (!callee) return;
    std::string added;
    for (const Option& o : callee->options) {
      const bool given = std::any_of(e.arguments.begin(), e.arguments.end(),
                                     [&](const auto& a) { return a.name == o.name; });
      if (given || !draw_.chance(0.7 * variation_.boldness)) continue;
      const std::string value = option(*callee, o);
      if (!value.empty()) added += (added.empty() ? "" : ", ") + o.name + "=" + value;
    }
    if (added.empty()) return;
    size_t open = e.text_span.end;
    while (open < text_.size() && text_[open] == ' ') ++open;
    if (open >= text_.size() || text_[open] != '(') {
      edits_.push_back({e.text_span.end, e.text_span.end, "(" + added + ")"});
      return;
    }
    const size_t close = closing(text_, open);
    edits_.push_back({close, close, (close == open + 1 ? "" : ", ") + added});
  }

  std::string option(const Callable& callee, const Option& o) {
    const std::string& d = o.default_value;
    if (d == "true" || d == "false") return d == "true" ? "false" : "true";
    const bool numeric = !d.empty() && (std::isdigit(static_cast<unsigned char>(d[0])) || d[0] == '-');
    if (numeric && d.find_first_of(".e") != std::string::npos) {
      const double value = std::strtod(d.c_str(), nullptr);
      return number_text(value == 0 ? draw_.of({0.05, 0.2, 0.6}) : value * (0.5 + draw_.share()));
    }
    const bool other = std::any_of(callee.options.begin(), callee.options.end(),
                                   [&](const Option& p) { return p.name == d; });
    if (numeric || other) {  // stride=window
      const auto one = [&] { return draw_.between(d == "0" ? 0 : 1, 3); };
      const int64_t first = one();
      return draw_.chance(0.3) ? fmt::format("[{}, {}]", first, one()) : std::to_string(first);
    }
    const Callable* named = catalogue().find(d.substr(0, d.find('(')));
    if ((named && named->kind == "initialiser") || o.name == "init") return any_initialiser(draw_);
    return "";
  }

  const std::string& text_;
  const Variation& variation_;
  Draw& draw_;
  std::vector<Edit> edits_;
};

}  // namespace

std::string number_text(double value) {
  std::string text = fmt::format("{:.3g}", value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

std::string any_initialiser(Draw& draw) {
  const std::string& example = draw.of(catalogue().initialisers).example;
  const std::string word = "init=";
  const size_t at = example.find(word) + word.size();
  const size_t open = example.find('(', at);
  const size_t end = open == std::string::npos ? example.find(')', at) : closing(example, open) + 1;
  return example.substr(at, end - at);
}

std::string vary(const std::string& expression, const Variation& variation, Draw& draw) {
  SourceManager sources;
  Diagnostics diagnostics(sources);
  const frontend::ExprPtr e =
      frontend::parse_expression(sources, sources.add("example", expression), diagnostics);
  GRADC_CHECK(e && !diagnostics.has_errors(), "the example '{}' does not parse: {}", expression,
              diagnostics.render());
  return Varier(expression, variation, draw).run(*e);
}

}  // namespace gradc::random_models
