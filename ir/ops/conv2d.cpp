// Two-dimensional convolution and its two gradients: three linear operators whose gradients are each other.
// It must not know how they are tiled.
#include <algorithm>

#include "ir/ops/common.h"
#include "ir/ops/convolution.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/registry.h"
#include "ir/ops/window.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;

std::string check_floats(const Type& a, const Type& b) {
  if (a.is_float() && a.dtype == b.dtype) return {};
  return fmt::format("{} and {} must both be f32 or both f64; convert with cast", to_string(a), to_string(b));
}

std::string check_rank(const Type& t, int rank, const char* what) {
  if (t.rank() == rank) return {};
  return fmt::format("the {} is {}; it must have the {} axes {}", what, to_string(t), rank,
                     rank == 3 ? "[channels, height, width]" : "[out, in / groups, height, width]");
}

InferResult infer_conv2d(Types t, const Attributes& a) {
  std::string e = check_convolution(a);
  if (e.empty()) e = check_floats(t[0], t[1]);
  if (e.empty()) e = check_rank(t[0], 3, "input");
  if (e.empty()) e = check_rank(t[1], 4, "kernel");
  if (e.empty() && t[1].batched) e = fmt::format("the kernel is {}; it must not be batched", to_string(t[1]));
  if (e.empty()) e = check_shapes(a, t[0].shape, t[1].shape);
  if (!e.empty()) return InferResult::fail(std::move(e));
  const Convolution g = convolution(a, t[0].shape, t[1].shape);
  return InferResult::ok({t[0].dtype, t[0].batched, {g.o, g.oh, g.ow}});
}

InferResult infer_input_grad(Types t, const Attributes& a) {
  std::string e = check_convolution(a);
  if (e.empty()) e = check_floats(t[0], t[1]);
  if (e.empty()) e = check_rank(t[0], 3, "gradient");
  if (e.empty()) e = check_rank(t[1], 4, "kernel");
  if (e.empty() && t[1].batched) e = fmt::format("the kernel is {}; it must not be batched", to_string(t[1]));
  if (e.empty()) e = check_list(a, "input", 3, 1, kMaxElements);
  if (e.empty()) e = check_shapes(a, a.integers("input"), t[1].shape);
  if (!e.empty()) return InferResult::fail(std::move(e));
  const Convolution g = convolution(a, a.integers("input"), t[1].shape);
  if (t[0].shape != Shape{g.o, g.oh, g.ow}) {
    return InferResult::fail(fmt::format("the gradient is {}, but the convolution's result is {}",
                                         to_string(t[0]), to_string(Shape{g.o, g.oh, g.ow})));
  }
  return InferResult::ok({t[0].dtype, t[0].batched, a.integers("input")});
}

InferResult infer_weight_grad(Types t, const Attributes& a) {
  std::string e = check_convolution(a);
  if (e.empty()) e = check_floats(t[0], t[1]);
  if (e.empty()) e = check_rank(t[0], 3, "gradient");
  if (e.empty()) e = check_rank(t[1], 3, "input");
  if (e.empty() && t[0].batched != t[1].batched)
    e = fmt::format("{} and {} must both have a batch or neither", to_string(t[0]), to_string(t[1]));
  if (e.empty()) e = check_list(a, "kernel", 2, 1, kMaxWindow);
  if (!e.empty()) return InferResult::fail(std::move(e));
  const Shape kernel{t[0].shape[0], t[1].shape[0] / a.integer("groups"), a.integers("kernel")[0],
                     a.integers("kernel")[1]};
  e = check_shapes(a, t[1].shape, kernel);
  if (!e.empty()) return InferResult::fail(std::move(e));
  const Convolution g = convolution(a, t[1].shape, kernel);
  if (t[0].shape != Shape{g.o, g.oh, g.ow}) {
    return InferResult::fail(fmt::format("the gradient is {}, but the convolution's result is {}",
                                         to_string(t[0]), to_string(Shape{g.o, g.oh, g.ow})));
  }
  return InferResult::ok({t[0].dtype, false, kernel});
}

interpreter::Tensor evaluate_conv2d(const Op& op, Operands in, Context& context) {
  interpreter::Tensor out = interpreter::make_tensor(op.type, context.rows);
  convolve_images(convolution(op.attributes, in[0]->type.shape, in[1]->type.shape), rows_of(op.type, context),
                  in[0]->data.data(), in[1]->data.data(), out.data.data());
  return out;
}

