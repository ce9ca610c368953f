// Text to tokens; knows nothing of the grammar.
#include "frontend/lexer.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <clocale>
#include <cmath>
#include <cstdlib>

#include "frontend/error_codes.h"

namespace gradc::frontend {

namespace {

constexpr size_t kMaxFileBytes = size_t{4} << 20;
constexpr std::array kKeywords = {"if",  "else", "for", "in",   "return", "as",    "reuse",
                                  "and", "or",   "not", "true", "false",  "param", "state"};
// Longest first, so that `//` is not two `/`.
constexpr std::array kSymbols = {"|>", "==", "!=", "<=", ">=", "//", "..", "+", "-", "*", "/", "%", "^", "@",
                                 "<",  ">",  "=",  "~",  "(",  ")",  "[",  "]", "{", "}", ",", ";", ":", "."};

// ASCII only, in any locale.
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
// Parses in the C locale, since the embedding program may have set one with another decimal point.
double number_of(const std::string& text) {
  static const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);
  return strtod_l(text.c_str(), nullptr, plain);
}
// Whether a decimal number has a digit other than 0 before its exponent.
bool is_not_zero(const std::string& text) {
  return text.substr(0, text.find_first_of("eE")).find_first_of("123456789") != std::string::npos;
}
bool is_name_part(char c) { return is_name_start(c) || is_digit(c); }

class Lexer {
 public:
  Lexer(const SourceManager& sources, uint32_t file, Diagnostics& diagnostics)
      : text_(sources.text(file)), file_(file), diagnostics_(diagnostics) {}

  std::vector<Token> run() {
    if (text_.size() > kMaxFileBytes) {
      diagnostics_.error(codes::bad_file, span(0, 0),
                         "this file is larger than 4 MiB, the limit for a model file");
      return finish();
    }
    if (!skip_byte_order_mark()) return finish();
    while (true) {
      skip_blank();
      if (at_ >= text_.size()) return finish();
      token();
    }
  }

 private:
  Span span(size_t begin, size_t end) const {
    return {file_, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
  }
  char peek(size_t ahead = 0) const { return at_ + ahead < text_.size() ? text_[at_ + ahead] : '\0'; }

  std::vector<Token> finish() {
    Token t;
    t.span = span(at_, at_);
    t.line_start = t.column_one = true;
    tokens_.push_back(std::move(t));
    return std::move(tokens_);
  }

  // The mark that some editors put before UTF-8 is skipped; one of UTF-16 is an error, after which there is
  // nothing to read.
  bool skip_byte_order_mark() {
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = first_ = 3;
    if (!text_.starts_with("\xFF\xFE") && !text_.starts_with("\xFE\xFF")) return true;
    diagnostics_.error(codes::bad_character, span(0, 2), "this file is UTF-16; a model file is UTF-8")
        .helps.push_back("save it as UTF-8, or convert it: `iconv -f utf-16 -t utf-8`");
    return false;
  }

  // A line ends with \n, \r\n or \r alone, as support/source.h counts lines.
  static bool is_line_end(char c) { return c == '\n' || c == '\r'; }

  void skip_blank() {
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '#') {
        while (at_ + 1 < text_.size() && !is_line_end(text_[at_ + 1])) ++at_;
      } else if (is_line_end(c)) {
        line_start_ = true;
      } else if (c != ' ' && c != '\t') {
        return;
      }
    }
  }

  void push(Token t, size_t begin) {
    t.span = span(begin, at_);
    t.line_start = line_start_;
    t.column_one = begin == first_ || is_line_end(text_[begin - 1]);
    line_start_ = false;
    tokens_.push_back(std::move(t));
  }

  void token() {
    const size_t begin = at_;
    const char c = peek();
    Token t;
    if (is_name_start(c)) {
      while (is_name_part(peek())) ++at_;
      t.text = text_.substr(begin, at_ - begin);
      t.kind = is_keyword(t.text) ? TokenKind::keyword : TokenKind::name;
      return push(std::move(t), begin);
    }
    if (is_digit(c) || (c == '.' && is_digit(peek(1)))) return number();
    if (c == '"') return string();
    for (const char* symbol : kSymbols) {
      const std::string_view s = symbol;
      if (text_.compare(at_, s.size(), s) != 0) continue;
      at_ += s.size();
      t.kind = TokenKind::symbol;
      t.text = s;
      return push(std::move(t), begin);
    }
    bad_character();
  }

