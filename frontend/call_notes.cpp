// Names layers' values, and records the arguments of functions.
#include "frontend/call_notes.h"

#include <fmt/format.h>

#include <algorithm>

namespace gradc::frontend {

void CallNotes::begin(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                      const Expr& site) {
  if (!layer_values || !callee.is(DefinitionKind::model)) return;
  const auto& parameters = callee.definition->parameters;  // a model's inputs come first
  for (size_t i = 0; i < arguments.size() && i < parameters.size(); ++i) {
    const BoundArgument& a = arguments[i];
    if (a.value.is_tensor())
      add(a.name.empty() ? parameters[i].name : a.name, "input", site.span, a.value.tensor);
  }
}

void CallNotes::end(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                    const Expr& site, const CallStack::Frame& caller, const std::string& instance,
                    const Value& result) {
  if (caller.prelude || !result.is_tensor()) return;
  if (layer_values) add_value(callee, arguments, site, caller, instance, result);
  if (callee.is(DefinitionKind::fn)) add_function(arguments, result);
}

void CallNotes::add(const std::string& name, const std::string& callee, Span span, Op* op) {
  if (op->type.dtype != DType::f32 || !op->type.batched) return;
  std::string own = name;
  const auto taken = [&] {
    return std::any_of(values.begin(), values.end(), [&](const NotedValue& v) { return v.name == own; });
  };
  for (int again = 2; taken(); ++again) own = fmt::format("{}#{}", name, again);  // an instance used again
  values.push_back({own, callee, span, op});
}

void CallNotes::add_value(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                          const Expr& site, const CallStack::Frame& caller, const std::string& instance,
                          const Value& result) {
  const Span span = site.text_span.valid() ? site.text_span : site.span;
  if (callee.is(DefinitionKind::layer) || callee.is(DefinitionKind::model)) {
    add(instance.empty() ? callee.definition->name : instance, callee.name, span, result.tensor);
    return;
  }
  // Skip calls that no layer or model makes itself: inner calls belong to the outermost function, and calls
  // in `train` to no layer.
  if (!caller.definition || caller.definition->kind == DefinitionKind::fn) return;
  Op* only = nullptr;
  for (const BoundArgument& a : arguments) {
    if (!a.value.is_tensor()) continue;
    if (only) return;
    only = a.value.tensor;
  }
  if (!only || only == result.tensor || !(only->type == result.tensor->type)) return;
  int ordinal = 1;
  const auto count = [&](const NotedValue& v) {
    return v.name == fmt::format("{}{}_{}", caller.prefix, callee.name, ordinal);
  };
  while (std::any_of(values.begin(), values.end(), count)) ++ordinal;
  add(fmt::format("{}{}_{}", caller.prefix, callee.name, ordinal), callee.name, span, result.tensor);
}

void CallNotes::add_function(const std::vector<BoundArgument>& arguments, const Value& result) {
  std::vector<const Op*> tensors;
  for (const BoundArgument& a : arguments) {
    if (!a.value.is_tensor()) continue;
    if (a.value.tensor == result.tensor) return;  // it returns its argument
    tensors.push_back(a.value.tensor);
  }
  functions[result.tensor] = std::move(tensors);
}

}  // namespace gradc::frontend
