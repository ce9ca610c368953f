// One source line as it is shown on a terminal: tabs expanded, unprintable characters replaced, long lines cropped
// around the marked bytes, and the column of each byte. Knows nothing of diagnostics.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace gradc {

class SourceView {
 public:
  static constexpr int kTab = 4;            // tab stops
  static constexpr size_t kLongLine = 240;  // bytes; a longer line is cropped
  static constexpr size_t kCropped = 160;   // bytes that are kept
  static constexpr size_t kContext = 60;    // of these, before the mark

  // `mark` is the byte (from 0) that must be visible.
  SourceView(std::string_view line, size_t mark);

  const std::string& text() const { return text_; }
  // The column (from 0) of a byte of the line; for a byte that is cropped, that of the nearest visible one.
  int column(size_t byte) const;

 private:
  std::string text_;
  size_t first_ = 0;  // byte of columns_[0]
  std::vector<int> columns_;
};

// The columns that text takes (its characters are as `printable` leaves them).
int display_width(std::string_view text);

// The text with control characters (newline apart), direction marks and broken UTF-8 replaced by U+FFFD, so
// that no file name or identifier can confuse a terminal.
std::string printable(std::string_view text);

}  // namespace gradc
