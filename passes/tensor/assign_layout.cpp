// Turns a flat view of an image into a copy, because the two are stored in different orders:
//
//   %1 = max_pool2d %0 : f32[n,16,5,5]                     %1 = max_pool2d %0 : f32[n,16,5,5]
//   %2 = reshape %1 {shape=[400]} : f32[n,400]       ->    %2 = reshape_copy %1 {shape=[400]} : f32[n,400]
//
// Views between values whose elements are stored in logical order stay free; so do those of one channel or one
// pixel.
#include <algorithm>
#include <numeric>

#include "passes/tensor/layout.h"
#include "passes/tensor/passes.h"
#include "passes/tensor/rewrite.h"

namespace gradc::passes {

bool works_on_images(const Function& f) {
  return std::any_of(f.body.begin(), f.body.end(), [](const auto& op) { return op->def->images; });
}

bool is_image(const Type& t, bool images) { return images && t.batched && t.rows == 1 && t.rank() == 3; }

std::vector<int> memory_order(const Type& t, bool images) {
  if (is_image(t, images)) return {1, 2, 0};
  std::vector<int> order(static_cast<size_t>(t.rank()));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

bool logical_in_memory(const Type& t, bool images) {
  if (!is_image(t, images)) return true;
  return t.shape[0] == 1 || t.shape[1] * t.shape[2] == 1;
}

bool assign_layout(Function& f) {
  if (!works_on_images(f)) return false;
  bool changed = false;
  Builder b(f);
  for (Op* op : f.ops()) {
    if (!op->is("reshape") || op->type.shape == op->operands[0]->type.shape) continue;
    if (logical_in_memory(op->type, true) && logical_in_memory(op->operands[0]->type, true)) continue;
    b.insert_before(op);
    b.set_locations(op->locations);
    f.replace_uses(op, b.create("reshape_copy", op->operands, op->attributes));
    changed = true;
  }
  if (changed) f.remove_dead();
  return changed;
}

}  // namespace gradc::passes
