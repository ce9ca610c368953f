// The driver of rewrite tables.
#include "passes/rewrite.h"

#include "support/check.h"

namespace gradc::passes {

Op* other_than_constant(const Op* op, double value) {
  if (is_constant(op->operands[1], value)) return op->operands[0];
  if (is_constant(op->operands[0], value)) return op->operands[1];
  return nullptr;
}

bool apply_rewrites(Function& f, std::span<const Rewrite> rules) {
  bool changed = false;
  Builder b(f);
  for (int round = 0; round < 100; ++round) {
    bool again = false;
    for (Op* op : f.ops()) {
      for (const Rewrite& rule : rules) {
        if (rule.root && !op->is(rule.root)) continue;
        b.insert_before(op);
        b.set_locations(op->locations);
        Op* replacement = rule.apply(b, op);
        if (!replacement || replacement == op) continue;
        GRADC_CHECK(replacement->type == op->type, "rewrite '{}' turns {} into {}", rule.text,
                    to_string(op->type), to_string(replacement->type));
        f.replace_uses(op, replacement);
        again = true;
        break;
      }
    }
    if (!again) return changed;
    f.remove_dead();
    changed = true;
  }
  internal_error(__FILE__, __LINE__, "rewrites do not come to an end");
}

}  // namespace gradc::passes