interpreter::Tensor evaluate_input_grad(const Op& op, Operands in, Context& context) {
  interpreter::Tensor out = interpreter::make_tensor(op.type, context.rows);
  convolve_images_back(convolution(op.attributes, op.type.shape, in[1]->type.shape),
                       rows_of(op.type, context), in[0]->data.data(), in[1]->data.data(), out.data.data());
  return out;
}

interpreter::Tensor evaluate_weight_grad(const Op& op, Operands in, Context& context) {
  interpreter::Tensor out = interpreter::make_tensor(op.type, context.rows);
  add_kernel_gradient(convolution(op.attributes, in[1]->type.shape, op.type.shape),
                      rows_of(in[0]->type, context), in[0]->data.data(), in[1]->data.data(), out.data.data());
  return out;
}

Op* convolve(Builder& b, const Op* like, Op* x, Op* w) {
  return b.create("conv2d", {x, w}, window_attributes(*like));
}
Op* input_grad(Builder& b, const Op* like, Op* g, Op* w, const Shape& input) {
  Attributes a = window_attributes(*like);
  a.set("input", input);
  return b.create("conv2d_input_grad", {g, w}, std::move(a));
}
Op* weight_grad(Builder& b, const Op* like, Op* g, Op* x, const Shape& kernel) {
  Attributes a = window_attributes(*like);
  a.set("kernel", ints({kernel[2], kernel[3]}));
  return b.create("conv2d_weight_grad", {g, x}, std::move(a));
}

struct Case {
  Shape x, kernel;
  std::vector<int64_t> stride, padding, dilation;
  int64_t groups = 1;
  int64_t rows = 3;
  bool has_batch = true;
  DType dtype = DType::f32;
  Attributes attributes() const {
    return {{"stride", ints(stride)},
            {"padding", ints(padding)},
            {"dilation", ints(dilation)},
            {"groups", groups}};
  }
  Shape result() const {
    const Convolution g = convolution(attributes(), x, kernel);
    return {g.o, g.oh, g.ow};
  }
};

