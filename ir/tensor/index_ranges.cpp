// Numbers every element of the integer inputs and traces the numbers through the operators' own definitions.
#include "ir/tensor/index_ranges.h"

#include <algorithm>
#include <cmath>

#include "ir/interpreter/interpreter.h"
#include "ir/tensor/op_def.h"

namespace gradc {

namespace {

using interpreter::Tensor;

bool only_moves(const Op& op) { return op.def->kind == OpKind::view || op.def->kind == OpKind::indexing; }

// The name that the user called: the definition of the prelude that the operation belongs to, or the operator.
std::string called(const Op& op) {
  if (op.locations.empty() || !op.locations[0].file) return op.name();
  const auto in_prelude = [](const std::string& file) { return file.rfind("prelude/", 0) == 0; };
  if (!in_prelude(*op.locations[0].file)) return op.name();
  for (const CallSite* site = op.locations[0].call.get(); site; site = site->parent.get())
    if (site->line != 0 && !in_prelude(site->file)) return site->callee;
  return op.name();
}

// Elements have the value number + 1/2, which distinguishes them from constants of padding, which are whole.
class Analysis {
 public:
  explicit Analysis(const Function& f) {
    for (const auto& input : f.inputs) {
      if (input->type.dtype != DType::i32 || !input->type.batched) continue;
      Tensor numbers = interpreter::make_tensor(input->type, 1);
      for (size_t i = 0; i < numbers.data.size(); ++i)
        numbers.data.data()[i] = static_cast<double>(strictest_.size() + i) + 0.5;
      inputs_.push_back({input.get(), strictest_.size(), numbers.data.size()});
      strictest_.resize(strictest_.size() + numbers.data.size());
      numbers_.emplace(input.get(), std::move(numbers));
    }
    if (inputs_.empty()) return;
    for (const auto& op : f.body) {
      if (op->def->index) use(*op);
      if (only_moves(*op)) move(*op);
    }
  }

  IndexRanges ranges() const {
    IndexRanges result;
    for (const Input& input : inputs_) {
      std::vector<IndexRange> list;
      for (size_t i = 0; i < input.count; ++i) {
        const Use& use = strictest_[input.first + i];
        if (!use.op) continue;
        const auto at = static_cast<int64_t>(i);
        if (i > 0 && strictest_[input.first + i - 1].op == use.op)
          ++list.back().count;
        else
          list.push_back({at, 1, use.extent, called(*use.op),
                          use.op->locations.empty() ? Location() : use.op->locations[0], use.op});
      }
      if (!list.empty()) result[input.op->symbol()] = std::move(list);
    }
    return result;
  }

 private:
  struct Use {
    const Op* op = nullptr;
    int64_t extent = 0;
  };
  struct Input {
    const Op* op;
    size_t first, count;  // of the numbers
  };

  void use(const Op& op) {
    const IndexUse at = op.def->index(op);
    const auto numbers = numbers_.find(op.operands[at.operand]);
    if (numbers == numbers_.end()) return;
    const double* data = numbers->second.data.data();
    for (size_t i = 0; i < numbers->second.data.size(); ++i) {
      if (data[i] == std::floor(data[i])) continue;
      Use& strictest = strictest_[static_cast<size_t>(data[i])];
      if (!strictest.op || at.extent < strictest.extent) strictest = {&op, at.extent};
    }
  }

  void move(const Op& op) {
    if (op.type.dtype != DType::i32 || std::none_of(op.operands.begin(), op.operands.end(),
                                                    [&](const Op* o) { return numbers_.count(o) != 0; }))
      return;
    std::vector<Tensor> others;  // that hold no number
    others.reserve(op.operands.size());
    std::vector<const Tensor*> operands;
    for (const Op* operand : op.operands) {
      const auto known = numbers_.find(operand);
      operands.push_back(known != numbers_.end()
                             ? &known->second
                             : &others.emplace_back(interpreter::make_tensor(operand->type, 1)));
    }
    interpreter::Context context;
    numbers_.emplace(&op, op.def->evaluate(op, operands, context));
  }

  std::vector<Input> inputs_;
  std::vector<Use> strictest_;  // by number
  std::map<const Op*, Tensor> numbers_;
};

}  // namespace

IndexRanges index_ranges(const Function& f) { return Analysis(f).ranges(); }

}  // namespace gradc
