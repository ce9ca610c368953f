// Images whose pixels are the rows of their examples: folding, unfolding, the choice of pixels. It must not know which
// values are folded, or why.
#include "ir/ops/pixels.h"

#include <optional>

#include "ir/ops/evaluate.h"
#include "ir/ops/gemm.h"
#include "ir/ops/registry.h"
#include "ir/ops/window.h"

namespace gradc {

std::string ops::check_pixels(const Type& t, int64_t height, int64_t width, const char* what) {
  if (t.is_float() && t.batched && t.rank() == 1 && t.rows == height * width) return {};
  return fmt::format("{} is {}; it must be f32 or f64 of channels for each of {} x {} pixels", what,
                     to_string(t), height, width);
}

namespace {

using namespace ops;
using Grads = std::vector<Op*>;

// An operator without arithmetic that looks across rows.
OpDef pixels_op(const char* name, LoopNest nest, const char* doc) {
  OpDef def = Def(name, OpKind::contraction, doc);
  def.loop_nest = nest;
  def.epilogue = false;
  def.by_row = false;
  def.exact = true;
  def.call = CallForm::none;
  def.cost = cost_free;
  return def;
}

// Matrices of `outer` rows and `inner` columns, one an example, transposed.
Tensor transposed(const Op& op, const Tensor& x, int64_t outer, int64_t inner, int64_t examples) {
  Tensor out = interpreter::make_tensor(op.type, examples * op.type.rows);
  const auto turned = permuted(x.data.data(), {examples, outer, inner}, {0, 2, 1});
  std::copy(turned.begin(), turned.end(), out.data.begin());
  return out;
}

OpDef fold_pixels() {
  OpDef def =
      pixels_op("fold_pixels", LoopNest::fold_pixels,
                "An image [channels, height, width] with its pixels folded into the rows: row H W i + p of "
                "the result is pixel p of example i, with its channels. What works on pixels has H W times "
                "as many rows to fill vectors with.");
  def.operands = {{"x", "[channels, height, width], of a batch"}};
  def.infer = [](Types t, const Attributes&) {
    const Type& x = t[0];
    if (!x.batched || x.rows != 1 || x.rank() != 3 || x.shape[1] * x.shape[2] < 2)
      return InferResult::fail(fmt::format("{} is no batch of images of several pixels", to_string(x)));
    return InferResult::ok(pixels(x.shape[0], x.shape[1], x.shape[2], x.dtype));
  };
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    const Shape& x = op->operands[0]->type.shape;
    return {b.create("unfold_pixels", {g}, {{"image", ints({x[1], x[2]})}})};
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    return transposed(op, *in[0], op.type.shape[0], op.type.rows, c.rows);
  };
  def.samples = {{{batched({3, 4, 5})}, {}, -2, 2, 5},
                 {{batched({17, 8, 8})}, {}, -2, 2, 33},
                 {{batched({1, 2, 3}, DType::i32)}, {}, 0, 9, 1}};
  return def;
}

OpDef unfold_pixels() {
  OpDef def =
      pixels_op("unfold_pixels", LoopNest::unfold_pixels,
                "Rows, one for each pixel, as images [channels, height, width]: the inverse of fold_pixels.");
  def.operands = {{"x", "a row for each pixel: [channels]"}};
  def.attributes = {required("image", AttributeKind::integers, "height and width")};
  def.infer = [](Types t, const Attributes& a) {
    if (const std::string e = check_list(a, "image", 2, 1, kMaxWindow); !e.empty())
      return InferResult::fail(e);
    const auto& image = a.integers("image");
    const Type& x = t[0];
    if (!x.batched || x.rank() != 1 || x.rows == 1 || x.rows != image[0] * image[1])
      return InferResult::fail(
          fmt::format("{} has no row for each of {} x {} pixels", to_string(x), image[0], image[1]));
    return InferResult::ok({x.dtype, true, {x.shape[0], image[0], image[1]}});
  };
  def.gradient = [](Builder& b, Op*, Op* g) -> Grads { return {b.create("fold_pixels", {g})}; };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    return transposed(op, *in[0], in[0]->type.rows, op.type.shape[0], c.rows);
  };
  def.samples = {{{pixels(3, 4, 5)}, {{"image", ints({4, 5})}}, -2, 2, 5},
                 {{pixels(17, 8, 8)}, {{"image", ints({8, 8})}}, -2, 2, 33}};
  return def;
}

