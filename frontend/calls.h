// Parts of a call: its arguments, the name of its instance, and calls of what is no definition.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "frontend/call_stack.h"
#include "frontend/emitter.h"

namespace gradc::frontend {

// Arguments given by position or name, matched to parameters; parameters in `given` are filled from there
// unless named. False when an error was reported. The result has one entry a parameter; those left to their
// defaults are `none`.
bool bind_arguments(CallStack& stack, const std::string& callee, const std::vector<std::string>& names,
                    const std::vector<bool>& required, const std::vector<BoundArgument>& arguments,
                    const std::map<std::string, Value>& given, Span span, std::vector<BoundArgument>& out);

// Gives the frame of a layer or model its name among the instances, and enters `reuse`. `statics`: its
// static arguments. False when an error was reported.
bool enter_instance(Emitter& e, CallStack::Frame& f, const Definition& d, const std::string& statics,
                    const Expr& site);

Value call_builtin(Emitter& e, const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                   const Expr& site);
// A primitive by its own name: operands first, then its attributes, by position or name.
Value call_op(Emitter& e, const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
              const Expr& site);

}  // namespace gradc::frontend
