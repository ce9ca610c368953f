// Folds elementwise primitives of static numbers at compile time, in double precision, by their reference
// evaluation.
#include <cmath>
#include <optional>
#include <vector>

#include "frontend/builtins.h"
#include "ir/interpreter/interpreter.h"
#include "ir/tensor/module.h"
#include "ir/tensor/op_def.h"

namespace gradc::frontend {

std::optional<double> fold_static(const OpDef& op, const Attributes& attributes,
                                  std::span<const double> numbers) {
  if (op.kind != OpKind::elementwise || op.random) return {};
  const Type scalar = {DType::f64, false, {}};
  Attributes complete = attributes;
  const InferResult result = infer(op, std::vector<Type>(numbers.size(), scalar), complete);
  if (!result.error.empty() || result.type != scalar) return {};

  Function function("fold");
  Builder b(function);
  std::vector<Op*> operands;
  std::vector<interpreter::Tensor> values;
  for (const double number : numbers) {
    operands.push_back(b.constant(number, DType::f64));
    values.push_back(interpreter::make_tensor(scalar, 1));
    *values.back().data.data() = number;
  }
  std::vector<const interpreter::Tensor*> pointers;
  for (const interpreter::Tensor& value : values) pointers.push_back(&value);
  interpreter::Context context;
  return *op.evaluate(*b.create(op.name, operands, complete), pointers, context).data.data();
}

}  // namespace gradc::frontend
