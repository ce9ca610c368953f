// Reduces model files: removes lines, then nodes of the syntax tree (declarations, statements, arguments), or replaces
// nodes by their children or smaller values (expressions, blocks, integers). Zeller and Hildebrandt 2002, "Simplifying
// and isolating failure-inducing input", for lines; Regehr et al. 2012, "Test-case reduction for C compiler
// bugs", for the loop over kinds of edits until none succeeds.
#include <algorithm>
#include <set>
#include <sstream>

#include "cli/reduce/reduce.h"
#include "frontend/parser.h"
#include "support/diagnostic.h"

namespace gradc::cli {

using frontend::Block;
using frontend::Expr;
using frontend::Statement;

namespace {

struct Edit {
  size_t begin, end;
  std::string replacement;
};

std::string apply(const std::string& text, const Edit& e) {
  return text.substr(0, e.begin) + e.replacement + text.substr(e.end);
}

// Every edit of a file that leaves something smaller, the largest first.
class Edits {
 public:
  explicit Edits(const std::string& text) : text_(text) {
    SourceManager sources;
    Diagnostics diagnostics(sources);
    const frontend::File file = frontend::parse(sources, sources.add("candidate.nn", text), diagnostics);
    parses_ = !diagnostics.has_errors();
    if (!parses_) return;
    for (const auto& d : file.definitions) {
      remove(d->span);
      block(d->body);
      for (const auto& p : d->parameters)
        if (p.default_value) expression(*p.default_value);
    }
    for (const auto& s : file.settings) {
      remove(s.span);
      expression(*s.value);
    }
    for (const auto& d : file.data) {
      remove(d.span);
      expression(*d.source);
      for (const auto& f : d.fields) remove(f.span);
      for (const auto& s : d.splits) remove(s.span);
    }
    for (const auto& t : file.train) {
      remove(t.span);
      block(t.body);
    }
    std::stable_sort(edits_.begin(), edits_.end(), [](const Edit& a, const Edit& b) {
      return a.end - a.begin - a.replacement.size() > b.end - b.begin - b.replacement.size();
    });
  }

  bool parses() const { return parses_; }
  const std::vector<Edit>& list() const { return edits_; }

 private:
  std::string of(Span s) const { return text_.substr(s.begin, s.end - s.begin); }

  void replace(Span what, const std::string& by) {
    if (by.size() < what.end - what.begin) edits_.push_back({what.begin, what.end, by});
  }

  // A declaration or statement, with its line where it is alone there, else with the `;` after it.
  void remove(Span what) {
    size_t begin = what.begin, end = what.end;
    while (begin > 0 && (text_[begin - 1] == ' ' || text_[begin - 1] == '\t')) --begin;
    while (end < text_.size() && (text_[end] == ' ' || text_[end] == '\t')) ++end;
    const bool starts = begin == 0 || text_[begin - 1] == '\n';
    if (end < text_.size() && text_[end] == '#')
      while (end < text_.size() && text_[end] != '\n') ++end;
    if (end < text_.size() && (text_[end] == ';' || (starts && text_[end] == '\n')))
      ++end;
    else
      begin = what.begin;
    edits_.push_back({begin, end, ""});
  }

  void argument(const frontend::Argument& a) {
    size_t begin = a.name.empty() ? a.value->span.begin : a.name_span.begin, end = a.value->span.end;
    size_t after = end;
    while (after < text_.size() && std::isspace(static_cast<unsigned char>(text_[after]))) ++after;
    if (after < text_.size() && text_[after] == ',') {
      end = after + 1;
    } else {
      size_t before = begin;
      while (before > 0 && std::isspace(static_cast<unsigned char>(text_[before - 1]))) --before;
      if (before > 0 && text_[before - 1] == ',') begin = before - 1;
    }
    edits_.push_back({begin, end, ""});
  }

  void block(const Block& statements) {
    for (const Statement& s : statements) statement(s);
  }

