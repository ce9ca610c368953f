// Folding of a first axis, such as the positions of a sequence.
#include <algorithm>
#include <set>

#include "ir/ops/einsum.h"
#include "passes/tensor/fold_rows.h"
#include "passes/tensor/passes.h"

namespace gradc::passes {

namespace {

using Integers = std::vector<int64_t>;
using Form = FoldedForm;
using Use = FoldedUse;

bool has_axis(const Type& t, int64_t extent) {
  return t.batched && t.rows == 1 && t.rank() > 0 && t.shape[0] == extent;
}

Integers without_first(const Integers& list) {
  return list.empty() ? list : Integers(list.begin() + 1, list.end());
}
Integers lowered(Integers axes) {
  for (int64_t& a : axes) --a;
  return axes;
}

// Folds a first axis of an extent.
class SequenceFolding : public RowFolding {
 public:
  explicit SequenceFolding(int64_t extent) : extent_(extent) {}

  bool folds(const Type& t) const override { return passes::has_axis(t, extent_); }

  std::optional<Form> form(const Op& op) const override {
    if (op.def->random) return std::nullopt;
    switch (op.def->kind) {
      case OpKind::elementwise: return elementwise(op);
      case OpKind::reduction: return reduction(op);
      case OpKind::view: return op.is("reshape") ? reshape(op) : std::nullopt;
      case OpKind::indexing: return indexing(op);
      case OpKind::contraction: break;
      default: return std::nullopt;
    }
    switch (op.def->loop_nest) {
      case LoopNest::einsum: return einsum(op);
      case LoopNest::gather: return gather(op);
      case LoopNest::scatter_add: return scatter_add(op);
      case LoopNest::fold_rows: return change(op);
      default: return std::nullopt;
    }
  }

  double gain(const Op& op) const override {
    return op.def->loop_nest == LoopNest::einsum ? gradc::flop_of(op) : 0;
  }
  double copy_cost() const override { return kFlopForCopy; }
  Op* fold(Builder& b, Op* value) const override { return b.create("fold_rows", {value}); }
  Op* unfold(Builder& b, Op* folded, const Type&) const override { return b.create("unfold_rows", {folded}); }
  Op* unfolded(const Op* value) const override {
    return value->is("unfold_rows") && value->operands[0]->type.rows == extent_ ? value->operands[0]
                                                                                : nullptr;
  }
  Shape squeezed(const Shape& shape) const override { return without_first(shape); }
  Shape spread(Shape shape, const Shape&) const override {
    shape[0] = extent_;
    return shape;
  }

 private:
  bool has_axis(const Op* value) const { return passes::has_axis(value->type, extent_); }

  std::optional<Form> elementwise(const Op& op) const {
    if (!has_axis(&op)) return std::nullopt;
    Form form{{}, op.attributes};
    for (const Op* operand : op.operands) {
      const Type& t = operand->type;
      const bool same_rank = t.rank() == op.type.rank();
      if (same_rank && has_axis(operand))
        form.operands.push_back(Use::folded);
      else if (t.batched || (same_rank && t.shape[0] != 1))
        form.operands.push_back(Use::spread);
      else
        form.operands.push_back(same_rank ? Use::squeezed : Use::as_is);
    }
    if (std::find(form.operands.begin(), form.operands.end(), Use::folded) == form.operands.end())
      return std::nullopt;
    if (op.attributes.find("shape"))
      form.attributes.set("shape", without_first(op.attributes.integers("shape")));
    return form;
  }

  std::optional<Form> reduction(const Op& op) const {
    if (!has_axis(op.operands[0])) return std::nullopt;
    Integers axes = op.attributes.integers("axes");
    const auto first = std::find(axes.begin(), axes.end(), 0);
    const bool batch = op.attributes.boolean("batch");
    if (batch != (first != axes.end())) return std::nullopt;
    if (batch) axes.erase(first);
    Form form{{Use::folded}, op.attributes};
    form.attributes.set("axes", lowered(axes));
    return form;
  }

  std::optional<Form> reshape(const Op& op) const {
    if (!has_axis(op.operands[0]) || !has_axis(&op)) return std::nullopt;
    Form form{{Use::folded}, op.attributes};
    form.attributes.set("shape", without_first(op.type.shape));
    return form;
  }