// The row of x's pixel that row (y, x) of the result is, along one axis: (first + y step) / spread, where that is whole
// and within.
std::optional<int64_t> moved(const Attributes& a, size_t axis, int64_t position) {
  const int64_t at = a.integers("first")[axis] + position * a.integers("step")[axis];
  const int64_t spread = a.integers("spread")[axis];
  if (at < 0 || at % spread != 0 || at / spread >= a.integers("image")[axis]) return std::nullopt;
  return at / spread;
}

OpDef move_pixels() {
  OpDef def =
      pixels_op("move_pixels", LoopNest::move_pixels,
                "Pixels of an image chosen along both axes, each a row: pixel (i, j) of the result is pixel "
                "((first + i step) / spread, likewise j) of x, or 0 where that is not whole or outside. "
                "slice and pad of the height and width, with a row for each pixel.");
  def.operands = {{"x", "a row for each pixel: [channels]"}};
  def.attributes = {required("image", AttributeKind::integers, "the height and width of x"),
                    required("result", AttributeKind::integers, "the height and width of the result"),
                    optional("first", AttributeKind::integers, ints({0, 0}), "at the result's first pixel"),
                    optional("step", AttributeKind::integers, ints({1, 1}), "at least 1"),
                    optional("spread", AttributeKind::integers, ints({1, 1}), "at least 1")};
  def.infer = [](Types t, const Attributes& a) {
    std::string e;
    for (const char* name : {"image", "result", "step", "spread"})
      if (e.empty()) e = check_list(a, name, 2, 1, kMaxWindow);
    if (e.empty()) e = check_list(a, "first", 2, -kMaxWindow, kMaxWindow);
    const auto& image = a.integers("image");
    if (e.empty()) e = check_pixels(t[0], image[0], image[1], "x");
    if (!e.empty()) return InferResult::fail(std::move(e));
    const auto& result = a.integers("result");
    return InferResult::ok(pixels(t[0].shape[0], result[0], result[1], t[0].dtype));
  };
  def.gradient = [](Builder& b, Op* op, Op* g) -> Grads {
    const Attributes& a = op->attributes;
    std::vector<int64_t> first;
    for (const int64_t f : a.integers("first")) first.push_back(-f);
    return {b.create("move_pixels", {g},
                     {{"image", a.integers("result")},
                      {"result", a.integers("image")},
                      {"first", first},
                      {"step", a.integers("spread")},
                      {"spread", a.integers("step")}})};
  };
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    Tensor out = interpreter::make_tensor(op.type, c.rows * op.type.rows);
    const auto& result = op.attributes.integers("result");
    const int64_t width = op.attributes.integers("image")[1], channels = op.type.shape[0];
    for (int64_t r = 0; r < out.rows; ++r) {
      const int64_t pixel = r % op.type.rows, example = r / op.type.rows;
      const auto y = moved(op.attributes, 0, pixel / result[1]),
                 x = moved(op.attributes, 1, pixel % result[1]);
      if (!y || !x) continue;
      const double* from = in[0]->data.data() + (example * in[0]->type.rows + *y * width + *x) * channels;
      std::copy(from, from + channels, out.data.data() + r * channels);
    }
    return out;
  };
  const auto moves = [](std::vector<int64_t> image, std::vector<int64_t> result, std::vector<int64_t> first,
                        std::vector<int64_t> step, std::vector<int64_t> spread) {
    return Attributes{{"image", ints(std::move(image))},
                      {"result", ints(std::move(result))},
                      {"first", ints(std::move(first))},
                      {"step", ints(std::move(step))},
                      {"spread", ints(std::move(spread))}};
  };
  def.samples = {{{pixels(3, 4, 5)}, moves({4, 5}, {2, 3}, {0, 0}, {2, 2}, {1, 1}), -2, 2, 5},
                 {{pixels(2, 4, 8)}, moves({4, 8}, {8, 16}, {0, 0}, {1, 1}, {2, 2}), -2, 2, 33},
                 {{pixels(5, 3, 3)}, moves({3, 3}, {6, 7}, {-1, -2}, {1, 1}, {1, 1}), -2, 2, 3},
                 {{pixels(1, 1, 7, DType::f64)}, moves({1, 7}, {1, 1}, {0, 3}, {3, 3}, {1, 1}), -2, 2, 2}};
  return def;
}

}  // namespace

void register_pixels(std::vector<OpDef>& defs) {
  defs.push_back(fold_pixels());
  defs.push_back(unfold_pixels());
  defs.push_back(move_pixels());
}

}  // namespace gradc
