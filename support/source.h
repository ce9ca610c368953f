// Source files and positions in them; knows nothing of the language.
#pragma once
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace gradc {

// A half-open byte range of one file. `file` 0 means "nowhere".
struct Span {
  uint32_t file = 0;
  uint32_t begin = 0;
  uint32_t end = 0;
  bool valid() const { return file != 0; }
  friend bool operator==(const Span&, const Span&) = default;
};

// The smallest span that covers both; they must be in one file (else the first is returned).
Span join(Span first, Span last);

struct LineColumn {
  uint32_t line = 0;    // from 1
  uint32_t column = 0;  // from 1, in bytes
};

// Owns the text of every file a compilation reads. File numbers start at 1; references stay valid.
class SourceManager {
 public:
  // Adds text under a name in the form a user would type. Returns the file's number.
  uint32_t add(std::string name, std::string text);
  const std::string& name(uint32_t file) const;
  const std::string& text(uint32_t file) const;
  uint32_t file_count() const { return static_cast<uint32_t>(files_.size()); }
  LineColumn line_column(uint32_t file, uint32_t offset) const;
  // The text of a line (from 1) without its newline; empty when there is none.
  std::string_view line(uint32_t file, uint32_t line) const;

 private:
  struct File {
    std::string name, text;
    std::vector<uint32_t> line_starts;
  };
  std::deque<File> files_;
};

}  // namespace gradc
