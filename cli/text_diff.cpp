// The difference of two texts by the dtl library (Wu, Manber, Myers, Miller 1990, "An O(NP) sequence
// comparison algorithm").
#include "cli/text_diff.h"

#include <dtl/dtl.hpp>
#include <sstream>
#include <vector>

namespace gradc::cli {

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(std::move(line));
  return lines;
}

const char* color_of(char first) {
  switch (first) {
    case '+': return "\x1b[32m";
    case '-': return "\x1b[31m";
    case '@': return "\x1b[36m";
    default: return nullptr;
  }
}

}  // namespace

std::string unified_diff(const std::string& before, const std::string& after, bool color) {
  if (before == after) return "";
  dtl::Diff<std::string> diff(lines_of(before), lines_of(after));
  diff.onHuge();  // texts of stages have thousands of lines
  diff.compose();
  diff.composeUnifiedHunks();
  std::ostringstream out;
  diff.printUnifiedFormat(out);
  if (!color) return out.str();
  std::string colored;
  for (const std::string& line : lines_of(out.str())) {
    const char* escape = line.empty() ? nullptr : color_of(line[0]);
    colored += escape ? escape + line + "\x1b[0m\n" : line + "\n";
  }
  return colored;
}

}  // namespace gradc::cli
