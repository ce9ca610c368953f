// Values: construction, printing, equality.
#include "frontend/value.h"

#include <fmt/format.h>

#include <algorithm>

#include "frontend/builtins.h"
#include "ir/tensor/op_def.h"

namespace gradc::frontend {

Value Value::of(bool b) {
  Value v;
  v.kind = ValueKind::boolean;
  v.boolean = b;
  return v;
}
Value Value::of(int64_t i) {
  Value v;
  v.kind = ValueKind::integer;
  v.integer = i;
  return v;
}
Value Value::of(double d) {
  Value v;
  v.kind = ValueKind::number;
  v.number = d;
  return v;
}
Value Value::of(std::string s) {
  Value v;
  v.kind = ValueKind::string;
  v.weight = 1 + static_cast<int64_t>(s.size() / 64);
  v.text = std::move(s);
  return v;
}
Value Value::of(List l) {
  Value v;
  v.kind = ValueKind::list;
  for (const Value& item : l) v.weight += item.weight;
  v.list = std::make_shared<const List>(std::move(l));
  return v;
}
Value Value::of(Op* op) {
  Value v;
  v.kind = op ? ValueKind::tensor : ValueKind::poison;
  v.tensor = op;
  return v;
}
Value Value::of(DefinitionValue d) {
  Value v;
  v.kind = ValueKind::definition;
  for (const BoundArgument& a : d.arguments) v.weight += a.value.weight;
  v.definition = std::make_shared<const DefinitionValue>(std::move(d));
  return v;
}
Value Value::of_shape(const Shape& s) {
  List l;
  for (int64_t extent : s) l.push_back(of(extent));
  return of(std::move(l));
}
Value Value::none() {
  Value v;
  v.kind = ValueKind::none;
  return v;
}

namespace {

constexpr size_t kShown = 12, kShownText = 200;  // elements and bytes that a message shows

std::string text_of(const Value& v, bool whole) {
  switch (v.kind) {
    case ValueKind::poison: return "?";
    case ValueKind::none: return "nothing";
    case ValueKind::boolean: return v.boolean ? "true" : "false";
    case ValueKind::integer: return fmt::format("{}", v.integer);
    case ValueKind::number: return fmt::format("{}", v.number);
    case ValueKind::string: return "\"" + (whole ? v.text : shortened(v.text)) + "\"";
    case ValueKind::range: return fmt::format("{}..{}", v.integer, v.end);
    case ValueKind::tensor: return user_type(v.tensor->type);
    case ValueKind::data: return v.text;
    case ValueKind::list: {
      std::string out = "[";
      const size_t shown = whole ? v.list->size() : std::min(v.list->size(), kShown);
      for (size_t i = 0; i < shown; ++i) out += (i ? ", " : "") + text_of((*v.list)[i], whole);
      if (v.list->size() > shown) out += fmt::format(", ... ({} in all)", v.list->size());
      return out + "]";
    }
    case ValueKind::definition: {
      std::string out = v.definition->name;
      if (v.definition->arguments.empty()) return out;
      out += "(";
      for (size_t i = 0; i < v.definition->arguments.size(); ++i) {
        const BoundArgument& a = v.definition->arguments[i];
        out += (i ? ", " : "") + (a.name.empty() ? "" : a.name + "=") + text_of(a.value, whole);
      }
      return out + ")";
    }
  }
  return "";
}

}  // namespace

std::string print(const Value& v) { return shortened(text_of(v, false)); }
std::string full_text(const Value& v) { return text_of(v, true); }

std::string shortened(const std::string& text) {
  if (text.size() <= kShownText) return text;
  size_t end = kShownText;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not within a character
  return text.substr(0, end) + "...";
}

std::string describe(const Value& v) {
  switch (v.kind) {
    case ValueKind::poison:
    case ValueKind::none: return "nothing";
    case ValueKind::boolean: return "the boolean " + print(v);
    case ValueKind::integer: return "the integer " + print(v);
    case ValueKind::number: return "the number " + print(v);
    case ValueKind::string: return "the string " + print(v);
    case ValueKind::list: return "the list " + print(v);
    case ValueKind::range: return "the range " + print(v);
    case ValueKind::tensor: return "a tensor " + print(v);
    case ValueKind::data: return fmt::format("the data `{}`", v.text);
    case ValueKind::definition:
      return fmt::format("the {} `{}`",
                         v.definition->definition ? name(v.definition->definition->kind) : "function",
                         print(v));
  }
  return "";
}

std::string user_type(const Type& t) {
  return fmt::format("{}[{}]", name(t.dtype), fmt::join(t.shape, ", "));
}

bool equal(const Value& a, const Value& b) {
  if (a.is_static_number() && b.is_static_number()) {
    if (a.kind == ValueKind::integer && b.kind == ValueKind::integer) return a.integer == b.integer;
    return a.as_number() == b.as_number();
  }
  if (a.kind != b.kind) return false;
  switch (a.kind) {
    case ValueKind::boolean: return a.boolean == b.boolean;
    case ValueKind::string:
    case ValueKind::data: return a.text == b.text;
    case ValueKind::range: return a.integer == b.integer && a.end == b.end;
    case ValueKind::tensor: return a.tensor == b.tensor;
    case ValueKind::definition: return full_text(a) == full_text(b);
    case ValueKind::list:
      if (a.list->size() != b.list->size()) return false;
      for (size_t i = 0; i < a.list->size(); ++i)
        if (!equal((*a.list)[i], (*b.list)[i])) return false;
      return true;
    default: return true;
  }
}

}  // namespace gradc::frontend
