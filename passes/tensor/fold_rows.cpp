// Folds axes that operations only map over into the rows of the batch, such as the positions of a sequence:
//
//   %1 = einsum %x, @w {spec="nik,ok->nio"} : f32[n,128,64]       %0 = fold_rows %x : f32[n*128,32]
//   %2 = relu %1 : f32[n,128,64]                              ->  %1 = einsum %0, @w {spec="nk,ok->no"} : f32[n*128,64]
//                                                                 %2 = relu %1 : f32[n*128,64]
//                                                                 %3 = unfold_rows %2 : f32[n,128,64]
//
// A dense layer over 128 positions of 16 examples is one over 2048 rows: vectors are full for any batch, threads share
// the rows, and weights are read once for many. Likewise the pixels of images, where the batch alone would fill few
// lanes. Only connected operations with contractions are folded, where these outweigh the changes of layout at the
// edges.
#include "passes/tensor/fold_rows.h"

#include <algorithm>
#include <map>
#include <set>

#include "passes/tensor/passes.h"

namespace gradc::passes {

namespace {

using Form = FoldedForm;
using Use = FoldedUse;

class FoldRows {
 public:
  FoldRows(Function& f, const RowFolding& folding) : f_(f), b_(f), folding_(folding) {}

  bool run() {
    for (Op* op : f_.ops())
      if (std::optional<Form> form = folding_.form(*op)) form_[op] = std::move(*form);
    connect();
    const std::set<const Op*> worth = worthwhile();
    if (worth.empty()) return false;
    for (Op* op : f_.ops())
      if (form_.count(op) && worth.count(head(op))) fold(op);
    f_.remove_dead();
    return true;
  }

 private:
  // --- connected operations

  const Op* head(const Op* op) {
    const Op*& up = head_[op];
    if (!up || up == op) return up = op;
    return up = head(up);
  }

  void connect() {
    for (auto& [op, form] : form_)
      for (size_t i = 0; i < op->operands.size(); ++i)
        if (form.operands[i] == Use::folded && form_.count(op->operands[i]))
          head_[head(op)] = head(op->operands[i]);
  }

  // The heads of those whose contractions outweigh the copies at their edges.
  std::set<const Op*> worthwhile() {
    std::map<const Op*, double> gain;
    std::set<const Op*> contracts, copied, leaves;
    for (auto& [op, form] : form_) {
      const Op* h = head(op);
      if (const double saved = folding_.gain(*op); saved != 0) {
        gain[h] += saved;
        contracts.insert(h);
      }
      for (size_t i = 0; i < op->operands.size(); ++i) {
        const Op* operand = op->operands[i];
        const bool folds =
            form.operands[i] == Use::folded && !form_.count(operand) && !folding_.unfolded(operand);
        const bool spreads = form.operands[i] == Use::spread;
        if ((folds || spreads) && copied.insert(operand).second)
          gain[h] -= folding_.copy_cost() *
                     static_cast<double>(spreads ? op->type.elements() : operand->type.elements());
      }
    }
    const auto leave = [&](const Op* value) {
      if (form_.count(value) && folding_.folds(value->type) && leaves.insert(value).second)
        gain[head(value)] -= folding_.copy_cost() * static_cast<double>(value->type.elements());
    };
    for (const auto& op : f_.body) {
      const auto form = form_.find(op.get());
      for (size_t i = 0; i < op->operands.size(); ++i)
        if (form == form_.end() || form->second.operands[i] != Use::folded) leave(op->operands[i]);
    }
    for (const Output& o : f_.outputs) leave(o.value);
    std::set<const Op*> result;
    for (const Op* h : contracts)
      if (gain[h] > 0) result.insert(h);
    return result;
  }

  // --- rewriting

  Op* folded(Op* value) {
    if (Op* before = folding_.unfolded(value)) return before;
    Op*& made = folded_[value];
    if (!made) made = folding_.fold(b_, value);
    return made;
  }

  Op* operand(Op* value, Use use, const Type& result) {
    switch (use) {
      case Use::folded: return folded(value);
      case Use::as_is: return value;
      case Use::squeezed: return b_.reshape(value, folding_.squeezed(value->type.shape));
      case Use::spread: break;
    }
    Shape shape = value->type.shape;
    if (shape.size() < result.shape.size())
      shape.insert(shape.begin(), result.shape.size() - shape.size(), 1);
    shape = folding_.spread(std::move(shape), result.shape);
    Op*& made = spread_[{value, shape}];
    if (!made)
      made = folding_.fold(b_, b_.create("broadcast", {value}, {{"shape", shape}, {"batched", true}}));
    return made;
  }

  // Replaces an operation by its folded form, unfolded again for the uses that need that.
  void fold(Op* op) {
    const Form& form = form_.at(op);
    b_.insert_before(op);
    b_.set_locations(op->locations);
    if (form.is_operand) return f_.replace_uses(op, folded(op->operands[0]));
    std::vector<Op*> operands;
    for (size_t i = 0; i < op->operands.size(); ++i)
      operands.push_back(operand(op->operands[i], form.operands[i], op->type));
    Op* made = form.make ? form.make(b_, *op, operands)
                         : b_.create(form.name.empty() ? op->name() : form.name, operands, form.attributes);
    if (made->type.batched) made = folding_.unfold(b_, made, op->type);
    f_.replace_uses(op, b_.reshape(made, op->type.shape));
  }

  Function& f_;
  Builder b_;
  const RowFolding& folding_;
  std::map<const Op*, Form> form_;
  std::map<const Op*, const Op*> head_;
  std::map<Op*, Op*> folded_;
  std::map<std::pair<Op*, Shape>, Op*> spread_;
};

}  // namespace

bool fold_rows(Function& f, const RowFolding& folding) { return FoldRows(f, folding).run(); }

bool fold_rows(Function& f, int64_t batch) {
  const bool sequences = fold_sequences(f);
  return fold_pixels(f, batch) || sequences;
}

}  // namespace gradc::passes
