// Declarations, and recovery after errors.
#include "frontend/parser.h"

#include <array>

#include "frontend/error_codes.h"
#include "frontend/parser_impl.h"

namespace gradc::frontend {

namespace {

struct DeclarationWord {
  const char* word;
  std::optional<DefinitionKind> kind;  // empty: set, data, train
};
const std::array kDeclarations = {DeclarationWord{"fn", DefinitionKind::fn},
                                  DeclarationWord{"layer", DefinitionKind::layer},
                                  DeclarationWord{"init", DefinitionKind::init},
                                  DeclarationWord{"optimizer", DefinitionKind::optimizer},
                                  DeclarationWord{"schedule", DefinitionKind::schedule},
                                  DeclarationWord{"model", DefinitionKind::model},
                                  DeclarationWord{"set", {}},
                                  DeclarationWord{"data", {}},
                                  DeclarationWord{"train", {}}};
}  // namespace

const char* name(DefinitionKind kind) {
  static constexpr const char* names[] = {"fn", "layer", "init", "optimizer", "schedule", "model"};
  return names[static_cast<size_t>(kind)];
}

Parser::Parser(const SourceManager& sources, uint32_t file, Diagnostics& diagnostics)
    : sources_(sources), file_(file), diagnostics_(diagnostics) {
  const size_t before = diagnostics.all().size();
  tokens_ = tokenize(sources, file, diagnostics);
  for (size_t i = before; i < diagnostics.all().size(); ++i)
    misread_lines_.insert(sources.line_column(file, diagnostics.all()[i].span.begin).line);
}

Diagnostic& Parser::error(const char* code, Span span, std::string message, std::string label) {
  if (!misread_lines_.empty() && misread_lines_.count(sources_.line_column(span.file, span.begin).line)) {
    dropped_ = {};
    return dropped_;
  }
  return diagnostics_.error(code, span, std::move(message), std::move(label));
}

Parser::Nesting::Nesting(Parser& p) : parser(p) {
  if (++p.depth_ <= kMaxNesting) return;
  --p.depth_;
  p.reject(codes::too_deep, p.current().span,
           fmt::format("this is nested more than {} levels deep", kMaxNesting));
}

const Token& Parser::advance() {
  const Token& t = tokens_[at_];
  if (t.kind != TokenKind::end) ++at_;
  return t;
}

bool Parser::accept(std::string_view text) {
  if (!at(text)) return false;
  advance();
  return true;
}

Span Parser::expect(std::string_view text, std::string_view where) {
  if (!at(text)) fail(fmt::format("`{}` {}", text, where));
  return advance().span;
}

void Parser::expect_word(std::string_view word, std::string_view expected) {
  if (!at_word(word)) fail(expected);
  advance();
}

const Token& Parser::expect_name(std::string_view what) {
  if (current().kind != TokenKind::name) fail(what);
  return advance();
}

void Parser::name(std::string& text, Span& span, std::string_view what) {
  const Token& t = expect_name(what);
  text = t.text;
  span = t.span;
}

std::string Parser::found() const {
  const Token& t = current();
  switch (t.kind) {
    case TokenKind::end: return "the end of the file";
    case TokenKind::string: return "a string";
    case TokenKind::keyword: return fmt::format("the keyword `{}`", t.text);
    default: return fmt::format("`{}`", t.text.substr(0, 40));
  }
}

void Parser::suggest_word(Diagnostic& d, const std::vector<std::string>& words) const {
  const Token& t = current();
  if (t.kind == TokenKind::name || t.kind == TokenKind::keyword) d.suggest(t.text, words);
}

void Parser::fail(std::string_view expected, std::string_view help) {
  // Where a line has ended too early, the place to mend is its end, not the next line.
  const bool line_ended = current().line_start && at_ > 0;
  const Span here = current().span;
  const Span span = line_ended ? Span{file_, previous().span.end, previous().span.end} : here;
  const std::string got = at_end()     ? "the file ends here"
                          : line_ended ? fmt::format("the line ends, and the next begins with {}", found())
                                       : found() + " is here";
  Diagnostic& d =
      error(codes::syntax, span, fmt::format("expected {}", expected), got)
          .expect(std::string(expected), line_ended && !at_end() ? "the end of the line" : found());
  if (!help.empty()) d.helps.emplace_back(help);
  throw Recover{};
}

void Parser::reject(const char* code, Span span, std::string message, std::string help, std::string label) {
  Diagnostic& d = error(code, span, std::move(message), std::move(label));
  if (!help.empty()) d.helps.push_back(std::move(help));
  throw Recover{};
}

bool Parser::at_declaration(size_t offset) const {
  const Token& t = ahead(offset);
  if (t.kind != TokenKind::name) return false;
  for (const DeclarationWord& d : kDeclarations) {
    if (t.text != d.word) continue;
    if (in_train_ && is_experiment_word(t.text)) return false;
    const Token& next = ahead(offset + 1);
    return !next.line_start && (next.kind == TokenKind::name || (t.text == "train" && is(next, "{")));
  }
  return false;
}

void Parser::skip_statement(size_t started_at) {
  int braces = 0;
  while (!at_end()) {
    if (braces == 0 && at_ > started_at && (current().line_start || at(";") || at("}"))) return;
    if (current().column_one && at_declaration()) return;
    if (at("{")) ++braces;
    if (at("}") && --braces < 0) return;  // nothing was consumed: the block's own end
    advance();
  }
}

void Parser::skip_declaration(size_t started_at) {
  int braces = 0;
  while (!at_end()) {
    if (at_ > started_at && current().line_start && at_declaration() && (braces <= 0 || current().column_one))
      return;
    // Where a misspelt declaration seems to begin.
    if (at_ > started_at && current().column_one && current().kind == TokenKind::name && braces <= 0 &&
        !ahead(1).line_start && (ahead(1).kind == TokenKind::name || is(ahead(1), "{")))
      return;
    if (at("{")) ++braces;
    if (at("}")) --braces;
    advance();
  }
}

bool Parser::at_statement_end() const { return at_end() || current().line_start || at(";") || at("}"); }

void Parser::end_statement() {
  if (accept(";") || at_statement_end()) return;
  fail("the end of the statement", at("=") ? "a comparison is written `==`" : "");
}

File Parser::run() {
  File out;
  out.file = file_;
  while (!at_end()) {
    const size_t started_at = at_;
    try {
      declaration(out);
      if (accept(";") || at_end() || current().line_start) continue;
      fail("a new line before the next declaration");
    } catch (const Recover&) {
      if (diagnostics_.full()) break;
      skip_declaration(started_at);
    }
  }
  return out;
}

void Parser::declaration(File& out) {
  if (at("}")) reject(codes::syntax, advance().span, "this `}` closes nothing");
  if (current().kind == TokenKind::name) {
    const Token& word = current();
    for (const DeclarationWord& d : kDeclarations) {
      if (word.text != d.word) continue;
      if (d.kind)
        out.definitions.push_back(definition(*d.kind));
      else if (word.text == "set")
        out.settings.push_back(setting());
      else if (word.text == "data")
        out.data.push_back(data());
      else
        out.train.push_back(train());
      return;
    }
  }
  std::vector<std::string> words;
  for (const DeclarationWord& d : kDeclarations) words.emplace_back(d.word);
  Diagnostic& d =
      error(codes::unknown_word, current().span, fmt::format("expected a declaration, found {}", found()));
  d.expect("a declaration", found());
  suggest_word(d, words);
  d.helps.push_back("a file holds " + joined(words));
  throw Recover{};
}

std::unique_ptr<Definition> Parser::definition(DefinitionKind kind) {
  auto d = std::make_unique<Definition>();
  d->kind = kind;
  const Span begin = advance().span;
  name(d->name, d->name_span, fmt::format("the name of the {}", frontend::name(kind)));
  if (!at("(")) fail(fmt::format("`(` and the parameters of `{}`", d->name));
  d->parameters = parameters();
  if (accept("=")) {
    Statement s;
    s.kind = StatementKind::return_;
    s.value = expression();
    s.span = s.value->span;
    d->body.push_back(std::move(s));
  } else if (at("{")) {
    d->body = block(false);
  } else {
    fail(fmt::format("`= EXPRESSION` or a block `{{ ... }}` as the body of `{}`", d->name));
  }
  d->span = join(begin, previous().span);
  return d;
}

std::vector<ParameterSyntax> Parser::parameters() {
  std::vector<ParameterSyntax> result;
  comma_list(")", "`,` or `)` in the list of parameters", [&] {
    ParameterSyntax p;
    name(p.name, p.span, "a parameter's name");
    if (accept(":")) p.type = type();
    if (accept("=")) p.default_value = expression();
    result.push_back(std::move(p));
  });
  return result;
}

TypeSyntax Parser::type() {
  TypeSyntax result;
  name(result.dtype, result.span, "a type, as in `f32[3, 32, 32]`");
  if (continues("[")) {
    result.dims = dims();
    result.span = join(result.span, previous().span);
  }
  return result;
}

SettingSyntax Parser::setting() {
  SettingSyntax s;
  const Span begin = advance().span;
  name(s.name, s.name_span, "the setting's name");
  expect("=", "and the setting's default");
  s.value = expression();
  s.span = join(begin, previous().span);
  return s;
}

DataSyntax Parser::data() {
  DataSyntax d;
  const Span begin = advance().span;
  name(d.name, d.name_span, "the data's name");
  expect("=", "and the data's source, as in `data digits = mnist(\"data/mnist\", batch=128)`");
  d.source = expression();
  if (d.source->kind != ExprKind::call)
    reject(codes::syntax, d.source->span, "a data source is written as a call",
           "as in `mnist(\"data/mnist\", batch=128)`");
  if (at("{") && !current().line_start) {
    braced_statements([&] {
      data_statement(d);
      end_statement();
    });
  }
  d.span = join(begin, previous().span);
  return d;
}

const std::vector<Parser::DataStatement>& Parser::data_statements() {
  static const std::vector<DataStatement> statements = {
      {"split", &Parser::split, "`split NAME = COUNT of SPLIT`"},
      {"normalize", &Parser::normalize, "`normalize FIELD by METHOD`"},
      {"augment", &Parser::augment, "`augment FIELD { METHOD ... }`"},
      {"field", &Parser::field, "`field NAME: TYPE = FROM`"},
      {"curriculum", &Parser::curriculum, "`curriculum FIELD over COUNT epochs`"},
      {"bootstrap", &Parser::bootstrap, "`bootstrap SEED`"}};
  return statements;
}

void Parser::data_statement(DataSyntax& d) {
  std::vector<std::string> words;
  std::string forms;
  for (const DataStatement& s : data_statements()) {
    if (at_word(s.word)) return (this->*s.read)(d);
    forms += (words.empty() ? "" : ", ") + std::string(s.form);
    words.emplace_back(s.word);
  }
  Diagnostic& e =
      error(codes::unknown_word, current().span, fmt::format("{} is no statement of `data`", found()));
  e.expect("a statement of `data`", found());
  suggest_word(e, words);
  e.helps.push_back("`data` takes " + forms);
  throw Recover{};
}

void Parser::curriculum(DataSyntax& d) {
  CurriculumSyntax c;
  const Span begin = advance().span;
  name(c.field, c.field_span, "the field of scores, as in `curriculum difficulty over 10 epochs`");
  expect_word("over", "`over` and the epochs, as in `curriculum difficulty over 10 epochs`");
  c.epochs = expression();
  if (!at_word("epochs") || current().line_start)
    fail("`epochs`, as in `curriculum difficulty over 10 epochs`");
  c.span = join(begin, advance().span);
  d.curricula.push_back(std::move(c));
}

void Parser::bootstrap(DataSyntax& d) {
  advance();
  d.bootstraps.push_back(expression());
}

void Parser::normalize(DataSyntax& d) {
  advance();
  MethodSyntax m;
  name(m.field, m.field_span, "the field to normalize, as in `normalize image by channel`");
  expect_word("by", "`by` and the method, as in `normalize image by channel`");
  m.method = method();
  d.normalizations.push_back(std::move(m));
}

void Parser::augment(DataSyntax& d) {
  d.augments.push_back(advance().span);
  const Token field = expect_name("the field to augment, as in `augment image { flip_horizontal(0.5) }`");
  if (!at("{")) fail("`{` and the methods, as in `augment image { flip_horizontal(0.5) }`");
  braced_statements([&] {
    d.augmentations.push_back({field.text, field.span, method()});
    end_statement();
  });
}

ExprPtr Parser::method() {
  if (current().kind != TokenKind::name) fail("the name of a method");
  ExprPtr e = expression();
  if ((e->kind == ExprKind::call && !e->piped && e->qualifier.empty() &&
       e->instance.kind == Instance::Kind::none) ||
      (e->kind == ExprKind::name && e->qualifier.empty()))
    return e;
  reject(codes::syntax, e->span, "a method is written as a name or a call", "as in `flip_horizontal(0.5)`");
}

void Parser::field(DataSyntax& d) {
  FieldSyntax f;
  const Span begin = advance().span;
  name(f.name, f.name_span, "the field's name");
  expect(":", "and the field's type, as in `field image: f32[3, 64, 64] = \"images.npy\"`");
  f.type = type();
  if (accept("=")) {  // the source decides whether it is needed
    f.from = expression();
    if (at_word("test") && !current().line_start) {
      advance();
      f.test = expression();
    }
  }
  f.span = join(begin, previous().span);
  d.fields.push_back(std::move(f));
}

void Parser::split(DataSyntax& d) {
  SplitSyntax s;
  const Span begin = advance().span;
  name(s.name, s.name_span, "the new split's name");
  expect("=", "and the number of examples, as in `split val = 5000 of train`");
  // `fold` may be a setting's name too: `split val = fold of train`.
  if (at_word("fold") &&
      !(ahead(1).kind == TokenKind::name && ahead(1).text == "of" && !ahead(1).line_start)) {
    advance();
    s.count = expression();
    expect_word("of", "`of` and the number of folds, as in `split val = fold 1 of 5 of train`");
    s.folds = expression();
  } else {
    s.count = expression();
  }
  expect_word("of", "`of` and the split to take from, as in `split val = 5000 of train`");
  name(s.from, s.from_span, "the split to take from");
  s.span = join(begin, s.from_span);
  d.splits.push_back(std::move(s));
}

TrainSyntax Parser::train() {
  TrainSyntax t;
  const Span begin = advance().span;
  if (!at("{")) fail("`{` after `train`");
  Scoped train(in_train_, true);
  t.body = block(true);
  t.span = join(begin, previous().span);
  return t;
}

File parse(const SourceManager& sources, uint32_t file, Diagnostics& diagnostics) {
  return Parser(sources, file, diagnostics).run();
}

ExprPtr parse_expression(const SourceManager& sources, uint32_t file, Diagnostics& diagnostics) {
  const size_t errors = diagnostics.count();
  ExprPtr expression = Parser(sources, file, diagnostics).run_expression();
  // The lexer's errors count too, though the tokens that it could read may make an expression.
  if (diagnostics.count() != errors) return nullptr;
  return expression;
}

}  // namespace gradc::frontend
