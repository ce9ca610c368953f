// Folding of the pixels of images into the rows, where the batch has few examples: with 32 examples in the lanes, a batch
// of 1 costs as much as one of 32; with 32 pixels in the lanes it costs its share.
//
//   %1 = conv2d %x, @w {padding=[1,1], ...} : f32[n,16,8,8]       %0 = fold_pixels %x : f32[n*64,16]
//   %2 = relu %1 : f32[n,16,8,8]                              ->  %1 = conv2d_rows %0, @w {image=[8,8], ...} : f32[n*64,16]
//                                                                 %2 = relu %1 : f32[n*64,16]
//                                                                 %3 = unfold_pixels %2 {image=[8,8]} : f32[n,16,8,8]
#include <algorithm>

#include "passes/tensor/fold_rows.h"
#include "passes/tensor/layout.h"
#include "passes/tensor/passes.h"

namespace gradc::passes {

namespace {

using Integers = std::vector<int64_t>;
using Form = FoldedForm;
using Use = FoldedUse;

// Lanes of the panels for so many rows, to a row.
double padding(int64_t rows) {
  return static_cast<double>((rows + kPanel - 1) / kPanel * kPanel) / static_cast<double>(rows);
}

class PixelFolding : public RowFolding {
 public:
  explicit PixelFolding(int64_t batch) : batch_(batch) {}

  bool folds(const Type& t) const override {
    return t.batched && t.rows == 1 && t.rank() == 3 && t.shape[1] * t.shape[2] > 1;
  }

  std::optional<Form> form(const Op& op) const override {
    if (op.def->random) return std::nullopt;
    switch (op.def->kind) {
      case OpKind::elementwise: return elementwise(op);
      case OpKind::reduction: return reduction(op);
      case OpKind::indexing: return indexing(op);
      case OpKind::contraction: return convolution(op);
      default: return std::nullopt;
    }
  }

  double gain(const Op& op) const override {
    const Op* image = image_of(op);
    if (!image || !convolution(op)) return 0;
    // Winograd's transforms have 2.25 or 4 times fewer products than the definition; with batches of 16 to 20 both
    // layouts take the same time (docs/performance.md), so they gain about this much.
    constexpr double kWinograd = 2;
    const Shape& result = op.type.batched ? op.type.shape : op.operands[0]->type.shape;
    const bool transforms = result[1] == image->type.shape[1] && result[2] == image->type.shape[2] &&
                            kernel_of(op) == Integers{3, 3};
    if (batch_ == 0) return gradc::flop_of(op) * kCopiesForAnyRows;
    const double before = padding(batch_) / (transforms ? kWinograd : 1);
    return (before - padding(batch_ * result[1] * result[2])) * gradc::flop_of(op);
  }
  double copy_cost() const override { return kFlopForCopy * (batch_ == 0 ? 1 : padding(batch_)); }

  Op* fold(Builder& b, Op* value) const override { return b.create("fold_pixels", {value}); }
  Op* unfold(Builder& b, Op* folded, const Type& type) const override {
    return b.create("unfold_pixels", {folded}, {{"image", Integers{type.shape[1], type.shape[2]}}});
  }
  Op* unfolded(const Op* value) const override {
    return value->is("unfold_pixels") ? value->operands[0] : nullptr;
  }
  Shape squeezed(const Shape& shape) const override { return {shape[0]}; }
  Shape spread(Shape shape, const Shape& result) const override { return {shape[0], result[1], result[2]}; }

 private:
  bool folds(const Op* value) const { return folds(value->type); }

  std::optional<Form> elementwise(const Op& op) const {
    if (!folds(&op) || op.attributes.find("shape")) return std::nullopt;
    Form form{{}, op.attributes};
    bool any = false;
    for (const Op* operand : op.operands) {
      const Type& t = operand->type;
      if (folds(operand) && t.shape[1] == op.type.shape[1] && t.shape[2] == op.type.shape[2])
        form.operands.push_back(Use::folded), any = true;
      else if (!t.batched && t.rank() == 0)
        form.operands.push_back(Use::as_is);
      else if (!t.batched && t.rank() == 3 && t.shape[1] * t.shape[2] == 1)
        form.operands.push_back(Use::squeezed);
      else
        form.operands.push_back(Use::spread);
    }
    if (!any) return std::nullopt;
    return form;
  }

  // Over the batch and all pixels, and perhaps the channels.
  std::optional<Form> reduction(const Op& op) const {
    if (!folds(op.operands[0]) || !op.attributes.boolean("batch")) return std::nullopt;
    const Integers& axes = op.attributes.integers("axes");
    const auto has = [&](int64_t axis) { return std::find(axes.begin(), axes.end(), axis) != axes.end(); };
    if (!has(1) || !has(2)) return std::nullopt;
    Form form{{Use::folded}, op.attributes};
    if (op.def->squared_deviations)
      form.make = squared_deviations;
    else
      form.attributes.set("axes", has(0) ? Integers{0} : Integers{});
    return form;
  }

