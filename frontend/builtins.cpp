// The table of built-in functions and what each emits.
#include "frontend/builtins.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "frontend/emitter.h"
#include "frontend/error_codes.h"
#include "ir/tensor/op_def.h"

namespace gradc::frontend {

namespace {

using Arguments = std::vector<Value>;

bool given(const Value& v) { return !v.is(ValueKind::none); }

// An argument as a tensor; a static number becomes a constant. Null after an error.
Op* tensor(Emitter& e, const CallSpans& p, const Arguments& a, size_t i, DType dtype = DType::f32) {
  return e.lift(a[i], dtype, p.arguments[i]);
}

bool flag(Emitter& e, const CallSpans& p, const Arguments& a, size_t i, const char* what, bool& out) {
  return !given(a[i]) || e.to_boolean(a[i], p.arguments[i], what, out);
}

// --- reductions over example axes

Value reduce(Emitter& e, const CallSpans& p, Arguments& a, const char* op, const char* name) {
  Op* x = tensor(e, p, a, 0);
  std::vector<int64_t> axes;
  bool keep = false;
  if (!x || !e.to_axes(a[1], x->type.rank(), p.arguments[1], axes) || !flag(e, p, a, 2, "`keep`", keep))
    return {};
  if (axes.empty()) return Value::of(x);
  return e.emit(op, {x}, {{"axes", axes}, {"batch", false}, {"keep", keep}}, p.span, name);
}

Value sum(Emitter& e, const CallSpans& p, Arguments& a) { return reduce(e, p, a, "reduce_sum", "`sum`"); }
Value max_over(Emitter& e, const CallSpans& p, Arguments& a) {
  return reduce(e, p, a, "reduce_max", "`max_over`");
}
Value min_over(Emitter& e, const CallSpans& p, Arguments& a) {
  return reduce(e, p, a, "reduce_min", "`min_over`");
}

Value mean(Emitter& e, const CallSpans& p, Arguments& a) {
  const Value total = reduce(e, p, a, "reduce_sum", "`mean`");
  std::vector<int64_t> axes;
  if (total.poisoned()) return {};
  Op* x = tensor(e, p, a, 0);
  if (!x || !e.to_axes(a[1], x->type.rank(), p.arguments[1], axes)) return {};
  double count = 1;
  for (int64_t axis : axes) count *= static_cast<double>(x->type.shape[static_cast<size_t>(axis)]);
  if (count == 1) return total;
  Op* divisor = e.lift(Value::of(count), total.tensor->type.dtype, p.span);
  return e.emit("div", {total.tensor, divisor}, {}, p.span, "`mean`");
}

Value argmax(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  int64_t axis = -1;
  if (!x || !e.to_axis(given(a[1]) ? a[1] : Value::of(int64_t{-1}), x->type.rank(), p.arguments[1], axis))
    return {};
  return e.emit("argmax", {x}, {{"axis", axis}}, p.span);
}

Value log_softmax(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  int64_t axis = -1;
  if (!x || !e.to_axis(given(a[1]) ? a[1] : Value::of(int64_t{-1}), x->type.rank(), p.arguments[1], axis))
    return {};
  return e.emit("log_softmax", {x}, {{"axis", axis}}, p.span);
}

// --- across the batch

bool in_training(Emitter& e, const CallSpans& p, const char* name) {
  if (e.target().training) return true;
  e.error(codes::batch_outside_training, p.span, fmt::format("`{}` crosses the batch outside training", name))
      .helps.push_back(
          "a prediction must not depend on what else is in the batch: compute it under `if training { ... "
          "}`");
  return false;
}

bool batched(Emitter& e, const CallSpans& p, const Op* x, const char* name) {
  if (x->type.batched) return true;
  e.error(codes::shapes, p.arguments[0],
          fmt::format("`{}` takes values of the examples; this is one value for all", name));
  return false;
}

Value batch_mean(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  std::vector<int64_t> axes;
  if (!x || !in_training(e, p, "batch_mean") || !batched(e, p, x, "batch_mean")) return {};
  if (given(a[1]) && !e.to_axes(a[1], x->type.rank(), p.arguments[1], axes)) return {};
  return e.emit("batch_mean", {x}, {{"axes", axes}}, p.span);
}

Value batch_var(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  Op* mean = tensor(e, p, a, 1);
  std::vector<int64_t> axes;
  if (!x || !mean || !in_training(e, p, "batch_var") || !batched(e, p, x, "batch_var")) return {};
  if (given(a[2]) && !e.to_axes(a[2], x->type.rank(), p.arguments[2], axes)) return {};
  // Around the mean of x itself, batch_var has no cancellation for any offset of x.
  if (mean->is("batch_mean") && mean->operands[0] == x && mean->attributes.integers("axes") == axes)
    return e.emit("batch_var", {x}, {{"axes", axes}}, p.span);
  const Value away = e.emit("sub", {x, mean}, {}, p.span, "`batch_var`");
  if (away.poisoned()) return {};
  const Value square = e.emit("mul", {away.tensor, away.tensor}, {}, p.span, "`batch_var`");
  return e.emit("batch_mean", {square.tensor}, {{"axes", axes}}, p.span);
}

Value batch_sum(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  std::vector<int64_t> axes;
  bool keep = false;
  if (!x || !in_training(e, p, "batch_sum") || !batched(e, p, x, "batch_sum")) return {};
  if (given(a[1]) && !e.to_axes(a[1], x->type.rank(), p.arguments[1], axes)) return {};
  if (!flag(e, p, a, 2, "`keep`", keep)) return {};
  return e.emit("reduce_sum", {x}, {{"axes", axes}, {"batch", true}, {"keep", keep}}, p.span, "`batch_sum`");
}

Value row_count(Emitter& e, const CallSpans& p, Arguments&) {
  if (!in_training(e, p, "row_count")) return {};
  return e.emit("row_count", {}, {}, p.span);
}

// --- shapes

Value reshape(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  std::vector<int64_t> wanted;
  if (!x || !e.to_integers(a[1], p.arguments[1], "the shape", wanted)) return {};
  const auto open = std::count(wanted.begin(), wanted.end(), -1);
  if (open > 1) {
    e.error(codes::shapes, p.arguments[1],
            "only one extent of a shape can be -1 (worked out from the others)");
    return {};
  }
  if (open == 1) {
    int64_t rest = 1;
    for (int64_t extent : wanted)
      if (extent >= 1 && rest <= kMaxElements) rest *= std::min(extent, kMaxElements + 1);
    if (x->type.elements() % rest != 0) {
      e.error(codes::shapes, p.span,
              fmt::format("{} does not reshape to {}: {} elements are no multiple of {}", user_type(x->type),
                          print(a[1]), x->type.elements(), rest))
          .expect(fmt::format("a multiple of {} elements", rest), std::to_string(x->type.elements()));
      return {};
    }
    *std::find(wanted.begin(), wanted.end(), -1) = x->type.elements() / rest;
  }
  Shape shape;
  List extents;
  for (int64_t extent : wanted) extents.push_back(Value::of(extent));
  if (!e.to_shape(Value::of(std::move(extents)), p.arguments[1], "the shape", shape)) return {};
  if (shape == x->type.shape) return Value::of(x);
  return e.emit("reshape", {x}, {{"shape", shape}}, p.span);
}

Value transpose(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  if (!x) return {};
  std::vector<int64_t> permutation;
  if (given(a[1])) {
    if (!e.to_integers(a[1], p.arguments[1], "the permutation", permutation)) return {};
  } else {
    for (int i = x->type.rank() - 1; i >= 0; --i) permutation.push_back(i);
  }
  return e.emit("transpose", {x}, {{"permutation", permutation}}, p.span);
}

Value concat(Emitter& e, const CallSpans& p, Arguments& a) {
  if (!a[0].is(ValueKind::list) || a[0].list->empty()) {
    e.error(codes::wrong_kind, p.arguments[0],
            fmt::format("`concat` takes a list of tensors, not {}", describe(a[0])))
        .expect("a list of tensors", describe(a[0]))
        .helps.push_back("as in `concat([a, b], 0)`");
    return {};
  }
  std::vector<Value> parts = *a[0].list;
  std::vector<Op*> tensors;
  if (!e.unify(parts, tensors, p.span, "`concat`")) return {};
  int64_t axis = 0;
  if (given(a[1]) && !e.to_axis(a[1], tensors[0]->type.rank(), p.arguments[1], axis)) return {};
  return e.emit("concat", std::move(tensors), {{"axis", axis}}, p.span);
}

// Equal parts of a tensor, as a list.
Value split(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  int64_t parts = 0, axis = -1;
  if (!x || !e.to_integer(a[1], p.arguments[1], "the number of parts", parts) ||
      !e.to_axis(given(a[2]) ? a[2] : Value::of(int64_t{-1}), x->type.rank(), p.arguments[2], axis))
    return {};
  const int64_t extent = x->type.shape[static_cast<size_t>(axis)];
  if (parts < 1 || extent % parts != 0) {
    e.error(codes::shapes, p.span,
            fmt::format("axis {} of {} does not split into {} equal parts", axis, user_type(x->type), parts),
            fmt::format("its extent is {}", extent))
        .expect(fmt::format("an extent that {} divides", parts), std::to_string(extent));
    return {};
  }
  List list;
  for (int64_t i = 0; i < parts; ++i) {
    std::vector<int64_t> begin(x->type.shape.size(), 0), end = x->type.shape, step(begin.size(), 1);
    begin[static_cast<size_t>(axis)] = i * (extent / parts);
    end[static_cast<size_t>(axis)] = (i + 1) * (extent / parts);
    Value part = e.emit("slice", {x}, {{"begin", begin}, {"end", end}, {"step", step}}, p.span, "`split`");
    if (part.poisoned()) return part;
    list.push_back(std::move(part));
  }
  return Value::of(std::move(list));
}

Value iota(Emitter& e, const CallSpans& p, Arguments& a) {
  int64_t extent = 0;
  if (!e.to_integer(a[0], p.arguments[0], "the extent", extent)) return {};
  return e.emit("iota", {}, {{"shape", Shape{extent}}, {"axis", int64_t{0}}, {"dtype", std::string("i32")}},
                p.span, "`iota`");
}

// A list of one integer an axis; a single integer serves all axes.
bool per_axis(Emitter& e, const CallSpans& p, const Arguments& a, size_t i, int rank, const char* what,
              std::vector<int64_t>& out) {
  int64_t one = 0;
  if (!given(a[i])) return true;
  if (!a[i].is(ValueKind::integer)) return e.to_integers(a[i], p.arguments[i], what, out);
  if (!e.to_integer(a[i], p.arguments[i], what, one)) return false;
  out.assign(static_cast<size_t>(rank), one);
  return true;
}

Value pad(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  if (!x) return {};
  std::vector<int64_t> low, high;
  double value = 0;
  if (!per_axis(e, p, a, 1, x->type.rank(), "`low`", low)) return {};
  high = low;
  if (!per_axis(e, p, a, 2, x->type.rank(), "`high`", high)) return {};
  if (given(a[3]) && !e.to_number(a[3], p.arguments[3], "`value`", value)) return {};
  return e.emit("pad", {x}, {{"low", low}, {"high", high}, {"value", value}}, p.span);
}

Value slice(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  if (!x) return {};
  std::vector<int64_t> begin, end, step(x->type.shape.size(), 1);
  if (!per_axis(e, p, a, 1, x->type.rank(), "`begin`", begin) ||
      !per_axis(e, p, a, 2, x->type.rank(), "`end`", end) ||
      !per_axis(e, p, a, 3, x->type.rank(), "`step`", step))
    return {};
  return e.emit("slice", {x}, {{"begin", begin}, {"end", end}, {"step", step}}, p.span);
}

Value pick(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  Op* index = tensor(e, p, a, 1, DType::i32);
  return x && index ? e.emit("pick", {x, index}, {}, p.span) : Value{};
}

Value gather(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* x = tensor(e, p, a, 0);
  Op* index = tensor(e, p, a, 1, DType::i32);
  int64_t axis = 0;
  if (!x || !index || (given(a[2]) && !e.to_axis(a[2], x->type.rank(), p.arguments[2], axis))) return {};
  return e.emit("gather", {x, index}, {{"axis", axis}}, p.span, "`gather`");
}

Value one_hot(Emitter& e, const CallSpans& p, Arguments& a) {
  Op* index = tensor(e, p, a, 0, DType::i32);
  int64_t depth = 0;
  if (!index || !e.to_integer(a[1], p.arguments[1], "`depth`", depth)) return {};
  return e.emit("one_hot", {index}, {{"depth", depth}}, p.span);
}

Value cast(Emitter& e, const CallSpans& p, Arguments& a) {
  DType to;
  if (!a[1].is(ValueKind::string) || !parse_dtype(a[1].text, to) || to == DType::f64) {
    e.error(codes::wrong_kind, p.arguments[1],
            fmt::format("`cast` converts to \"f32\", \"i32\" or \"bool\", not to {}", describe(a[1])))
        .expect("\"f32\", \"i32\" or \"bool\"", describe(a[1]));
    return {};
  }
  if (a[0].is(ValueKind::boolean)) return Value::of(static_cast<int64_t>(a[0].boolean));
  Op* x = tensor(e, p, a, 0);
  return x ? Value::of(e.cast(x, to, p.span)) : Value{};
}

Value choose(Emitter& e, const CallSpans& p, Arguments& a) { return e.select(a[0], a[1], a[2], p.span); }

// The letters name the axes of one example; `n`, the batch, is added to what is batched.
Value einsum(Emitter& e, const CallSpans& p, Arguments& a) {
  Op *x = tensor(e, p, a, 1), *y = tensor(e, p, a, 2);
  if (!x || !y) return {};
  const std::string& spec = a[0].text;
  const size_t comma = spec.find(','), arrow = spec.find("->");
  if (!a[0].is(ValueKind::string) || comma == std::string::npos || arrow == std::string::npos ||
      comma > arrow || spec.find('n') != std::string::npos) {
    e.error(codes::wrong_kind, p.arguments[0],
            fmt::format("`einsum` takes a text such as \"ok,k->o\", not {}", describe(a[0])))
        .expect("a text such as \"ok,k->o\"", describe(a[0]))
        .helps.push_back(
            "one letter an axis of one example; the batch is not written, and `n`, which stands for it, is "
            "no letter");
    return {};
  }
  std::string left = spec.substr(0, comma), right = spec.substr(comma + 1, arrow - comma - 1);
  if (y->type.batched && !x->type.batched) {  // the batched operand first, as in matmul()
    std::swap(x, y);
    std::swap(left, right);
  }
  const std::string full =
      fmt::format("{}{},{}{}->{}{}", x->type.batched ? "n" : "", left, y->type.batched ? "n" : "", right,
                  x->type.batched ? "n" : "", spec.substr(arrow + 2));
  return e.emit("einsum", {x, y}, {{"spec", full}}, p.span);
}

// --- random numbers

// Without like, shape and per_example the call is an initialiser, as in init=normal(0, 0.01); declaring the
// parameter evaluates it.
Value random(Emitter& e, const CallSpans& p, Arguments& a, const char* op,
             std::vector<std::pair<const char*, double>> numbers) {
  const size_t own = numbers.size();
  Attributes attributes;
  for (size_t i = 0; i < own; ++i) {
    if (given(a[i]) && !e.to_number(a[i], p.arguments[i], fmt::format("`{}` of `{}`", numbers[i].first, op),
                                    numbers[i].second))
      return {};
    attributes.set(numbers[i].first, numbers[i].second);
  }
  const Value &like = a[own], &shape = a[own + 1], &per_example = a[own + 2];
  if (!given(like) && !given(shape) && !given(per_example)) {
    DefinitionValue d;
    d.name = op;
    d.builtin = find_builtin(op);
    for (size_t i = 0; i < own; ++i)
      if (given(a[i])) d.arguments.push_back({numbers[i].first, a[i], p.arguments[i]});
    return Value::of(std::move(d));
  }
  Shape extents;
  bool is_batched = false;
  if (given(like)) {
    Op* x = tensor(e, p, a, own);
    if (!x) return {};
    extents = x->type.shape;
    is_batched = x->type.batched;
  }
  if (given(shape) && !e.to_shape(shape, p.arguments[own + 1], "`shape`", extents)) return {};
  if (given(per_example) && !e.to_boolean(per_example, p.arguments[own + 2], "`per_example`", is_batched))
    return {};
  const Definition* d = e.frame().definition;
  if (d && d->kind != DefinitionKind::layer && d->kind != DefinitionKind::model &&
      d->kind != DefinitionKind::init) {
    e.error(codes::impure, p.span, fmt::format("{} `{}` cannot draw random numbers", name(d->kind), d->name))
        .helps.push_back(d->kind == DefinitionKind::fn ? "make it a `layer`"
                                                       : "only layers and initialisers do");
    return {};
  }
  attributes.set("stream", e.target().next_stream++);
  attributes.set("shape", extents);
  attributes.set("batched", is_batched);
  return e.emit(op, {}, std::move(attributes), p.span);
}

Value normal(Emitter& e, const CallSpans& p, Arguments& a) {
  return random(e, p, a, "normal", {{"mean", 0}, {"std", 1}});
}
Value uniform(Emitter& e, const CallSpans& p, Arguments& a) {
  return random(e, p, a, "uniform", {{"low", 0}, {"high", 1}});
}
Value bernoulli(Emitter& e, const CallSpans& p, Arguments& a) {
  return random(e, p, a, "bernoulli", {{"keep", 0.5}});
}

// --- static helpers

Value length(Emitter& e, const CallSpans& p, Arguments& a) {
  if (a[0].is(ValueKind::list)) return Value::of(static_cast<int64_t>(a[0].list->size()));
  if (a[0].is(ValueKind::range)) return Value::of(std::max<int64_t>(0, a[0].end - a[0].integer));
  e.error(codes::wrong_kind, p.arguments[0],
          fmt::format("`len` takes a list or a range, not {}", describe(a[0])))
      .expect("a list or a range", describe(a[0]));
  return {};
}

Value integer(Emitter& e, const CallSpans& p, Arguments& a) {
  double x = 0;
  if (!e.to_number(a[0], p.arguments[0], "the argument of `int`", x)) return {};
  if (a[0].is(ValueKind::integer)) return a[0];
  x = std::trunc(x);
  if (std::abs(x) < 0x1p62) return Value::of(static_cast<int64_t>(x));
  e.error(codes::arithmetic, p.span, fmt::format("{} does not fit an integer", print(a[0])));
  return {};
}

Value pair(Emitter& e, const CallSpans& p, Arguments& a) {
  if (a[0].is(ValueKind::integer)) return Value::of(List{a[0], a[0]});
  std::vector<int64_t> both;
  if (!e.to_integers(a[0], p.arguments[0], "a pair", both)) return {};
  if (both.size() == 2) return a[0];
  e.error(codes::wrong_kind, p.arguments[0],
          fmt::format("expected one integer or two, not {}", describe(a[0])))
      .expect("one integer or two", describe(a[0]));
  return {};
}

}  // namespace

const std::vector<Builtin>& builtins() {
  static const BuiltinParameter axis{"axis", false}, keep{"keep", false}, like{"like", false},
      shape{"shape", false}, per_example{"per_example", false};
  static const std::vector<Builtin> table = {
      {"sum",
       {{"x"}, axis, keep},
       "The sum over an axis, a list of axes, or all of them.",
       "sum(tokens, 0)",
       sum},
      {"mean",
       {{"x"}, axis, keep},
       "The mean over an axis, a list of axes, or all of them.",
       "mean(image, [1, 2], keep=true)",
       mean},
      {"max_over",
       {{"x"}, axis, keep},
       "The greatest element along axes; `max(a, b)` is elementwise.",
       "max_over(tokens, -1)",
       max_over},
      {"min_over",
       {{"x"}, axis, keep},
       "The least element along axes; `min(a, b)` is elementwise.",
       "min_over(tokens)",
       min_over},
      {"argmax",
       {{"x"}, axis},
       "The position (i32) of the greatest element along an axis, the last unless said.",
       "argmax(logits)",
       argmax},
      {"log_softmax",
       {{"x"}, axis},
       "x - log(sum(exp(x))) along an axis, the last unless said, computed stably.",
       "log_softmax(logits)",
       log_softmax},
      {"batch_mean",
       {{"x"}, {"axes", false}},
       "The mean over the batch and the named example axes, which stay with extent 1; training only.",
       "if training { x - batch_mean(x) } else { x }",
       batch_mean},
      {"batch_var",
       {{"x"}, {"mean"}, {"axes", false}},
       "The biased variance over the batch and the named axes around `mean`; training only.",
       "if training { batch_var(x, batch_mean(x)) } else { x }",
       batch_var},
      {"batch_sum",
       {{"x"}, {"axes", false}, keep},
       "The sum over the batch and the named axes; training only.",
       "if training { batch_sum(x) } else { x }",
       batch_sum},
      {"row_count",
       {},
       "The number of examples in this batch; training only.",
       "if training { x / row_count() } else { x }",
       row_count},
      {"reshape",
       {{"x"}, {"shape"}},
       "The same elements under another shape; one extent may be -1.",
       "reshape(x, [4, -1])",
       reshape},
      {"transpose",
       {{"x"}, {"permutation", false}},
       "The axes in another order; reversed unless said.",
       "transpose(tokens)",
       transpose},
      {"concat",
       {{"parts"}, axis},
       "Tensors of a list one after the other along an axis, the first unless said.",
       "concat([x, 2 * x])",
       concat},
      {"split",
       {{"x"}, {"parts"}, axis},
       "A list of so many equal parts along an axis, the last unless said.",
       "split(x, 2)[1]",
       split},
      {"iota",
       {{"extent"}},
       "The positions 0, 1, 2, ... (i32) on one axis.",
       "x * cast(iota(16), \"f32\")",
       iota},
      {"pad",
       {{"x"}, {"low"}, {"high", false}, {"value", false}},
       "x with a constant around it: how many before and after on each axis.",
       "pad(image, [0, 2, 2])",
       pad},
      {"slice",
       {{"x"}, {"begin"}, {"end"}, {"step", false}},
       "Every step-th element from begin up to end, on each axis; `x[a..b]` is shorter.",
       "slice(x, 0, 16, step=2)",
       slice},
      {"pick",
       {{"x"}, {"index"}},
       "The element of the last axis at an i32 index.",
       "pick(logits, label)",
       pick},
      {"gather",
       {{"x"}, {"index"}, axis},
       "The elements of x at i32 positions along an axis, the first unless said; 0 where one lies outside.",
       "gather(image, label, 1)",
       gather},
      {"one_hot",
       {{"index"}, {"depth"}},
       "A new last axis (f32) with 1 at the index.",
       "one_hot(label, 10)",
       one_hot},
      {"cast",
       {{"x"}, {"to"}},
       "Another element type: \"f32\", \"i32\" or \"bool\".",
       "cast(label, \"f32\")",
       cast},
      {"select",
       {{"condition"}, {"a"}, {"b"}},
       "a where the condition holds, else b.",
       "select(x > 0, x, 0.1 * x)",
       choose},
      {"einsum",
       {{"spec"}, {"a"}, {"b"}},
       "Sums of products by letters of one example's axes, as in \"ok,k->o\".",
       "einsum(\"ik,jk->ij\", tokens, tokens)",
       einsum},
      {"normal",
       {{"mean", false}, {"std", false}, like, shape, per_example},
       "Normal random numbers; without like, shape or per_example an initialiser.",
       "x |> dense(10, init=normal(0, 0.01))",
       normal},
      {"uniform",
       {{"low", false}, {"high", false}, like, shape, per_example},
       "Uniform random numbers in [low, high); else as normal.",
       "x |> dense(10, init=uniform(-0.1, 0.1))",
       uniform},
      {"bernoulli",
       {{"keep", true}, like, shape, per_example},
       "1 with probability keep, else 0; else as normal.",
       "x |> dense(10, init=bernoulli(0.5))",
       bernoulli},
      {"len", {{"list"}}, "The length of a static list or range.", "x * len([1, 2, 3])", length},
      {"int", {{"x"}}, "A static number without its fraction.", "x * int(16 / 3)", integer},
      {"pair", {{"x"}}, "[x, x] of one integer; a list of two stays.", "image |> conv2d(8, pair(3))", pair},
  };
  return table;
}

const Builtin* find_builtin(const std::string& name) {
  for (const Builtin& b : builtins())
    if (name == b.name) return &b;
  return nullptr;
}

const OpDef* find_callable_op(const std::string& name, const std::string& qualifier) {
  const OpDef* op = find_op(name);
  const CallForm form = op ? call_form(*op) : CallForm::none;
  if (form == CallForm::none) return nullptr;
  return qualifier == "primitive" || (qualifier.empty() && form == CallForm::plain) ? op : nullptr;
}

}  // namespace gradc::frontend