  std::optional<Form> indexing(const Op& op) const {
    if (!has_axis(&op) || op.type.rank() < 2) return std::nullopt;
    Form form{std::vector<Use>(op.operands.size(), Use::folded), op.attributes};
    for (size_t i = 0; i < op.operands.size(); ++i)
      if (!has_axis(op.operands[i])) {
        if (op.operands[i]->type.batched) return std::nullopt;
        form.operands[i] = Use::spread;
      }
    const auto drop = [&](std::initializer_list<std::pair<const char*, int64_t>> keys) {
      for (const auto& [key, wanted] : keys) {
        const Integers& list = op.attributes.integers(key);
        if (!list.empty() && list[0] != wanted) return false;
        form.attributes.set(key, without_first(list));
      }
      return true;
    };
    if (op.is("transpose")) {
      const Integers& order = op.attributes.integers("permutation");
      if (order[0] != 0) return std::nullopt;
      form.attributes.set("permutation", lowered(without_first(order)));
      return form;
    }
    if (op.is("slice") && drop({{"begin", 0}, {"end", extent_}, {"step", 1}})) return form;
    if (op.is("pad") && drop({{"low", 0}, {"high", 0}, {"interior", 0}})) return form;
    if (op.is("concat") && op.attributes.integer("axis") > 0) {
      form.attributes.set("axis", op.attributes.integer("axis") - 1);
      return form;
    }
    return std::nullopt;
  }

  // The letter of the axis is the first after the batch's wherever it is, and no operand without a batch has it.
  std::optional<Form> einsum(const Op& op) const {
    std::string spec = op.attributes.text("spec");
    const auto [a, b, out] = ops::einsum_spec(op);
    const std::string in[2] = {a, b};
    char letter = 0;
    Form form{{}, op.attributes};
    for (size_t i = 0; i < 2; ++i) {
      const bool folds = has_axis(op.operands[i]);
      if (op.operands[i]->type.batched && !folds) return std::nullopt;
      if (folds && letter && in[i][1] != letter) return std::nullopt;
      if (folds) letter = in[i][1];
      form.operands.push_back(folds ? Use::folded : Use::as_is);
    }
    if (!letter) return std::nullopt;
    for (size_t i = 0; i < 2; ++i)
      if (form.operands[i] == Use::as_is && in[i].find(letter) != std::string::npos) return std::nullopt;
    if (op.type.batched ? !(out.size() > 1 && out[1] == letter) : out.find(letter) != std::string::npos)
      return std::nullopt;
    spec.erase(std::remove(spec.begin(), spec.end(), letter), spec.end());
    form.attributes.set("spec", spec);
    return form;
  }

  std::optional<Form> gather(const Op& op) const {
    const Op *table = op.operands[0], *index = op.operands[1];
    const int64_t axis = op.attributes.integer("axis");
    if (!table->type.batched && has_axis(index) && axis == 0)
      return Form{{Use::as_is, Use::folded}, op.attributes};
    if (!has_axis(table) || index->type.batched || axis == 0) return std::nullopt;
    Form form{{Use::folded, Use::as_is}, op.attributes};
    form.attributes.set("axis", axis - 1);
    return form;
  }

  std::optional<Form> scatter_add(const Op& op) const {
    if (op.type.batched || !has_axis(op.operands[0]) || !has_axis(op.operands[1])) return std::nullopt;
    if (op.attributes.integer("axis") != 0) return std::nullopt;
    return Form{{Use::folded, Use::folded}, op.attributes};
  }

  // Folding of a value that has the axis: in its folded form it is the value.
  std::optional<Form> change(const Op& op) const {
    if (!has_axis(op.operands[0])) return std::nullopt;
    return Form{{Use::folded}, {}, {}, true};
  }

  static constexpr double kFlopForCopy =
      32;  // of an element to another layout, there and back through the caches
  const int64_t extent_;
};

}  // namespace

bool fold_sequences(Function& f) {
  std::set<int64_t> extents;
  for (const auto& op : f.body)
    if (op->def->loop_nest == LoopNest::einsum)
      for (const Op* operand : op->operands)
        if (const Type& t = operand->type; t.batched && t.rows == 1 && t.rank() > 1 && t.shape[0] > 1)
          extents.insert(t.shape[0]);
  bool changed = false;
  for (const int64_t extent : extents) changed = fold_rows(f, SequenceFolding(extent)) || changed;
  return changed;
}

}  // namespace gradc::passes
