// Reads CSV: cells by a small scanner, numbers by std::from_chars.
#include "runtime/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "runtime/files.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

constexpr size_t kShown = 40;  // characters of a cell in a message

class Scanner {
 public:
  Scanner(const std::string& path, std::string_view text, char separator)
      : path_(path), text_(text), separator_(separator) {
    if (text_.substr(0, 3) == "\xEF\xBB\xBF") at_ = 3;  // the mark that some programs put before UTF-8
  }

  // The cells of the next line that is not empty; false at the end.
  bool line(std::vector<std::string>& cells) {
    while (at_ < text_.size() && (text_[at_] == '\n' || text_[at_] == '\r')) step();
    if (at_ == text_.size()) return false;
    line_ = next_line_;
    cells.clear();
    do {
      cells.push_back(cell());
    } while (accept(separator_));
    accept('\r');
    if (at_ < text_.size() && !accept('\n'))
      fail(fmt::format("column {} goes on behind its closing quote", cells.size()));
    return true;
  }
  int64_t line_number() const { return line_; }
  [[noreturn]] void fail(const std::string& what) const {
    throw RunError(kExitDataError, fmt::format("{}:{}: {}", path_, line_, what));
  }

 private:
  void step() {
    if (text_[at_] == '\n') ++next_line_;
    ++at_;
  }
  bool accept(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    step();
    return true;
  }
  std::string cell() {
    std::string result;
    if (accept('"')) {
      for (;;) {
        if (at_ == text_.size()) fail("a quote is never closed; is the file truncated?");
        const char c = text_[at_];
        step();
        if (c == '"' && !accept('"')) return result;  // a doubled quote is one that belongs to the cell
        result += c;
      }
    }
    while (at_ < text_.size() && text_[at_] != separator_ && text_[at_] != '\n' && text_[at_] != '\r')
      result += text_[at_++];
    return result;
  }

  const std::string& path_;
  std::string_view text_;
  char separator_;
  size_t at_ = 0;
  int64_t line_ = 1, next_line_ = 1;
};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

double number_of(const Scanner& scanner, const std::string& cell, const std::string& column) {
  std::string_view text = trimmed(cell);
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  double value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || rest != text.data() + text.size() || text.empty() || !std::isfinite(value))
    scanner.fail(fmt::format(
        "column {}: {}; expected a number: mend the file, or leave the line or column out", column,
        cell.empty() ? "nothing is there" : fmt::format("`{}` is no finite number", cell.substr(0, kShown))));
  return value;
}

}  // namespace

CsvNumbers parse_csv(const std::string& path, std::string_view text, const CsvOptions& options,
                     const std::vector<CsvColumn>& chosen) {
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos)
    throw RunError(kExitDataError,
                   fmt::format("{}: byte {} is 0: this is no text file; expected columns separated by `{}`",
                               path, zero, options.separator));
  Scanner scanner(path, text, options.separator);
  std::vector<std::string> cells, header;
  size_t columns = 0;
  if (options.header && scanner.line(header)) {
    for (std::string& name : header) name = trimmed(name);
    columns = header.size();
  }
  std::vector<size_t> wanted;
  const auto choose = [&] {
    for (const CsvColumn& column : chosen) {
      if (column.name.empty()) {
        if (column.number < 0 || static_cast<uint64_t>(column.number) >= columns)
          throw RunError(kExitDataError,
                         fmt::format("{}: there is no column {}: it has {}, numbered from 0; is `{}` the "
                                     "separator?",
                                     path, column.number, columns, options.separator));
        wanted.push_back(static_cast<size_t>(column.number));
        continue;
      }
      const auto found = std::find(header.begin(), header.end(), column.name);
      if (found == header.end()) {
        const std::string near = nearest_name(column.name, header);
        throw RunError(kExitDataError,
                       fmt::format("{}: there is no column `{}`{}; the first line names {}", path,
                                   column.name, near.empty() ? "" : fmt::format("; did you mean `{}`?", near),
                                   header.empty() ? "none" : fmt::format("{}", fmt::join(header, ", "))));
      }
      if (std::count(header.begin(), header.end(), column.name) > 1)
        throw RunError(
            kExitDataError,
            fmt::format("{}: the first line names `{}` twice; choose columns by number", path, column.name));
      wanted.push_back(static_cast<size_t>(found - header.begin()));
    }
  };
  if (options.header) choose();
  CsvNumbers result;
  while (scanner.line(cells)) {
    if (columns == 0) {
      columns = cells.size();
      choose();
    }
    if (cells.size() != columns)
      scanner.fail(
          fmt::format("this line has {} columns; expected {}, as in the first line", cells.size(), columns));
    for (const size_t column : wanted)
      result.values.push_back(
          number_of(scanner, cells[column],
                    header.empty() ? std::to_string(column) : fmt::format("`{}`", header[column])));
    result.lines.push_back(scanner.line_number());
    ++result.rows;
  }
  if (result.rows == 0)
    throw RunError(kExitDataError,
                   fmt::format("{}: it holds no examples; expected a line for each{}", path,
                               options.header ? " behind the one that names the columns" : ""));
  return result;
}

CsvNumbers read_csv(const std::string& path, const CsvOptions& options,
                    const std::vector<CsvColumn>& chosen) {
  const std::vector<uint8_t> bytes = read_file(path, "data file");
  return parse_csv(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, options, chosen);
}

}  // namespace gradc::runtime
