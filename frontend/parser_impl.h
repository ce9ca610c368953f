// The parser's class, shared by parser.cpp (declarations), parse_statement.cpp and parse_expression.cpp;
// included nowhere else.
#pragma once
#include <fmt/core.h>

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "frontend/error_codes.h"
#include "frontend/parser.h"

namespace gradc::frontend {

// `a`, `b`, `c`
std::string joined(const std::vector<std::string>& words);
// Whether a word begins a statement of `train`.
bool is_experiment_word(const std::string& word);

class Parser {
 public:
  Parser(const SourceManager& sources, uint32_t file, Diagnostics& diagnostics);
  File run();
  ExprPtr run_expression();

 private:
  // Thrown after an error was reported; caught where parsing can go on.
  struct Recover {};
  // Counts nesting while it lives.
  struct Nesting {
    explicit Nesting(Parser& p);
    ~Nesting() { --parser.depth_; }
    Parser& parser;
  };
  // A variable's value while this lives.
  template <typename T>
  struct Scoped {
    Scoped(T& variable, T value) : variable(variable), before(std::exchange(variable, value)) {}
    Scoped(const Scoped&) = delete;
    ~Scoped() { variable = before; }
    T& variable;
    const T before;
  };
  // Inside brackets a newline is a blank; inside braces it ends a statement again. In both, `as` names instances.
  struct Grouping {
    Grouping(Parser& p, bool grouped) : grouped(p.grouped_, grouped), no_as(p.no_as_, false) {}
    Scoped<bool> grouped, no_as;
  };

  // --- tokens
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead(size_t n) const { return tokens_[std::min(at_ + n, tokens_.size() - 1)]; }
  const Token& previous() const { return tokens_[at_ == 0 ? 0 : at_ - 1]; }
  const Token& advance();
  bool at_end() const { return current().kind == TokenKind::end; }
  static bool is(const Token& t, std::string_view text) {
    return (t.kind == TokenKind::symbol || t.kind == TokenKind::keyword) && t.text == text;
  }
  bool at(std::string_view text) const { return is(current(), text); }
  // As `at`, for tokens that continue an expression: not at the start of a line, unless brackets are open.
  bool continues(std::string_view text) const { return at(text) && (grouped_ || !current().line_start); }
  bool at_word(std::string_view word) const {
    return current().kind == TokenKind::name && current().text == word;
  }
  bool accept(std::string_view text);
  Span expect(std::string_view text, std::string_view where);
  void expect_word(std::string_view word, std::string_view expected);
  const Token& expect_name(std::string_view what);
  // The same, with text and span in an element of the syntax tree.
  void name(std::string& text, Span& span, std::string_view what);
  bool at_statement_end() const;
  void end_statement();
  std::string found() const;
  // The word that was probably meant where the current token is one.
  void suggest_word(Diagnostic& d, const std::vector<std::string>& words) const;
  // Report an error, and leave what is being read: at the current token, something else than `expected`; anything.
  [[noreturn]] void fail(std::string_view expected, std::string_view help = {});
  [[noreturn]] void reject(const char* code, Span span, std::string message, std::string help = {},
                           std::string label = {});
  Diagnostic& error(const char* code, Span span, std::string message, std::string label = {});
  // To the start of the next statement or the block's end.
  void skip_statement(size_t started_at);
  // To the next declaration.
  void skip_declaration(size_t started_at);
  bool at_declaration(size_t offset = 0) const;
  // Whether a block cannot go on here: a declaration in column one ends it too, so that one missing `}` spoils one
  // declaration only.
  bool at_block_limit() const { return at_end() || (current().column_one && at_declaration()); }

  // --- sequences
  // [ELEMENT, ELEMENT, ...] from the opening bracket to `close`; a comma may follow the last element. Returns the
  // span of `close`.
  template <typename Element>
  Span comma_list(std::string_view close, std::string_view expected, const Element& element) {
    Nesting nesting(*this);
    advance();
    Grouping group(*this, true);
    while (!at(close)) {
      element();
      if (!accept(",") && !at(close)) fail(expected);
    }
    return advance().span;
  }
  // { STATEMENT; STATEMENT ... } from the `{`; after an error in one it goes on with the next. Returns the span from
  // `{` to `}`.
  template <typename ReadStatement>
  Span braced_statements(const ReadStatement& read_statement) {
    Nesting nesting(*this);
    const Span open = advance().span;
    Grouping group(*this, false);
    while (!at("}")) {
      if (at_block_limit())
        reject(codes::unclosed, open, "this `{` is never closed", {},
               at_end() ? "the file ends before its `}`" : "a new declaration begins before its `}`");
      if (accept(";")) continue;
      const size_t started_at = at_;
      try {
        read_statement();
      } catch (const Recover&) {
        // A missing `}` of an inner block is reported once; the outer ones lack theirs only because of it.
        if (at_block_limit() || diagnostics_.full()) throw;
        skip_statement(started_at);
      }
    }
    return join(open, advance().span);
  }

  // --- declarations (parser.cpp) and statements (parse_statement.cpp)
  void declaration(File& out);
  std::unique_ptr<Definition> definition(DefinitionKind kind);
  std::vector<ParameterSyntax> parameters();
  TypeSyntax type();
  SettingSyntax setting();
  DataSyntax data();
  // The statements of a data block, each from its first word.
  struct DataStatement {
    const char* word;
    void (Parser::*read)(DataSyntax& d);
    const char* form;
  };
  static const std::vector<DataStatement>& data_statements();
  void data_statement(DataSyntax& d);
  void split(DataSyntax& d);
  void field(DataSyntax& d);
  void normalize(DataSyntax& d);
  void augment(DataSyntax& d);
  void curriculum(DataSyntax& d);
  void bootstrap(DataSyntax& d);
  ExprPtr method();
  TrainSyntax train();
  Block block(bool experiment, Span* span = nullptr);
  void statement(Block& out, bool experiment);
  Statement assignment();
  Statement state_statement();
  Statement if_statement(bool experiment);
  Statement for_statement(bool experiment);
  Statement require_statement();
  Statement experiment_statement();
  MonitorSyntax monitor();
  std::string unit(const std::vector<std::string>& words, const std::string& expectation);
  void stop_statement(Statement& s);
  void checkpoint_statement(Statement& s);
  std::vector<Pattern> patterns();
  [[noreturn]] void unknown_statement(bool experiment);

  // --- expressions (parse_expression.cpp)
  ExprPtr expression() { return binary(1); }
  ExprPtr binary(int lowest);
  ExprPtr prefix();
  ExprPtr postfix();
  ExprPtr primary();
  ExprPtr choice();
  ExprPtr list();
  ExprPtr pipe_stage(ExprPtr left);
  std::vector<Argument> arguments();
  std::vector<ExprPtr> dims();
  void instance(Expr& call);
  ExprPtr node(ExprKind kind, Span span);
  // Sets span and height from the children, and checks the height.
  ExprPtr finish(ExprPtr e, Span span);

  const SourceManager& sources_;
  uint32_t file_;
  Diagnostics& diagnostics_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  std::set<uint32_t>
      misread_lines_;  // with an error of the lexer: what the parser finds there only follows from it
  Diagnostic dropped_;
  int depth_ = 0;
  bool grouped_ = false;
  bool in_train_ = false;  // where `optimizer` and `schedule` begin statements, not declarations
  bool no_as_ = false;     // in the head of a `for`, where `as` names the loop
};

}  // namespace gradc::frontend
