// Values without operands that depend on nothing random: constants, index ramps, the number of rows. It must
// not know who uses them.
#include <cmath>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/lower.h"
#include "ir/ops/registry.h"

namespace gradc {
namespace {

using namespace ops;
using interpreter::make_tensor;

InferResult dtype_of(const Attributes& a, DType& out) {
  if (parse_dtype(a.text("dtype"), out)) return InferResult::ok({});
  return InferResult::fail(
      fmt::format("there is no element type \"{}\"; there are f32, f64, i32 and bool", a.text("dtype")));
}

InferResult infer_constant(Types, const Attributes& a) {
  DType dtype;
  if (InferResult r = dtype_of(a, dtype); !r.error.empty()) return r;
  const double v = a.number("value");
  if (dtype == DType::i32 && !(v == std::trunc(v) && v >= -0x1p31 && v < 0x1p31)) {
    return InferResult::fail(fmt::format("{} is not a whole number within i32", v));
  }
  if (dtype == DType::boolean && v != 0 && v != 1)
    return InferResult::fail(fmt::format("{} is not a bool: it must be 0 or 1", v));
  return InferResult::ok({dtype, false, {}});
}

InferResult infer_iota(Types, const Attributes& a) {
  DType dtype;
  if (InferResult r = dtype_of(a, dtype); !r.error.empty()) return r;
  if (dtype == DType::boolean) return InferResult::fail("positions are numbers, not bool");
  if (std::string e = check_shape(a, "shape"); !e.empty()) return InferResult::fail(e);
  const Type type{dtype, false, a.integers("shape")};
  if (std::string e = check_axis(a, "axis", type); !e.empty()) return InferResult::fail(e);
  return InferResult::ok(type);
}

interpreter::Tensor evaluate_iota(const Op& op, Operands, Context& c) {
  interpreter::Tensor out = make_tensor(op.type, c.rows);
  const auto axis = static_cast<size_t>(op.attributes.integer("axis"));
  const Shape& shape = op.type.shape;
  int64_t inner = 1;
  for (size_t a = axis + 1; a < shape.size(); ++a) inner *= shape[a];
  double* data = out.data.data();
  for (int64_t i = 0; i < op.type.elements(); ++i) data[i] = static_cast<double>(i / inner % shape[axis]);
  return out;
}

}  // namespace

void register_sources(std::vector<OpDef>& defs) {
  OpDef constant = Def("constant", OpKind::source, "One number; broadcasting widens it.");
  constant.attributes = {required("value", AttributeKind::number, "the number; bool: 0 or 1"),
                         optional("dtype", AttributeKind::text, text("f32"), "its element type")};
  constant.cheap = true;
  constant.infer = infer_constant;
  constant.scalar = [](const Op& op, Args, const ScalarContext& c) {
    return fit(number(c.type.scalar, op.attributes.number("value")), c);
  };
  constant.evaluate = [](const Op& op, Operands, Context& c) {
    interpreter::Tensor out = make_tensor(op.type, c.rows);
    out.data.data()[0] = op.attributes.number("value");
    return out;
  };
  constant.no_gradient = "it has no operand";
  constant.cost = cost_free;
  constant.samples = {{{}, {{"value", 0.5}, {"dtype", text("f32")}}},
                      {{}, {{"value", 0.1}, {"dtype", text("f64")}}},
                      {{}, {{"value", -3.0}, {"dtype", text("i32")}}},
                      {{}, {{"value", 1.0}, {"dtype", text("bool")}}}};
  defs.push_back(std::move(constant));

  OpDef iota = Def("iota", OpKind::source, "Each element's position on one axis: 0, 1, 2, ...");
  iota.attributes = {
      required("shape", AttributeKind::integers, "the result's shape"),
      optional("axis", AttributeKind::integer, integer(0), "the axis that is counted"),
      optional("dtype", AttributeKind::text, text("i32"), "the element type: f32, f64 or i32")};
  iota.cheap = true;
  iota.infer = infer_iota;
  iota.scalar = [](const Op& op, Args, const ScalarContext& c) {
    return fit(cast_to(c.type.scalar, c.axis_index(static_cast<int>(op.attributes.integer("axis")))), c);
  };
  iota.evaluate = evaluate_iota;
  iota.no_gradient = "it has no operand";
  iota.cost = cost_free;
  iota.samples = {{{}, {{"shape", ints({7})}, {"axis", integer(0)}, {"dtype", text("i32")}}},
                  {{}, {{"shape", ints({3, 5})}, {"axis", integer(0)}, {"dtype", text("f32")}}},
                  {{}, {{"shape", ints({3, 5})}, {"axis", integer(1)}, {"dtype", text("i32")}}},
                  {{}, {{"shape", ints({2, 3, 4})}, {"axis", integer(1)}, {"dtype", text("f64")}}}};
  defs.push_back(std::move(iota));

  OpDef row_count = Def("row_count", OpKind::source,
                        "The number of rows in this batch, which is smaller in a last, partial batch.");
  row_count.cheap = true;
  row_count.infer = [](Types, const Attributes&) { return InferResult::ok({DType::f32, false, {}}); };
  row_count.scalar = [](const Op&, Args, const ScalarContext& c) {
    const Expr rows = loop::ref(c.b.predefined().rows);
    return fit(loop::cast(c.type.scalar, c.rows == 1 ? rows : rows / loop::index(c.rows)), c);
  };
  row_count.evaluate = [](const Op& op, Operands, Context& c) {
    interpreter::Tensor out = make_tensor(op.type, c.rows);
    out.data.data()[0] = static_cast<double>(c.rows);
    return out;
  };
  row_count.no_gradient = "it has no operand";
  row_count.cost = cost_free;
  row_count.samples = {{{}, {}}, {{}, {}, -2, 2, 33}};
  defs.push_back(std::move(row_count));

  OpDef row_index = Def("row_index", OpKind::source, "Each example's position in this batch: 0, 1, 2, ...");
  row_index.cheap = true;
  row_index.infer = [](Types, const Attributes&) { return InferResult::ok({DType::i32, true, {}}); };
  row_index.scalar = [](const Op&, Args, const ScalarContext& c) {
    const Expr first = loop::cast(c.type.scalar, c.row);
    return c.type.lanes == 1 ? first : loop::ramp(first, 1, c.type.lanes);
  };
  row_index.evaluate = [](const Op& op, Operands, Context& c) {
    interpreter::Tensor out = make_tensor(op.type, c.rows);
    for (int64_t i = 0; i < c.rows; ++i) out.data.data()[i] = static_cast<double>(i);
    return out;
  };
  row_index.no_gradient = "it has no operand";
  row_index.cost = cost_free;
  row_index.samples = {{{}, {}}, {{}, {}, -2, 2, 33}};
  defs.push_back(std::move(row_index));
}

}  // namespace gradc
