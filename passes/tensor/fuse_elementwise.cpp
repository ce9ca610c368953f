// Decides which operations become one kernel: elementwise chains, reductions with their elementwise producers and
// consumers, and the elementwise epilogues of contractions. The decision is a number on each operation; the IR is not
// changed otherwise.
//
//   %1 = einsum %x, @w {spec="nk,ok->no"} : f32[n,64]           kernel(0)
//   %2 = add %1, @b : f32[n,64]                              -> kernel(0)      epilogue of the contraction
//   %3 = reduce_sum %2 {axes=[], batch=true} : f32[64]          kernel(1)      reductions start a nest
//   %4 = sub %2, %3 : f32[n,64]                                 kernel(1)      second phase of it
//   %5 = max_pool2d_grad %g, %x {window=[2,2]} : f32[n,6,8,8]   kernel(2)
//   %6 = relu_grad %5, %x : f32[n,6,8,8]                     -> kernel(2)      where windows tile the image
//
// Greedy, in order: an operation joins the first group, from the one that computes its operands on, that it fits
// (kernel_groups.h) and with which it shares a value; else it opens a group. Groups run in order, so
// an operation may join any group that is not before its operands. Operations on symbols and inputs alone (momentum
// times the old velocity) are deferred to their first user and join its group; so are those of backward that read only
// what forward stores, where values are images: they join the gradient's kernel. A value that updates a symbol may not
// join a group the loss depends on: updates are written after the loss is known.
#include <algorithm>

#include "passes/tensor/kernel_groups.h"
#include "passes/tensor/layout.h"
#include "passes/tensor/passes.h"
#include "support/check.h"

namespace gradc::passes {

namespace {

constexpr size_t kMaxGroupOps = 160;  // keeps one kernel's LLVM time small

class Fuser {
 public:
  Fuser(Function& f, bool fuse) : f_(f), fuse_(fuse) {}

  bool run() {
    for (Op* op : f_.ops()) op->kernel = -1;
    essential_ = needed_by_guard(f_);
    find_recomputed();
    find_stored_sources();
    for (const Update& u : f_.updates) update_values_.insert(u.value);
    for (const Output& o : f_.outputs) outputs_.insert(o.value);
    const std::vector<Op*> before = f_.ops();
    for (Op* op : before) place(op);
    for (Op* op : before)
      if (deferred_.count(op)) open_group(op);
    f_.reorder(order());
    return !groups_.empty();
  }

 private:
  // Operations of backward that depend on values of forward alone: images' normalised values, and what pass recompute
  // rematerialises. A view's operands other than its storage (those of `after`) do not count.
  void find_recomputed() {
    for (Op* op : f_.ops()) {
      if (essential_.count(op) || !op->type.batched) continue;
      const size_t n = op->def->kind == OpKind::view ? 1 : op->operands.size();
      bool all = true, again = op->is("after");
      for (size_t i = 0; i < n; ++i) {
        const Op* operand = op->operands[i];
        again = again || recomputed_.count(operand);
        all = all && (!operand->type.batched || essential_.count(operand) || recomputed_.count(operand) ||
                      operand->def->kind == OpKind::source);
      }
      const bool image = has_pixels(op->type) && op->def->kind == OpKind::elementwise;
      if (all && (again || image)) recomputed_.insert(op);
    }
  }

  // Cheap sources that must be stored nevertheless: contractions, indexing and views read memory; so do outputs and
  // updates.
  void find_stored_sources() {
    const auto mark = [&](Op* op) {
      if (op->def->kind == OpKind::source) stored_sources_.insert(op);
    };
    for (Op* op : f_.ops()) {
      const OpKind k = op->def->kind;
      if (k == OpKind::contraction || k == OpKind::indexing || k == OpKind::view)
        for (Op* operand : op->operands) mark(operand);
    }
    for (const Output& o : f_.outputs) mark(o.value);
    for (const Update& u : f_.updates) mark(u.value);
  }