  // Of rows, as batch_var has them: m = sum x / n, e = sum (x - m) / n, sum (x - m)^2 - n e^2.
  static Op* squared_deviations(Builder& b, const Op& op, const std::vector<Op*>& operands) {
    Op* x = operands[0];
    const auto space = static_cast<double>(x->type.rows);
    Op* count = b.mul(b.create("row_count", {}), space);
    if (x->type.dtype != count->type.dtype) count = b.cast(count, x->type.dtype);
    const auto sum = [&](Op* value) { return b.reduce_sum(value, {}, true, op.attributes.boolean("keep")); };
    Op* d = b.sub(x, b.div(sum(x), count));
    Op* e = sum(d);
    return b.create("relu", {b.sub(sum(b.mul(d, d)), b.div(b.mul(e, e), count))});
  }

  // Of the channels alone, or of the pixels alone.
  std::optional<Form> indexing(const Op& op) const {
    if (!folds(&op)) return std::nullopt;
    for (const Op* operand : op.operands)
      if (!folds(operand)) return std::nullopt;
    Form form{std::vector<Use>(op.operands.size(), Use::folded), op.attributes};
    if (op.is("concat") && op.attributes.integer("axis") == 0) return form;
    const Type& x = op.operands[0]->type;
    const bool slices = op.is("slice");
    if (!slices && !op.is("pad")) return std::nullopt;
    if (op.type.shape[1] == x.shape[1] && op.type.shape[2] == x.shape[2]) {
      for (const char* key : {"begin", "end", "step", "low", "high", "interior"})
        if (op.attributes.find(key) && !op.attributes.integers(key).empty())
          form.attributes.set(key, Integers{op.attributes.integers(key)[0]});
      return form;
    }
    if (op.type.shape[0] != x.shape[0] || (!slices && op.attributes.number("value") != 0))
      return std::nullopt;
    const auto entry = [&](const char* key, size_t axis, int64_t otherwise) {
      const Integers& list = op.attributes.integers(key);
      return list.empty() ? otherwise : list[axis];
    };
    Integers first, step, spread;
    for (const size_t axis : {1, 2}) {
      first.push_back(slices ? entry("begin", axis, 0) : -entry("low", axis, 0));
      step.push_back(slices ? entry("step", axis, 1) : 1);
      spread.push_back(slices ? 1 : entry("interior", axis, 0) + 1);
    }
    form.name = "move_pixels";
    form.attributes = {{"image", Integers{x.shape[1], x.shape[2]}},
                       {"result", Integers{op.type.shape[1], op.type.shape[2]}},
                       {"first", first},
                       {"step", step},
                       {"spread", spread}};
    return form;
  }

  // The convolution's x, or its place in a gradient; null: it is none.
  static const Op* image_of(const Op& op) {
    switch (op.def->loop_nest) {
      case LoopNest::convolution: return op.operands[0];
      case LoopNest::convolution_input_grad: return &op;
      case LoopNest::convolution_weight_grad: return op.operands[1];
      default: return nullptr;
    }
  }
  static Integers kernel_of(const Op& op) {
    const Shape& w = op.type.batched ? op.operands[1]->type.shape : op.type.shape;
    return {w[2], w[3]};
  }

  std::optional<Form> convolution(const Op& op) const {
    const Op* image = image_of(op);
    if (!image || op.attributes.integer("groups") != 1) return std::nullopt;
    const bool weights = op.def->loop_nest == LoopNest::convolution_weight_grad;
    const Op* result = weights ? op.operands[0] : image == &op ? op.operands[0] : &op;
    if (!folds(image) || !folds(result)) return std::nullopt;
    Form form{{Use::folded, weights ? Use::folded : Use::as_is}, {}};
    for (const char* key : {"stride", "padding", "dilation"})
      form.attributes.set(key, *op.attributes.find(key));
    form.attributes.set("image", Integers{image->type.shape[1], image->type.shape[2]});
    if (weights) form.attributes.set("kernel", *op.attributes.find("kernel"));
    form.name = weights ? "conv2d_rows_weight_grad" : image == &op ? "conv2d_rows_input_grad" : "conv2d_rows";
    if (image == &op && op.attributes.integers("stride") != Integers{1, 1})
      form.make = strided_input_gradient;
    return form;
  }

  // That of stride 1 for a gradient with zeros between its pixels: each tap is then at one distance in rows.
  static Op* strided_input_gradient(Builder& b, const Op& op, const std::vector<Op*>& operands) {
    const Shape &g = op.operands[0]->type.shape, &w = op.operands[1]->type.shape;
    Integers whole;  // the result of stride 1
    for (const size_t i : {0, 1})
      whole.push_back(op.type.shape[i + 1] + 2 * op.attributes.integers("padding")[i] -
                      op.attributes.integers("dilation")[i] * (w[i + 2] - 1));
    Op* spread = b.create(
        "move_pixels", {operands[0]},
        {{"image", Integers{g[1], g[2]}}, {"result", whole}, {"spread", op.attributes.integers("stride")}});
    return b.create("conv2d_rows_input_grad", {spread, operands[1]},
                    {{"padding", op.attributes.integers("padding")},
                     {"dilation", op.attributes.integers("dilation")},
                     {"image", Integers{op.type.shape[1], op.type.shape[2]}}});
  }

  static constexpr double kFlopForCopy = 32;  // as of sequences
  // For any number of examples, the products that changes of layout may cost at most, to those of the convolutions.
  static constexpr double kCopiesForAnyRows = 0.1;
  const int64_t batch_;  // 0: any number of examples
};

}  // namespace

bool fold_pixels(Function& f, int64_t batch) {
  return works_on_images(f) && fold_rows(f, PixelFolding(batch));
}

}  // namespace gradc::passes
