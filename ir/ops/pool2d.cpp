// Maximum and average pooling over windows of two spatial axes, and their gradients. It must not know how
// they are tiled.
#include <algorithm>
#include <cmath>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/registry.h"
#include "ir/ops/window.h"

namespace gradc {
namespace {

using namespace ops;
using Grads = std::vector<Op*>;

std::string check_image(const Type& x, const char* what) {
  if (!x.is_float()) return fmt::format("the {} is {}, but only f32 and f64 work here", what, to_string(x));
  if (x.rank() != 3)
    return fmt::format("the {} is {}; it must have the 3 axes [channels, height, width]", what, to_string(x));
  return {};
}

// The shape of pooling an image shape; an error when the window does not fit.
std::string pooled(const Attributes& a, const Shape& x, Shape& out) {
  const Window w = pooling_window(a);
  if (std::string e = check_fits(w, x[1], x[2]); !e.empty()) return e;
  out = {x[0], w.output(0, x[1]), w.output(1, x[2])};
  return {};
}

InferResult infer_pool(Types t, const Attributes& a) {
  Type result = t[0];
  std::string e = check_pooling(a);
  if (e.empty()) e = check_image(t[0], "input");
  if (e.empty()) e = pooled(a, t[0].shape, result.shape);
  return e.empty() ? InferResult::ok(std::move(result)) : InferResult::fail(std::move(e));
}

InferResult check_pool_gradient(const Type& g, const Type& x, const Attributes& a) {
  Shape shape;
  std::string e = check_image(x, "input");
  if (e.empty()) e = check_image(g, "gradient");
  if (e.empty()) e = pooled(a, x.shape, shape);
  if (e.empty() && g != x.with_shape(shape)) {
    e = fmt::format("the gradient is {}, but the pooling's result is {}", to_string(g),
                    to_string(x.with_shape(shape)));
  }
  return e.empty() ? InferResult::ok(x) : InferResult::fail(std::move(e));
}

// Calls visit(output index, first input index of the channel, rows [h0, h1), columns [w0, w1) inside the
// image) for each output.
template <class F>
void for_each_window(const Window& k, const Type& x, const Shape& y, int64_t rows, F&& visit) {
  const int64_t h = x.shape[1], w = x.shape[2];
  int64_t at = 0;
  for (int64_t plane = 0; plane < rows * y[0]; ++plane) {
    for (int64_t i = 0; i < y[1]; ++i) {
      const int64_t top = i * k.stride[0] - k.padding[0];
      for (int64_t j = 0; j < y[2]; ++j, ++at) {
        const int64_t left = j * k.stride[1] - k.padding[1];
        visit(at, plane * h * w, std::max<int64_t>(top, 0), std::min(top + k.window[0], h),
              std::max<int64_t>(left, 0), std::min(left + k.window[1], w));
      }
    }
  }
}

// Calls visit(output index, index of the first maximum or first NaN) for each window.
template <class F>
void for_each_maximum(const Op& op, const interpreter::Tensor& x, const Shape& y, Context& c, F&& visit) {
  const double* data = x.data.data();
  const int64_t rows = rows_of(x.type, c), width = x.type.shape[2];
  Chooser chooser(op, c, rows * y[0] * y[1] * y[2]);
  for_each_window(pooling_window(op.attributes), x.type, y, rows,
                  [&](int64_t at, int64_t plane, int64_t h0, int64_t h1, int64_t w0, int64_t w1) {
                    int64_t best = plane + h0 * width + w0;
                    for (int64_t i = h0; i < h1; ++i) {
                      for (int64_t p = plane + i * width + w0; p < plane + i * width + w1; ++p) {
                        if (data[p] > data[best] || (std::isnan(data[p]) && !std::isnan(data[best])))
                          best = p;
                      }
                    }
                    visit(at, chooser(at, best));
                  });
}

double window_area(const Op& op) {
  const Window k = pooling_window(op.attributes);
  return static_cast<double>(k.window[0]) * static_cast<double>(k.window[1]);
}

Attributes with_input(const Op* op) {
  Attributes a = op->attributes;
  a.set("input", op->operands[0]->type.shape);
  return a;
}

struct PoolCase {
  Shape x;
  std::vector<int64_t> window, stride, padding;
  int64_t rows = 3;
  bool has_batch = true;
  DType dtype = DType::f32;
  Attributes attributes() const {
    return {{"window", ints(window)}, {"stride", ints(stride)}, {"padding", ints(padding)}};
  }
  Type type() const { return {dtype, has_batch, x}; }
  Type result() const {
    Type t = type();
    pooled(attributes(), x, t.shape);
    return t;
  }
};

const std::vector<PoolCase>& pool_cases() {
  static const std::vector<PoolCase> list = {{{3, 6, 8}, {2, 2}, {2, 2}, {0, 0}, 5},
                                             {{2, 7, 7}, {3, 3}, {2, 2}, {1, 1}, 33},
                                             {{2, 5, 6}, {3, 2}, {1, 2}, {1, 0}},
                                             {{4, 4, 4}, {4, 4}, {4, 4}, {0, 0}},
                                             {{1, 5, 5}, {2, 3}, {1, 1}, {0, 1}, 1, false},
                                             {{2, 4, 4}, {2, 2}, {2, 2}, {1, 1}, 3, true, DType::f64}};
  return list;
}

}  // namespace

bool ops::windows_tile_image(const Op& gradient) {
  constexpr int64_t kMostElements = 16;  // of a window that a kernel keeps in registers at once
  const Window k = pooling_window(gradient.attributes);
  const Shape &x = gradient.type.shape, &y = gradient.operands[0]->type.shape;
  for (size_t i = 0; i < 2; ++i)
    if (k.stride[i] != k.window[i] || k.padding[i] != 0 || x[i + 1] != y[i + 1] * k.window[i]) return false;
  return gradient.type.batched && k.window[0] * k.window[1] <= kMostElements;
}

bool ops::makes_elements_once(const Op& op) { return !op.is("max_pool2d_grad") || windows_tile_image(op); }

void register_pool2d(std::vector<OpDef>& defs) {
  OpDef max = Def("max_pool2d", OpKind::contraction,
                  "The greatest element of each window; NaN if one is NaN. Padding never wins. The gradient "
                  "goes to the window's first maximum.");
  max.call = CallForm::plain;
  max.loop_nest = LoopNest::max_pool;
  max.operands = {{"x", "[channels, height, width]"}};
  max.attributes = pooling_specs();
  max.infer = infer_pool;
  max.exact = true;
  max.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    for_each_maximum(op, *in[0], op.type.shape, c,
                     [&](int64_t at, int64_t from) { out.data.data()[at] = in[0]->data.data()[from]; });
    return out;
  };
  max.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    return {b.create("max_pool2d_grad", {g, op->operands[0]}, op->attributes)};
  };
  max.cost = [](const Op& op) {
    return simple_cost(op, window_area(op) * static_cast<double>(op.type.elements()));
  };

  OpDef max_grad = Def("max_pool2d_grad", OpKind::contraction,
                       "The gradient of max_pool2d: each window's goes to its first maximum.");
  max_grad.call = CallForm::none;
  max_grad.loop_nest = LoopNest::max_pool_grad;
  max_grad.operands = {{"g", "gradient of the result"}, {"x", "max_pool2d's x"}};
  max_grad.attributes = pooling_specs();
  max_grad.infer = [](Types t, const Attributes& a) {
    std::string e = check_pooling(a);
    return e.empty() ? check_pool_gradient(t[0], t[1], a) : InferResult::fail(std::move(e));
  };
  max_grad.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    for_each_maximum(op, *in[1], in[0]->type.shape, c,
                     [&](int64_t at, int64_t to) { out.data.data()[to] += in[0]->data.data()[at]; });
    return out;
  };
  max_grad.no_gradient = "it is made by differentiation, which is done once";
  max_grad.cost = [](const Op& op) {
    return simple_cost(op, window_area(op) * static_cast<double>(op.operands[0]->type.elements()));
  };

  OpDef avg = Def("avg_pool2d", OpKind::contraction,
                  "The mean of each window over its full area, so padding counts as zeros (PyTorch's "
                  "count_include_pad=True).");
  avg.call = CallForm::plain;
  avg.loop_nest = LoopNest::avg_pool;
  avg.operands = {{"x", "[channels, height, width]"}};
  avg.attributes = pooling_specs();
  avg.infer = infer_pool;
  avg.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    const double area = window_area(op);
    const double* x = in[0]->data.data();
    const int64_t width = op.operands[0]->type.shape[2];
    for_each_window(pooling_window(op.attributes), in[0]->type, op.type.shape, rows_of(op.type, c),
                    [&](int64_t at, int64_t plane, int64_t h0, int64_t h1, int64_t w0, int64_t w1) {
                      double sum = 0;
                      for (int64_t i = h0; i < h1; ++i) {
                        for (int64_t j = w0; j < w1; ++j) sum += x[plane + i * width + j];
                      }
                      out.data.data()[at] = sum / area;
                    });
    return out;
  };
  avg.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    return {b.create("avg_pool2d_grad", {g}, with_input(op))};
  };
  avg.cost = max.cost;

  OpDef avg_grad = Def("avg_pool2d_grad", OpKind::contraction,
                       "The gradient of avg_pool2d: g over the area, to every element of the window.");
  avg_grad.call = CallForm::none;
  avg_grad.loop_nest = LoopNest::avg_pool_grad;
  avg_grad.operands = {{"g", "gradient of the result"}};
  avg_grad.attributes = pooling_specs();
  avg_grad.attributes.push_back(
      required("input", AttributeKind::integers, "the shape of avg_pool2d's x, [channels, height, width]"));
  avg_grad.infer = [](Types t, const Attributes& a) {
    std::string e = check_pooling(a);
    if (e.empty()) e = check_list(a, "input", 3, 1, kMaxElements);
    return e.empty() ? check_pool_gradient(t[0], t[0].with_shape(a.integers("input")), a)
                     : InferResult::fail(std::move(e));
  };
  avg_grad.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    const double area = window_area(op);
    const int64_t width = op.type.shape[2];
    for_each_window(pooling_window(op.attributes), op.type, in[0]->type.shape, rows_of(op.type, c),
                    [&](int64_t at, int64_t plane, int64_t h0, int64_t h1, int64_t w0, int64_t w1) {
                      const double g = in[0]->data.data()[at] / area;
                      for (int64_t i = h0; i < h1; ++i) {
                        for (int64_t j = w0; j < w1; ++j) out.data.data()[plane + i * width + j] += g;
                      }
                    });
    return out;
  };
  avg_grad.gradient = [](Builder& b, Op* op, Op* h) -> Grads {
    Attributes a = op->attributes;
    a.erase("input");
    return {b.create("avg_pool2d", {h}, std::move(a))};
  };
  avg_grad.cost = max_grad.cost;

  for (const PoolCase& c : pool_cases()) {
    max.samples.push_back({{c.type()}, c.attributes(), -2, 2, c.rows});
    max_grad.samples.push_back({{c.result(), c.type()}, c.attributes(), -2, 2, c.rows});
    avg.samples.push_back({{c.type()}, c.attributes(), -2, 2, c.rows});
    Attributes a = c.attributes();
    a.set("input", c.x);
    avg_grad.samples.push_back({{c.result()}, a, -2, 2, c.rows});
  }
  max.images = max_grad.images = avg.images = avg_grad.images = true;
  defs.push_back(std::move(max));
  defs.push_back(std::move(max_grad));
  defs.push_back(std::move(avg));
  defs.push_back(std::move(avg_grad));
}

}  // namespace gradc
