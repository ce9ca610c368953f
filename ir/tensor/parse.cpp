// Reads the text that print.cpp writes; grammar in docs/ir.md. Knows no operation: names, attributes and
// types are checked through the definitions.
#include <fmt/core.h>

#include <algorithm>
#include <charconv>

#include "ir/tensor/module.h"
#include "ir/tensor/op_def.h"
#include "ir/tensor/text.h"
#include "support/diagnostic.h"

namespace gradc {

namespace {

struct ParseError {
  size_t offset;
  std::string message;
};

// Tokens on demand; spaces, newlines and `#` comments separate them and mean nothing else.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) { skip(); }

  size_t offset() const { return at_; }
  bool at_end() const { return at_ >= text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool is_digit() const { return peek() >= '0' && peek() <= '9'; }

  [[noreturn]] void fail(const std::string& message) const { throw ParseError{at_, message}; }
  [[noreturn]] void expected(std::string_view what) const {
    if (at_end()) fail(fmt::format("expected {}, found the end of the text", what));
    const auto byte = static_cast<unsigned char>(peek());
    fail(byte > 0x20 && byte < 0x7f ? fmt::format("expected {}, found `{}`", what, peek())
                                    : fmt::format("expected {}, found the byte 0x{:02x}", what, byte));
  }

  bool accept(char c) {
    if (peek() != c || at_end()) return false;
    ++at_;
    skip();
    return true;
  }
  void expect(char c, std::string_view what) {
    if (!accept(c)) expected(fmt::format("`{}` {}", c, what));
  }

  // A word, as a keyword or an operation's name; empty when there is none.
  std::string_view word() {
    const size_t begin = at_;
    while (!at_end() && text::begins_name(peek())) ++at_;
    const std::string_view result = text_.substr(begin, at_ - begin);
    skip();
    return result;
  }
  bool accept_word(std::string_view wanted) {
    const size_t begin = at_;
    if (word() == wanted) return true;
    at_ = begin;
    return false;
  }

  // A name, bare or quoted; `more` are further characters that a bare one may have.
  std::string name(std::string_view what, std::string_view more = {}) {
    if (peek() == '"') return quoted();
    const size_t begin = at_;
    while (!at_end() && (text::continues_name(peek()) || more.find(peek()) != more.npos)) ++at_;
    if (begin == at_) expected(what);
    std::string result(text_.substr(begin, at_ - begin));
    skip();
    return result;
  }

  std::string quoted() {
    if (peek() != '"') expected("a quoted text");
    const size_t begin = at_++;
    std::string result;
    while (peek() != '"') {
      if (at_end() || peek() == '\n') throw ParseError{begin, "this text has no closing quote"};
      if (peek() == '\\') {
        ++at_;
        result += escaped();
      } else {
        result += text_[at_++];
      }
      if (at_end()) throw ParseError{begin, "this text has no closing quote"};
    }
    ++at_;
    skip();
    return result;
  }

  template <class Number>
  Number natural(std::string_view what, Number low = 0) {
    const size_t begin = at_;
    if (!is_digit()) expected(what);
    while (is_digit()) ++at_;
    Number value{};
    const auto [end, error] = std::from_chars(text_.data() + begin, text_.data() + at_, value);
    if (error != std::errc{} || value < low) throw ParseError{begin, fmt::format("{} is out of range", what)};
    if (!at_end() && text::begins_name(peek())) expected(fmt::format("the end of {}", what));
    skip();
    return value;
  }

  int64_t integer() {
    const size_t begin = at_;
    const std::string_view token = number_token();
    int64_t value = 0;
    const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
    if (token.empty()) expected("an integer");
    if (error == std::errc::result_out_of_range) throw ParseError{begin, "this integer does not fit 64 bits"};
    if (error != std::errc{} || end != token.data() + token.size())
      throw ParseError{begin, "expected an integer"};
    return value;
  }

  // An integer, or a double when it has a point, an exponent, or is infinite or not a number.
  Attribute number() {
    const size_t begin = at_;
    const std::string_view token = number_token();
    if (token.find_first_not_of("-0123456789") == token.npos) {
      at_ = begin;
      return integer();
    }
    double value = 0;
    const auto [end, error] = std::from_chars(token.data(), token.data() + token.size(), value);
    if (error == std::errc::result_out_of_range) throw ParseError{begin, "this number does not fit a double"};
    if (error != std::errc{} || end != token.data() + token.size())
      throw ParseError{begin, "expected a value: true, false, a number, a quoted text or a list"};
    return value;
  }

  Type type() {
    const size_t begin = at_;
    while (!at_end() && text::begins_name(peek())) ++at_;
    size_t end = at_;
    skip();
    if (accept('[')) {
      while (!at_end() && (is_digit() || peek() == 'n' || peek() == '*' || peek() == ',' || peek() == ' '))
        ++at_;
      end = at_ + 1;
      expect(']', "after the extents");
    }
    Type result;
    const std::string_view token = text_.substr(begin, end - begin);
    if (!parse_type(token, result))
      throw ParseError{
          begin, "expected a type, for example f32[n,3,32,32], with extents of at least 1 within the limits"};
    return result;
  }

 private:
  void skip() {
    while (!at_end()) {
      const char c = peek();
      if (c == '#') {
        while (!at_end() && peek() != '\n') ++at_;
      } else if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string_view number_token() {
    const size_t begin = at_;
    while (!at_end() && (text::begins_name(peek()) || peek() == '-' || peek() == '+' || peek() == '.')) ++at_;
    const std::string_view token = text_.substr(begin, at_ - begin);
    skip();
    return token;
  }

  char escaped() {
    const char c = peek();
    if (c == '"' || c == '\\' || c == 'n') {
      ++at_;
      return c == 'n' ? '\n' : c;
    }
    if (c != 'x') fail("an unknown escape; there are \\\", \\\\, \\n and \\xHH");
    unsigned value = 0;
    const std::string_view digits = text_.substr(at_ + 1, 2);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    if (digits.size() != 2 || error != std::errc{} || end != digits.data() + 2)
      fail("\\x wants two hexadecimal digits");
    at_ += 3;
    return static_cast<char>(value);
  }

  std::string_view text_;
  size_t at_ = 0;
};

class Parser {
 public:
  explicit Parser(std::string_view text) : scan_(text), module_(std::make_unique<Module>()) {}

  std::unique_ptr<Module> run() {
    if (scan_.accept_word("module")) module_->name = scan_.quoted();
    while (!scan_.at_end()) {
      const size_t begin = scan_.offset();
      const std::string_view keyword = scan_.word();
      if (keyword == "param") {
        symbol(SymbolKind::parameter);
      } else if (keyword == "state") {
        symbol(SymbolKind::state);
      } else if (keyword == "slot") {
        symbol(SymbolKind::slot);
      } else if (keyword == "average") {
        symbol(SymbolKind::average);
      } else if (keyword == "gradient") {
        symbol(SymbolKind::gradient);
      } else if (keyword == "weights") {
        symbol(SymbolKind::weights);
      } else if (keyword == "func") {
        function();
      } else {
        throw ParseError{begin,
                         "expected `param`, `state`, `slot`, `average`, `gradient`, `weights` or `func`"};
      }
    }
    return std::move(module_);
  }

 private:
  void symbol(SymbolKind kind) {
    const size_t begin = scan_.offset();
    Symbol s;
    s.kind = kind;
    s.name = symbol_name();
    if (module_->symbol(s.name)) throw ParseError{begin, fmt::format("@{} is declared twice", s.name)};
    scan_.expect(':', "and a type");
    const size_t at = scan_.offset();
    s.type = scan_.type();
    if (s.type.batched) throw ParseError{at, "a symbol's type has no batch"};
    if (auto list = locations(); !list.empty()) s.location = list.front();
    module_->add_symbol(std::move(s));
  }

  void function() {
    const size_t begin = scan_.offset();
    const std::string name = symbol_name();
    if (module_->function(name)) throw ParseError{begin, fmt::format("there are two functions @{}", name)};
    f_ = &module_->add_function(name);
    by_number_.clear();
    scan_.expect('(', "and the inputs");
    if (!scan_.accept(')')) {
      do input();
      while (scan_.accept(','));
      scan_.expect(')', "or `,` after an input");
    }
    scan_.expect('{', "and the operations");
    std::string guard;
    size_t guard_at = 0;
    bool returned = false, guarded = false;
    while (!scan_.accept('}')) {
      if (scan_.peek() == '%') {
        operation();
        continue;
      }
      const size_t at = scan_.offset();
      const std::string_view keyword = scan_.word();
      if (keyword == "update") {
        update();
      } else if (keyword == "guard" && !guarded) {
        guarded = true;
        guard_at = scan_.offset();
        guard = scan_.name("the name of an output");
      } else if (keyword == "return" && !returned) {
        returned = true;
        do output();
        while (scan_.accept(','));
      } else if (keyword == "guard" || keyword == "return") {
        throw ParseError{at, fmt::format("@{} has a second `{}`", name, keyword)};
      } else {
        throw ParseError{at, "expected an operation, `update`, `guard`, `return` or `}`"};
      }
    }
    if (guarded) {
      for (size_t i = 0; i < f_->outputs.size(); ++i)
        if (f_->outputs[i].name == guard) f_->guard_output = static_cast<int>(i);
      if (f_->guard_output < 0) throw ParseError{guard_at, fmt::format("@{} has no output {}", name, guard)};
    }
    f_->renumber();
  }

  void input() {
    const size_t begin = scan_.offset();
    scan_.expect('%', "and an input's name");
    if (scan_.is_digit()) scan_.expected("an input's name; one that begins with a digit is quoted");
    const std::string name = scan_.name("an input's name");
    if (f_->input(name)) throw ParseError{begin, fmt::format("there are two inputs %{}", name)};
    scan_.expect(':', "and a type");
    Op* op = f_->add_input(name, scan_.type());
    op->locations = locations();
  }

  void operation() {
    const size_t begin = scan_.offset();
    scan_.expect('%', "and a number");
    const int number = scan_.natural<int>("a value's number");
    if (by_number_.count(number)) throw ParseError{begin, fmt::format("%{} is there twice", number)};
    scan_.expect('=', "and an operation");
    const size_t at = scan_.offset();
    const std::string op_name(scan_.word());
    const OpDef* def = find_op(op_name);
    if (!def || def->kind == OpKind::external) throw ParseError{at, unknown_operation(op_name)};
    auto op = std::make_unique<Op>();
    op->def = def;
    std::vector<Type> types;
    if (scan_.peek() == '%' || scan_.peek() == '@') {
      do {
        op->operands.push_back(value());
        types.push_back(op->operands.back()->type);
      } while (scan_.accept(','));
    }
    if (scan_.accept('{')) attributes(op->attributes);
    scan_.expect(':', "and the type");
    const size_t type_at = scan_.offset();
    const Type stated = scan_.type();
    InferResult inferred = infer(*def, types, op->attributes);
    if (!inferred.error.empty()) throw ParseError{at, fmt::format("{}: {}", op_name, inferred.error)};
    if (inferred.type != stated)
      throw ParseError{type_at, fmt::format("%{} has type {}, not {}", number, to_string(inferred.type),
                                            to_string(stated))};
    op->type = std::move(inferred.type);
    if (scan_.accept_word("kernel")) {
      scan_.expect('(', "and a kernel's number");
      op->kernel = scan_.natural<int>("a kernel's number");
      scan_.expect(')', "after a kernel's number");
    }
    op->locations = locations();
    by_number_[number] = op.get();
    f_->body.push_back(std::move(op));
  }

  static std::string unknown_operation(const std::string& name) {
    if (name.empty()) return "expected the name of an operation";
    const std::string near = nearest_name(name, op_names());
    return fmt::format("there is no operation `{}`{}", name,
                       near.empty() ? "" : fmt::format("; did you mean `{}`?", near));
  }

  void attributes(Attributes& out) {
    if (scan_.accept('}')) return;
    do {
      const size_t begin = scan_.offset();
      const std::string name = scan_.name("an attribute's name");
      if (out.has(name)) throw ParseError{begin, fmt::format("the attribute `{}` is there twice", name)};
      scan_.expect('=', "and the attribute's value");
      out.set(name, attribute());
    } while (scan_.accept(','));
    scan_.expect('}', "or `,` after an attribute");
  }

  Attribute attribute() {
    if (scan_.accept_word("true")) return true;
    if (scan_.accept_word("false")) return false;
    if (scan_.peek() == '"') return scan_.quoted();
    if (!scan_.accept('[')) return scan_.number();
    std::vector<int64_t> list;
    if (scan_.accept(']')) return list;
    do list.push_back(scan_.integer());
    while (scan_.accept(','));
    scan_.expect(']', "or `,` in a list");
    return list;
  }

  void update() {
    const size_t begin = scan_.offset();
    Update u;
    u.symbol = symbol_name();
    if (!module_->symbol(u.symbol)) throw ParseError{begin, fmt::format("@{} is not declared", u.symbol)};
    scan_.expect('=', "and a value");
    u.value = value();
    if (auto list = locations(); !list.empty()) u.location = list.front();
    f_->updates.push_back(std::move(u));
  }

  void output() {
    Output o;
    const size_t begin = scan_.offset();
    o.name = scan_.name("an output's name");
    for (const Output& other : f_->outputs)
      if (other.name == o.name) throw ParseError{begin, fmt::format("there are two outputs {}", o.name)};
    scan_.expect('=', "and a value");
    o.value = value();
    if (scan_.accept('/')) o.divisor = scan_.name("the name of the output that divides it");
    f_->outputs.push_back(std::move(o));
  }

  Op* value() {
    const size_t begin = scan_.offset();
    if (scan_.peek() == '@') {
      const std::string name = symbol_name();
      const Symbol* s = module_->symbol(name);
      if (!s) throw ParseError{begin, fmt::format("@{} is not declared", name)};
      return f_->read(*s);
    }
    scan_.expect('%', "or `@`: a value");
    if (scan_.is_digit()) {
      const int number = scan_.natural<int>("a value's number");
      const auto it = by_number_.find(number);
      if (it == by_number_.end())
        throw ParseError{begin, fmt::format("%{} is not defined before its use", number)};
      return it->second;
    }
    const std::string name = scan_.name("a value's name or number");
    Op* op = f_->input(name);
    if (!op) throw ParseError{begin, fmt::format("@{} has no input %{}", f_->name, name)};
    return op;
  }

  std::string symbol_name() {
    scan_.expect('@', "and a name");
    return scan_.name("a name");
  }

  std::vector<Location> locations() {
    std::vector<Location> list;
    if (!scan_.accept_word("loc")) return list;
    scan_.expect('(', "and a location");
    do {
      Location l;
      const std::string file = scan_.name("a file's name", "/");
      auto& shared = files_[file];
      if (!shared) shared = std::make_shared<const std::string>(file);
      l.file = shared;
      scan_.expect(':', "and a line");
      l.line = scan_.natural<uint32_t>("a line's number", 1);
      scan_.expect(':', "and a column");
      l.column = scan_.natural<uint32_t>("a column's number");
      list.push_back(std::move(l));
    } while (scan_.accept(','));
    scan_.expect(')', "or `,` after a location");
    return list;
  }

  Scanner scan_;
  std::unique_ptr<Module> module_;
  Function* f_ = nullptr;
  std::map<int, Op*> by_number_;
  std::map<std::string, std::shared_ptr<const std::string>> files_;  // operations of one file share its name
};

std::string location(std::string_view text, size_t offset) {
  size_t line = 1, begin = 0;
  offset = std::min(offset, text.size());
  for (size_t i = 0; i < offset; ++i) {
    if (text[i] != '\n') continue;
    ++line;
    begin = i + 1;
  }
  return fmt::format("line {}, column {}", line, offset - begin + 1);
}

}  // namespace

ModuleParseResult parse_module(std::string_view text) {
  try {
    return {Parser(text).run(), {}};
  } catch (const ParseError& e) {
    return {nullptr, fmt::format("{}: {}", location(text, e.offset), e.message)};
  }
}

}  // namespace gradc
