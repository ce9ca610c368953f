// Checks the invariants of every module between passes: order, types as inferred, symbols, updates, kernels. Knows no
// operator; it uses the definitions. Reports all errors, as text with the guilty operation, and changes nothing.
#include <fmt/core.h>

#include <map>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "ir/tensor/module.h"
#include "ir/tensor/op_def.h"

namespace gradc {

namespace {

std::string check_type(const Type& t) {
  if (t.rank() > kMaxRank) return fmt::format("has {} axes; at most {} are possible", t.rank(), kMaxRank);
  int64_t elements = 1;
  for (const int64_t extent : t.shape) {
    if (extent < 1) return fmt::format("has the shape {}; extents are at least 1", to_string(t.shape));
    if (extent > kMaxElements / elements)
      return fmt::format("has the shape {}; at most {} elements are possible", to_string(t.shape),
                         kMaxElements);
    elements *= extent;
  }
  return {};
}

// By text, since a NaN attribute differs from itself.
std::string text_of(const Attributes& attributes) {
  std::string out;
  for (const auto& [name, value] : attributes)
    out += fmt::format("{}{}={}", out.empty() ? "" : ", ", name, to_string(value));
  return '{' + out + '}';
}

class FunctionVerifier {
 public:
  FunctionVerifier(const Module& m, const Function& f) : f_(f) {
    for (const Symbol& s : m.symbols) symbols_.emplace(s.name, &s);
  }

  std::vector<std::string> run() {
    if (f_.name.empty()) report("a function without a name");
    for (const auto& op : f_.inputs) external(op.get(), "input");
    for (const auto& op : f_.symbols) {
      if (!external(op.get(), "symbol")) continue;
      const auto it = symbols_.find(op->symbol());
      if (it == symbols_.end()) {
        report(fmt::format("reads @{}, which the module does not declare", op->symbol()));
      } else if (it->second->type != op->type) {
        report(fmt::format("reads @{} as {}; it is declared {}", op->symbol(), to_string(op->type),
                           to_string(it->second->type)));
      }
    }
    int number = 0;
    for (const auto& op : f_.body) operation(op.get(), ++number);
    outputs();
    updates();
    if (errors_.empty()) kernels();
    return std::move(errors_);
  }

 private:
  void report(const std::string& what) { errors_.push_back(fmt::format("@{}: {}", f_.name, what)); }

  // An input or a symbol read; names are unique among their kind.
  bool external(const Op* op, const char* def) {
    const Attribute* attribute = op ? op->attributes.find("name") : nullptr;
    const auto* name = attribute ? std::get_if<std::string>(attribute) : nullptr;
    if (!op || !op->is(def) || !name || name->empty() || !op->operands.empty()) {
      report(fmt::format("an {} that is no such operation, or has no name", def));
      if (op) defined_.insert(op);
      return false;
    }
    if (!externals_.insert({def, *name}).second) report(fmt::format("the {} {} is there twice", def, *name));
    if (const std::string e = check_type(op->type); !e.empty())
      report(fmt::format("the {} {} {}", def, *name, e));
    defined_.insert(op);
    return true;
  }

  void operation(const Op* op, int number) {
    const auto complain = [&](const std::string& what) {
      report(fmt::format("%{} = {}: {}{}", number, op && op->def ? op->def->name : "?", what, origin(op)));
    };
    if (!op || !op->def) return complain("an operation without a definition");
    bool sound = true;
    std::vector<Type> types;
    for (size_t i = 0; i < op->operands.size(); ++i) {
      const Op* operand = op->operands[i];
      if (!operand || !defined_.count(operand)) {
        complain(fmt::format("operand {} is {}", i + 1,
                             operand ? "not defined before its use in this function" : "null"));
        sound = false;
      } else {
        types.push_back(operand->type);
      }
    }
    if (!defined_.insert(op).second) complain("is in the function twice");
    if (op->kernel < -1) complain(fmt::format("kernel({}) is no kernel", op->kernel));
    if (op->def->kind == OpKind::external) return complain("is not an operation of a body");
    if (!sound) return;
    Attributes attributes = op->attributes;
    const InferResult inferred = infer(*op->def, types, attributes);
    if (!inferred.error.empty()) return complain(inferred.error);
    if (inferred.type != op->type)
      complain(fmt::format("has type {}; inferred is {}", to_string(op->type), to_string(inferred.type)));
    if (const std::string stored = text_of(op->attributes), whole = text_of(attributes); stored != whole)
      complain(fmt::format("has the attributes {}, which should be stored as {}", stored, whole));
  }

  static std::string origin(const Op* op) {
    if (!op || op->locations.empty()) return {};
    return fmt::format(" (from {})", to_string(op->locations.front()));
  }

  void outputs() {
    std::set<std::string> names;
    for (const Output& o : f_.outputs) {
      if (o.name.empty()) report("an output without a name");
      if (!names.insert(o.name).second) report(fmt::format("the output {} is there twice", o.name));
      if (!o.value || !defined_.count(o.value))
        report(fmt::format("the output {} is not a value of this function", o.name));
    }
    for (const Output& o : f_.outputs)
      if (!o.divisor.empty() && !names.count(o.divisor))
        report(fmt::format("the output {} is divided by {}, which is no output", o.name, o.divisor));
    if (f_.guard_output == -1) return;
    if (f_.guard_output < -1 || f_.guard_output >= static_cast<int>(f_.outputs.size()))
      return report(fmt::format("is guarded by output number {} of {}", f_.guard_output, f_.outputs.size()));
    const Output& guard = f_.outputs[static_cast<size_t>(f_.guard_output)];
    if (!guard.value || !defined_.count(guard.value)) return;
    const Type& t = guard.value->type;
    if (t.batched || t.elements() != 1 || !t.is_float())
      report(fmt::format("the guard {} has type {}; it must be one unbatched floating-point number",
                         guard.name, to_string(t)));
  }

