// Walks a function in double precision, operation by operation; uses each operation's definition and knows none by
// name.
#include "compiler/evaluate_ops.h"

#include <cfloat>
#include <cmath>

#include "ir/tensor/op_def.h"
#include "support/check.h"
#include "support/philox.h"

namespace gradc::compiler {

using interpreter::Tensor;

namespace {

constexpr double kRounding = 0x1p-24;  // half a unit in the last place of a float, relative

// The result an operation has when all its float operands are magnitudes, with the second and later ones
// negated if `negate`: for sums and differences the sum of the terms' magnitudes; elsewhere a meaningless number, which
// at worst widens the estimate.
Tensor magnitude(const Op& op, const std::vector<const Tensor*>& operands, interpreter::Context& context,
                 bool negate) {
  std::vector<Tensor> copies;
  copies.reserve(operands.size());
  std::vector<const Tensor*> pointers;
  for (size_t i = 0; i < operands.size(); ++i) {
    if (!operands[i]->type.is_float()) {
      pointers.push_back(operands[i]);
      continue;
    }
    copies.push_back(*operands[i]);
    double* data = copies.back().data.data();
    for (size_t k = 0; k < copies.back().data.size(); ++k)
      data[k] = negate && i > 0 ? -std::fabs(data[k]) : std::fabs(data[k]);
    pointers.push_back(&copies.back());
  }
  return interpreter::evaluate(op, pointers, context);
}

// Whether f32 arithmetic computes the operation's results without rounding: they are moved or chosen, or small whole
// numbers. Code that finds an extremum by comparing with it relies on that.
bool is_exact(const Op& op) {
  const OpDef& def = *op.def;
  switch (def.kind) {
    case OpKind::view:
    case OpKind::indexing: return true;
    case OpKind::reduction: return def.combiner != loop::BinaryOp::add;
    default: break;
  }
  if (!def.exact) return false;
  for (const Op* operand : op.operands)
    if (operand->type.dtype == DType::f64) return false;
  return true;
}

}  // namespace

double rounding_size(uint64_t run) { return run % 2 ? 1 : 4; }

OpValues evaluate_ops(const Function& f, const interpreter::RunInput& input, const AfterOp& after) {
  OpValues owned;
  std::map<const Op*, const Tensor*> values;
  std::map<const Op*, int> uses;  // by later operations
  for (const auto& op : f.body)
    for (const Op* operand : op->operands) ++uses[operand];
  interpreter::Context context = input.context;
  const auto bind = [&](const Op& op, const std::map<std::string, Tensor>& given) {
    const auto it = given.find(op.symbol());
    GRADC_CHECK(it != given.end(), "@{} runs without a value for '{}'", f.name, op.symbol());
    values[&op] = &it->second;
  };
  for (const auto& op : f.inputs) bind(*op, input.inputs);
  for (const auto& op : f.symbols) bind(*op, input.symbols);
  for (const auto& op : f.body) {
    std::vector<const Tensor*> operands;
    for (const Op* operand : op->operands) operands.push_back(values.at(operand));
    GRADC_CHECK(op->def->evaluate, "{} has no reference evaluation", op->name());
    Tensor result = interpreter::evaluate(*op, operands, context);
    after(*op, operands, result);
    values[op.get()] = &owned.insert_or_assign(op.get(), std::move(result)).first->second;
    if (input.keep_all) continue;
    for (const Op* operand : op->operands)
      if (--uses[operand] == 0) owned.erase(operand);
    if (uses[op.get()] == 0) owned.erase(op.get());
  }
  if (!input.keep_all) owned.clear();
  return owned;
}

void rounding_run(const Function& f, const interpreter::RunInput& input, uint64_t run,
                  const std::function<void(const Op& op, const Tensor& result)>& observe) {
  interpreter::RunInput quiet = input;
  quiet.context.decisions = nullptr;
  quiet.keep_all = false;
  uint32_t number = 0;
  evaluate_ops(f, quiet, [&](const Op& op, const std::vector<const Tensor*>& operands, Tensor& result) {
    ++number;
    if (op.type.dtype == DType::f32 && !is_exact(op)) {
      std::vector<Tensor> bounds;
      if (!operands.empty() && !op.def->random) {
        bounds.push_back(magnitude(op, operands, quiet.context, false));
        // A contraction is linear in each operand: negated ones change no magnitude.
        if (operands.size() > 1 && op.def->kind != OpKind::contraction)
          bounds.push_back(magnitude(op, operands, quiet.context, true));
      }
      double* data = result.data.data();
      PhiloxWords words{};
      for (size_t i = 0; i < result.data.size(); ++i) {
        // A different word for each run, operation and element.
        if (i % 4 == 0)
          words = philox4x32_10({static_cast<uint32_t>(i / 4), number, 0, 0}, static_cast<uint32_t>(run), 0);
        if (operands.empty() && static_cast<double>(static_cast<float>(data[i])) == data[i]) continue;
        double bound = std::fabs(data[i]);
        for (const Tensor& b : bounds) {
          const double m = std::fabs(b.data.data()[i]);
          if (std::isfinite(m) && m > bound) bound = m;
        }
        const double u = 2 * uniform_from_word(words[i % 4]) - 1;  // in [-1, 1]
        data[i] += kRounding * rounding_size(run) * bound * u;
      }
    }
    // Values beyond the range of f32 become infinite, as in native code.
    if (op.type.dtype == DType::f32)
      for (double& value : result.data)
        if (std::fabs(value) > FLT_MAX) value = std::copysign(HUGE_VAL, value);
    observe(op, result);
  });
}

}  // namespace gradc::compiler
