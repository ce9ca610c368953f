// The list of all primitives and the checks that hold for each of them: complete records, operand counts,
// attribute names and kinds, sizes of results. It must not know what any primitive does.
#include "ir/ops/registry.h"

#include <algorithm>
#include <map>

#include "support/check.h"

namespace gradc {
namespace {

std::vector<OpDef> make_op_defs() {
  std::vector<OpDef> defs;
  register_unary(defs);
  register_binary(defs);
  register_compare(defs);
  register_sources(defs);
  register_random(defs);
  register_reductions(defs);
  register_softmax(defs);
  register_statistics(defs);
  register_normalization(defs);
  register_einsum(defs);
  register_conv2d(defs);
  register_pool2d(defs);
  register_indexing(defs);
  register_gather(defs);
  register_orthonormal(defs);
  register_rows(defs);
  register_pixels(defs);
  register_conv2d_rows(defs);
  register_attention(defs);
  register_external(defs);
  for (const OpDef& def : defs) {
    const auto missing = missing_parts(def);
    GRADC_CHECK(missing.empty(), "the primitive `{}` lacks: {}", def.name, missing.empty() ? "" : missing[0]);
  }
  return defs;
}

const std::map<std::string, const OpDef*, std::less<>>& op_table() {
  static const auto table = [] {
    std::map<std::string, const OpDef*, std::less<>> by_name;
    for (const OpDef& def : op_defs()) {
      GRADC_CHECK(by_name.emplace(def.name, &def).second, "two primitives are called `{}`", def.name);
    }
    return by_name;
  }();
  return table;
}

std::string_view expected(AttributeKind kind) {
  switch (kind) {
    case AttributeKind::boolean: return "true or false";
    case AttributeKind::integer: return "an integer";
    case AttributeKind::number: return "a number";
    case AttributeKind::text: return "a text";
    case AttributeKind::integers: return "a list of integers";
  }
  return "?";
}

// Integers also serve as numbers.
bool fits(AttributeKind kind, Attribute& value) {
  if (kind == AttributeKind::number && std::holds_alternative<int64_t>(value)) {
    value = static_cast<double>(std::get<int64_t>(value));
  }
  switch (kind) {
    case AttributeKind::boolean: return std::holds_alternative<bool>(value);
    case AttributeKind::integer: return std::holds_alternative<int64_t>(value);
    case AttributeKind::number: return std::holds_alternative<double>(value);
    case AttributeKind::text: return std::holds_alternative<std::string>(value);
    case AttributeKind::integers: return std::holds_alternative<std::vector<int64_t>>(value);
  }
  return false;
}

std::string check_attributes(const OpDef& def, Attributes& attributes) {
  for (const auto& [name, value] : attributes) {
    const auto spec = std::find_if(def.attributes.begin(), def.attributes.end(),
                                   [&](const AttributeSpec& s) { return s.name == name; });
    if (spec != def.attributes.end()) continue;
    std::string known;
    for (const AttributeSpec& s : def.attributes) known += (known.empty() ? "" : ", ") + s.name;
    return fmt::format("there is no attribute `{}`; {}", name,
                       known.empty() ? "this operation has none" : "there are: " + known);
  }
  for (const AttributeSpec& spec : def.attributes) {
    const Attribute* given = attributes.find(spec.name);
    if (given == nullptr) {
      if (spec.required) return fmt::format("the attribute `{}` is missing: {}", spec.name, spec.doc);
      attributes.set(spec.name, spec.default_value);
      continue;
    }
    Attribute value = *given;
    if (!fits(spec.kind, value)) {
      return fmt::format("the attribute `{}` must be {}, not {}", spec.name, expected(spec.kind),
                         to_string(*given));
    }
    attributes.set(spec.name, std::move(value));
  }
  return {};
}

int64_t rows_of(std::span<const Type> operands) {
  int64_t rows = 1;
  for (const Type& t : operands) rows = std::max(rows, t.rows);
  return rows;
}

// Operands of an operator that works row by row must have the same rows.
std::string check_rows(const OpDef& def, std::span<const Type> operands) {
  if (!def.by_row) return {};
  for (const Type& t : operands)
    if (t.batched && t.rows != rows_of(operands))
      return fmt::format("an example has {} rows in {}, and {} in another operand", t.rows, to_string(t),
                         rows_of(operands));
  return {};
}

std::string check_size(const Type& type) {
  if (type.rank() > kMaxRank)
    return fmt::format("the result would have {} axes; at most {} are possible", type.rank(), kMaxRank);
  int64_t elements = type.rows;
  for (const int64_t extent : type.shape) {
    if (extent < 1) return fmt::format("the result's shape {} has an extent below 1", to_string(type.shape));
    if (extent > kMaxElements / elements) {
      return fmt::format("the result's shape {} has more than the {} elements that are possible",
                         to_string(type.shape), kMaxElements);
    }
    elements *= extent;
  }
  return {};
}

bool is_negative_axis_name(const std::string& name) { return name == "axis" || name == "axes"; }

// Converts negative axes, which count from the end of the first operand's example shape, to axes from the
// front.
void normalise_axes(std::span<const Type> operands, Attributes& attributes) {
  if (operands.empty()) return;
  const int64_t rank = operands[0].rank();
  Attributes changed = attributes;
  for (const auto& [name, value] : attributes) {
    if (!is_negative_axis_name(name)) continue;
    if (const auto* axis = std::get_if<int64_t>(&value)) {
      if (*axis < 0 && *axis >= -rank) changed.set(name, *axis + rank);
    } else if (const auto* axes = std::get_if<std::vector<int64_t>>(&value)) {
      auto list = *axes;
      for (int64_t& a : list) a += a < 0 && a >= -rank ? rank : 0;
      std::sort(list.begin(), list.end());
      changed.set(name, std::move(list));
    }
  }
  attributes = std::move(changed);
}

}  // namespace

std::vector<std::string> missing_parts(const OpDef& def) {
  std::vector<std::string> missing;
  const auto need = [&](bool present, const char* what) {
    if (!present) missing.push_back(what);
  };
  const bool external = def.kind == OpKind::external;
  need(!def.name.empty(), "a name");
  need(!def.doc.empty(), "documentation");
  for (const OperandSpec& o : def.operands)
    need(!o.name.empty() && !o.doc.empty(), "an operand's name or documentation");
  for (const AttributeSpec& a : def.attributes)
    need(!a.name.empty() && !a.doc.empty(), "an attribute's name or documentation");
  need(def.infer != nullptr, "type inference");
  need((def.gradient != nullptr) != !def.no_gradient.empty(),
       "either a gradient or the reason why there is none");
  if (external) return missing;
  need(def.evaluate != nullptr, "reference evaluation");
  need(!def.samples.empty(), "samples");
  if (def.kind == OpKind::elementwise || def.kind == OpKind::source)
    need(def.scalar != nullptr, "scalar lowering");
  need((def.kind == OpKind::contraction) == (def.loop_nest != LoopNest::none),
       "a loop nest, or contractions alone have one");
  if (def.kind == OpKind::composite) need(def.decompose != nullptr, "its decomposition");
  if (def.kind == OpKind::indexing) need(def.position != nullptr && def.otherwise != nullptr, "positions");
  if (def.kind == OpKind::source) need(def.operands.empty(), "nothing, but a source takes no operands");
  return missing;
}

const std::vector<OpDef>& op_defs() {
  static const std::vector<OpDef> defs = make_op_defs();
  return defs;
}

CallForm call_form(const OpDef& def) {
  if (def.call != CallForm::by_kind) return def.call;
  if (def.kind == OpKind::external || def.random || def.operands.empty() || def.variadic)
    return CallForm::none;
  return def.kind == OpKind::elementwise ? CallForm::plain : CallForm::qualified;
}

const OpDef* find_op(std::string_view name) {
  const auto found = op_table().find(name);
  return found == op_table().end() ? nullptr : found->second;
}

std::vector<std::string> op_names() {
  std::vector<std::string> names;
  for (const OpDef& def : op_defs()) names.push_back(def.name);
  return names;
}

double flop_of(const Op& op) {
  const double row = op.def->cost ? op.def->cost(op).flop : static_cast<double>(op.type.elements());
  return row * static_cast<double>(rows_of_example(op));
}

InferResult infer(const OpDef& def, std::span<const Type> operands, Attributes& attributes) {
  const size_t count = def.operands.size();
  const size_t least = count - def.optional_operands;
  if (operands.size() < least || (!def.variadic && operands.size() > count)) {
    const std::string wanted = def.variadic     ? fmt::format("at least {}", count)
                               : least != count ? fmt::format("{} to {}", least, count)
                                                : std::to_string(count);
    return InferResult::fail(
        fmt::format("{} operand{} wanted, {} given", wanted, count == 1 ? "" : "s", operands.size()));
  }
  if (std::string error = check_attributes(def, attributes); !error.empty())
    return InferResult::fail(std::move(error));
  normalise_axes(operands, attributes);
  if (std::string error = check_rows(def, operands); !error.empty())
    return InferResult::fail(std::move(error));
  InferResult result = def.infer(operands, attributes);
  if (!result.error.empty()) return result;
  if (def.by_row && result.type.batched) result.type.rows = rows_of(operands);
  if (std::string error = check_size(result.type); !error.empty()) return InferResult::fail(std::move(error));
  return result;
}

}  // namespace gradc
