// Shared by the definitions under ir/ops/: type inference of broadcasting operators, costs, samples, gradient
// steps. It must not know a particular primitive.
#pragma once
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <vector>

#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::ops {

using Types = std::span<const Type>;

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Sample types: an example shape with or without a batch.
inline Type batched(Shape shape, DType dtype = DType::f32) { return {dtype, true, std::move(shape)}; }
inline Type plain(Shape shape, DType dtype = DType::f32) { return {dtype, false, std::move(shape)}; }
inline Attribute ints(std::vector<int64_t> v) { return v; }
inline Attribute integer(int64_t v) { return v; }
inline Attribute text(const char* v) { return std::string(v); }

inline AttributeSpec required(std::string name, AttributeKind kind, std::string doc) {
  return {std::move(name), kind, true, {}, std::move(doc)};
}
inline AttributeSpec optional(std::string name, AttributeKind kind, Attribute value, std::string doc) {
  return {std::move(name), kind, false, std::move(value), std::move(doc)};
}

inline bool is_number(DType t) { return t != DType::boolean; }
int64_t bytes(const Type& t);  // of one example or value, as stored

// The type both broadcast to; else an error naming both types and what differs.
InferResult join(const Type& a, const Type& b, DType result);
InferResult join_all(Types types, DType result);
// All operands of one dtype, which must be a float (or a number), broadcast together.
InferResult infer_floats(Types t, const Attributes&);
InferResult infer_numbers(Types t, const Attributes&);
std::string check_index(const Type& index);          // the error in the type of an index, or nothing
InferResult infer_same(Types t, const Attributes&);  // one operand of any type

// Range checks of attributes; each returns an error or nothing.
std::string check_between(const Attributes& a, const std::string& name, double low, bool low_included,
                          double high, bool high_included);
std::string check_list(const Attributes& a, const std::string& name, size_t count, int64_t low, int64_t high);
std::string check_shape(const Attributes& a, const std::string& name);  // extents >= 1 and within the limits
std::string check_axis(const Attributes& a, const std::string& name, const Type& type);

Cost simple_cost(const Op& op, double flop);  // operands and result read or written once
template <int flop>
Cost cost_per_element(const Op& op) {
  return simple_cost(op, flop * static_cast<double>(op.type.elements()));
}
Cost cost_per_input(const Op& op);  // one FLOP for each element of the first operand
Cost cost_free(const Op& op);       // nothing but memory

// Gradient steps.
bool is_constant(const Op* op, double value);
// A condition that broadcasts to the gradient g and holds wherever g may differ from zero, derived from the
// selects that computed g; null: none is known. Looks through nested selects alone, or with `far` through
// other operations too: sums, products, views, reductions along which the mask does not vary.
Op* nonzero(Builder& b, Op* g, bool far);
// Whether x is a sum of squares, so that its gradient is 0 wherever its value is 0.
bool is_sum_of_squares(const Op* x);
// The gradient g of a root of x (or of another power between 1/2 and 1), with 0 where a sum of squares x is
// 0: PyTorch's choice among the subgradients of a norm. g itself where x is no sum of squares.
Op* norm_gradient(Builder& b, Op* x, Op* g);
// f(g), except that elements that a mask set to 0 stay 0, so that 0 times infinity never turns them into NaN:
// a select with a zero branch stays outermost, select(c, f(g), 0).
template <class F>
Op* through(Builder& b, Op* g, F&& f, bool far = false) {
  if (g->is("select")) {
    Op *c = g->operands[0], *yes = g->operands[1], *no = g->operands[2];
    if (is_constant(no, 0) && yes->type == g->type) return b.select(c, through(b, yes, f, far), no);
    if (is_constant(yes, 0) && no->type == g->type) return b.select(c, yes, through(b, no, f, far));
  }
  if (Op* where = nonzero(b, g, far)) return b.select(where, f(g), b.constant(0, g->type.dtype));
  return f(g);
}
// The same where f divides by a value that may be 0: also looks for masks through other operations (`far`).
template <class F>
Op* through_pole(Builder& b, Op* g, F&& f) {
  return through(b, g, f, true);
}
inline Op* times(Builder& b, Op* g, Op* f) {
  return through(b, g, [&](Op* h) { return b.mul(h, f); });
}
inline Op* zero(Builder& b, const Op* like) { return b.constant(0, like->type.dtype); }
Op* broadcast_to(Builder& b, Op* x, const Type& type);  // x itself when it has the shape

// Builds a record in one expression.
struct Def : OpDef {
  Def(std::string op_name, OpKind op_kind, std::string op_doc) {
    name = std::move(op_name);
    kind = op_kind;
    doc = std::move(op_doc);
  }
};

}  // namespace gradc::ops
