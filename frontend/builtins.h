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

// Where a built-in function is called: places for its messages.
struct CallPlace {
  Span span;                    // the whole call
  Span name_span;               // the callee's name
  std::vector<Span> arguments;  // one a parameter; that of the call where the argument is not given
};

struct Builtin {
  const char* name;
  std::vector<BuiltinParameter> parameters;
  const char* doc;      // one line, for docs/reference.md
  const char* example;  // one line of .nn text; frontend/reference.h says what its names stand for
  // Arguments in order of the parameters; those not given are `none`.
  Value (*call)(Emitter& emitter, const CallPlace& place, std::vector<Value>& arguments);
};

const std::vector<Builtin>& builtins();
const Builtin* find_builtin(const std::string& name);

// A primitive that .nn text may call: without a qualifier elementwise ones and a few that need no wrapping;
// with `primitive.` every one that computes something.
const OpDef* find_callable_op(const std::string& name, const std::string& qualifier);

// The value of an elementwise primitive of static numbers, as in sqrt(2 / fan_in); none where it is no number
// (a comparison, a cast, a shape) or is drawn at random.
std::optional<double> fold_static(const OpDef& op, const Attributes& attributes,
                                  std::span<const double> numbers);

}  // namespace gradc::frontend
