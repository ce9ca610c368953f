// The functions of the language that are not definitions of the prelude: reductions, shapes, random numbers,
// and static helpers. Every other elementwise primitive of ir/ops can be called by its own name. It knows no
// syntax.
#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "frontend/value.h"

namespace gradc::frontend {

class Emitter;

struct BuiltinParameter {
  const char* name;
  bool required = true;
};

// The source locations of a built-in function's call, for its messages.
struct CallSpans {
  Span span;                    // the whole call
  Span name_span;               // the callee's name
  std::vector<Span> arguments;  // one per parameter; of the whole call for an omitted argument
};

struct Builtin {
  const char* name;
  std::vector<BuiltinParameter> parameters;
  const char* doc;      // one line, for docs/reference.md
  const char* example;  // one line of .nn text; example_model() (reference.h) declares its names
  // Arguments in order of the parameters; those not given are `none`.
  Value (*call)(Emitter& emitter, const CallSpans& spans, std::vector<Value>& arguments);
};

const std::vector<Builtin>& builtins();
const Builtin* find_builtin(const std::string& name);

// The primitive of this name that .nn text may call; null when there is none. Without a qualifier those of
// CallForm::plain alone (elementwise ones, pooling), with the qualifier `primitive` also those of
// CallForm::qualified.
const OpDef* find_callable_op(const std::string& name, const std::string& qualifier);

// Folds an elementwise primitive of static numbers, as in sqrt(2 / fan_in). None for other kinds of
// primitives, for random ones, and where the result is not one f64 number (comparisons, casts, broadcasts).
std::optional<double> fold_static(const OpDef& op, const Attributes& attributes,
                                  std::span<const double> numbers);

}  // namespace gradc::frontend
