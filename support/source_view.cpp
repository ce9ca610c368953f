// Display columns of UTF-8 text, after Unicode's East Asian Width in coarse ranges; knows nothing of
// diagnostics.
#include "support/source_view.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace gradc {

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

struct Character {
  uint32_t code = 0;
  size_t bytes = 1;
  bool valid = false;
};

// The character at the text's beginning; a broken sequence is one byte. Overlong forms and surrogates are
// broken.
Character decode(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  const size_t length = lead >= 0xF0 && lead < 0xF5   ? 4
                        : lead >= 0xE0 && lead < 0xF0 ? 3
                        : lead >= 0xC2 && lead < 0xE0 ? 2
                                                      : 0;
  if (length == 0 || text.size() < length) return {};
  uint32_t code = lead & (0x7Fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3F);
  }
  constexpr std::array<uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return {};
  return {code, length, true};
}

struct Range {
  uint32_t first, last;
};

bool within(uint32_t code, const Range* begin, const Range* end) {
  return std::any_of(begin, end, [&](const Range& r) { return code >= r.first && code <= r.last; });
}

template <size_t N>
bool within(uint32_t code, const std::array<Range, N>& ranges) {
  return within(code, ranges.data(), ranges.data() + N);
}

// Control characters and marks that change the direction of the text after them.
bool is_unsafe(uint32_t code) {
  static constexpr std::array<Range, 6> kUnsafe = {
      {{0x00, 0x1F}, {0x7F, 0x9F}, {0x200E, 0x200F}, {0x2028, 0x202E}, {0x2066, 0x2069}, {0xFEFF, 0xFEFF}}};
  return within(code, kUnsafe);
}

int width(uint32_t code) {
  static constexpr std::array<Range, 6> kZero = {{{0x300, 0x36F},
                                                  {0x200B, 0x200D},
                                                  {0x1AB0, 0x1AFF},
                                                  {0x20D0, 0x20FF},
                                                  {0xFE00, 0xFE0F},
                                                  {0xFE20, 0xFE2F}}};
  static constexpr std::array<Range, 9> kWide = {{{0x1100, 0x115F},
                                                  {0x2E80, 0x303E},
                                                  {0x3041, 0xA4CF},
                                                  {0xAC00, 0xD7A3},
                                                  {0xF900, 0xFAFF},
                                                  {0xFE30, 0xFE6F},
                                                  {0xFF00, 0xFF60},
                                                  {0x1F300, 0x1FAFF},
                                                  {0x20000, 0x3FFFD}}};
  if (within(code, kZero)) return 0;
  return within(code, kWide) ? 2 : 1;
}

bool continues_character(char c) { return (static_cast<uint8_t>(c) & 0xC0) == 0x80; }

}  // namespace

SourceView::SourceView(std::string_view line, size_t mark) {
  size_t end = line.size();
  if (line.size() > kLongLine) {
    mark = std::min(mark, line.size());
    first_ = mark > kContext ? mark - kContext : 0;
    end = std::min(line.size(), first_ + kCropped);
    while (first_ < mark && continues_character(line[first_])) ++first_;
    for (int i = 0; i < 3 && end < line.size() && end > mark && continues_character(line[end]); ++i) --end;
    if (first_ > 0) text_ = "...";
  }
  int column = static_cast<int>(text_.size());
  for (size_t at = first_; at < end;) {
    const Character c = decode(line.substr(at, end - at));
    columns_.insert(columns_.end(), c.bytes, column);
    if (c.valid && c.code == '\t') {
      const int spaces = kTab - column % kTab;
      text_.append(static_cast<size_t>(spaces), ' ');
      column += spaces;
    } else if (!c.valid || is_unsafe(c.code)) {
      text_ += kReplacement;
      column += 1;
    } else {
      text_ += line.substr(at, c.bytes);
      column += width(c.code);
    }
    at += c.bytes;
  }
  columns_.push_back(column);
  if (end < line.size()) text_ += "...";
}

int SourceView::column(size_t byte) const {
  if (byte <= first_) return columns_.front();
  return columns_[std::min(byte - first_, columns_.size() - 1)];
}

int display_width(std::string_view text) {
  int columns = 0;
  while (!text.empty()) {
    const Character c = decode(text);
    columns += c.valid ? width(c.code) : 1;
    text.remove_prefix(c.bytes);
  }
  return columns;
}

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Character c = decode(text);
    if (c.valid && (c.code == '\n' || !is_unsafe(c.code))) {
      out += text.substr(0, c.bytes);
    } else {
      out += kReplacement;
    }
    text.remove_prefix(c.bytes);
  }
  return out;
}

}  // namespace gradc
