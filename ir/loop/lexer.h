// Splits loop IR text into tokens; knows no grammar. Private to ir/loop.
#pragma once
#include <cctype>
#include <string>
#include <string_view>

namespace gradc::loop {

// Thrown within the parser only; parse() turns it into ParseResult.error.
struct Failure {
  size_t offset;
  std::string message;
};

enum class TokenKind : uint8_t { end, name, number, text, symbol };
struct Token {
  TokenKind kind = TokenKind::end;
  std::string_view text;  // strings: with quotes and escapes
  size_t offset = 0;
};

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  Token next() {
    skip_space();
    if (at_ == text_.size()) return {TokenKind::end, "end of text", at_};
    const size_t begin = at_;
    const char c = text_[at_];
    TokenKind kind = TokenKind::symbol;
    if (is_letter(c)) {
      kind = TokenKind::name;
      while (at_ < text_.size() && (is_letter(text_[at_]) || is_digit(text_[at_]) || text_[at_] == '.'))
        ++at_;
    } else if (is_digit(c)) {
      kind = TokenKind::number;
      while (at_ < text_.size() &&
             (is_letter(text_[at_]) || is_digit(text_[at_]) || text_[at_] == '.' || exponent_sign()))
        ++at_;
    } else if (c == '"') {
      kind = TokenKind::text;
      for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_)
        if (text_[at_] == '\\') ++at_;
      if (at_ >= text_.size()) throw Failure{begin, "this string has no end"};
      ++at_;
    } else {
      static constexpr std::string_view pairs[] = {"<<", ">>", "<=", ">=", "==", "!="};
      ++at_;
      for (const std::string_view p : pairs)
        if (text_.substr(begin, 2) == p) at_ = begin + 2;
    }
    return {kind, text_.substr(begin, at_ - begin), begin};
  }

 private:
  static bool is_letter(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  bool exponent_sign() const { return (text_[at_] == '-' || text_[at_] == '+') && text_[at_ - 1] == 'e'; }
  void skip_space() {
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
        if (at_ == text_.size()) return;
      } else if (!std::isspace(static_cast<unsigned char>(text_[at_]))) {
        return;
      }
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace gradc::loop
