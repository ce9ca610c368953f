// Source files and positions in them. A line ends with \n, \r\n or \r alone.
#include "support/source.h"

#include <algorithm>
#include <cassert>

namespace gradc {

Span join(Span first, Span last) {
  if (!first.valid()) return last;
  if (first.file != last.file) return first;
  return {first.file, std::min(first.begin, last.begin), std::max(first.end, last.end)};
}

uint32_t SourceManager::add(std::string name, std::string text) {
  File f{std::move(name), std::move(text), {0}};
  if (f.text.starts_with("\xEF\xBB\xBF"))
    f.line_starts[0] = 3;  // some editors mark UTF-8: no column of its own
  for (uint32_t i = 0; i < f.text.size(); ++i)
    if (f.text[i] == '\n' || (f.text[i] == '\r' && (i + 1 == f.text.size() || f.text[i + 1] != '\n')))
      f.line_starts.push_back(i + 1);
  files_.push_back(std::move(f));
  return static_cast<uint32_t>(files_.size());
}

const std::string& SourceManager::name(uint32_t file) const { return files_.at(file - 1).name; }
const std::string& SourceManager::text(uint32_t file) const { return files_.at(file - 1).text; }

LineColumn SourceManager::line_column(uint32_t file, uint32_t offset) const {
  const File& f = files_.at(file - 1);
  offset = std::max(offset, f.line_starts[0]);
  auto it = std::upper_bound(f.line_starts.begin(), f.line_starts.end(), offset);
  const auto line = static_cast<uint32_t>(it - f.line_starts.begin());
  return {line, offset - f.line_starts[line - 1] + 1};
}

std::string_view SourceManager::line(uint32_t file, uint32_t line) const {
  const File& f = files_.at(file - 1);
  if (line == 0 || line > f.line_starts.size()) return {};
  const size_t begin = f.line_starts[line - 1];
  size_t end = line < f.line_starts.size() ? f.line_starts[line] : f.text.size();
  if (end > begin && f.text[end - 1] == '\n') --end;
  if (end > begin && f.text[end - 1] == '\r') --end;
  return std::string_view(f.text).substr(begin, end - begin);
}

}  // namespace gradc
