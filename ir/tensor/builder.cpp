// The builder: inserts operations with inferred types. Names only the few operators of its own shorthands.
#include <algorithm>

#include "ir/tensor/module.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc {

void Builder::insert_before(const Op* op) {
  at_ = std::find_if(function_.body.begin(), function_.body.end(),
                     [&](const auto& o) { return o.get() == op; });
  GRADC_CHECK(at_ != function_.body.end(), "@{}: insertion before an operation that is not in the body",
              function_.name);
}

Op* Builder::create(std::string_view name, std::vector<Op*> operands, Attributes attributes) {
  const OpDef* def = find_op(name);
  GRADC_CHECK(def, "there is no operation `{}`", name);
  std::vector<Type> types;
  for (const Op* operand : operands) {
    GRADC_CHECK(operand, "@{}: {} with a null operand", function_.name, name);
    types.push_back(operand->type);
  }
  InferResult inferred = infer(*def, types, attributes);
  GRADC_CHECK(inferred.error.empty(), "@{}: {}: {}", function_.name, name, inferred.error);
  auto op = std::make_unique<Op>();
  op->def = def;
  op->operands = std::move(operands);
  op->attributes = std::move(attributes);
  op->type = std::move(inferred.type);
  op->locations = locations_;
  op->id = static_cast<int>(function_.body.size()) + 1;
  return function_.body.insert(at_, std::move(op))->get();
}

Op* Builder::constant(double value, DType dtype) {
  return create("constant", {}, {{"value", value}, {"dtype", std::string(name(dtype))}});
}

Op* Builder::cast(Op* a, DType to) {
  return a->type.dtype == to ? a : create("cast", {a}, {{"to", std::string(name(to))}});
}

Op* Builder::reshape(Op* a, Shape shape) {
  return a->type.shape == shape ? a : create("reshape", {a}, {{"shape", std::move(shape)}});
}

Op* Builder::reduce_sum(Op* a, std::vector<int64_t> axes, bool batch, bool keep) {
  return create("reduce_sum", {a}, {{"axes", std::move(axes)}, {"batch", batch}, {"keep", keep}});
}

Op* Builder::sum_to(Op* a, const Type& type) {
  GRADC_CHECK(a->type.dtype == type.dtype, "a gradient of type {} for a value of type {}", to_string(a->type),
              to_string(type));
  if (a->type == type) return a;
  const bool batch = a->type.batched && !type.batched;
  const int extra = std::max(a->type.rank() - type.rank(), 0);  // leading axes that `type` does not have
  const int missing = std::max(type.rank() - a->type.rank(), 0);
  std::vector<int64_t> axes;
  bool inside = false;  // whether an axis that stays, with extent 1, is summed
  for (int i = 0; i < a->type.rank(); ++i) {
    const bool leading = i < extra;
    if (!leading && (type.shape[i - extra + missing] != 1 || a->type.shape[i] == 1)) continue;
    axes.push_back(i);
    inside = inside || !leading;
  }
  if (batch || !axes.empty()) a = reduce_sum(a, axes, batch, inside);
  if (inside && extra > 0) a = reshape(a, Shape(a->type.shape.begin() + extra, a->type.shape.end()));
  if (a->type == type) return a;
  // The result is smaller than `type`: the gradient is constant along the other axes.
  return create("broadcast", {a}, {{"shape", type.shape}, {"batched", type.batched}});
}

}  // namespace gradc