  void statement(const Statement& s) {
    remove(s.span);
    if (s.body_span.valid() && s.body_span.end > s.body_span.begin + 1 && !s.body.empty()) {
      // The contents of the block, without the block.
      const Span inner{s.body.front().span.file, s.body.front().span.begin, s.body.back().span.end};
      replace(s.span, of(inner));
    }
    if (!s.other.empty())
      replace(s.span,
              of(Span{s.other.front().span.file, s.other.front().span.begin, s.other.back().span.end}));
    if (s.value) expression(*s.value);
    if (s.weight) expression(*s.weight);
    for (const auto& d : s.dims) expression(*d);
    for (const auto& c : s.chain) expression(*c);
    block(s.body);
    block(s.other);
  }

  void expression(const Expr& e) {
    if (e.kind == frontend::ExprKind::integer && e.integer > 1)
      for (const int64_t smaller : {int64_t{1}, e.integer / 8, e.integer / 2})
        if (smaller > 0 && smaller < e.integer && std::to_string(smaller).size() <= of(e.span).size())
          edits_.push_back({e.span.begin, e.span.end, std::to_string(smaller)});
    if (e.instance.kind != frontend::Instance::Kind::none) {
      const Span name = e.instance.span;
      size_t begin = name.begin;
      const std::string word = e.instance.kind == frontend::Instance::Kind::as ? "as" : "reuse";
      const size_t at = text_.rfind(word, begin);
      if (at != std::string::npos && at >= e.span.begin) edits_.push_back({at, name.end, ""});
    }
    for (const auto& o : e.operands) {
      replace(e.span, of(o->span));
      expression(*o);
    }
    for (size_t i = 0; i < e.arguments.size(); ++i) {
      replace(e.span, of(e.arguments[i].value->span));
      if (!(e.piped && i == 0)) argument(e.arguments[i]);
      expression(*e.arguments[i].value);
    }
  }

  const std::string& text_;
  bool parses_ = false;
  std::vector<Edit> edits_;
};

class TextReducer : Shrinking {
 public:
  using Shrinking::Shrinking;

  Reduction run() {
    parses_ = Edits(result_.text).parses();
    for (bool again = true; again;) {
      again = lines();
      again = syntax() || again;
    }
    return std::move(result_);
  }

 private:
  // Runs of lines, half the file first, then ever shorter ones.
  bool lines() {
    bool any = false;
    for (size_t length = std::max<size_t>(1, line_count() / 2); length > 0; length /= 2) {
      for (size_t first = 0; first < line_count();) {
        std::istringstream in(result_.text);
        std::string candidate, line;
        for (size_t i = 0; std::getline(in, line); ++i)
          if (i < first || i >= first + length) candidate += line + "\n";
        // A well-formed file must stay so: a syntax error would be another mistake.
        if (parses_ && !Edits(candidate).parses()) {
          first += length;
          continue;
        }
        if (take(candidate))
          any = true;
        else
          first += length;
      }
    }
    return any;
  }

  size_t line_count() const {
    return static_cast<size_t>(std::count(result_.text.begin(), result_.text.end(), '\n'));
  }

  bool syntax() {
    bool any = false;
    for (bool again = parses_; again;) {
      again = false;
      const std::string text = result_.text;
      const Edits edits(text);
      for (const Edit& e : edits.list()) {
        const std::string candidate = apply(text, e);
        if (!Edits(candidate).parses() || !take(candidate)) continue;
        again = any = true;
        break;  // offsets have changed
      }
    }
    return any;
  }

  bool parses_ = false;
};

}  // namespace

Reduction reduce_model(std::string text, const Interesting& interesting,
                       const std::function<void(const std::string&)>& better) {
  if (!text.empty() && text.back() != '\n') text += '\n';
  return TextReducer(std::move(text), interesting, better).run();
}

}  // namespace gradc::cli