  // The first group the operation may join, given the groups that compute its operands. A group that writes a symbol
  // runs after every group the loss depends on, even where its operands are computed earlier.
  int earliest(const Op* op) const {
    int first = update_values_.count(op) ? after_essential() : 0;
    for (const Op* operand : op->operands) {
      if (deferred_.count(operand)) first = std::max(first, earliest(operand));
      const Op* base = storage_of(operand);
      const int g = base->kernel;
      if (g >= 0) first = std::max(first, base == operand ? g : g + 1);
      // A view depends on its other operands too (see `after`).
      for (const Op* view = operand; view->def->kind == OpKind::view; view = view->operands[0])
        for (size_t i = 1; i < view->operands.size(); ++i)
          first = std::max(first, storage_of(view->operands[i])->kernel + 1);
    }
    return first;
  }

  int after_essential() const {
    for (size_t g = groups_.size(); g > 0; --g)
      if (has_essential(groups_[g - 1])) return static_cast<int>(g);
    return 0;
  }

  bool shares_value(const KernelGroup& g, const Op* op) const {
    const bool scalar = g.domain.dtype == DType::f64 && !g.domain.batched && g.domain.shape.empty();
    if (scalar && op->type.dtype == DType::f64) return true;
    for (const Op* operand : op->operands) {
      if (g.contains(operand)) return true;
      if (operand->def->kind == OpKind::source) continue;
      for (const Op* member : g.ops)
        if (std::find(member->operands.begin(), member->operands.end(), operand) != member->operands.end())
          return true;
    }
    return false;
  }

  bool has_essential(const KernelGroup& g) const {
    for (const Op* member : g.ops)
      if (essential_.count(member)) return true;
    return false;
  }

  // Whether the operation depends on a value that is computed in the group. One of backward that only reads what
  // forward stores anyway stays in backward: in forward it would be one more tensor to store.
  static bool uses_inner_value(const KernelGroup& g, const Op* op) {
    if (g.level_for(op) == Level::outer) return true;
    for (const Op* operand : op->operands) {
      const auto it = g.level.find(operand);
      if (it != g.level.end() && it->second == Level::inner) return true;
    }
    return false;
  }

  bool fits(const KernelGroup& g, const Op* op) const {
    return g.ops.size() < kMaxGroupOps && g.level_for(op) != Level::none && fits_with_deferred(g, op);
  }

  // The conditions that do not depend on the operation's level.
  bool fits_with_deferred(const KernelGroup& g, const Op* op) const {
    if (!shares_value(g, op)) return false;
    if ((g.domain.dtype == DType::f64) != (op->type.dtype == DType::f64) && g.domain.shape.empty() &&
        !g.domain.batched)
      return false;
    if (!essential_.count(op) && has_essential(g) && (update_values_.count(op) || !uses_inner_value(g, op)))
      return false;
    if (essential_.count(op))
      for (const Op* member : g.ops)
        if (update_values_.count(member)) return false;
    return true;
  }

  // Of images or sequences: many elements, for which arithmetic costs less than memory.
  bool has_pixels(const Type& t) const { return is_image(t, images_) || t.rows > 1; }
  // Whether it is an operation of backward on these that reads only values of forward.
  bool recomputes_images(const Op* op) const { return has_pixels(op->type) && recomputed_.count(op); }

  // Whether it reads nothing that a kernel computes, so that it may run anywhere; or anywhere in backward.
  bool can_defer(const Op* op) const {
    if (op->def->kind != OpKind::elementwise || update_values_.count(op) || outputs_.count(op)) return false;
    if (op->type.dtype == DType::f64) return false;
    if (recomputes_images(op)) return true;
    for (const Op* operand : op->operands)
      if (storage_of(operand)->kernel >= 0 ||
          (operand->def->kind == OpKind::view && storage_of(operand)->def->kind == OpKind::source))
        return false;
    return true;
  }

  // Adds the operation to a copy of the group, after its deferred operands; false when one does not fit.
  bool join(KernelGroup& g, Op* op) const {
    for (Op* operand : op->operands)
      if (deferred_.count(operand) && !g.contains(operand) && !join(g, operand)) return false;
    const Level level = g.level_for(op);
    if (level == Level::none || g.ops.size() >= kMaxGroupOps) return false;
    g.ops.push_back(op);
    g.level[op] = level;
    if (op->def->kind == OpKind::reduction) g.note_reduction(op);
    return true;
  }

