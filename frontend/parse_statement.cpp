// Blocks and statements, those of `train` included.
#include "frontend/error_codes.h"
#include "frontend/parser_impl.h"

namespace gradc::frontend {

namespace {

const std::vector<std::string> kExperimentWords = {
    "loss", "metric", "penalty", "predict", "optimizer", "schedule",   "epochs",     "seed", "freeze",
    "clip", "noise",  "project", "ema",     "lr_mult",   "decay_mult", "accumulate", "stop", "checkpoint"};
const std::vector<std::string> kStatementWords = {"return", "if", "for", "state", "require"};

}  // namespace

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& w : words) text += (text.empty() ? "`" : ", `") + w + "`";
  return text;
}

bool is_experiment_word(const std::string& word) {
  for (const std::string& w : kExperimentWords)
    if (w == word) return true;
  return false;
}

Block Parser::block(bool experiment, Span* span) {
  Block result;
  const Span whole = braced_statements([&] { statement(result, experiment); });
  if (span) *span = whole;
  return result;
}

void Parser::statement(Block& out, bool experiment) {
  const Token& first = current();
  const Span begin = first.span;
  Statement s;
  bool needs_end = true;
  if (first.kind == TokenKind::name && is(ahead(1), "=")) {
    if (experiment && is_experiment_word(first.text))
      reject(codes::syntax, ahead(1).span,
             fmt::format("`{}` is a statement of `train` and takes no `=`", first.text),
             fmt::format("write `{} ...`", first.text));
    s = assignment();
  } else if (at("return") && !experiment) {
    s.kind = StatementKind::return_;
    advance();
    if (at_statement_end()) fail("a value to return");
    s.value = expression();
  } else if (at("state") && !experiment) {
    s = state_statement();
  } else if (at("if")) {
    s = if_statement(experiment);
    needs_end = false;
  } else if (at("for")) {
    s = for_statement(experiment);
    needs_end = false;
  } else if (at_word("require")) {
    s = require_statement();
  } else if (experiment && first.kind == TokenKind::name && is_experiment_word(first.text)) {
    s = experiment_statement();
  } else {
    unknown_statement(experiment);
  }
  s.span = join(begin, previous().span);
  // The statement is kept even when rubbish follows it, so that names it binds are known further down.
  out.push_back(std::move(s));
  if (!needs_end) {
    accept(";");
    if (!at_statement_end() && !is(previous(), ";")) fail("a new line after `}`");
    return;
  }
  end_statement();
}

void Parser::unknown_statement(bool experiment) {
  const std::vector<std::string>& words = experiment ? kExperimentWords : kStatementWords;
  const Token& t = current();
  if (at("return") || at("state"))
    reject(codes::unknown_word, t.span, fmt::format("`{}` belongs in a definition, not in `train`", t.text));
  const bool call_like =
      t.kind == TokenKind::name && !ahead(1).line_start && (is(ahead(1), "(") || is(ahead(1), "|>"));
  if (call_like)
    reject(
        codes::unknown_word, t.span, "the value of this expression goes nowhere",
        experiment ? "give it a name: `NAME = ...`" : "give it a name, `NAME = ...`, or write `return ...`");
  Diagnostic& d = error(codes::unknown_word, t.span,
                        experiment ? fmt::format("{} is no statement of `train`", found())
                                   : fmt::format("{} begins no statement", found()));
  d.expect(experiment ? "a statement of `train`" : "a statement", found());
  suggest_word(d, words);
  d.helps.push_back(
      fmt::format("{} `NAME = VALUE`, {}", experiment ? "`train` takes" : "a statement is", joined(words)));
  throw Recover{};
}

Statement Parser::assignment() {
  Statement s;
  name(s.name, s.name_span, "a name");
  advance();
  if (!at("param")) {
    s.value = expression();
    return s;
  }
  s.kind = StatementKind::parameter;
  advance();
  if (!at("[")) fail("`[` and the parameter's shape, as in `param[out, in] ~ he_normal`");
  s.dims = dims();
  s.has_dims = true;
  if (!at("~")) fail("`~` and an initialiser, as in `param[out, in] ~ he_normal`");
  advance();
  s.value = expression();
  return s;
}

Statement Parser::state_statement() {
  Statement s;
  s.kind = StatementKind::state;
  advance();
  const auto shape = [&] {
    s.dims = dims();
    s.has_dims = true;
  };
  if (at("[")) shape();
  name(s.name, s.name_span, "the state's name");
  if (at("[") && !s.has_dims) shape();
  expect("=", "and the state's initial value, as in `state mean[c] = 0`");
  s.value = expression();
  return s;
}

Statement Parser::if_statement(bool experiment) {
  Nesting nesting(*this);
  Statement s;
  s.kind = StatementKind::if_;
  const Span begin = advance().span;
  s.value = expression();
  if (!at("{")) fail("`{` after the condition");
  s.body = block(experiment, &s.body_span);
  if (at("else")) {
    advance();
    if (at("if")) {
      s.other.push_back(if_statement(experiment));
    } else {
      if (!at("{")) fail("`{` after `else`");
      s.other = block(experiment);
    }
  }
  s.span = join(begin, previous().span);
  return s;
}

