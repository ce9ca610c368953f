// Reads CSV in one pass: of each line only the chosen cells are kept, so that a line of any number of columns
// takes no memory; numbers by std::from_chars.
#include "runtime/data/csv.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <map>
#include <optional>
#include <unordered_map>

#include "runtime/files.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

constexpr size_t kShown = 40;          // characters of a cell in a message
constexpr size_t kListedColumns = 50;  // names of columns in a message
constexpr size_t kCompared = 10000;    // names of columns that a wrong one is compared with

class Scanner {
 public:
  Scanner(const std::string& path, std::string_view text, char separator)
      : path_(path), text_(text), separator_(separator) {
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;  // the mark that some programs put before UTF-8
  }

  // Reads the next line that is not empty and returns how many cells it has; 0 at the end. cell_at(column) is
  // the string that takes the cell's text, or null where it is not needed; filled(column) is called after it.
  template <class CellAt, class Filled>
  size_t line(CellAt&& cell_at, Filled&& filled) {
    while (at_ < text_.size() && is_line_end(text_[at_])) step();
    if (at_ == text_.size()) return 0;
    line_ = next_line_;
    size_t count = 0;
    do {
      std::string* to = cell_at(count);
      if (to) to->clear();
      cell(to);
      if (to) filled(count);
      ++count;
    } while (accept(separator_));
    if (at_ < text_.size() && !is_line_end(text_[at_]))
      fail(fmt::format("column {} goes on after its closing quote", count));
    if (accept('\r'))
      accept('\n');
    else
      accept('\n');
    return count;
  }
  int64_t line_number() const { return line_; }
  [[noreturn]] void fail(const std::string& what) const {
    throw RunError(kExitDataError, fmt::format("{}:{}: {}", path_, line_, what));
  }

 private:
  static bool is_line_end(char c) { return c == '\n' || c == '\r'; }
  void step() {
    const bool pair = text_[at_] == '\r' && at_ + 1 < text_.size() && text_[at_ + 1] == '\n';
    if (is_line_end(text_[at_]) && !pair) ++next_line_;
    ++at_;
  }
  bool accept(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    step();
    return true;
  }
  void cell(std::string* to) {
    if (accept('"')) {
      for (;;) {
        if (at_ == text_.size()) fail("a quote is never closed; is the file truncated?");
        const char c = text_[at_];
        step();
        if (c == '"' && !accept('"')) return;  // a doubled quote is one that belongs to the cell
        if (to) *to += c;
      }
    }
    const size_t begin = at_;
    while (at_ < text_.size() && text_[at_] != separator_ && !is_line_end(text_[at_])) ++at_;
    if (to) *to = text_.substr(begin, at_ - begin);
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

// The cell's number; empty where it is none or not finite.
std::optional<double> number_in(std::string_view cell) {
  std::string_view text = trimmed(cell);
  if (!text.empty() && text.front() == '+') text.remove_prefix(1);
  double value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || rest != text.data() + text.size() || error == std::errc::invalid_argument) return {};
  if (error == std::errc::result_out_of_range) {  // too large, or so small that it is 0
    static const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);
    value = strtod_l(std::string(text).c_str(), nullptr, plain);
  }
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

class Reader {
 public:
  Reader(const std::string& path, std::string_view text, const CsvOptions& options,
         const std::vector<CsvColumn>& chosen)
      : path_(path), options_(options), chosen_(chosen), scanner_(path, text, options.separator) {}

  CsvNumbers read() {
    const bool by_name =
        std::any_of(chosen_.begin(), chosen_.end(), [](const CsvColumn& c) { return !c.name.empty(); });
    named_ = options_.header != CsvHeader::absent;
    if (named_) read_names(options_.header == CsvHeader::automatic && !by_name);
    find_slots();
    CsvNumbers result;
    while (read_row(result)) {
    }
    if (result.rows == 0)
      throw RunError(kExitDataError,
                     fmt::format("{}: it holds no examples; expected a line for each{}", path_,
                                 named_ ? " after the one that names the columns" : ""));
    return result;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw RunError(kExitDataError, fmt::format("{}: {}", path_, what));
  }

  // The first line: which columns have the chosen names, and what those chosen by number are called.
  // `doubtful`: it must not be an example.
  void read_names(bool doubtful) {
    std::unordered_map<std::string, size_t> times;  // that a chosen name occurs
    std::map<size_t, std::string> numbered;
    for (const CsvColumn& c : chosen_) {
      if (c.name.empty() && c.number >= 0) numbered.emplace(c.number, "");
      if (!c.name.empty()) times.emplace(c.name, 0);
    }
    std::vector<std::string> names;  // the first of them
    std::string cell;
    columns_ = scanner_.line([&](size_t) { return &cell; },
                             [&](size_t column) {
                               const std::string name(trimmed(cell));
                               if (const auto it = times.find(name); it != times.end()) {
                                 ++it->second;
                                 column_of_[name] = column;
                               }
                               if (const auto it = numbered.find(column); it != numbered.end())
                                 it->second = name;
                               if (names.size() < kCompared) names.push_back(name);
                             });
    for (const CsvColumn& c : chosen_) {
      if (c.name.empty()) continue;
      const size_t count = times.at(c.name);
      if (count == 0) no_such_column(c.name, names);
      if (count > 1) fail(fmt::format("the first line names `{}` twice; choose columns by number", c.name));
      title_[column_of_[c.name]] = c.name;
    }
    for (const auto& [column, name] : numbered) title_.emplace(column, name);
    if (doubtful && columns_ > 0) refuse_examples(numbered);
  }

