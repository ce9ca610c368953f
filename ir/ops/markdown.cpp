// Writes the registry as markdown: a chapter per kind, with a section per primitive.
#include "ir/ops/markdown.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "ir/tensor/op_def.h"

namespace gradc {
namespace {

constexpr std::pair<OpKind, const char*> kKinds[] = {{OpKind::elementwise, "Elementwise"},
                                                     {OpKind::reduction, "Reductions"},
                                                     {OpKind::contraction, "Contractions"},
                                                     {OpKind::indexing, "Indexing"},
                                                     {OpKind::view, "Views"},
                                                     {OpKind::source, "Sources"},
                                                     {OpKind::composite, "Composites"},
                                                     {OpKind::external, "External"}};

std::string_view kind_name(AttributeKind kind) {
  switch (kind) {
    case AttributeKind::boolean: return "boolean";
    case AttributeKind::integer: return "integer";
    case AttributeKind::number: return "number";
    case AttributeKind::text: return "text";
    case AttributeKind::integers: return "integers";
  }
  return "?";
}

std::string explain(OpKind kind) {
  switch (kind) {
    case OpKind::elementwise:
      return "One result element from the elements at the same position; operands broadcast, aligned at the "
             "right of their example shapes.";
    case OpKind::reduction: return "Many elements to one, over example axes and over the batch.";
    case OpKind::contraction: return "Sums over windows or products; each has its own loop nest.";
    case OpKind::indexing: return "Elements move; nothing is computed.";
    case OpKind::view: return "The same elements under another shape.";
    case OpKind::source: return "Values without operands.";
    case OpKind::composite: return "Differentiated as they are, then replaced by other primitives.";
    case OpKind::external: return "Where a function's values come from.";
  }
  return {};
}

std::string traits(const OpDef& def) {
  std::string text;
  const auto add = [&](bool holds, const char* name) {
    if (holds) text += (text.empty() ? "" : ", ") + std::string(name);
  };
  add(def.commutative, "commutative");
  add(def.random, "random");
  add(def.cheap, "recomputed rather than stored");
  return text;
}

std::string section(const OpDef& def) {
  std::string out = fmt::format("\n### {}\n\n`{}`\n\n{}\n", def.name, op_signature(def), def.doc);
  if (!def.operands.empty() || !def.attributes.empty()) out += "\n";
  for (const OperandSpec& o : def.operands) out += fmt::format("- {}: {}\n", o.name, o.doc);
  for (const AttributeSpec& a : def.attributes) {
    const std::string standard = a.required ? "" : fmt::format(", default {}", to_string(a.default_value));
    out += fmt::format("- `{}` ({}{}): {}\n", a.name, kind_name(a.kind), standard, a.doc);
  }
  if (const std::string example = op_example(def); !example.empty())
    out += fmt::format("\nExample: `{}`\n", example);
  if (def.kind != OpKind::external) {
    out += fmt::format("\nGradient: {}.\n", def.gradient != nullptr ? "yes" : "none, " + def.no_gradient);
  }
  out += op_call_form(def) + "\n";
  if (const std::string t = traits(def); !t.empty()) out += fmt::format("Traits: {}.\n", t);
  return out;
}

}  // namespace

std::string op_signature(const OpDef& def) {
  std::string operands, attributes;
  for (const OperandSpec& o : def.operands) operands += (operands.empty() ? "" : ", ") + o.name;
  if (def.variadic) operands += ", ...";
  for (const AttributeSpec& a : def.attributes) attributes += (attributes.empty() ? "" : ", ") + a.name;
  return def.name + "(" + operands + ")" + (attributes.empty() ? "" : " {" + attributes + "}");
}

std::string op_call_form(const OpDef& def) {
  switch (call_form(def)) {
    case CallForm::plain: return fmt::format("In a model file: `{}(...)`.", def.name);
    case CallForm::qualified: return fmt::format("In a model file: `primitive.{}(...)`.", def.name);
    default: return "A model file cannot call it.";
  }
}

std::string op_example(const OpDef& def) {
  if (def.samples.empty()) return {};
  const OpSample& sample = def.samples.front();
  Function f("example");
  std::vector<Op*> operands;
  for (size_t i = 0; i < sample.operands.size(); ++i) {
    const std::string& name = def.operands[std::min(i, def.operands.size() - 1)].name;
    operands.push_back(
        f.add_input(i < def.operands.size() ? name : name + std::to_string(i), sample.operands[i]));
  }
  f.outputs.push_back({"y", Builder(f).create(def.name, operands, sample.attributes)});
  f.renumber();
  // The one line between the function's head and its `return`.
  std::string text = print(f);
  text = text.substr(text.find('\n') + 1);
  text = text.substr(0, text.find('\n'));
  text.erase(0, text.find_first_not_of(' '));
  std::string types;
  for (const auto& input : f.inputs)
    types += fmt::format("{}%{}: {}", types.empty() ? "" : ", ", input->symbol(), to_string(input->type));
  return types.empty() ? text : fmt::format("{}, of {}", text, types);
}

std::string ops_markdown() {
  std::string out =
      "# Primitives\n\n"
      "Made from the definitions in `ir/ops/`; do not edit. After a change, run the tests with "
      "`GRADC_UPDATE_GOLDENS=1`.\n\n"
      "Axes, shapes and positions are those of one example; the batch is never counted. An operand in "
      "parentheses is a tensor, an\n"
      "attribute in braces is known when compiling. A model file calls those that say so, operands first, "
      "then "
      "attributes by\n"
      "position or name; the layers and functions of [reference.md](reference.md) are made of these. What it "
      "cannot call "
      "has a built-in\n"
      "function around it, or is made by the compiler's passes.\n";
  for (const auto& [kind, title] : kKinds) {
    out += fmt::format("\n## {}\n\n{}\n", title, explain(kind));
    for (const OpDef& def : op_defs()) {
      if (def.kind == kind) out += section(def);
    }
  }
  return out;
}

}  // namespace gradc
