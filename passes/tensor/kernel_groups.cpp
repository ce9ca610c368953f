#include "passes/tensor/kernel_groups.h"

#include "ir/ops/window.h"
#include "passes/tensor/layout.h"
#include "support/check.h"

namespace gradc::passes {

namespace {

// A reduction's result can be used inside its group when its axes still align with the domain's at the right.
bool aligned_result(const Op* op) {
  if (op->def->kind != OpKind::reduction || op->attributes.boolean("keep")) return true;
  const auto& axes = op->attributes.integers("axes");
  for (size_t i = 0; i < axes.size(); ++i)
    if (axes[i] != static_cast<int64_t>(i)) return false;
  return true;
}

}  // namespace

bool needs_kernel(const Op* op) {
  switch (op->def->kind) {
    case OpKind::view:
    case OpKind::external: return false;
    case OpKind::source: return op->kernel >= 0 || !op->def->cheap;
    default: return true;
  }
}

const Op* storage_of(const Op* op) {
  while (op->def->kind == OpKind::view) op = op->operands[0];
  return op;
}

std::set<const Op*> needed_by_guard(const Function& f) {
  std::set<const Op*> needed;
  std::vector<const Op*> work;
  if (f.guard_output >= 0) work.push_back(f.outputs[static_cast<size_t>(f.guard_output)].value);
  while (!work.empty()) {
    const Op* op = work.back();
    work.pop_back();
    if (needed.insert(op).second) work.insert(work.end(), op->operands.begin(), op->operands.end());
  }
  return needed;
}

bool KernelGroup::is_outer_type(const Type& t) const {
  if (!has_reduction || t.batched != (domain.batched && !reduces_batch)) return false;
  if (t.batched && t.rows != domain.rows) return false;
  const int missing = domain.rank() - t.rank();
  if (missing < 0) return false;
  for (int a = 0; a < domain.rank(); ++a) {
    const int64_t extent = a < missing ? 1 : t.shape[static_cast<size_t>(a - missing)];
    const int64_t expected = reduced[static_cast<size_t>(a)] ? 1 : domain.shape[static_cast<size_t>(a)];
    if (extent != expected) return false;
  }
  return true;
}

bool KernelGroup::by_partial_sums() const {
  return is_image(domain, images) && has_reduction && reduces_batch && reduced == std::vector<char>{0, 1, 1};
}

// Whether a group of images computes the reduction by partial sums.
static bool sums_images(const Op* op) {
  return is_image(op->operands[0]->type, true) && op->attributes.boolean("batch") &&
         op->attributes.integers("axes") == std::vector<int64_t>{1, 2};
}

Level KernelGroup::level_for(const Op* op) const {
  if (contraction && !(ops.front()->def->epilogue && ops::makes_elements_once(*ops.front())))
    return Level::none;
  if (by_partial_sums())
    for (const Op* operand : op->operands) {
      const auto it = level.find(storage_of(operand));
      if (it != level.end() && it->second == Level::outer) return Level::none;
    }
  bool uses_inner = false;
  for (const Op* operand : op->operands) {
    const auto it = level.find(operand);
    if (it == level.end()) continue;
    if (!aligned_result(operand)) return Level::none;
    uses_inner = uses_inner || it->second == Level::inner;
  }
  switch (op->def->kind) {
    case OpKind::elementwise:
    case OpKind::source:
      if (is_inner_type(op->type)) return Level::inner;
      return !contraction && !by_partial_sums() && is_outer_type(op->type) && !uses_inner ? Level::outer
                                                                                          : Level::none;
    case OpKind::indexing:
      for (const Op* operand : op->operands)
        if (contains(operand)) return Level::none;
      return is_inner_type(op->type) && !contraction ? Level::inner : Level::none;
    case OpKind::reduction: {
      if (!is_inner_type(op->operands[0]->type)) return Level::none;
      const bool parts = images && sums_images(op);
      if (contraction && (!parts || !ops.front()->def->images)) return Level::none;
      const auto in = level.find(op->operands[0]);
      if (in != level.end() && in->second != Level::inner) return Level::none;
      if (!has_reduction) return Level::outer;
      if (reduces_batch != op->attributes.boolean("batch")) return Level::none;
      std::vector<char> axes(domain.shape.size(), 0);
      for (int64_t a : op->attributes.integers("axes")) axes[static_cast<size_t>(a)] = 1;
      return axes == reduced ? Level::outer : Level::none;
    }
    default: return Level::none;
  }
}

void KernelGroup::note_reduction(const Op* op) {
  if (has_reduction) return;
  has_reduction = true;
  reduces_batch = op->attributes.boolean("batch");
  for (int64_t a : op->attributes.integers("axes")) reduced[static_cast<size_t>(a)] = 1;
}

void KernelGroup::add(Op* op, Level at) {
  if (op->def->kind == OpKind::reduction) note_reduction(op);
  ops.push_back(op);
  level[op] = at;
  op->kernel = number;
}

KernelGroup make_group(Op* op, int number, bool images) {
  KernelGroup g;
  g.number = number;
  g.images = images;
  g.contraction = op->def->kind == OpKind::contraction;
  const bool reduction = op->def->kind == OpKind::reduction;
  g.domain = reduction ? op->operands[0]->type : op->type;
  g.reduced.assign(g.domain.shape.size(), 0);
  g.add(op, reduction ? Level::outer : Level::inner);
  return g;
}

namespace {

// The groups, and what is wrong with them.
std::vector<KernelGroup> groups_of(const Function& f, std::string& error) {
  const bool images = works_on_images(f);
  std::vector<KernelGroup> groups;
  std::map<int, size_t> index;
  const auto wrong = [&](std::string what) {
    if (error.empty()) error = std::move(what);
  };
  for (Op* op : f.ops()) {
    if (!needs_kernel(op)) continue;
    if (op->kernel < 0) wrong(fmt::format("{} %{} has no kernel", op->name(), op->id));
    const auto it = index.find(op->kernel);
    if (it == index.end()) {
      index[op->kernel] = groups.size();
      groups.push_back(make_group(op, op->kernel, images));
      continue;
    }
    KernelGroup& g = groups[it->second];
    if (it->second + 1 != groups.size())
      wrong(fmt::format("the operations of kernel {} are not adjacent", op->kernel));
    const Level level = g.level_for(op);
    if (level == Level::none)
      wrong(fmt::format("{} %{} does not fit kernel {}", op->name(), op->id, op->kernel));
    g.add(op, level == Level::none ? Level::inner : level);
  }
  return groups;
}

}  // namespace

std::vector<KernelGroup> kernel_groups(const Function& f) {
  std::string error;
  std::vector<KernelGroup> groups = groups_of(f, error);
  GRADC_CHECK(error.empty(), "@{}: {}", f.name, error);
  return groups;
}

std::string kernel_error(const Function& f) {
  for (const Op* op : f.ops())
    if (op->def->kind == OpKind::composite)
      return fmt::format("{} %{} is made of simpler operations, which decompose puts in its place",
                         op->name(), op->id);
  std::string error;
  const std::vector<KernelGroup> groups = groups_of(f, error);
  const std::set<const Op*> needed = needed_by_guard(f);
  if (!error.empty() || needed.empty()) return error;
  // Symbols are written when the loss is known to be finite, so in kernels after its own.
  std::set<const Op*> written;
  for (const Update& u : f.updates) written.insert(u.value);
  const Op* first = nullptr;
  for (const KernelGroup& g : groups)
    for (const Op* op : g.ops) {
      if (!first && written.count(op)) first = op;
      if (first && needed.count(op))
        return fmt::format("{} %{} follows {} %{}, which updates a symbol, but the loss needs it", op->name(),
                           op->id, first->name(), first->id);
    }
  return {};
}

}  // namespace gradc::passes
