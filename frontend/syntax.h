// The syntax tree of a file, with a span on every node; it has no semantics but the ordinals of call sites,
// which the resolver sets.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "support/source.h"

namespace gradc::frontend {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct Argument {
  std::string name;  // empty: positional
  Span name_span;
  ExprPtr value;
};

// `as NAME` or `reuse NAME` after a call.
struct Instance {
  enum class Kind : uint8_t { none, as, reuse } kind = Kind::none;
  std::string name;
  Span span;
};

enum class ExprKind : uint8_t {
  integer,
  number,
  string,
  boolean,
  name,
  list,    // operands
  unary,   // text: - not
  binary,  // text: + - * / // % ^ @ == != < <= > >= and or ..
  call,    // text: the callee's name; `x |> f(a)` is the call f(x, a) with `piped`
  index,   // operands[0][operands[1], ...]
  member,  // operands[0].text
  choice,  // if operands[0] { operands[1] } else { operands[2] }
};

struct Expr {
  ExprKind kind = ExprKind::integer;
  Span span;
  std::string text;
  Span text_span;         // of the callee's name, the operator or the member
  std::string qualifier;  // call or name: "primitive" or "prelude"; else empty
  int64_t integer = 0;
  double number = 0;
  bool boolean = false;  // of a boolean
  bool piped = false;
  std::vector<ExprPtr> operands;
  std::vector<Argument> arguments;
  Instance instance;
  int ordinal =
      0;  // of an unnamed call among those to the same name in its scope, from 1; set by the resolver
  int height = 1;  // of the tree below; limited, so that recursion over a tree is safe
};

enum class StatementKind : uint8_t {
  assign,      // NAME = value
  parameter,   // NAME = param[dims] ~ value
  state,       // state NAME[dims] = value
  return_,     // return value
  if_,         // if value { body } else { other }
  for_,        // for NAME in value as label { body }
  require,     // require value, "message"
  experiment,  // of `train`: a word, then its operands
};

struct Pattern {
  std::string text;
  Span span;
};

// `val.accuracy`, `min val.error`: a number that epochs are judged by.
struct MonitorSyntax {
  std::string split, metric, direction;  // direction: "min", "max" or empty
  Span span;                             // empty split: no monitor
};

struct Statement;
using Block = std::vector<Statement>;

struct Statement {
  StatementKind kind = StatementKind::assign;
  Span span;
  std::string name;  // bound here; empty: none
  Span name_span;
  ExprPtr value;
  std::vector<ExprPtr> dims;
  bool has_dims = false;  // state without dims is shaped like w
  Block body, other;
  Span body_span;
  std::string label;  // of a for: as NAME
  Span label_span;
  int ordinal = 0;      // of an unlabelled for in its scope, from 1
  std::string message;  // of a require
  // experiment statements
  std::string word;  // loss metric predict penalty optimizer schedule epochs seed freeze ...
  Span word_span;
  std::string mode;            // of clip: norm, value; of checkpoint: epochs, steps; of accumulate: all
  ExprPtr keep;                // of a checkpoint
  MonitorSyntax monitor;       // of stop and checkpoint
  ExprPtr weight;              // of a loss
  std::vector<ExprPtr> chain;  // of a schedule: a then b then c
  std::vector<Pattern> on, no_decay;
};

struct TypeSyntax {
  std::string dtype;
  Span span;
  std::vector<ExprPtr> dims;
};

struct ParameterSyntax {
  std::string name;
  Span span;
  std::optional<TypeSyntax> type;
  ExprPtr default_value;  // null: required
};

enum class DefinitionKind : uint8_t { fn, layer, init, optimizer, schedule, model };
const char* name(DefinitionKind kind);

struct Definition {
  DefinitionKind kind = DefinitionKind::fn;
  std::string name;
  Span span, name_span;
  std::vector<ParameterSyntax> parameters;
  Block body;  // `= expr` is a body of one return
  bool is_prelude = false;
};

struct SettingSyntax {
  std::string name;
  Span span, name_span;
  ExprPtr value;
};

// split NAME = count of FROM, or split NAME = fold count of folds of FROM.
struct SplitSyntax {
  std::string name, from;
  Span span, name_span, from_span;
  ExprPtr count;
  ExprPtr folds;  // null: no fold
};

// field NAME: type = from test test
struct FieldSyntax {
  std::string name;
  Span span, name_span;
  TypeSyntax type;
  ExprPtr from, test;  // may be null
};

// normalize FIELD by METHOD, or one METHOD of augment FIELD { ... }.
struct MethodSyntax {
  std::string field;
  Span field_span;
  ExprPtr method;  // a name or a call
};

// curriculum FIELD over N epochs
struct CurriculumSyntax {
  std::string field;
  Span span, field_span;
  ExprPtr epochs;
};

struct DataSyntax {
  std::string name;
  Span span, name_span;
  ExprPtr source;  // a call
  std::vector<FieldSyntax> fields;
  std::vector<SplitSyntax> splits;
  std::vector<MethodSyntax> normalizations, augmentations;
  std::vector<Span> augments;  // of the words `augment`
  std::vector<CurriculumSyntax> curricula;
  std::vector<ExprPtr> bootstraps;  // bootstrap SEED
};

struct TrainSyntax {
  Span span;
  Block body;
};

struct File {
  uint32_t file = 0;
  std::vector<std::unique_ptr<Definition>> definitions;
  std::vector<SettingSyntax> settings;
  std::vector<DataSyntax> data;
  std::vector<TrainSyntax> train;
};

// The tree as indented text.
std::string dump(const File& file);

}  // namespace gradc::frontend
