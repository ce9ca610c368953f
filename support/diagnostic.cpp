// Diagnostics as text in the style of Clang and Rust, and as JSON lines; knows nothing of the language.
#include "support/diagnostic.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "support/json_line.h"
#include "support/source_view.h"

namespace gradc {

namespace {

enum class Style { error, title, gutter, primary, secondary };

class Painter {
 public:
  explicit Painter(bool color) : color_(color) {}
  std::string operator()(Style style, const std::string& text) const {
    if (!color_ || text.empty()) return text;
    return fmt::format("\x1b[{}m{}\x1b[0m", code(style), text);
  }

 private:
  static const char* code(Style style) {
    switch (style) {
      case Style::error:
      case Style::primary: return "1;31";
      case Style::title: return "1";
      case Style::gutter:
      case Style::secondary: return "1;34";
    }
    return "0";
  }
  bool color_;
};

// A span as lines and columns, clamped to its file; `end` is the position after its last character.
struct Extent {
  uint32_t file = 0;
  LineColumn begin, end;
};

Extent extent_of(const SourceManager& sources, Span span) {
  if (!span.valid() || span.file > sources.file_count()) return {};
  const auto size = static_cast<uint32_t>(sources.text(span.file).size());
  const uint32_t begin = std::min(span.begin, size);
  const uint32_t end = std::clamp(span.end, begin, size);
  Extent e{span.file, sources.line_column(span.file, begin), {}};
  if (end == begin) {
    e.end = e.begin;
  } else {  // of the last character: a span up to a newline ends on that line
    e.end = sources.line_column(span.file, end - 1);
    ++e.end.column;
  }
  return e;
}

// A marked range of one line: bytes from `begin` up to `end` (from 0).
struct Mark {
  size_t begin = 0, end = 0;
  bool primary = false;
  std::string text;
};

std::string indented(const std::string& text, size_t spaces) {
  std::string out;
  for (const char c : printable(text)) {
    out += c;
    if (c == '\n') out.append(spaces, ' ');
  }
  return out;
}

class Renderer {
 public:
  Renderer(const SourceManager& sources, bool color) : sources_(sources), paint_(color) {}

  std::string render(const Diagnostic& d) {
    std::map<uint32_t, std::map<uint32_t, std::vector<Mark>>> files;
    const Extent primary = extent_of(sources_, d.span);
    add_marks(primary, true, d.label, files);
    for (const Diagnostic::Label& l : d.related) add_marks(extent_of(sources_, l.span), false, l.text, files);
    uint32_t last_line = 0;
    for (const auto& [file, lines] : files) last_line = std::max(last_line, lines.rbegin()->first);
    gutter_ = std::to_string(last_line).size();

    out_ = paint_(Style::error, d.code.empty() ? "error" : fmt::format("error[{}]", d.code)) +
           paint_(Style::title, ": " + indented(d.message, gutter_ + 3)) + '\n';
    if (primary.file != 0) file_block("-->", primary.file, primary.begin, files[primary.file]);
    for (const auto& [file, lines] : files) {
      if (file == primary.file) continue;
      const auto& [line, marks] = *lines.begin();
      file_block(primary.file != 0 ? ":::" : "-->", file,
                 {line, static_cast<uint32_t>(marks.front().begin) + 1}, lines);
    }
    for (const std::string& note : d.notes) remark(note);
    for (const std::string& help : d.helps) remark("help: " + help);
    return std::move(out_);
  }

 private:
  using Lines = std::map<uint32_t, std::vector<Mark>>;

  void add_marks(const Extent& e, bool primary, const std::string& text, std::map<uint32_t, Lines>& files) {
    if (e.file == 0) return;
    Lines& lines = files[e.file];
    const auto clamp = [&](uint32_t line, uint32_t column) {
      return std::min<size_t>(column - 1, sources_.line(e.file, line).size());
    };
    const size_t begin = clamp(e.begin.line, e.begin.column);
    if (e.begin.line == e.end.line) {
      lines[e.begin.line].push_back(
          {begin, std::max(clamp(e.end.line, e.end.column), begin + 1), primary, text});
      return;
    }
    // Of several lines the first and the last are shown; the text is at the last.
    const size_t first_size = sources_.line(e.file, e.begin.line).size();
    lines[e.begin.line].push_back({begin, std::max(first_size, begin + 1), primary, {}});
    const std::string_view last = sources_.line(e.file, e.end.line);
    const size_t indent = std::min(last.find_first_not_of(" \t"), last.size());
    lines[e.end.line].push_back(
        {indent, std::max(clamp(e.end.line, e.end.column), indent + 1), primary, text});
  }

