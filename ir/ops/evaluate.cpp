// Broadcast walks, recorded choices and random words of the reference evaluation.
#include "ir/ops/evaluate.h"

#include "support/philox.h"

namespace gradc::ops {

std::vector<WalkAxis> walk_axes(const Type& result, int64_t rows, Operands operands) {
  const int rank = result.rank();
  std::vector<WalkAxis> axes(static_cast<size_t>(rank) + 1);
  axes[0].extent = result.batched ? rows : 1;
  for (int a = 0; a < rank; ++a)
    axes[static_cast<size_t>(a) + 1].extent = result.shape[static_cast<size_t>(a)];
  for (size_t k = 0; k < operands.size(); ++k) {
    const Type& type = operands[k]->type;
    int64_t stride = 1;
    for (int a = type.rank() - 1; a >= 0; --a) {
      const int64_t extent = type.shape[static_cast<size_t>(a)];
      if (extent != 1) axes[static_cast<size_t>(a + 1 + rank - type.rank())].stride[k] = stride;
      stride *= extent;
    }
    if (type.batched) axes[0].stride[k] = stride;
  }
  std::vector<WalkAxis> merged;
  for (const WalkAxis& axis : axes) {
    if (axis.extent == 1) continue;
    bool joins = !merged.empty();
    for (size_t k = 0; joins && k < operands.size(); ++k)
      joins = merged.back().stride[k] == axis.stride[k] * axis.extent;
    if (joins) {
      merged.back().extent *= axis.extent;
      merged.back().stride = axis.stride;
    } else {
      merged.push_back(axis);
    }
  }
  if (merged.empty()) merged.emplace_back();
  return merged;
}

Chooser::Chooser(const Op& op, Context& context, int64_t count) {
  Decisions* d = context.decisions;
  if (d == nullptr || d->mode == Decisions::Mode::off) return;
  replay_ = d->mode == Decisions::Mode::replay;
  list_ = &d->by_op[op.id];
  if (!replay_) list_->assign(static_cast<size_t>(count), 0);
  GRADC_CHECK(list_->size() == static_cast<size_t>(count), "op %{} ({}) has {} recorded choices, {} wanted",
              op.id, op.name(), list_->size(), count);
}

uint32_t random_word_at(const Type& type, const Context& context, uint32_t stream, int64_t i) {
  if (!type.batched)
    return random_word(context.seed, context.micro_step, stream, static_cast<uint64_t>(i), 0);
  const int64_t elements = type.elements();
  return random_word(context.seed, context.micro_step, stream,
                     static_cast<uint64_t>(context.row_offset + i / elements),
                     static_cast<uint64_t>(i % elements));
}

}  // namespace gradc::ops
