// Elementary functions as LLVM IR on vectors of any number of lanes; knows nothing of loop IR's statements.
// Private to codegen.
#pragma once
#include <initializer_list>

#include "codegen/llvm_target.h"
#include "ir/loop/loop_ir.h"

namespace gradc::codegen {

// f32: inline polynomials, without branches or tables; results below 2^-125 may be flushed to 0. Bounds of
// the error against the C library's double over the whole range, in ulp (tests/codegen/vector_math_test.cpp,
// which can print what it measures):
//   exp 1, expm1 2, log 1, log1p 1.5, tanh 3, sigmoid 1.6, softplus 2, erf 1.5, pow 1, rsqrt 1.5; sin and
//   cos 1.5 for |x| <= 1e6, beyond that they lose accuracy but stay within [-1, 1]. Without FMA (x86-64-v2):
//   exp 1.5, sigmoid 2.4, erf 2.5.
// f64: the C library, lane by lane.
class VectorMath {
 public:
  VectorMath(llvm::IRBuilder<>& builder, const Target& target)
      : b_(builder),
        has_fma_(has_fma(target)),
        has_avx512_(has_avx512(target)),
        has_neon_(has_neon(target)) {}
  llvm::Value* unary(loop::UnaryOp op, llvm::Value* x);  // floats only
  llvm::Value* pow(llvm::Value* x, llvm::Value* y);
  llvm::Value* fma(llvm::Value* a, llvm::Value* b,
                   llvm::Value* c);                      // without FMA hardware: a product and a sum
  llvm::Value* minimum(llvm::Value* a, llvm::Value* b);  // NaN if either is NaN; of -0 and +0 either
  llvm::Value* maximum(llvm::Value* a, llvm::Value* b);
  llvm::Value* philox(int word, llvm::ArrayRef<llvm::Value*> counters_and_keys);

 private:
  using Value = llvm::Value;
  struct Reduced {
    Value *n, *r, *bits;  // x = n ln 2 + r; the low bits of `bits` are n's
  };
  static int lanes(Value* v);
  static llvm::Type* like(Value* shape, llvm::Type* scalar);
  Value* real(Value* shape, double v);      // splat with the shape's type
  Value* integer(Value* shape, int64_t v);  // splat of i32 (i64 for f64 shapes) with the shape's lanes
  Value* as_bits(Value* x);
  Value* as_float(Value* bits, Value* shape);
  Value* polynomial(Value* x, llvm::ArrayRef<double> coefficients);  // constant term first
  Value* call(llvm::Intrinsic::ID id, llvm::ArrayRef<Value*> args);
  Value* library(const char* name, llvm::ArrayRef<Value*> args);
  Value* clamp_low(Value* x, double low);  // NaN is unchanged
  Value* clamp_high(Value* x, double high);
  Reduced reduce_ln2(Value* x);
  Value* scale(Value* p, const Reduced& e);  // p 2^n for n from -252 to 254, overflowing to infinity
  Value* scalef(Value* p, Value* n);
  Value* exp_bounded(Value* x);  // no overflow handling
  Value* exp(Value* x);
  Value* expm1_bounded(Value* x);
  Value* expm1(Value* x);
  Value* log_poly(Value* f, Value* e);
  Value* log_special(Value* x, Value* result);
  Value* log(Value* x);
  Value* log1p_bounded(Value* x, Value* u);
  Value* log1p(Value* x);
  Value* tanh(Value* x);
  Value* sigmoid(Value* x);
  Value* softplus(Value* x);
  Value* erf(Value* x);
  Value* sin(Value* x, int quarter_turns);

  llvm::IRBuilder<>& b_;
  bool has_fma_, has_avx512_, has_neon_;
};

}  // namespace gradc::codegen
