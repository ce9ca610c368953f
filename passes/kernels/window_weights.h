// What the two ways of lowering conv2d_weight_grad share: the shapes, and reading panels.
#pragma once
#include <fmt/format.h>

#include "passes/kernels/window.h"

namespace gradc::passes::lowering {

class WeightGradientBase {
 public:
  WeightGradientBase(Lowering& l, const Op* op)
      : l_(l),
        op_(op),
        g_shape_(op_->operands[0]->type.shape),
        x_shape_(op_->operands[1]->type.shape),
        out_(op_->type.shape),
        rows_(spatial_axis(op_, 0, x_shape_, g_shape_, out_[2])),
        columns_(spatial_axis(op_, 1, x_shape_, g_shape_, out_[3])),
        groups_(group_count(op_)),
        outputs_(g_shape_[0] / groups_),
        channels_(x_shape_[0] / groups_),
        batched_(op_->operands[0]->type.batched),
        scalar_(scalar_of(op_->type.dtype)) {}

 protected:
  loop::Type vector_type(int lanes) const { return {scalar_, static_cast<uint16_t>(lanes)}; }
  std::string name(const char* suffix) const {
    return fmt::format("k{}_{}{}", op_->kernel, op_->name(), suffix);
  }
  void begin(KernelBuilder& kb) const {
    kb.kernel.locations = op_->locations;
    if (!op_->locations.empty()) kb.b.set_location(op_->locations.front());
  }
  double flop() const { return op_->def->cost(*op_).flop * static_cast<double>(l_.options.batch); }

  // The address of a vector of examples of a panel.
  loop::Expr place(size_t operand, const loop::Expr& q, const loop::Expr& c, const loop::Expr& y,
                   const loop::Expr& x, const loop::Expr& sub) const {
    const Type& t = op_->operands[operand]->type;
    return (q * loop::index(t.elements()) + l_.element(t, {c, y, x})) * loop::index(kPanel) +
           sub * loop::index(l_.width);
  }
  loop::Expr load_panel(KernelBuilder& kb, size_t operand, const loop::Expr& q, const loop::Expr& c,
                        const loop::Expr& y, const loop::Expr& x, const loop::Expr& sub, AccessScope scope) {
    const Op* value = op_->operands[operand];
    const loop::Buffer buffer = kb.buffer(l_.storage(value).allocation, false, scope);
    return loop::load(buffer, place(operand, q, c, y, x, sub), l_.width);
  }
  // The lanes of a vector of examples whose example exists.
  loop::Expr existing(KernelBuilder& kb, const loop::Expr& q, const loop::Expr& sub) const {
    const loop::Expr row =
        loop::cast(loop::Scalar::i32, q * loop::index(kPanel) + sub * loop::index(l_.width));
    const loop::Expr rows = loop::cast(loop::Scalar::i32, loop::ref(kb.b.predefined().rows));
    return kb.b.let("lanes", loop::compare(loop::CompareOp::lt, loop::ramp(row, 1, l_.width),
                                           loop::broadcast(rows, l_.width)));
  }

  Lowering& l_;
  const Op* op_;
  const Shape &g_shape_, &x_shape_, &out_;  // [O, OH, OW], [C, H, W], [O, C / groups, KH, KW]
  const Axis rows_, columns_;
  const int64_t groups_, outputs_, channels_;  // the last two of a group
  const bool batched_;
  const loop::Scalar scalar_;
  int partial_ = -1;  // the partial sums' allocation
};

// The sum over the batch of products over all output pixels.
void lower_weight_gradient(Lowering& lowering, const KernelGroup& group);
// By lanes along the batch (window_weights_batch.cpp).
void lower_weight_gradient_by_batch(Lowering& lowering, const Op* op);

}  // namespace gradc::passes::lowering