Statement Parser::for_statement(bool experiment) {
  Statement s;
  s.kind = StatementKind::for_;
  advance();
  name(s.name, s.name_span, "the loop variable's name");
  expect("in", "and a range, as in `for i in 0..3 { ... }`");
  {
    Scoped head(no_as_, true);
    s.value = expression();
  }
  if (accept("as")) name(s.label, s.label_span, "the loop's name");
  if (!at("{")) fail("`{` and the loop's body");
  s.body = block(experiment, &s.body_span);
  return s;
}

Statement Parser::require_statement() {
  Statement s;
  s.kind = StatementKind::require;
  advance();
  s.value = expression();
  if (!accept(",") || current().kind != TokenKind::string)
    fail("`, \"message\"` after the condition of `require`");
  s.message = advance().text;
  return s;
}

std::vector<Pattern> Parser::patterns() {
  std::vector<Pattern> result;
  do {
    if (current().kind != TokenKind::string) fail("a pattern in quotes, as in \"*.bias\"");
    result.push_back({current().text, current().span});
    advance();
  } while (accept(","));
  return result;
}

// min val.error
MonitorSyntax Parser::monitor() {
  MonitorSyntax m;
  const Span begin = current().span;
  if ((at_word("min") || at_word("max")) && !is(ahead(1), ".")) m.direction = advance().text;
  m.split = expect_name("what to watch, as in `val.accuracy`").text;
  expect(".", "between a split of the data and what is measured on it, as in `val.accuracy`");
  m.metric = expect_name("the loss or a metric, as in `val.accuracy`").text;
  m.span = join(begin, previous().span);
  return m;
}

// One of `words`, plurals, or its singular: `epochs` for both of "1 epoch" and "2 epochs".
std::string Parser::unit(const std::vector<std::string>& words, const std::string& expectation) {
  for (const std::string& w : words)
    if (at_word(w) || at_word(w.substr(0, w.size() - 1))) {
      advance();
      return w;
    }
  fail(expectation);
}

// stop when val.loss stalls 10 epochs
void Parser::stop_statement(Statement& s) {
  expect_word("when", "`when`, as in `stop when val.loss stalls 10 epochs`");
  s.monitor = monitor();
  expect_word("stalls", "`stalls`, as in `stop when val.loss stalls 10 epochs`");
  s.value = expression();
  s.mode = unit({"epochs"}, "`epochs`, as in `stop when val.loss stalls 10 epochs`");
}

// checkpoint every 2 epochs keep 3 best val.accuracy
void Parser::checkpoint_statement(Statement& s) {
  const char* example = "as in `checkpoint every 1 epoch keep 3 best val.accuracy`";
  expect_word("every", fmt::format("`every`, {}", example));
  s.value = expression();
  s.mode = unit({"epochs", "steps"}, fmt::format("`epochs` or `steps`, {}", example));
  if (!at_word("keep")) return;
  advance();
  s.keep = expression();
  if (!at_word("best")) return;
  advance();
  s.monitor = monitor();
}

Statement Parser::experiment_statement() {
  Statement s;
  s.kind = StatementKind::experiment;
  s.word_span = current().span;
  s.word = advance().text;
  if (at_statement_end()) fail(fmt::format("something after `{}`", s.word));
  if (s.word == "freeze") {
    s.on = patterns();
    return s;
  }
  if (s.word == "stop" || s.word == "checkpoint") {
    s.word == "stop" ? stop_statement(s) : checkpoint_statement(s);
    return s;
  }
  if (s.word == "clip") {
    if (!at_word("norm") && !at_word("value"))
      fail("`norm` or `value`, as in `clip norm 5` or `clip value 0.5`");
    s.mode = advance().text;
  }
  if (s.word == "accumulate" && at_word("all") &&
      (ahead(1).line_start || is(ahead(1), ";") || is(ahead(1), "}"))) {
    s.mode = advance().text;
    return s;
  }
  if ((s.word == "loss" || s.word == "metric") && current().kind == TokenKind::name && is(ahead(1), "=")) {
    name(s.name, s.name_span, "a name");
    advance();
  }
  s.value = expression();
  if (s.word == "loss" && at_word("weight")) {
    advance();
    s.weight = expression();
  }
  if (s.word == "schedule") {
    s.chain.push_back(std::move(s.value));
    while (at_word("then")) {
      advance();
      s.chain.push_back(expression());
    }
  }
  const bool multiplier = s.word == "lr_mult" || s.word == "decay_mult";
  if (multiplier && !at_word("on"))
    fail(fmt::format("`on` and patterns, as in `{} 0.1 on \"backbone.*\"`", s.word));
  if (s.word == "optimizer" || s.word == "penalty" || s.word == "project" || multiplier) {
    while ((at_word("on") || (at_word("no_decay") && s.word == "optimizer"))) {
      const Token word = advance();
      std::vector<Pattern>& list = word.text == "on" ? s.on : s.no_decay;
      if (!list.empty())
        reject(codes::syntax, word.span, fmt::format("`{}` is given twice here", word.text),
               "put the patterns into one list, with commas");
      for (Pattern& p : patterns()) list.push_back(std::move(p));
    }
  }
  return s;
}

}  // namespace gradc::frontend