  std::string gutter(const std::string& number = {}) const {
    return paint_(Style::gutter, fmt::format("{:>{}} |", number, gutter_));
  }

  void file_block(const char* arrow, uint32_t file, LineColumn at, const Lines& lines) {
    out_ += paint_(Style::gutter, fmt::format("{:>{}}{}", "", gutter_, arrow)) +
            fmt::format(" {}:{}:{}\n", printable(sources_.name(file)), at.line, at.column);
    out_ += gutter() + '\n';
    for (const auto& [line, marks] : lines) source_line(file, line, marks);
  }

  void source_line(uint32_t file, uint32_t line, std::vector<Mark> marks) {
    std::stable_sort(marks.begin(), marks.end(),
                     [](const Mark& a, const Mark& b) { return a.begin < b.begin; });
    size_t seen = marks.front().begin;
    for (const Mark& m : marks)
      if (m.primary) seen = m.begin;
    const SourceView view(sources_.line(file, line), seen);
    out_ += gutter(std::to_string(line)) + (view.text().empty() ? "" : " " + view.text()) + '\n';
    // Marks that overlap go on rows of their own; the primary one is in the first row.
    std::stable_partition(marks.begin(), marks.end(), [](const Mark& m) { return m.primary; });
    while (!marks.empty()) {
      std::vector<Mark> row, left;
      for (Mark& m : marks) {
        const bool free = std::all_of(row.begin(), row.end(),
                                      [&](const Mark& r) { return m.end <= r.begin || m.begin >= r.end; });
        (free ? row : left).push_back(std::move(m));
      }
      std::sort(row.begin(), row.end(), [](const Mark& a, const Mark& b) { return a.begin < b.begin; });
      marked_row(view, row);
      marks = std::move(left);
    }
  }

  // The markers with the last mark's text after them; the other texts hang below their marks, the rightmost
  // first.
  void marked_row(const SourceView& view, const std::vector<Mark>& row) {
    std::string line = gutter() + ' ';
    int column = 0;
    for (const Mark& m : row) {
      const int begin = std::max(view.column(m.begin), column);
      const int end = std::max(view.column(m.end), begin + 1);
      line.append(static_cast<size_t>(begin - column), ' ');
      line += paint_(style(m), std::string(static_cast<size_t>(end - begin), m.primary ? '^' : '-'));
      column = end;
    }
    const Mark& last = row.back();
    const auto text_at = static_cast<size_t>(column) + gutter_ + 4;
    out_ += line + (last.text.empty() ? "" : ' ' + paint_(style(last), indented(last.text, text_at))) + '\n';
    for (size_t i = row.size() - 1; i-- > 0;) {
      if (row[i].text.empty()) continue;
      hang(view, row, i, true);
      hang(view, row, i, false);
    }
  }

  // One line below: bars at the marks before mark `at`, whose texts follow later, then a bar (connecting) or the text
  // of `at`.
  void hang(const SourceView& view, const std::vector<Mark>& row, size_t at, bool connecting) {
    std::string line = gutter() + ' ';
    int column = 0;
    for (size_t i = 0; i <= at; ++i) {
      if (row[i].text.empty()) continue;
      const int begin = std::max(view.column(row[i].begin), column);
      line.append(static_cast<size_t>(begin - column), ' ');
      if (i < at || connecting) {
        line += paint_(style(row[i]), "|");
        column = begin + 1;
      } else {
        line += paint_(style(row[i]), indented(row[i].text, static_cast<size_t>(begin) + gutter_ + 3));
      }
    }
    out_ += line + '\n';
  }

  static Style style(const Mark& m) { return m.primary ? Style::primary : Style::secondary; }

  void remark(const std::string& text) {
    out_ += paint_(Style::gutter, fmt::format("{:>{}} =", "", gutter_)) + ' ' + indented(text, gutter_ + 3) +
            '\n';
  }

