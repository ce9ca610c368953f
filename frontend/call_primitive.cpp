// Calls of built-in functions and of primitives by their own names.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "frontend/builtins.h"
#include "frontend/calls.h"
#include "frontend/error_codes.h"
#include "ir/tensor/op_def.h"

namespace gradc::frontend {

Value call_builtin(Emitter& e, const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                   const Expr& site) {
  const Builtin& b = *callee.builtin;
  std::vector<std::string> names;
  std::vector<bool> required;
  for (const BuiltinParameter& p : b.parameters) {
    names.emplace_back(p.name);
    required.push_back(p.required);
  }
  std::vector<BoundArgument> bound;
  if (!bind_arguments(e, callee.name, names, required, arguments, {}, site.span, bound)) return {};
  CallSpans spans{site.span, site.text_span, {}};
  std::vector<Value> values;
  for (BoundArgument& a : bound) {
    spans.arguments.push_back(a.span);
    values.push_back(std::move(a.value));
  }
  return b.call(e, spans, values);
}

Value call_op(Emitter& e, const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
              const Expr& site) {
  const OpDef& op = *callee.op;
  std::vector<std::string> names;
  std::vector<bool> required;
  for (const OperandSpec& o : op.operands) {
    names.push_back(o.name);
    required.push_back(true);
  }
  for (const AttributeSpec& a : op.attributes) {
    names.push_back(a.name);
    required.push_back(a.required);
  }
  std::vector<BoundArgument> bound;
  if (!bind_arguments(e, callee.name, names, required, arguments, {}, site.span, bound)) return {};
  std::vector<Value> operands;
  for (size_t i = 0; i < op.operands.size(); ++i) operands.push_back(bound[i].value);
  Attributes attributes;
  for (size_t i = 0; i < op.attributes.size(); ++i) {
    const BoundArgument& a = bound[op.operands.size() + i];
    if (a.value.is(ValueKind::none)) continue;
    const std::string what = fmt::format("`{}` of `{}`", a.name, callee.name);
    bool flag = false;
    int64_t integer = 0;
    double number = 0;
    std::vector<int64_t> integers;
    switch (op.attributes[i].kind) {
      case AttributeKind::boolean:
        if (!e.to_boolean(a.value, a.span, what, flag)) return {};
        attributes.set(a.name, flag);
        break;
      case AttributeKind::integer:
        if (!e.to_integer(a.value, a.span, what, integer)) return {};
        attributes.set(a.name, integer);
        break;
      case AttributeKind::number:
        if (!e.to_number(a.value, a.span, what, number)) return {};
        attributes.set(a.name, number);
        break;
      case AttributeKind::integers:
        if (!e.to_integers(a.value, a.span, what, integers)) return {};
        attributes.set(a.name, integers);
        break;
      case AttributeKind::text:
        if (!a.value.is(ValueKind::string)) {
          e.must_be(a.value, a.span, what, "a string");
          return {};
        }
        attributes.set(a.name, a.value.text);
        break;
    }
  }
  const bool all_static =
      std::all_of(operands.begin(), operands.end(), [](const Value& v) { return v.is_static_number(); });
  if (all_static && !operands.empty()) {
    std::vector<double> numbers;
    for (const Value& v : operands) numbers.push_back(v.as_number());
    if (const std::optional<double> result = fold_static(op, attributes, numbers)) {
      if (!std::isfinite(*result)) {
        e.error(codes::arithmetic, site.span,
                fmt::format("`{}` of {} is not a finite number", callee.name, print(operands[0])));
        return {};
      }
      const bool integers = op.exact && std::all_of(operands.begin(), operands.end(),
                                                    [](const Value& v) { return v.is(ValueKind::integer); });
      if (integers && *result >= -9e15 && *result <= 9e15) return Value::of(static_cast<int64_t>(*result));
      return Value::of(*result);
    }
  }
  std::vector<Op*> tensors;
  if (!e.unify(operands, tensors, site.span, "`" + op.name + "`")) return {};
  return e.emit(op.name, std::move(tensors), std::move(attributes), site.span, "`" + op.name + "`");
}

}  // namespace gradc::frontend
