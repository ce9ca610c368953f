// Orders operations as kernels should run: first the scalars of the step (learning rate, bias corrections, 1 / rows),
// which depend on no tensor; then what the guarded loss depends on; then the rest, in the order of differentiation.
// Kernels that write symbols must run after the loss is known to be finite, and an optimizer's update can join the
// kernel that computes the gradient only if its scalars are computed before.
#include <set>

#include "ir/tensor/op_def.h"
#include "passes/tensor/kernel_groups.h"
#include "passes/tensor/passes.h"

namespace gradc::passes {

bool order_operations(Function& f) {
  std::set<const Op*> scalars;
  for (const auto& input : f.inputs)
    if (!input->type.batched && input->type.shape.empty()) scalars.insert(input.get());
  for (Op* op : f.ops()) {
    bool scalar = !op->type.batched && op->type.shape.empty();
    for (const Op* operand : op->operands) scalar = scalar && scalars.count(operand);
    if (scalar) scalars.insert(op);
  }
  const std::set<const Op*> needed = needed_by_guard(f);
  const std::vector<Op*> before = f.ops();
  std::vector<Op*> order;
  for (Op* op : before)
    if (scalars.count(op)) order.push_back(op);
  for (Op* op : before)
    if (!scalars.count(op) && needed.count(op)) order.push_back(op);
  for (Op* op : before)
    if (!scalars.count(op) && !needed.count(op)) order.push_back(op);
  if (order == before) return false;
  f.reorder(order);
  return true;
}

}  // namespace gradc::passes
