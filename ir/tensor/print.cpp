// Tensor IR as text. Prints unsound functions too (a value it does not know is `%?`), since the verifier's
// reports show them; knows no operation.
#include <fmt/core.h>

#include <unordered_map>

#include "ir/tensor/module.h"
#include "ir/tensor/op_def.h"
#include "ir/tensor/text.h"

namespace gradc {

namespace {

std::string spelt(const std::string& name) { return text::is_bare(name) ? name : to_string(Attribute(name)); }

// An input's name that begins with a digit would read as a number.
std::string input_name(const std::string& name) {
  const bool bare = text::is_bare(name) && !(name[0] >= '0' && name[0] <= '9');
  return '%' + (bare ? name : to_string(Attribute(name)));
}

// A file name is bare when no character could belong to the rest of the location.
std::string spelt_file(const std::string& file) {
  for (const char c : file)
    if (!text::continues_name(c) && c != '/') return to_string(Attribute(file));
  return file.empty() ? "\"\"" : file;
}

std::string name_of(const Op& op) {
  const Attribute* name = op.attributes.find("name");
  const auto* text = name ? std::get_if<std::string>(name) : nullptr;
  return text ? *text : "?";
}

class Printer {
 public:
  Printer(const Function* f, PrintOptions options) : options_(options) {
    if (!f) return;
    for (const auto& op : f->inputs) names_[op.get()] = input_name(name_of(*op));
    for (const auto& op : f->symbols) names_[op.get()] = '@' + spelt(name_of(*op));
    int number = 0;
    for (const auto& op : f->body) {
      ++number;
      names_[op.get()] = fmt::format("%{}", options.by_id ? op->id : number);
    }
  }

  std::string function(const Function& f) const {
    std::string out = fmt::format("func @{}(", spelt(f.name));
    for (size_t i = 0; i < f.inputs.size(); ++i) {
      const Op& op = *f.inputs[i];
      out += fmt::format("{}{}: {}{}", i == 0 ? "" : ", ", value(&op), to_string(op.type),
                         locations(op.locations));
    }
    out += ") {\n";
    for (const auto& op : f.body) out += operation(*op);
    for (const Update& u : f.updates)
      out += fmt::format("  update @{} = {}{}\n", spelt(u.symbol), value(u.value), locations({u.location}));
    if (f.guard_output >= 0) {
      const auto index = static_cast<size_t>(f.guard_output);
      out += fmt::format("  guard {}\n", index < f.outputs.size() ? spelt(f.outputs[index].name) : "?");
    }
    for (size_t i = 0; i < f.outputs.size(); ++i)
      out += fmt::format("{}{}={}{}", i == 0 ? "  return " : ", ", spelt(f.outputs[i].name),
                         value(f.outputs[i].value),
                         f.outputs[i].divisor.empty() ? "" : " / " + spelt(f.outputs[i].divisor));
    if (!f.outputs.empty()) out += '\n';
    return out + "}\n";
  }

  std::string locations(const std::vector<Location>& list) const {
    std::string out;
    if (!options_.locations) return out;
    for (const Location& l : list) {
      if (!l.valid()) continue;
      out += out.empty() ? " loc(" : ", ";
      out += fmt::format("{}:{}:{}", spelt_file(l.file ? *l.file : std::string()), l.line, l.column);
    }
    return out.empty() ? out : out + ')';
  }

 private:
  std::string value(const Op* op) const {
    const auto it = names_.find(op);
    return it == names_.end() ? "%?" : it->second;
  }

  std::string operation(const Op& op) const {
    std::string out = fmt::format("  {} = {}", value(&op), op.def ? op.def->name : "?");
    for (size_t i = 0; i < op.operands.size(); ++i) out += (i == 0 ? " " : ", ") + value(op.operands[i]);
    if (!op.attributes.empty()) {
      bool first = true;
      for (const auto& [name, attribute] : op.attributes) {
        out += fmt::format("{}{}={}", first ? " {" : ", ", spelt(name), to_string(attribute));
        first = false;
      }
      out += '}';
    }
    out += " : " + to_string(op.type);
    if (op.kernel >= 0) out += fmt::format(" kernel({})", op.kernel);
    return out + locations(op.locations) + '\n';
  }

  PrintOptions options_;
  std::unordered_map<const Op*, std::string> names_;
};

std::string_view keyword(SymbolKind kind) {
  switch (kind) {
    case SymbolKind::parameter: return "param";
    case SymbolKind::state: return "state";
    case SymbolKind::slot: return "slot";
    case SymbolKind::average: return "average";
    case SymbolKind::gradient: return "gradient";
    case SymbolKind::weights: return "weights";
  }
  return "?";
}

}  // namespace

std::string print(const Function& f, PrintOptions options) { return Printer(&f, options).function(f); }

std::string print(const Module& m, PrintOptions options) {
  std::string out;
  if (!m.name.empty()) out += fmt::format("module {}\n", to_string(Attribute(m.name)));
  const Printer symbols(nullptr, options);
  for (const Symbol& s : m.symbols)
    out += fmt::format("{} @{} : {}{}\n", keyword(s.kind), spelt(s.name), to_string(s.type),
                       symbols.locations({s.location}));
  for (const auto& f : m.functions) {
    if (!out.empty()) out += '\n';
    out += print(*f, options);
  }
  return out;
}

}  // namespace gradc