  const SourceManager& sources_;
  Painter paint_;
  size_t gutter_ = 1;
  std::string out_;
};

std::string more_errors(size_t count) {
  return fmt::format("{} more error{} not shown", count, count == 1 ? "" : "s");
}

using OrderedJson = nlohmann::ordered_json;

void put_place(OrderedJson& object, const SourceManager& sources, Span span) {
  const Extent e = extent_of(sources, span);
  object["file"] = e.file != 0 ? OrderedJson(sources.name(e.file)) : OrderedJson();
  object["line"] = e.begin.line;
  object["column"] = e.begin.column;
  object["end_line"] = e.end.line;
  object["end_column"] = e.end.column;
}

// Broken UTF-8 in names is replaced: JSON has no bytes.
std::string one_line(const OrderedJson& object) { return json_line(object) + '\n'; }

// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours (Damerau 1964), no
// substring edited twice.
size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

std::string lower_case(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

}  // namespace

Diagnostic& Diagnostic::expect(std::string_view what, std::string_view instead) {
  expected = what;
  found = instead;
  return *this;
}

bool Diagnostic::suggest(const std::string& name, const std::vector<std::string>& candidates, char quote) {
  found = name;
  suggestion = nearest_name(name, candidates);
  if (suggestion.empty()) return false;
  helps.push_back(fmt::format("did you mean {0}{1}{0}?", quote, suggestion));
  return true;
}

void Diagnostic::choose(const std::string& name, const std::vector<std::string>& candidates,
                        const std::string& intro) {
  suggest(name, candidates);
  expected = fmt::format("{}", fmt::join(candidates, ", "));
  helps.push_back(fmt::format("{} {}", intro, expected));
}

Diagnostic& Diagnostics::error(std::string code, Span span, std::string message, std::string label) {
  ++count_;
  Diagnostic d;
  d.code = std::move(code);
  d.span = span;
  d.message = std::move(message);
  d.label = std::move(label);
  if (diagnostics_.size() >= limit_) {
    overflow_ = std::move(d);
    return overflow_;
  }
  diagnostics_.reserve(limit_);  // references stay valid
  diagnostics_.push_back(std::move(d));
  return diagnostics_.back();
}

std::string Diagnostics::render(bool color) const {
  std::string out;
  Renderer renderer(sources_, color);
  for (const Diagnostic& d : diagnostics_) {
    if (!out.empty()) out += '\n';
    out += renderer.render(d);
  }
  if (count_ > diagnostics_.size())
    out += fmt::format("\n{}: {}\n", Painter(color)(Style::error, "error"),
                       more_errors(count_ - diagnostics_.size()));
  return out;
}

std::string Diagnostics::render_json() const {
  std::vector<const Diagnostic*> list;
  for (const Diagnostic& d : diagnostics_) list.push_back(&d);
  Diagnostic more;
  if (count_ > diagnostics_.size()) {
    more.message = more_errors(count_ - diagnostics_.size());
    list.push_back(&more);
  }
  std::string out;
  for (const Diagnostic* d : list) {
    OrderedJson object;
    object["severity"] = "error";
    object["code"] = d->code;
    object["message"] = d->message;
    put_place(object, sources_, d->span);
    object["label"] = d->label;
    object["related"] = OrderedJson::array();
    for (const Diagnostic::Label& l : d->related) {
      OrderedJson related;
      put_place(related, sources_, l.span);
      related["label"] = l.text;
      object["related"].push_back(std::move(related));
    }
    object["notes"] = d->notes;
    object["helps"] = d->helps;
    object["expected"] = d->expected;
    object["found"] = d->found;
    object["suggestion"] = d->suggestion;
    out += one_line(object);
  }
  return out;
}

std::string nearest_name(const std::string& name, const std::vector<std::string>& candidates) {
  constexpr size_t kLongest = 64;  // the distance takes time proportional to the product of the lengths
  if (name.empty() || name.size() > kLongest) return {};
  // A third of the name may differ, but never all of it.
  const size_t limit = std::min(std::max<size_t>(name.size(), 3) / 3, name.size() - 1);
  const std::string wanted = lower_case(name);
  std::string best;
  size_t best_distance = limit + 1;
  for (const std::string& candidate : candidates) {
    if (candidate == name || candidate.empty() || candidate.size() > kLongest) continue;
    const size_t distance =
        edit_distance(wanted, lower_case(candidate));  // a difference in case alone costs nothing
    if (distance >= best_distance) continue;
    best_distance = distance;
    best = candidate;
  }
  return best;
}

}  // namespace gradc
