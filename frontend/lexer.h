// Text to tokens; knows nothing of the grammar. Newlines are no tokens: each token says whether it is the
// first of its line, and the parser decides whether that ends a statement.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "support/diagnostic.h"

namespace gradc::frontend {

enum class TokenKind : uint8_t {
  end,
  name,
  keyword,  // if else for in return as reuse and or not true false param state
  integer,
  number,
  string,
  symbol,  // an operator or bracket; `text` is its spelling
};

struct Token {
  TokenKind kind = TokenKind::end;
  Span span;
  std::string text;  // of a string: its value, escapes resolved
  int64_t integer = 0;
  double number = 0;
  bool line_start = false;
  bool column_one = false;  // the very first column: where declarations usually start
};

bool is_keyword(std::string_view word);
// Always ends in an `end` token. Errors go to diagnostics; invalid characters are skipped.
std::vector<Token> tokenize(const SourceManager& sources, uint32_t file, Diagnostics& diagnostics);

}  // namespace gradc::frontend
