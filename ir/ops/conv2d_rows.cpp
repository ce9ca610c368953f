// Convolution of images whose pixels are the rows of their examples (pixels.cpp), and its two gradients: those of
// conv2d, the values in another order. It must not know how they are tiled.
#include "ir/ops/common.h"
#include "ir/ops/convolution.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/gemm.h"
#include "ir/ops/pixels.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;
using interpreter::Tensor;

// The attributes that all three have, and x's shape as they give it.
std::vector<AttributeSpec> specs() {
  std::vector<AttributeSpec> list = convolution_specs();
  list.push_back(required("image", AttributeKind::integers, "the height and width of x"));
  return list;
}
Shape input_shape(const Attributes& a, int64_t channels) {
  const auto& image = a.integers("image");
  return {channels, image[0], image[1]};
}
Attributes attributes_of(const Op& op) {
  Attributes a = window_attributes(op);
  a.set("image", *op.attributes.find("image"));
  return a;
}

// What is wrong with the attributes, the kernel, and an x of the kernel's channels.
std::string check_kernel(const Attributes& a, const Type& kernel, const Type& values) {
  std::string e = check_convolution(a);
  if (e.empty()) e = check_list(a, "image", 2, 1, kMaxWindow);
  if (e.empty() && a.integer("groups") != 1) e = "channels in groups have no such form";
  if (e.empty() && (kernel.batched || kernel.rank() != 4 || kernel.dtype != values.dtype))
    e = fmt::format("the kernel is {}; it must be {}[out, in, height, width]", to_string(kernel),
                    name(values.dtype));
  if (e.empty()) e = check_shapes(a, input_shape(a, kernel.shape[1]), kernel.shape);
  return e;
}

// From [image][pixel][channel] to [image][channel][pixel], and back.
std::vector<double> channels_first(const Tensor& t) {
  const int64_t rows = t.type.rows;
  return permuted(t.data.data(), {t.rows / rows, rows, t.type.shape[0]}, {0, 2, 1});
}
Tensor channels_last(const Type& type, const std::vector<double>& images) {
  Tensor out = interpreter::make_tensor(type, static_cast<int64_t>(images.size()) / type.shape[0]);
  const int64_t examples = out.rows / type.rows;
  const auto turned = permuted(images.data(), {examples, type.shape[0], type.rows}, {0, 2, 1});
  std::copy(turned.begin(), turned.end(), out.data.begin());
  return out;
}
std::vector<double> images(const Type& type, int64_t examples) {
  return std::vector<double>(static_cast<size_t>(examples * type.rows * type.shape[0]));
}

Op* convolve(Builder& b, const Op& like, Op* x, Op* w) {
  return b.create("conv2d_rows", {x, w}, attributes_of(like));
}
Op* input_grad(Builder& b, const Op& like, Op* g, Op* w) {
  return b.create("conv2d_rows_input_grad", {g, w}, attributes_of(like));
}
Op* weight_grad(Builder& b, const Op& like, Op* g, Op* x, const Shape& kernel) {
  Attributes a = attributes_of(like);
  a.set("kernel", ints({kernel[2], kernel[3]}));
  return b.create("conv2d_rows_weight_grad", {g, x}, std::move(a));
}

OpDef rows_op(const char* name, LoopNest nest, const char* doc) {
  OpDef def = Def(name, OpKind::contraction, doc);
  def.loop_nest = nest;
  def.by_row = false;
  def.call = CallForm::none;
  def.attributes = specs();
  return def;
}

