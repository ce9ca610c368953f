// Folds an axis that operations only map over, such as the positions of a sequence, into the rows of the batch:
//
//   %1 = einsum %x, @w {spec="nik,ok->nio"} : f32[n,128,64]       %0 = fold_rows %x : f32[n*128,32]
//   %2 = relu %1 : f32[n,128,64]                              ->  %1 = einsum %0, @w {spec="nk,ok->no"} : f32[n*128,64]
//                                                                 %2 = relu %1 : f32[n*128,64]
//                                                                 %3 = unfold_rows %2 : f32[n,128,64]
//
// A dense layer over 128 positions of 16 examples is one over 2048 rows: vectors are full for any batch, threads share
// the rows, and weights are read once for many. Only connected operations with contractions are folded, where these
// outweigh the changes of layout at the edges.
#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "ir/ops/einsum.h"
#include "ir/tensor/op_def.h"
#include "passes/tensor/passes.h"

namespace gradc::passes {

namespace {

using Integers = std::vector<int64_t>;

enum class Use : uint8_t {
  folded,
  as_is,     // without a batch, and without the axis
  squeezed,  // without a batch, the axis having extent 1
  spread,  // broadcast along the axis or the batch, which the folded value can only have as elements of its own
};

// An operation in its folded form.
struct Form {
  std::vector<Use> operands;
  Attributes attributes;
};

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

// The folded forms of operations whose first axis has an extent.
class Forms {
 public:
  explicit Forms(int64_t extent) : extent_(extent) {}

  std::optional<Form> of(const Op& op) const {
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
    return Form{{Use::folded}, {}};
  }

  const int64_t extent_;
};

class FoldRows {
 public:
  FoldRows(Function& f, int64_t extent) : f_(f), b_(f), extent_(extent), forms_(extent) {}

  bool run() {
    for (Op* op : f_.ops())
      if (std::optional<Form> form = forms_.of(*op)) form_[op] = std::move(*form);
    connect();
    const std::set<const Op*> worth = worthwhile();
    if (worth.empty()) return false;
    for (Op* op : f_.ops())
      if (form_.count(op) && worth.count(head(op))) fold(op);
    f_.remove_dead();
    return true;
  }

 private:
  // A folded value that exists already.
  bool is_unfolded(const Op* value) const {
    return value->is("unfold_rows") && value->operands[0]->type.rows == extent_;
  }

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
    constexpr double kFlopForCopy = 32;  // of an element to another layout, there and back through the caches
    std::map<const Op*, double> gain;
    std::set<const Op*> contracts, copied, leaves;
    for (auto& [op, form] : form_) {
      const Op* h = head(op);
      if (op->def->loop_nest == LoopNest::einsum) {
        gain[h] += gradc::flop_of(*op);
        contracts.insert(h);
      }
      for (size_t i = 0; i < op->operands.size(); ++i) {
        const Op* operand = op->operands[i];
        const bool folds = form.operands[i] == Use::folded && !form_.count(operand) && !is_unfolded(operand);
        const bool spreads = form.operands[i] == Use::spread;
        if ((folds || spreads) && copied.insert(operand).second)
          gain[h] -=
              kFlopForCopy * static_cast<double>(spreads ? op->type.elements() : operand->type.elements());
      }
    }
    const auto leave = [&](const Op* value) {
      if (form_.count(value) && has_axis(value->type, extent_) && leaves.insert(value).second)
        gain[head(value)] -= kFlopForCopy * static_cast<double>(value->type.elements());
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
    if (is_unfolded(value)) return value->operands[0];
    Op*& made = folded_[value];
    if (!made) made = b_.create("fold_rows", {value});
    return made;
  }

  Op* operand(Op* value, Use use, const Type& result) {
    switch (use) {
      case Use::folded: return folded(value);
      case Use::as_is: return value;
      case Use::squeezed: return b_.reshape(value, without_first(value->type.shape));
      case Use::spread: break;
    }
    Shape shape = value->type.shape;
    if (shape.size() < result.shape.size())
      shape.insert(shape.begin(), result.shape.size() - shape.size(), 1);
    shape[0] = extent_;
    Op*& made = spread_[{value, shape}];
    if (!made)
      made = b_.create("fold_rows", {b_.create("broadcast", {value}, {{"shape", shape}, {"batched", true}})});
    return made;
  }

  // Replaces an operation by its folded form, unfolded again for the uses that need that.
  void fold(Op* op) {
    const Form& form = form_.at(op);
    b_.insert_before(op);
    b_.set_locations(op->locations);
    if (op->def->loop_nest == LoopNest::fold_rows) return f_.replace_uses(op, folded(op->operands[0]));
    std::vector<Op*> operands;
    for (size_t i = 0; i < op->operands.size(); ++i)
      operands.push_back(operand(op->operands[i], form.operands[i], op->type));
    Op* made = b_.create(op->name(), std::move(operands), form.attributes);
    if (made->type.batched) made = b_.create("unfold_rows", {made});
    f_.replace_uses(op, b_.reshape(made, op->type.shape));
  }

  Function& f_;
  Builder b_;
  const int64_t extent_;
  const Forms forms_;
  std::map<const Op*, Form> form_;
  std::map<const Op*, const Op*> head_;
  std::map<Op*, Op*> folded_;
  std::map<std::pair<Op*, Shape>, Op*> spread_;
};

}  // namespace

bool fold_rows(Function& f) {
  std::set<int64_t> extents;
  for (const auto& op : f.body)
    if (op->def->loop_nest == LoopNest::einsum)
      for (const Op* operand : op->operands)
        if (const Type& t = operand->type; t.batched && t.rows == 1 && t.rank() > 1 && t.shape[0] > 1)
          extents.insert(t.shape[0]);
  bool changed = false;
  for (const int64_t extent : extents) changed = FoldRows(f, extent).run() || changed;
  return changed;
}

}  // namespace gradc::passes