  void updates() {
    std::set<std::string> names;
    for (const Update& u : f_.updates) {
      if (!names.insert(u.symbol).second) report(fmt::format("@{} is updated twice", u.symbol));
      const auto it = symbols_.find(u.symbol);
      if (it == symbols_.end())
        report(fmt::format("updates @{}, which the module does not declare", u.symbol));
      if (!u.value || !defined_.count(u.value)) {
        report(fmt::format("the update of @{} is not a value of this function", u.symbol));
      } else if (it != symbols_.end() && it->second->type != u.value->type) {
        report(fmt::format("the update of @{} has type {}; it is declared {}", u.symbol,
                           to_string(u.value->type), to_string(it->second->type)));
      }
    }
  }

  // Kernels run one after another, so no two may depend on each other. Cheap operations are recomputed wherever they
  // are used, so a user of one depends on its operands.
  void kernels() {
    std::vector<std::set<int>> users;
    std::vector<int> waiting;
    std::map<int, int> kernel_nodes;
    std::unordered_map<const Op*, int> nodes;  // of stored values
    // For a cheap operation: the nodes of the stored values that it is computed from, through other cheap ones.
    std::unordered_map<const Op*, std::set<int>> recomputed_from;
    const auto add_node = [&] {
      users.emplace_back();
      waiting.push_back(0);
      return static_cast<int>(users.size()) - 1;
    };
    for (const auto& op : f_.body) {
      if (op->def->cheap) continue;
      if (op->kernel < 0) {
        nodes[op.get()] = add_node();
      } else {
        const auto [it, fresh] = kernel_nodes.try_emplace(op->kernel, 0);
        if (fresh) it->second = add_node();
        nodes[op.get()] = it->second;
      }
    }
    for (const auto& op : f_.body) {
      std::set<int> needed;
      for (const Op* operand : op->operands) {
        if (const auto stored = nodes.find(operand); stored != nodes.end()) needed.insert(stored->second);
        if (const auto cheap = recomputed_from.find(operand); cheap != recomputed_from.end())
          needed.insert(cheap->second.begin(), cheap->second.end());
      }
      if (op->def->cheap) {
        recomputed_from[op.get()] = std::move(needed);
        continue;
      }
      const int user = nodes.at(op.get());
      for (const int node : needed)
        if (node != user && users[static_cast<size_t>(node)].insert(user).second)
          ++waiting[static_cast<size_t>(user)];
    }
    std::vector<int> ready;
    for (size_t i = 0; i < waiting.size(); ++i)
      if (waiting[i] == 0) ready.push_back(static_cast<int>(i));
    while (!ready.empty()) {
      const int node = ready.back();
      ready.pop_back();
      for (const int user : users[static_cast<size_t>(node)])
        if (--waiting[static_cast<size_t>(user)] == 0) ready.push_back(user);
    }
    std::string stuck;
    for (const auto& [kernel, node] : kernel_nodes)
      if (waiting[static_cast<size_t>(node)] > 0)
        stuck += fmt::format("{}{}", stuck.empty() ? "" : ", ", kernel);
    if (!stuck.empty())
      report(fmt::format("kernels need results of each other, or wait for such: {}", stuck));
  }

  const Function& f_;
  std::unordered_map<std::string, const Symbol*> symbols_;
  std::unordered_set<const Op*> defined_;
  std::set<std::pair<std::string, std::string>> externals_;
  std::vector<std::string> errors_;
};

}  // namespace

std::vector<std::string> verify(const Module& m, const Function& f) { return FunctionVerifier(m, f).run(); }

std::vector<std::string> verify(const Module& m) {
  std::vector<std::string> errors;
  std::map<std::string, SymbolKind> symbols;
  for (const Symbol& s : m.symbols) {
    if (s.name.empty()) errors.push_back("a symbol without a name");
    if (!symbols.emplace(s.name, s.kind).second)
      errors.push_back(fmt::format("@{} is declared twice", s.name));
    if (s.type.batched) errors.push_back(fmt::format("@{} is batched", s.name));
    if (const std::string e = check_type(s.type); !e.empty())
      errors.push_back(fmt::format("@{} {}", s.name, e));
  }
  for (const Symbol& s : m.symbols) {
    if (s.kind == SymbolKind::parameter || s.kind == SymbolKind::state || s.kind == SymbolKind::weights)
      continue;
    const auto owner = symbols.find(s.name.substr(0, s.name.rfind('.')));
    if (s.name.rfind('.') == s.name.npos || owner == symbols.end() || owner->second != SymbolKind::parameter)
      errors.push_back(fmt::format("the {} @{} is not named after a parameter",
                                   s.kind == SymbolKind::slot      ? "slot"
                                   : s.kind == SymbolKind::average ? "average"
                                                                   : "gradient",
                                   s.name));
  }
  std::set<std::string> names;
  for (const auto& f : m.functions) {
    if (!names.insert(f->name).second) errors.push_back(fmt::format("there are two functions @{}", f->name));
    for (std::string& e : verify(m, *f)) errors.push_back(std::move(e));
  }
  return errors;
}

}  // namespace gradc