OpDef forward() {
  OpDef def = rows_op("conv2d_rows", LoopNest::rows_convolution,
                      "conv2d with a row for each pixel: of x as of the result, each with its channels.");
  def.operands = {{"x", "a row for each pixel: [channels]"}, {"w", "[out, channels, KH, KW], unbatched"}};
  def.infer = [](Types t, const Attributes& a) {
    std::string e = check_kernel(a, t[1], t[0]);
    if (!e.empty()) return InferResult::fail(std::move(e));
    const Convolution g = convolution(a, input_shape(a, t[1].shape[1]), t[1].shape);
    e = check_pixels(t[0], g.h, g.w, "x");
    if (e.empty() && t[0].shape[0] != g.c)
      e = fmt::format("x has {} channels, the kernel {}", t[0].shape[0], g.c);
    return e.empty() ? InferResult::ok(pixels(g.o, g.oh, g.ow, t[0].dtype)) : InferResult::fail(std::move(e));
  };
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    Op *x = op->operands[0], *w = op->operands[1];
    return {input_grad(b, *op, g, w), weight_grad(b, *op, g, x, w->type.shape)};
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    const Shape& kernel = in[1]->type.shape;
    std::vector<double> y = images(op.type, c.rows);
    convolve_images(convolution(op.attributes, input_shape(op.attributes, kernel[1]), kernel), c.rows,
                    channels_first(*in[0]).data(), in[1]->data.data(), y.data());
    return channels_last(op.type, y);
  };
  return def;
}

OpDef input_gradient() {
  OpDef def = rows_op("conv2d_rows_input_grad", LoopNest::rows_convolution_input_grad,
                      "The gradient of conv2d_rows in x.");
  def.operands = {{"g", "gradient of the result, a row for each of its pixels: [out]"},
                  {"w", "conv2d_rows's kernel"}};
  def.infer = [](Types t, const Attributes& a) {
    std::string e = check_kernel(a, t[1], t[0]);
    if (!e.empty()) return InferResult::fail(std::move(e));
    const Convolution g = convolution(a, input_shape(a, t[1].shape[1]), t[1].shape);
    e = check_pixels(t[0], g.oh, g.ow, "g");
    if (e.empty() && t[0].shape[0] != g.o)
      e = fmt::format("g has {} channels, the kernel {}", t[0].shape[0], g.o);
    return e.empty() ? InferResult::ok(pixels(g.c, g.h, g.w, t[0].dtype)) : InferResult::fail(std::move(e));
  };
  def.gradient = [](Builder& b, Op* op, Op* h) -> Grads {
    Op *g = op->operands[0], *w = op->operands[1];
    return {convolve(b, *op, h, w), weight_grad(b, *op, g, h, w->type.shape)};
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    const Shape& kernel = in[1]->type.shape;
    std::vector<double> x = images(op.type, c.rows);
    convolve_images_back(convolution(op.attributes, input_shape(op.attributes, kernel[1]), kernel), c.rows,
                         channels_first(*in[0]).data(), in[1]->data.data(), x.data());
    return channels_last(op.type, x);
  };
  return def;
}

OpDef weight_gradient() {
  OpDef def = rows_op("conv2d_rows_weight_grad", LoopNest::rows_convolution_weight_grad,
                      "The gradient of conv2d_rows in w, summed over the batch.");
  def.operands = {{"g", "gradient of the result, a row for each of its pixels: [out]"},
                  {"x", "conv2d_rows's x"}};
  def.attributes.push_back(required("kernel", AttributeKind::integers, "the kernel's height and width"));
  def.epilogue = false;
  def.infer = [](Types t, const Attributes& a) {
    std::string e = check_list(a, "kernel", 2, 1, kMaxWindow);
    if (e.empty() && (t[0].rank() != 1 || t[1].rank() != 1))
      e = fmt::format("{} and {} must both have channels alone", to_string(t[0]), to_string(t[1]));
    if (!e.empty()) return InferResult::fail(std::move(e));
    const auto& window = a.integers("kernel");
    const Type kernel{t[0].dtype, false, {t[0].shape[0], t[1].shape[0], window[0], window[1]}};
    e = check_kernel(a, kernel, t[1]);
    if (!e.empty()) return InferResult::fail(std::move(e));
    const Convolution g = convolution(a, input_shape(a, t[1].shape[0]), kernel.shape);
    e = check_pixels(t[0], g.oh, g.ow, "g");
    if (e.empty()) e = check_pixels(t[1], g.h, g.w, "x");
    return e.empty() ? InferResult::ok(kernel) : InferResult::fail(std::move(e));
  };
  def.gradient = [](Builder& b, Op* op, Op* h) -> Grads {
    Op *g = op->operands[0], *x = op->operands[1];
    return {convolve(b, *op, x, h), input_grad(b, *op, g, h)};
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    Tensor out = interpreter::make_tensor(op.type, c.rows);
    add_kernel_gradient(
        convolution(op.attributes, input_shape(op.attributes, op.type.shape[1]), op.type.shape), c.rows,
        channels_first(*in[0]).data(), channels_first(*in[1]).data(), out.data.data());
    return out;
  };
  return def;
}

