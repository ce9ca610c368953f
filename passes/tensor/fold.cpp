// Evaluates elementwise operations whose operands are all constants, by the reference definitions, in double;
// f32 results are rounded to float once.
//
//   %1 = constant {dtype="f32", value=1.0}
//   %2 = constant {dtype="f32", value=0.5}      ->   %3 = constant {dtype="f32", value=0.5}
//   %3 = sub %1, %2
#include "ir/interpreter/interpreter.h"
#include "ir/tensor/op_def.h"
#include "passes/tensor/passes.h"
#include "passes/tensor/rewrite.h"

namespace gradc::passes {

bool fold(Function& f) {
  bool changed = false;
  Builder b(f);
  for (Op* op : f.ops()) {
    if (op->def->kind != OpKind::elementwise || op->operands.empty()) continue;
    if (op->type.batched || !op->type.shape.empty() || op->type.dtype == DType::boolean) continue;
    bool all = true;
    for (Op* operand : op->operands) all = all && is_constant(operand);
    if (!all) continue;
    std::vector<interpreter::Tensor> values;
    std::vector<const interpreter::Tensor*> pointers;
    interpreter::Context context;
    for (Op* operand : op->operands) values.push_back(interpreter::evaluate(*operand, {}, context));
    for (const auto& v : values) pointers.push_back(&v);
    double value = *interpreter::evaluate(*op, pointers, context).data.data();
    if (op->type.dtype == DType::f32) value = static_cast<float>(value);
    b.insert_before(op);
    b.set_locations(op->locations);
    f.replace_uses(op, b.constant(value, op->type.dtype));
    changed = true;
  }
  if (changed) f.remove_dead();
  return changed;
}

}  // namespace gradc::passes
