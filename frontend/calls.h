// Steps of a call: binding its arguments, naming its instance, calling built-in functions and primitives.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "frontend/call_stack.h"
#include "frontend/emitter.h"

namespace gradc::frontend {

// Matches arguments, given by position or name, to parameters. A parameter in `given` takes its value from
// there unless an argument names it. `out` has one entry per parameter; those left to their defaults are
// `none`. False when an error was reported.
bool bind_arguments(CallStack& stack, const std::string& callee, const std::vector<std::string>& names,
                    const std::vector<bool>& required, const std::vector<BoundArgument>& arguments,
                    const std::map<std::string, Value>& given, Span span, std::vector<BoundArgument>& out);

// Sets the path of a layer's or model's instance in its frame: that of a new instance, or of the one that
// `reuse` names. `statics`: its static arguments as text. False when an error was reported.
bool enter_instance(Emitter& e, CallStack::Frame& f, const Definition& d, const std::string& statics,
                    const Expr& site);

Value call_builtin(Emitter& e, const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                   const Expr& site);
// A primitive by its own name: operands first, then its attributes, by position or name.
Value call_op(Emitter& e, const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
              const Expr& site);

}  // namespace gradc::frontend