// The cost of a row: simple_cost counts those of an example.
double row_flop(const Op& op, const Shape& kernel, int64_t outputs) {
  return product_flop({kernel[0], outputs}, kernel) / static_cast<double>(rows_of_example(op));
}

struct RowsCase {
  Shape x, kernel;
  std::vector<int64_t> stride, padding, dilation;
  int64_t rows = 3;
  DType dtype = DType::f32;
};

const std::vector<RowsCase>& rows_cases() {
  static const std::vector<RowsCase> list = {
      {{3, 6, 5}, {4, 3, 3, 3}, {1, 1}, {1, 1}, {1, 1}, 5},
      {{16, 8, 8}, {16, 16, 3, 3}, {1, 1}, {1, 1}, {1, 1}, 3},
      {{2, 8, 8}, {3, 2, 3, 3}, {2, 2}, {1, 1}, {1, 1}, 33},
      {{2, 9, 7}, {2, 2, 3, 2}, {1, 2}, {2, 0}, {2, 1}},
      {{20, 4, 32}, {9, 20, 3, 3}, {1, 1}, {1, 1}, {1, 1}, 2},
      {{5, 3, 40}, {33, 5, 5, 5}, {1, 1}, {2, 2}, {1, 1}, 1},
      {{17, 7, 6}, {40, 17, 3, 3}, {2, 2}, {1, 1}, {1, 1}},
      {{7, 4, 4}, {12, 7, 1, 1}, {2, 2}, {0, 0}, {1, 1}, 4},
      {{4, 5, 6}, {3, 4, 3, 3}, {1, 1}, {2, 2}, {2, 2}, 2},
      {{2, 5, 4}, {3, 2, 5, 4}, {1, 1}, {0, 0}, {1, 1}, 9},
      {{2, 4, 4}, {2, 2, 3, 3}, {3, 3}, {2, 2}, {1, 1}, 3, DType::f64}};
  return list;
}

}  // namespace

void register_conv2d_rows(std::vector<OpDef>& defs) {
  OpDef conv = forward(), input = input_gradient(), weight = weight_gradient();
  conv.cost = [](const Op& op) {
    return simple_cost(op, row_flop(op, op.operands[1]->type.shape, op.type.rows));
  };
  input.cost = [](const Op& op) {
    return simple_cost(op, row_flop(op, op.operands[1]->type.shape, op.operands[0]->type.rows));
  };
  weight.cost = [](const Op& op) {
    return simple_cost(op, row_flop(op, op.type.shape, op.operands[0]->type.rows));
  };
  for (const RowsCase& c : rows_cases()) {
    Attributes a{{"stride", ints(c.stride)},
                 {"padding", ints(c.padding)},
                 {"dilation", ints(c.dilation)},
                 {"groups", integer(1)},
                 {"image", ints({c.x[1], c.x[2]})}};
    const Convolution g = convolution(a, c.x, c.kernel);
    const Type x = pixels(g.c, g.h, g.w, c.dtype), y = pixels(g.o, g.oh, g.ow, c.dtype),
               w = plain(c.kernel, c.dtype);
    conv.samples.push_back({{x, w}, a, -2, 2, c.rows});
    input.samples.push_back({{y, w}, a, -2, 2, c.rows});
    a.set("kernel", ints({c.kernel[2], c.kernel[3]}));
    weight.samples.push_back({{y, x}, a, -2, 2, c.rows});
  }
  for (OpDef* def : {&conv, &input, &weight}) defs.push_back(std::move(*def));
}

}  // namespace gradc
