// Applies rewrite tables.
#include "passes/tensor/rewrite.h"

#include <algorithm>

#include "support/check.h"

namespace gradc::passes {

Op* other_than_constant(const Op* op, double value) {
  if (is_constant(op->operands[1], value)) return op->operands[0];
  if (is_constant(op->operands[0], value)) return op->operands[1];
  return nullptr;
}

namespace {

// Moves all operations after the first `before` ones of the body to before `op`. Rules build at the end of the body and
// this follows, because nearly all attempts build nothing, and finding `op` takes time linear in the body.
void move_before(Function& f, const Op* op, size_t before) {
  if (f.body.size() == before) return;
  const auto first = std::prev(f.body.end(), static_cast<std::ptrdiff_t>(f.body.size() - before));
  const auto position = std::find_if(f.body.begin(), first, [&](const auto& o) { return o.get() == op; });
  GRADC_CHECK(position != first, "@{}: a rewrite of an operation that is not in the body", f.name);
  f.body.splice(position, f.body, first, f.body.end());
}

}  // namespace

bool apply_rewrites(Function& f, std::span<const Rewrite> rules) {
  bool changed = false;
  Builder b(f);
  for (int round = 0; round < 100; ++round) {
    bool again = false;
    for (Op* op : f.ops()) {
      for (const Rewrite& rule : rules) {
        if (rule.root && !op->is(rule.root)) continue;
        b.set_locations(op->locations);
        const size_t before = f.body.size();
        Op* replacement = rule.apply(b, op);
        move_before(f, op, before);
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
