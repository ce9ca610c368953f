// Loop IR's tokens one by one, and the small words of its text: names, strings, numbers, types. Throws Failure with the
// offset where something else was expected.
#pragma once
#include <fmt/format.h>

#include <charconv>
#include <limits>
#include <string>

#include "ir/loop/lexer.h"
#include "ir/loop/type_rules.h"

namespace gradc::loop {

class TokenReader {
 protected:
  explicit TokenReader(std::string_view text) : lexer_(text) { token_ = lexer_.next(); }

  [[noreturn]] void fail(const std::string& message) const {
    throw Failure{token_.offset, fmt::format("{}, found `{}`", message, token_.text)};
  }
  [[noreturn]] static void fail_at(const Token& t, const std::string& message) {
    throw Failure{t.offset, message};
  }
  bool is(std::string_view s) const { return token_.text == s && token_.kind != TokenKind::text; }
  Token take() {
    Token t = token_;
    token_ = lexer_.next();
    return t;
  }
  bool accept(std::string_view s) {
    if (!is(s)) return false;
    take();
    return true;
  }
  void expect(std::string_view s) {
    if (!accept(s)) fail(fmt::format("expected `{}`", s));
  }
  Token identifier(const char* what) {
    if (token_.kind != TokenKind::name) fail(fmt::format("expected {}", what));
    return take();
  }
  std::string text() {
    if (token_.kind != TokenKind::text) fail("expected a string");
    const std::string_view raw = take().text;
    std::string out;
    for (size_t i = 1; i + 1 < raw.size(); ++i) {
      const bool escape = raw[i] == '\\';
      if (escape) ++i;
      out += escape && raw[i] == 'n' ? '\n' : raw[i];
    }
    return out;
  }
  int64_t integer() {
    const Token at = token_;
    const bool negative = accept("-");
    if (token_.kind != TokenKind::number) fail("expected a whole number");
    const std::string s = (negative ? "-" : "") + std::string(take().text);
    int64_t v = 0;
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), v);
    if (error != std::errc() || end != s.data() + s.size())
      fail_at(at, fmt::format("`{}` is no 64-bit whole number", s));
    return v;
  }
  int small() {
    const Token at = token_;
    const int64_t v = integer();
    if (v < std::numeric_limits<int>::min() || v > std::numeric_limits<int>::max())
      fail_at(at, "this number is too large");
    return static_cast<int>(v);
  }
  int lanes() {
    const Token at = token_;
    const int64_t v = integer();
    if (v < 1 || v > max_lanes) fail_at(at, fmt::format("lanes are 1 to {}", max_lanes));
    return static_cast<int>(v);
  }
  Scalar scalar() {
    const auto s = token_.kind == TokenKind::name ? scalar_named(token_.text) : std::nullopt;
    if (!s) fail("expected a scalar type (i1, i8, i32, i64, f32, f64)");
    take();
    return *s;
  }
  Type type() {
    if (token_.kind != TokenKind::name) fail("expected a type such as f32 or f32x16");
    const Token t = take();
    const size_t x = t.text.find('x');
    const auto s = scalar_named(t.text.substr(0, x));
    if (!s) fail_at(t, fmt::format("`{}` is no type", t.text));
    if (x == std::string_view::npos) return {*s, 1};
    const std::string_view digits = t.text.substr(x + 1);
    int n = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), n);
    if (error != std::errc() || end != digits.data() + digits.size() || n < 2 || n > max_lanes)
      fail_at(t, fmt::format("lanes are 2 to {}", max_lanes));
    return {*s, static_cast<uint16_t>(n)};
  }

  Token token_;  // the next one

 private:
  Lexer lexer_;
};

}  // namespace gradc::loop
