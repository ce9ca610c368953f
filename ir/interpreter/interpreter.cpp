// Runs a function operation by operation through the definitions' reference evaluation; knows no operator
// itself.
#include "ir/interpreter/interpreter.h"

#include <cmath>
#include <set>
#include <unordered_map>

#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::interpreter {

namespace {

std::vector<size_t> full_shape(const Type& type, int64_t rows) {
  std::vector<size_t> shape;
  if (type.batched) shape.push_back(static_cast<size_t>(rows));
  for (int64_t extent : type.shape) shape.push_back(static_cast<size_t>(extent));
  return shape;
}

// A tensor from a caller or a definition must have the type that the IR gives it, or later operations would read past
// its end.
void check_tensor(const Tensor& t, const Type& type, int64_t examples, const std::string& what) {
  const int64_t rows = examples * type.rows;
  GRADC_CHECK(t.type == type, "{} has type {}, not {}", what, to_string(t.type), to_string(type));
  GRADC_CHECK(!type.batched || t.rows == rows, "{} has {} rows in a run of {}", what, t.rows, rows);
  const auto elements = static_cast<size_t>(type.elements() * (type.batched ? rows : 1));
  GRADC_CHECK(t.data.size() == elements, "{} has {} elements, not {}", what, t.data.size(), elements);
}

class Run {
 public:
  Run(const Function& f, const RunInput& input)
      : f_(f), input_(input), context_(input.context), uses_(f.use_counts()) {}

  RunResult run() {
    GRADC_CHECK(context_.rows >= 0, "a run of {} rows", context_.rows);
    if (context_.decisions) check_ids();
    for (const auto& op : f_.inputs) bind(*op, input_.inputs, "%");
    for (const auto& op : f_.symbols) bind(*op, input_.symbols, "@");
    for (const auto& op : f_.body) evaluate(*op);
    RunResult result;
    for (const Output& o : f_.outputs) result.outputs.insert_or_assign(o.name, value(o.value));
    const bool write = may_write(result);
    for (const Update& u : f_.updates) {
      if (write) {
        result.updates.insert_or_assign(u.symbol, value(u.value));
        continue;
      }
      const auto old = input_.symbols.find(u.symbol);
      GRADC_CHECK(old != input_.symbols.end(), "@{} keeps @{}, which the run was not given", f_.name,
                  u.symbol);
      result.updates.insert_or_assign(u.symbol, old->second);
    }
    if (input_.keep_all)
      for (auto& [op, tensor] : owned_) result.values.emplace(op, std::move(tensor));
    return result;
  }

 private:
  // Decisions are stored by id, so two operations with one id would replay each other's.
  void check_ids() const {
    std::set<int> ids;
    for (const auto& op : f_.body)
      GRADC_CHECK(ids.insert(op->id).second, "@{} is not numbered: %{} is there twice", f_.name, op->id);
  }

  void bind(const Op& op, const std::map<std::string, Tensor>& given, const char* sigil) {
    const std::string what = sigil + op.symbol();
    const auto it = given.find(op.symbol());
    GRADC_CHECK(it != given.end(), "@{} runs without a value for {}", f_.name, what);
    check_tensor(it->second, op.type, context_.rows, what);
    values_[&op] = &it->second;
  }

  const Tensor& value(const Op* op) const {
    const auto it = values_.find(op);
    GRADC_CHECK(it != values_.end(), "@{} uses a value before it is computed", f_.name);
    return *it->second;
  }

  void evaluate(const Op& op) {
    GRADC_CHECK(op.def && op.def->evaluate, "%{} ({}) cannot be evaluated", op.id, op.name());
    std::vector<const Tensor*> operands;
    for (const Op* operand : op.operands) operands.push_back(&value(operand));
    Tensor result = interpreter::evaluate(op, operands, context_);
    check_tensor(result, op.type, context_.rows, fmt::format("%{} ({})", op.id, op.name()));
    if (!input_.keep_all && uses_[&op] == 0) return;
    values_[&op] = &owned_.insert_or_assign(&op, std::move(result)).first->second;
    if (input_.keep_all) return;
    for (const Op* operand : op.operands) {
      if (--uses_[operand] != 0 || owned_.erase(operand) == 0) continue;
      values_.erase(operand);
    }
  }

  bool may_write(const RunResult& result) const {
    if (f_.guard_output < 0) return true;
    GRADC_CHECK(f_.guard_output < static_cast<int>(f_.outputs.size()),
                "@{} is guarded by an output it has not", f_.name);
    const Tensor& guard = result.outputs.at(f_.outputs[static_cast<size_t>(f_.guard_output)].name);
    GRADC_CHECK(guard.data.size() == 1, "@{} is guarded by a value of type {}", f_.name,
                to_string(guard.type));
    return std::isfinite(*guard.data.data());
  }

  const Function& f_;
  const RunInput& input_;
  Context context_;
  std::map<const Op*, int> uses_;                        // later uses
  std::unordered_map<const Op*, Tensor> owned_;          // results of operations; nodes do not move
  std::unordered_map<const Op*, const Tensor*> values_;  // those and the caller's
};

}  // namespace

Tensor evaluate(const Op& op, std::span<const Tensor* const> operands, const Context& context) {
  Context own = context;
  const int64_t rows = op.def->by_row ? rows_of_example(op) : 1;
  own.rows *= rows;
  own.row_offset *= rows;
  return op.def->evaluate(op, operands, own);
}

RunResult run(const Function& f, const RunInput& input) { return Run(f, input).run(); }

Tensor make_tensor(const Type& type, int64_t rows) {
  Tensor t;
  t.type = type;
  t.rows = type.batched ? rows : 1;
  t.data = xt::xarray<double>::from_shape(full_shape(type, rows));
  std::fill(t.data.begin(), t.data.end(), 0.0);
  return t;
}

}  // namespace gradc::interpreter
