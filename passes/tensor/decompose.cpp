// Replaces composite operations by the ones that lower, as their definitions say, until none is left.
//
//   %2 = log_softmax %1 {axis=0} : f32[n,10]   ->   %3 = reduce_max %1 ...
//                                                   %4 = sub %1, %3
//                                                   %5 = exp %4
//                                                   %6 = reduce_sum %5 ...
//                                                   %7 = log %6
//                                                   %8 = sub %4, %7
#include "ir/tensor/op_def.h"
#include "passes/tensor/passes.h"

namespace gradc::passes {

bool decompose(Function& f) {
  bool changed = false;
  for (bool again = true; again;) {
    again = false;
    Builder b(f);
    for (Op* op : f.ops()) {
      if (op->def->kind != OpKind::composite) continue;
      b.insert_before(op);
      b.set_locations(op->locations);
      f.replace_uses(op, op->def->decompose(b, op));
      again = changed = true;
    }
    if (again) f.remove_dead();
  }
  return changed;
}

}  // namespace gradc::passes