  void number() {
    const size_t begin = at_;
    bool whole = true;
    while (is_digit(peek())) ++at_;
    if (peek() == '.' && peek(1) != '.') {
      whole = false;
      ++at_;
      while (is_digit(peek())) ++at_;
    }
    const size_t sign = peek(1) == '+' || peek(1) == '-' ? 1 : 0;
    if ((peek() == 'e' || peek() == 'E') && is_digit(peek(1 + sign))) {
      whole = false;
      at_ += 1 + sign;
      while (is_digit(peek())) ++at_;
    }
    const size_t end = at_;
    while (is_name_part(peek())) ++at_;
    Token t;
    t.text = text_.substr(begin, end - begin);
    if (at_ != end) {
      diagnostics_.error(
          codes::bad_number, span(begin, at_),
          "`" + text_.substr(begin, std::min<size_t>(at_ - begin, 40)) + "` is neither a number nor a name");
    } else if (whole) {
      errno = 0;
      t.integer = std::strtoll(t.text.c_str(), nullptr, 10);
      if (errno == ERANGE)
        diagnostics_.error(codes::bad_number, span(begin, at_), "this integer does not fit in 64 bits");
    } else {
      t.number = number_of(t.text);
      if (!std::isfinite(t.number))
        diagnostics_.error(codes::bad_number, span(begin, at_), "this number is too large for a double");
      else if (t.number == 0 && is_not_zero(t.text))
        diagnostics_.error(codes::bad_number, span(begin, at_),
                           "this number is too small for a double, which would hold 0",
                           "the smallest are 5e-324 and, in f32, 1.5e-45; write 0 if that is meant");
    }
    t.kind = whole ? TokenKind::integer : TokenKind::number;
    push(std::move(t), begin);
  }

  void string() {
    const size_t begin = at_++;
    Token t;
    t.kind = TokenKind::string;
    while (at_ < text_.size() && peek() != '"' && !is_line_end(peek())) {
      if (peek() != '\\') {
        t.text += text_[at_++];
        continue;
      }
      const char c = peek(1);
      if (c == '"' || c == '\\')
        t.text += c;
      else if (c == 'n' || c == 't')
        t.text += c == 'n' ? '\n' : '\t';
      else
        diagnostics_.error(codes::bad_string, span(at_, at_ + 1), "this escape is unknown",
                           "the escapes are \\\" \\\\ \\n \\t");
      at_ += at_ + 1 < text_.size() && !is_line_end(c) ? 2 : 1;
    }
    if (peek() == '"' && at_ < text_.size())
      ++at_;
    else
      diagnostics_.error(codes::bad_string, span(begin, at_), "this string has no end",
                         "a `\"` is missing on this line");
    push(std::move(t), begin);
  }

  void bad_character() {
    const size_t begin = at_++;
    // One error for a run of such bytes: a UTF-8 sequence, or a binary file.
    while (at_ < text_.size() && (static_cast<unsigned char>(peek()) >= 0x80 ||
                                  (static_cast<unsigned char>(peek()) < 0x20 && peek() != '\n' &&
                                   peek() != '\t' && peek() != '\r')))
      ++at_;
    const auto byte = static_cast<unsigned char>(text_[begin]);
    const std::string shown =
        byte > 0x20 && byte < 0x7f ? std::string("`") + text_[begin] + "`" : "this character";
    Diagnostic& d = diagnostics_.error(codes::bad_character, span(begin, at_), shown + " means nothing here");
    if (byte == '\'') d.helps.push_back("strings are written \"...\"");
    if (byte == '!') d.helps.push_back("negation is written `not`");
    if (byte == '&') d.helps.push_back("conjunction is written `and`");
    if (byte == '|') d.helps.push_back("a pipe is written `|>`, disjunction `or`");
  }

  const std::string& text_;
  uint32_t file_;
  Diagnostics& diagnostics_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  size_t first_ = 0;  // where the text begins, after a byte order mark
  bool line_start_ = true;
};

}  // namespace

bool is_keyword(std::string_view word) {
  return std::find(kKeywords.begin(), kKeywords.end(), word) != kKeywords.end();
}

std::vector<Token> tokenize(const SourceManager& sources, uint32_t file, Diagnostics& diagnostics) {
  return Lexer(sources, file, diagnostics).run();
}

}  // namespace gradc::frontend
