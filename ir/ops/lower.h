// Loop IR expressions that the primitives' scalar lowerings share. It must not know a particular primitive.
#pragma once
#include "ir/tensor/op_def.h"

namespace gradc::ops {

using loop::BinaryOp;
using loop::CompareOp;
using loop::Expr;
using loop::UnaryOp;
using Args = std::span<const Expr>;

// The loop IR type of values of an element type, in registers and in memory.
loop::Scalar scalar_of(DType t);         // booleans: i1
loop::Scalar memory_scalar_of(DType t);  // booleans: i8
// A constant of an expression's type (integers and i1 included), one lane: arithmetic widens it.
Expr number(loop::Scalar scalar, double value);
// The expression broadcast to the result's lanes.
Expr fit(Expr e, const ScalarContext& c);
Expr cast_to(loop::Scalar scalar, Expr e);  // to i1: differs from zero
// The random word of the element that is computed (support/philox.h), on the result's lanes.
Expr random_word_expr(const ScalarContext& c, uint32_t stream);
Expr uniform_expr(Expr word, loop::Scalar scalar);  // [0, 1)
Expr bernoulli_expr(Expr word, double keep);        // i1

// Lowerings that are one loop IR operation.
template <UnaryOp op>
Expr scalar_unary(const Op&, Args a, const ScalarContext& c) {
  return fit(loop::unary(op, a[0]), c);
}
template <BinaryOp op>
Expr scalar_binary(const Op&, Args a, const ScalarContext& c) {
  return fit(loop::binary(op, a[0], a[1]), c);
}
template <CompareOp op>
Expr scalar_compare(const Op&, Args a, const ScalarContext& c) {
  return fit(loop::compare(op, a[0], a[1]), c);
}

}  // namespace gradc::ops