  bool uses_deferred(const Op* op) const {
    for (const Op* operand : op->operands)
      if (deferred_.count(operand)) return true;
    return false;
  }

  // Replaces the group by the copy that join() extended.
  void commit(KernelGroup& g, KernelGroup joined) {
    g = std::move(joined);
    for (Op* member : g.ops) {
      member->kernel = g.number;
      deferred_.erase(member);
    }
  }

  void open_group(Op* op) {
    if (uses_deferred(op)) {
      // Its deferred operands open the group with it where they fit, else each opens its own.
      for (Op* operand : op->operands)
        if (deferred_.count(operand)) open_group(operand);
      deferred_.erase(op);
      for (size_t g = static_cast<size_t>(earliest(op)); g < groups_.size(); ++g)
        if (fits(groups_[g], op)) return groups_[g].add(op, groups_[g].level_for(op));
    }
    deferred_.erase(op);
    groups_.push_back(make_group(op, static_cast<int>(groups_.size()), images_));
  }

  void place(Op* op) {
    const OpKind k = op->def->kind;
    if (k == OpKind::view || k == OpKind::external) return;
    if (k == OpKind::source && op->def->cheap && !stored_sources_.count(op)) return;
    // Operands that are read from memory must be computed in an earlier kernel.
    for (Op* operand : op->operands) {
      Op* base = const_cast<Op*>(storage_of(operand));
      if (deferred_.count(base) && (base != operand || k == OpKind::contraction || k == OpKind::indexing))
        open_group(base);
      // A view's other operands must have a kernel that this one can follow.
      for (Op* view = operand; view->def->kind == OpKind::view; view = view->operands[0])
        for (size_t i = 1; i < view->operands.size(); ++i) {
          Op* made = const_cast<Op*>(storage_of(view->operands[i]));
          if (deferred_.count(made)) open_group(made);
        }
    }
    if (fuse_ && can_defer(op)) {
      deferred_.insert(op);
      return;
    }
    if (fuse_ && k != OpKind::contraction && k != OpKind::source && k != OpKind::indexing)
      for (size_t g = static_cast<size_t>(earliest(op)); g < groups_.size(); ++g) {
        if (!uses_deferred(op)) {
          if (!fits(groups_[g], op)) continue;
          groups_[g].add(op, groups_[g].level_for(op));
          return;
        }
        KernelGroup joined = groups_[g];
        if (!fits_with_deferred(groups_[g], op) || !join(joined, op)) continue;
        commit(groups_[g], std::move(joined));
        return;
      }
    open_group(op);
  }

  // Operations by group; those without a kernel come before their first use.
  std::vector<Op*> order() const {
    std::vector<Op*> result;
    std::set<const Op*> done;
    const auto emit = [&](auto&& self, Op* op) -> void {
      if (op->def->kind == OpKind::external || !done.insert(op).second) return;
      for (Op* operand : op->operands) {
        GRADC_CHECK(operand->kernel < 0 || done.count(operand), "%{} is used before it is made", operand->id);
        self(self, operand);
      }
      result.push_back(op);
    };
    for (const KernelGroup& g : groups_)
      for (Op* op : g.ops) emit(emit, op);
    for (Op* op : f_.ops()) emit(emit, op);
    return result;
  }

  Function& f_;
  bool fuse_;
  const bool images_ = works_on_images(f_);
  std::vector<KernelGroup> groups_;
  std::set<const Op*> essential_, recomputed_, stored_sources_, update_values_, outputs_, deferred_;
};

}  // namespace

bool fuse_elementwise(Function& f) { return Fuser(f, true).run(); }

bool assign_kernels(Function& f) {
  for (Op* op : f.ops())
    if (op->kernel >= 0) return false;  // fusion has numbered everything
  return Fuser(f, false).run();
}

}  // namespace gradc::passes
