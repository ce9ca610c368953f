// Constructors: types, folding, and that wrong types are compiler mistakes.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/loop/loop_ir.h"
#include "support/check.h"

namespace gradc::loop::expr_test {
namespace {

const Type f32{Scalar::f32, 1}, i32{Scalar::i32, 1}, i64{Scalar::i64, 1};

Expr unknown(Type t) {
  static int n = 0;
  return ref(std::make_shared<const VariableData>(VariableData{"v" + std::to_string(n++), t}));
}

TEST(Expr, FoldsIndexArithmetic) {
  const Expr x = unknown(i64);
  EXPECT_EQ(x + index(0), x);
  EXPECT_EQ(x * index(1), x);
  EXPECT_EQ(index(1) * x, x);
  EXPECT_TRUE(is_constant(x * index(0), 0));
  EXPECT_TRUE(is_constant(index(6) * index(7) + index(-2), 40));
  EXPECT_TRUE(is_constant(binary(BinaryOp::rem, x, index(1)), 0));
  EXPECT_TRUE(is_constant(index(17) / index(5), 3));
  const Expr sum = (x + index(3)) - index(5);
  ASSERT_EQ(sum->kind, ExprKind::binary);
  EXPECT_EQ(sum->args[0], x);
  EXPECT_TRUE(is_constant(sum->args[1], -2));
  EXPECT_EQ((x + index(4)) - index(4), x);
  const Expr product = (x * index(3)) * index(5);
  EXPECT_TRUE(is_constant(product->args[1], 15));
}

TEST(Expr, DoesNotFoldWhatMayFail) {
  EXPECT_EQ((index(1) / index(0))->kind, ExprKind::binary);
  EXPECT_EQ((index(-1) / index(2))->kind, ExprKind::binary);
  EXPECT_EQ(binary(BinaryOp::shift_left, index(1), index(64))->kind, ExprKind::binary);
}

TEST(Expr, I32Wraps) {
  const auto c = [](int64_t v) { return constant_int(i32, v); };
  EXPECT_EQ(c(0xFFFFFFFF)->integer, -1);
  EXPECT_TRUE(is_constant(c(0xFFFFFFFF), -1));
  EXPECT_TRUE(is_constant(c(0xFFFFFFFF), 0xFFFFFFFF));
  EXPECT_EQ((c(0x7FFFFFFF) + c(1))->integer, INT32_MIN);
  EXPECT_EQ(binary(BinaryOp::shift_right, c(-1), c(28))->integer, 15);
}

TEST(Expr, FloatsKeepTheirMeaning) {
  const Expr x = unknown(f32);
  EXPECT_EQ(x * constant(f32, 1), x);
  EXPECT_EQ(x / constant(f32, 1), x);
  EXPECT_NE((x + constant(f32, 0)), x) << "-0 + 0 is 0";
  EXPECT_NE((x * constant(f32, 0))->kind, ExprKind::constant) << "0 * inf is NaN";
  EXPECT_EQ((constant(f32, 0.1) + constant(f32, 0.2))->number, static_cast<double>(0.1f + 0.2f));
  EXPECT_EQ((constant(f32, 1) / constant(f32, 3))->number, static_cast<double>(1.0f / 3.0f));
}

TEST(Expr, WidensOneLaneOperands) {
  const Expr x = unknown({Scalar::f32, 16});
  const Expr y = x * constant(f32, 2);
  EXPECT_EQ(y->type, (Type{Scalar::f32, 16}));
  EXPECT_EQ(y->args[1]->kind, ExprKind::constant);
  EXPECT_EQ(fma(unknown(f32), x, unknown(f32))->args[2]->kind, ExprKind::broadcast);
  EXPECT_EQ(select(unknown({Scalar::i1, 1}), x, constant(f32, 0))->type, x->type);
  EXPECT_EQ(compare(CompareOp::lt, ramp(unknown(i64), 1, 8), unknown(i64))->type, (Type{Scalar::i1, 8}));
}

TEST(Expr, SelectsAndComparesConstants) {
  const Expr x = unknown(f32), y = unknown(f32);
  EXPECT_EQ(select(compare(CompareOp::lt, index(1), index(2)), x, y), x);
  EXPECT_EQ(select(compare(CompareOp::eq, constant(f32, NAN), constant(f32, NAN)), x, y), y);
  EXPECT_TRUE(is_constant(compare(CompareOp::ne, constant(f32, NAN), constant(f32, 0)), 1));
}

TEST(Expr, Casts) {
  const Expr b = unknown({Scalar::i1, 4});
  EXPECT_EQ(cast(Scalar::f32, b)->type, (Type{Scalar::f32, 4}));
  EXPECT_EQ(cast(Scalar::i64, index(3))->integer, 3);
  EXPECT_EQ(cast(Scalar::i32, constant(f32, -2.9))->integer, -2);
  EXPECT_EQ(cast(Scalar::i32, constant(f32, NAN))->kind, ExprKind::cast);
  EXPECT_EQ(cast(Scalar::i1, unknown(f32))->kind, ExprKind::compare);
}

TEST(Expr, WrongTypesAreCompilerMistakes) {
  const Expr x = unknown(f32), v8 = unknown({Scalar::f32, 8}), v16 = unknown({Scalar::f32, 16}),
             i = unknown(i64);
  EXPECT_THROW(x + i, InternalError);
  EXPECT_THROW(v8 + v16, InternalError);
  EXPECT_THROW(unary(UnaryOp::exp, i), InternalError);
  EXPECT_THROW(unary(UnaryOp::logical_not, x), InternalError);
  EXPECT_THROW(binary(BinaryOp::rem, x, x), InternalError);
  EXPECT_THROW(select(x, x, x), InternalError);
  EXPECT_THROW(fma(i, i, i), InternalError);
  EXPECT_THROW(reduce(BinaryOp::mul, v8), InternalError);
  EXPECT_THROW(reduce(BinaryOp::add, unknown({Scalar::f32, 12})), InternalError);
  EXPECT_THROW(broadcast(v8, 16), InternalError);
  EXPECT_THROW(philox(4, unknown(i32), unknown(i32), unknown(i32), unknown(i32), unknown(i32), unknown(i32)),
               InternalError);
}

TEST(Builder, KeepsNamesUnique) {
  Kernel k = make_kernel("k");
  Builder b(k);
  EXPECT_EQ(b.buffer("x", Scalar::f32, Access::write)->name, "x");
  EXPECT_EQ(b.buffer("x", Scalar::f32, Access::write)->name, "x_1");
  EXPECT_EQ(b.declare("lo", index(0))->name, "lo_1");
  EXPECT_EQ(b.declare("for", index(0))->name, "for_1");
  EXPECT_EQ(b.declare("7 up", index(0))->name, "v7_up");
  EXPECT_EQ(b.declare("x_1", index(0))->name, "x_1_1");
  EXPECT_EQ(b.declare("reduce_add", index(0))->name, "reduce_add_1");
  EXPECT_TRUE(verify(k).empty());
}

TEST(Builder, ALoopThatRunsOnceIsABlock) {
  Kernel k = make_kernel("k");
  Builder b(k);
  const auto nothing = [](Expr) {};
  b.loop("a", index(0), index(3), 4, nothing);
  b.loop("b", index(0), index(3), 2, nothing);
  b.loop("c", ref(k.predefined.lo), ref(k.predefined.lo) + index(1), 1, nothing);
  b.loop("d", ref(k.predefined.lo), ref(k.predefined.hi), 1, nothing);
  b.loop("e", index(3), index(3), 1, nothing);
  ASSERT_EQ(k.body.size(), 5u);
  EXPECT_EQ(k.body[0]->kind, StmtKind::block);
  EXPECT_EQ(k.body[1]->kind, StmtKind::for_loop);
  EXPECT_EQ(k.body[2]->kind, StmtKind::block);
  EXPECT_EQ(k.body[3]->kind, StmtKind::for_loop);
  EXPECT_EQ(k.body[4]->kind, StmtKind::for_loop);
  EXPECT_TRUE(verify(k).empty());
}

TEST(Builder, ChecksStores) {
  Kernel k = make_kernel("k");
  Builder b(k);
  const Buffer in = b.buffer("in", Scalar::f32, Access::read);
  const Buffer out = b.buffer("out", Scalar::f32, Access::write);
  EXPECT_THROW(b.store(in, index(0), constant(f32, 1)), InternalError);
  EXPECT_THROW(b.store(out, index(0), index(1)), InternalError);
  EXPECT_THROW(
      b.assign(std::make_shared<const VariableData>(VariableData{"v", f32, false}), constant(f32, 1)),
      InternalError);
}

}  // namespace
}  // namespace gradc::loop::expr_test