const std::vector<Case>& cases() {
  static const std::vector<Case> list = {
      {{3, 6, 5}, {4, 3, 3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 5},
      {{2, 8, 8}, {3, 2, 3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, 33},
      {{2, 9, 7}, {2, 2, 3, 2}, {1, 2}, {2, 0}, {2, 1}},
      {{4, 5, 5}, {6, 2, 3, 3}, {1, 1}, {1, 1}, {1, 1}, 2},
      {{3, 4, 4}, {3, 1, 2, 2}, {2, 2}, {0, 0}, {1, 1}, 3},
      {{5, 3, 3}, {7, 5, 1, 1}, {1, 1}, {0, 0}, {1, 1}},
      {{16, 6, 5}, {16, 16, 3, 3}, {1, 1}, {1, 1}, {1, 1}, 1, 5},
      {{20, 9, 8}, {8, 20, 3, 3}, {1, 1}, {0, 2}, {1, 1}, 1, 33},
      {{16, 7, 6}, {40, 16, 3, 3}, {2, 2}, {1, 1}, {1, 1}, 1, 3},
      {{32, 4, 5}, {32, 16, 2, 3}, {1, 1}, {1, 1}, {1, 2}, 2, 3},
      {{12, 3, 3}, {33, 12, 1, 1}, {1, 1}, {0, 0}, {1, 1}},
      {{2, 5, 4}, {3, 2, 5, 4}, {1, 1}, {0, 0}, {1, 1}, 1, 1, false},
      {{2, 4, 4}, {2, 2, 3, 3}, {3, 3}, {2, 2}, {1, 1}, 1, 3, true, DType::f64},
      // Few channels a group, rows long enough for tiles of pixels at both borders and between.
      {{32, 3, 9}, {32, 1, 3, 3}, {1, 1}, {1, 1}, {1, 1}, 32, 33},
      {{3, 5, 26}, {6, 1, 3, 3}, {2, 2}, {1, 1}, {1, 1}, 3},
      {{2, 6, 27}, {2, 1, 3, 3}, {1, 1}, {2, 2}, {2, 2}, 2},
      {{2, 7, 21}, {4, 1, 5, 5}, {2, 1}, {2, 4}, {1, 2}, 2},
      {{2, 5, 24}, {2, 1, 2, 2}, {3, 3}, {0, 0}, {1, 1}, 2},
      {{6, 3, 20}, {9, 2, 3, 3}, {1, 1}, {1, 1}, {1, 1}, 3},
      {{1, 6, 28}, {6, 1, 5, 5}, {1, 1}, {2, 2}, {1, 1}, 1, 33},
      {{3, 4, 25}, {5, 3, 3, 3}, {1, 1}, {1, 1}, {1, 1}},
      {{2, 3, 20}, {2, 1, 1, 1}, {2, 2}, {0, 0}, {1, 1}, 2},
      {{2, 3, 24}, {2, 1, 1, 19}, {1, 1}, {0, 9}, {1, 1}, 2},
      {{2, 4, 18}, {2, 1, 3, 3}, {1, 1}, {1, 1}, {1, 1}, 2, 3, true, DType::f64}};
  return list;
}

}  // namespace

void register_conv2d(std::vector<OpDef>& defs) {
  OpDef conv = Def("conv2d", OpKind::contraction,
                   "Cross-correlation, as PyTorch's conv2d: y[o, i, j] = sum over c, p, q of w[o, c, p, q] "
                   "x[c, i S - P + p D, j S - P + q D], with "
                   "height floor((H + 2 P - D (KH - 1) - 1) / S) + 1 and zeros outside.");
  conv.loop_nest = LoopNest::convolution;
  conv.operands = {{"x", "[channels, height, width]"}, {"w", "[out, channels / groups, KH, KW], unbatched"}};
  conv.attributes = convolution_specs();
  conv.infer = infer_conv2d;
  conv.evaluate = evaluate_conv2d;
  conv.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    Op *x = op->operands[0], *w = op->operands[1];
    return {input_grad(b, op, g, w, x->type.shape), weight_grad(b, op, g, x, w->type.shape)};
  };
  conv.cost = [](const Op& op) {
    return simple_cost(op, product_flop(op.type.shape, op.operands[1]->type.shape));
  };

  OpDef input = Def("conv2d_input_grad", OpKind::contraction,
                    "The gradient of conv2d in x: each output's gradient goes back through the kernel.");
  input.loop_nest = LoopNest::convolution_input_grad;
  input.operands = {{"g", "gradient of the result, [out, OH, OW]"}, {"w", "conv2d's kernel"}};
  input.attributes = convolution_specs();
  input.attributes.push_back(
      required("input", AttributeKind::integers, "the shape of x, [channels, height, width]"));
  input.infer = infer_input_grad;
  input.evaluate = evaluate_input_grad;
  input.gradient = [](Builder& b, Op* op, Op* h) -> Grads {
    Op *g = op->operands[0], *w = op->operands[1];
    return {convolve(b, op, h, w), weight_grad(b, op, g, h, w->type.shape)};
  };
  input.cost = [](const Op& op) {
    return simple_cost(op, product_flop(op.operands[0]->type.shape, op.operands[1]->type.shape));
  };

  OpDef weight =
      Def("conv2d_weight_grad", OpKind::contraction, "The gradient of conv2d in w, summed over the batch.");
  weight.loop_nest = LoopNest::convolution_weight_grad;
  weight.operands = {{"g", "gradient of the result, [out, OH, OW]"}, {"x", "conv2d's x"}};
  weight.attributes = convolution_specs();
  weight.attributes.push_back(required("kernel", AttributeKind::integers, "the kernel's height and width"));
  weight.infer = infer_weight_grad;
  weight.evaluate = evaluate_weight_grad;
  weight.gradient = [](Builder& b, Op* op, Op* h) -> Grads {
    Op *g = op->operands[0], *x = op->operands[1];
    return {convolve(b, op, x, h), input_grad(b, op, g, h, x->type.shape)};
  };
  weight.cost = [](const Op& op) {
    return simple_cost(op, product_flop(op.operands[0]->type.shape, op.type.shape));
  };

  conv.images = input.images = weight.images = true;
  input.call = weight.call = CallForm::none;
  weight.epilogue = false;
  for (const Case& c : cases()) {
    const Type x{c.dtype, c.has_batch, c.x}, y{c.dtype, c.has_batch, c.result()},
        w = plain(c.kernel, c.dtype);
    conv.samples.push_back({{x, w}, c.attributes(), -2, 2, c.rows});
    Attributes with_input = c.attributes(), with_kernel = c.attributes();
    with_input.set("input", c.x);
    with_kernel.set("kernel", ints({c.kernel[2], c.kernel[3]}));
    input.samples.push_back({{y, w}, with_input, -2, 2, c.rows});
    weight.samples.push_back({{y, x}, with_kernel, -2, 2, c.rows});
  }
  defs.push_back(std::move(conv));
  defs.push_back(std::move(input));
  defs.push_back(std::move(weight));
}

}  // namespace gradc
