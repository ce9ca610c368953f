// Records the calls that a model file makes: the values that its layers return, and the arguments of its
// functions. Knows nothing of how calls are evaluated.
#pragma once
#include <string>
#include <vector>

#include "frontend/call_stack.h"
#include "frontend/results.h"

namespace gradc::frontend {

// A recorded value, from which compile() makes a LayerValue (frontend.h).
struct NotedValue {
  std::string name, callee;
  Span span;
  Op* op = nullptr;
};

class CallNotes {
 public:
  bool layer_values = false;  // whether values are recorded
  std::vector<NotedValue> values;
  CallArguments functions;  // tensor arguments of each function call

  // Before and after a call in `caller`; `instance` is the layer's or model's, empty for the model itself.
  void begin(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments, const Expr& site);
  void end(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments, const Expr& site,
           const CallStack::Frame& caller, const std::string& instance, const Value& result);

 private:
  void add(const std::string& name, const std::string& callee, Span span, Op* op);
  void add_function(const std::vector<BoundArgument>& arguments, const Value& result);
  void add_value(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments, const Expr& site,
                 const CallStack::Frame& caller, const std::string& instance, const Value& result);
};

}  // namespace gradc::frontend
