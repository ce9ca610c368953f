// Collects the reference: cuts comments, signatures and definitions out of the prelude's text.
#include "frontend/reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "frontend/builtins.h"
#include "frontend/parser.h"
#include "frontend/prelude.h"
#include "ir/ops/markdown.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::frontend {

namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// The comment that ends above a line (from 0) of a file: its sentences, and its indented lines, which are
// examples.
void read_comment(const std::vector<std::string>& lines, size_t line, ReferenceEntry& entry) {
  size_t first = line;
  while (first > 0 && lines[first - 1].rfind("#", 0) == 0) --first;
  for (size_t i = first; i < line; ++i) {
    const std::string& text = lines[i];
    const bool indented = text.rfind("#     ", 0) == 0;
    std::string& to = indented ? entry.example : entry.text;
    if (!to.empty()) to += indented ? "\n" : " ";
    to += text.substr(std::min(text.size(), size_t{indented ? 6U : 2U}));
  }
}

// "name(...)" up to the parenthesis that closes the parameters, on one line.
std::string signature_at(const std::string& text, size_t begin) {
  std::string result;
  int depth = 0;
  for (size_t i = begin; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n' || (c == ' ' && !result.empty() && result.back() == ' ')) continue;
    result += c;
    if (c == '(' || c == '[') ++depth;
    if ((c == ')' || c == ']') && --depth == 0) break;
  }
  return result;
}

std::string group_of(const std::string& file) {
  static const std::pair<const char*, const char*> kGroups[] = {
      {"layers", "Layers"},      {"activations", "Activations"},   {"losses", "Losses and penalties"},
      {"metrics", "Metrics"},    {"initializers", "Initialisers"}, {"optimizers", "Optimizers"},
      {"schedules", "Schedules"}};
  for (const auto& [part, group] : kGroups)
    if (file.find(part) != std::string::npos) return group;
  return file;
}

void add_prelude(std::vector<ReferenceEntry>& entries) {
  SourceManager sources;
  Diagnostics diagnostics(sources);
  for (const PreludeFile& f : prelude_files()) {
    const std::string text = f.text;
    const std::vector<std::string> lines = lines_of(text);
    const uint32_t number = sources.add(f.name, f.text);
    const File file = parse(sources, number, diagnostics);
    for (const auto& d : file.definitions) {
      ReferenceEntry entry;
      entry.name = d->name;
      entry.kind = d->kind == DefinitionKind::fn     ? "function"
                   : d->kind == DefinitionKind::init ? "initialiser"
                                                     : name(d->kind);
      entry.group = group_of(f.name);
      entry.signature = signature_at(text, d->name_span.begin);
      const size_t line = sources.line_column(number, d->span.begin).line;
      entry.location = fmt::format("{}:{}", f.name, line);
      entry.source = text.substr(d->span.begin, d->span.end - d->span.begin);
      read_comment(lines, line - 1, entry);
      entries.push_back(std::move(entry));
    }
  }
  GRADC_CHECK(!diagnostics.has_errors(), "the prelude does not parse:\n{}", diagnostics.render());
}

void add_builtins(std::vector<ReferenceEntry>& entries) {
  for (const Builtin& b : builtins()) {
    std::string parameters;
    for (const BuiltinParameter& p : b.parameters)
      parameters += (parameters.empty() ? "" : ", ") + std::string(p.name) + (p.required ? "" : "=..");
    entries.push_back({b.name,
                       "built-in function",
                       "Built-in functions",
                       fmt::format("{}({})", b.name, parameters),
                       b.doc,
                       b.example,
                       {},
                       {}});
  }
}

void add_primitives(std::vector<ReferenceEntry>& entries) {
  for (const OpDef& def : op_defs()) {
    std::string text = def.doc;
    for (const OperandSpec& o : def.operands) text += fmt::format("\n- {}: {}", o.name, o.doc);
    for (const AttributeSpec& a : def.attributes)
      text += fmt::format("\n- {}{}: {}", a.name, a.required ? "" : " (" + to_string(a.default_value) + ")",
                          a.doc);
    if (def.kind != OpKind::external)
      text += fmt::format("\nGradient: {}.", def.gradient ? "yes" : "none, " + def.no_gradient);
    text += "\n" + op_call_form(def);
    entries.push_back(
        {def.name, "primitive", "Primitives", op_signature(def), text, op_example(def), {}, {}});
  }
}

}  // namespace

const std::vector<ReferenceEntry>& reference() {
  static const std::vector<ReferenceEntry> entries = [] {
    std::vector<ReferenceEntry> list;
    add_prelude(list);
    add_builtins(list);
    add_primitives(list);
    return list;
  }();
  return entries;
}

const char* example_model() {
  return R"(data noise = random(shape=[3, 32, 32], classes=10)

model net(image: f32[3, 32, 32], label: i32) {
    x = image |> flatten |> dense(16)
    tokens = image |> flatten |> dense(128) |> reshape([8, 16])
    logits = dense(x, 10)
    _label = label
    result = EXPRESSION
    return logits + 0 * (sum(tokens) + sum(cast(reshape(result, [-1]), "f32")))
}

train {
    image     = noise.image
    label     = noise.label
    logits    = net(image, label)
    x         = flatten(image)[0..16]
    _x        = x
    loss      cross_entropy(logits, label)
    optimizer sgd(lr=0.1)
    STATEMENT
}
)";
}

bool is_statement(const std::string& example) {
  for (const char* word : {"loss ", "penalty ", "metric ", "optimizer ", "schedule ", "project "})
    if (example.rfind(word, 0) == 0) return true;
  return false;
}

std::string reference_markdown() {
  std::string out =
      "# Reference\n\n"
      "Everything a model file can call, from the definitions themselves; do not edit. `gradc ops` prints "
      "the list and `gradc ops NAME` one\n"
      "entry with its definition. After a change, run the tests with `GRADC_UPDATE_GOLDENS=1`.\n\n"
      "In the examples `image` is f32[3, 32, 32], `x` f32[16], `tokens` f32[8, 16], `logits` f32[10] and "
      "`label` i32. What begins with `loss`,\n"
      "`penalty`, `metric`, `optimizer` or `schedule` goes into `train`, the rest is an expression of the "
      "model. The primitives are in\n"
      "[ops.md](ops.md).\n";
  std::string group;
  for (const ReferenceEntry& e : reference()) {
    if (e.kind == "primitive") continue;
    if (e.group != group) out += fmt::format("\n## {}\n", e.group);
    group = e.group;
    out += fmt::format("\n### {}\n\n`{} {}`{}\n\n{}\n\n    {}\n", e.name, e.kind, e.signature,
                       e.location.empty() ? "" : " in " + e.location.substr(0, e.location.find(':')), e.text,
                       e.example);
  }
  return out;
}

}  // namespace gradc::frontend
