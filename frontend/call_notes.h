// What is remembered of the calls that a model file makes: the values of its layers, and what functions were
// given. Knows nothing of how calls are made.
#pragma once
#include <string>
#include <vector>

#include "frontend/call_stack.h"
#include "frontend/results.h"

namespace gradc::frontend {

// A value of LayerValue.
struct NotedValue {
  std::string name, callee;
  Span span;
  Op* op = nullptr;
};

class CallNotes {
 public:
  bool layer_values = false;  // whether values are noted
  std::vector<NotedValue> values;
  CallArguments functions;  // what calls of functions were given

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
