// The parser's class, shared by parser.cpp (declarations), parse_statement.cpp and parse_expression.cpp;
// included nowhere else.
#pragma once
#include <fmt/core.h>
#include <functional>

#include <algorithm>
#include <set>
#include <string_view>

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
  // Inside brackets a newline is a blank; inside braces it ends a statement again.
  struct Grouping {
    Grouping(Parser& p, bool grouped) : parser(p), saved(p.grouped_), saved_as(p.no_as_) {
      p.grouped_ = grouped;
      p.no_as_ = false;
    }
    ~Grouping() {
      parser.grouped_ = saved;
      parser.no_as_ = saved_as;
    }
    Parser& parser;
    bool saved, saved_as;
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
  const Token& expect_name(std::string_view what);
  bool at_statement_end() const;
  void end_statement();
  std::string found() const;
  // The word that was probably meant where the current token is one.
  void suggest_word(Diagnostic& d, const std::vector<std::string>& words) const;
  [[noreturn]] void fail(std::string_view expected, std::string_view help = {});
  Diagnostic& error(const char* code, Span span, std::string message, std::string label = {});
  // To the start of the next statement or the block's end.
  void skip_statement(size_t started_at);
  // To the next declaration.
  void skip_declaration(size_t started_at);
  bool at_declaration(size_t offset = 0) const;

  // --- declarations (parser.cpp) and statements (parse_statement.cpp)
  void declaration(File& out);
  std::unique_ptr<Definition> definition(DefinitionKind kind);
  std::vector<ParameterSyntax> parameters();
  TypeSyntax type();
  SettingSyntax setting();
  DataSyntax data();
  void data_block(Span open, const std::function<void()>& statement);
  void data_statement(DataSyntax& d);
  SplitSyntax split();
  FieldSyntax field();
  void augment(DataSyntax& d);
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