  [[noreturn]] void no_such_column(const std::string& name, std::vector<std::string>& names) const {
    const std::string near = nearest_name(name, names);
    const std::string more =
        columns_ > kListedColumns ? fmt::format(", and {} more", columns_ - kListedColumns) : "";
    names.resize(std::min(names.size(), kListedColumns));
    fail(fmt::format("there is no column `{}`{}; the first line names {}{}", name,
                     near.empty() ? "" : fmt::format("; did you mean `{}`?", near),
                     names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")), more));
  }

  void refuse_examples(const std::map<size_t, std::string>& numbered) const {
    for (const auto& [column, text] : numbered)
      if (column < columns_ && number_in(text))
        scanner_.fail(fmt::format(
            "column {} of the first line is the number {}: the line may be an example or name the "
            "columns. Write `header=false` where it is an example, `header=true` where it names them",
            column, text.substr(0, kShown)));
  }

  // Where a row's chosen cells go: one slot for each column, in order.
  void find_slots() {
    std::vector<size_t> wanted;
    for (const CsvColumn& c : chosen_)
      wanted.push_back(c.name.empty() ? static_cast<size_t>(c.number) : column_of_.at(c.name));
    slots_ = wanted;
    std::sort(slots_.begin(), slots_.end());
    slots_.erase(std::unique(slots_.begin(), slots_.end()), slots_.end());
    cells_.resize(slots_.size());
    numbers_.resize(slots_.size());
    for (const size_t column : wanted)
      slot_of_.push_back(
          static_cast<size_t>(std::lower_bound(slots_.begin(), slots_.end(), column) - slots_.begin()));
    if (columns_ > 0) check_numbers();
  }

  void check_numbers() const {
    for (const CsvColumn& c : chosen_)
      if (c.name.empty() && (c.number < 0 || static_cast<uint64_t>(c.number) >= columns_))
        fail(fmt::format("there is no column {}: it has {}, numbered from 0; is `{}` the separator?",
                         c.number, columns_, options_.separator));
  }

  bool read_row(CsvNumbers& result) {
    size_t slot = 0;
    const size_t count = scanner_.line(
        [&](size_t column) {
          return slot < slots_.size() && slots_[slot] == column ? &cells_[slot] : nullptr;
        },
        [&](size_t) { ++slot; });
    if (count == 0) return false;
    if (columns_ == 0) {
      columns_ = count;
      check_numbers();
    }
    if (count != columns_)
      scanner_.fail(
          fmt::format("this line has {} columns; expected {}, as in the first line", count, columns_));
    for (size_t i = 0; i < slots_.size(); ++i) numbers_[i] = number_of(i, result.rows == 0);
    for (const size_t i : slot_of_) result.values.push_back(numbers_[i]);
    result.lines.push_back(scanner_.line_number());
    ++result.rows;
    return true;
  }

  double number_of(size_t slot, bool first) const {
    const std::string& cell = cells_[slot];
    if (const std::optional<double> number = number_in(cell)) return *number;
    const auto title = title_.find(slots_[slot]);
    scanner_.fail(fmt::format(
        "column {}: {}; expected a number: {}",
        title == title_.end() ? std::to_string(slots_[slot]) : fmt::format("`{}`", title->second),
        cell.empty() ? "nothing is there" : fmt::format("`{}` is no finite number", cell.substr(0, kShown)),
        first && !named_ ? "where this line names the columns, leave `header=false` out"
                         : "mend the file, or leave the line or column out"));
  }

  const std::string& path_;
  const CsvOptions& options_;
  const std::vector<CsvColumn>& chosen_;
  Scanner scanner_;
  bool named_ = false;
  size_t columns_ = 0;                                 // 0: not known yet
  std::unordered_map<std::string, size_t> column_of_;  // of the chosen names
  std::map<size_t, std::string> title_;                // of the chosen columns
  std::vector<size_t> slots_;                          // the chosen columns, each once, in order
  std::vector<size_t> slot_of_;                        // of each requested column
  std::vector<std::string> cells_;                     // of the line, by slot
  std::vector<double> numbers_;
};

}  // namespace

CsvNumbers parse_csv(const std::string& path, std::string_view text, const CsvOptions& options,
                     const std::vector<CsvColumn>& chosen) {
  if (text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF"))
    throw RunError(
        kExitDataError,
        fmt::format("{}: this is UTF-16 text; save it as UTF-8, or convert it: iconv -f utf-16 -t utf-8",
                    path));
  if (const size_t zero = text.find('\0'); zero != std::string_view::npos)
    throw RunError(kExitDataError,
                   fmt::format("{}: byte {} is 0: this is no text file; expected columns separated by `{}`",
                               path, zero, options.separator));
  return Reader(path, text, options, chosen).read();
}

CsvNumbers read_csv(const std::string& path, const CsvOptions& options,
                    const std::vector<CsvColumn>& chosen) {
  const std::vector<uint8_t> bytes = read_file(path, "data file");
  return parse_csv(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, options, chosen);
}

}  // namespace gradc::runtime
