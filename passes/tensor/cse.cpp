// Merges operations with equal definition, operands, attributes and type. Random operations carry their
// stream as an attribute, so equal ones draw the same numbers and may merge too.
//
//   %3 = exp %1                %3 = exp %1
//   %4 = exp %1          ->    %5 = add %3, %3
//   %5 = add %3, %4
#include <fmt/core.h>

#include "ir/tensor/op_def.h"
#include "passes/tensor/passes.h"

namespace gradc::passes {

bool cse(Function& f) {
  std::map<std::string, Op*> seen;
  bool changed = false;
  for (Op* op : f.ops()) {
    std::string key = op->name() + to_string(op->type);
    for (Op* operand : op->operands) key += fmt::format(" {}", static_cast<const void*>(operand));
    if (op->def->commutative && op->operands.size() == 2 && op->operands[1] < op->operands[0]) {
      key = op->name() + to_string(op->type);
      for (size_t i : {1, 0}) key += fmt::format(" {}", static_cast<const void*>(op->operands[i]));
    }
    for (const auto& [name, value] : op->attributes) key += " " + name + "=" + to_string(value);
    const auto [it, inserted] = seen.emplace(std::move(key), op);
    if (inserted) continue;
    it->second->locations.insert(it->second->locations.end(), op->locations.begin(), op->locations.end());
    f.replace_uses(op, it->second);
    changed = true;
  }
  if (changed) f.remove_dead();
  return changed;
}

bool dce(Function& f) { return f.remove_dead() != 0; }

}  // namespace gradc::passes
