// Elementary functions as LLVM IR: argument reductions and polynomials. Coefficients come from
// codegen/minimax.py (run it to see them and their errors); the reductions are Cody and Waite's (Software
// Manual for the Elementary Functions, 1980).
#include "codegen/vector_math.h"

#include <cmath>
#include <limits>

#include "support/check.h"

namespace gradc::codegen {
namespace {

using llvm::Value;
using llvm::Intrinsic::ID;
namespace intrinsic = llvm::Intrinsic;

constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

// Adding it to a small f32 rounds to an integer, which is then in the low bits (independent of FTZ and rounding modes).
constexpr double round_f32 = 0x1.8p23;
constexpr double round_f64 = 0x1.8p52;

bool is_f64(Value* x) { return x->getType()->getScalarType()->isDoubleTy(); }

bool never_nan(Value* v) {
  const auto* c = llvm::dyn_cast<llvm::Constant>(v);
  if (!c) return false;
  if (c->getType()->isVectorTy()) c = c->getSplatValue();
  const auto* f = llvm::dyn_cast_or_null<llvm::ConstantFP>(c);
  return f && !f->isNaN();
}

}  // namespace

int VectorMath::lanes(Value* v) {
  const auto* t = llvm::dyn_cast<llvm::FixedVectorType>(v->getType());
  return t ? static_cast<int>(t->getNumElements()) : 1;
}

llvm::Type* VectorMath::like(Value* shape, llvm::Type* scalar) {
  return shape->getType()->isVectorTy() ? llvm::FixedVectorType::get(scalar, lanes(shape)) : scalar;
}

Value* VectorMath::real(Value* shape, double v) { return llvm::ConstantFP::get(shape->getType(), v); }

Value* VectorMath::integer(Value* shape, int64_t v) {
  return llvm::ConstantInt::get(like(shape, is_f64(shape) ? b_.getInt64Ty() : b_.getInt32Ty()), v, true);
}

Value* VectorMath::as_bits(Value* x) {
  return b_.CreateBitCast(x, like(x, is_f64(x) ? b_.getInt64Ty() : b_.getInt32Ty()));
}

Value* VectorMath::as_float(Value* bits, Value* shape) { return b_.CreateBitCast(bits, shape->getType()); }

Value* VectorMath::call(ID id, llvm::ArrayRef<Value*> args) {
  return b_.CreateIntrinsic(id, {args[0]->getType()}, args);
}

Value* VectorMath::fma(Value* a, Value* b, Value* c) {
  if (has_fma_) return call(intrinsic::fma, {a, b, c});
  return b_.CreateFAdd(b_.CreateFMul(a, b), c);
}

Value* VectorMath::polynomial(Value* x, llvm::ArrayRef<double> c) {
  Value* p = real(x, c.back());
  for (size_t i = c.size() - 1; i-- > 0;) p = fma(p, x, real(x, c[i]));
  return p;
}

// The compare and select that match x86's min and max (the second operand when either is NaN). NEON
// has instructions whose result is NaN when either is.
Value* VectorMath::minimum(Value* a, Value* b) {
  if (has_neon_) return call(intrinsic::minimum, {a, b});
  if (never_nan(b)) std::swap(a, b);
  Value* least = b_.CreateSelect(b_.CreateFCmpOLT(a, b), a, b);
  return never_nan(a) ? least : b_.CreateSelect(b_.CreateFCmpUNO(a, a), a, least);
}

Value* VectorMath::maximum(Value* a, Value* b) {
  if (has_neon_) return call(intrinsic::maximum, {a, b});
  if (never_nan(b)) std::swap(a, b);
  Value* most = b_.CreateSelect(b_.CreateFCmpOGT(a, b), a, b);
  return never_nan(a) ? most : b_.CreateSelect(b_.CreateFCmpUNO(a, a), a, most);
}

Value* VectorMath::clamp_low(Value* x, double low) { return maximum(real(x, low), x); }
Value* VectorMath::clamp_high(Value* x, double high) { return minimum(real(x, high), x); }

VectorMath::Reduced VectorMath::reduce_ln2(Value* x) {
  Value* shifted = fma(x, real(x, 1.44269504088896341), real(x, round_f32));
  Value* n = b_.CreateFSub(shifted, real(x, round_f32));
  // ln 2 in two parts; n times the first is exact (10 bits), so that this needs no FMA.
  Value* r = fma(n, real(x, -0.693359375), x);
  r = fma(n, real(x, 2.12194440054690583e-4), r);
  return {n, r, as_bits(shifted)};
}

// AVX-512's instruction for p 2^n, by registers.
Value* VectorMath::scalef(Value* p, Value* n) {
  const int count = lanes(p);
  const int part = count % 16 == 0 ? 16 : count % 8 == 0 ? 8 : 4;
  const ID id = part == 16  ? intrinsic::x86_avx512_mask_scalef_ps_512
                : part == 8 ? intrinsic::x86_avx512_mask_scalef_ps_256
                            : intrinsic::x86_avx512_mask_scalef_ps_128;
  auto* type = llvm::FixedVectorType::get(b_.getFloatTy(), part);
  const auto one = [&](Value* a, Value* e) {
    llvm::SmallVector<Value*, 5> args = {a, e, llvm::Constant::getNullValue(type)};
    args.push_back(llvm::ConstantInt::getAllOnesValue(part == 16 ? b_.getInt16Ty() : b_.getInt8Ty()));
    if (part == 16) args.push_back(b_.getInt32(4));  // the current rounding mode
    return static_cast<Value*>(b_.CreateIntrinsic(id, {}, args));
  };
  if (count == 1) {
    Value* zero = llvm::Constant::getNullValue(type);
    Value* r =
        one(b_.CreateInsertElement(zero, p, uint64_t{0}), b_.CreateInsertElement(zero, n, uint64_t{0}));
    Value* first = b_.CreateExtractElement(r, uint64_t{0});
    return first;
  }
  if (count == part) return one(p, n);
  Value* whole = llvm::PoisonValue::get(p->getType());
  for (int at = 0; at < count; at += part) {
    llvm::SmallVector<int, 16> mask;
    for (int i = 0; i < part; ++i) mask.push_back(at + i);
    Value* r = one(b_.CreateShuffleVector(p, mask), b_.CreateShuffleVector(n, mask));
    llvm::SmallVector<int, 64> widen, place;
    for (int i = 0; i < count; ++i) {
      const bool here = i >= at && i < at + part;
      widen.push_back(here ? i - at : -1);
      place.push_back(here ? count + i : i);
    }
    whole = b_.CreateShuffleVector(whole, b_.CreateShuffleVector(r, widen), place);
  }
  return whole;
}

Value* VectorMath::scale(Value* p, const Reduced& e) {
  if (has_avx512_ && (lanes(p) == 1 || lanes(p) % 4 == 0)) return scalef(p, e.n);
  // Two factors, each a normal number: one alone cannot reach 2^128 or 2^-150.
  Value* n = b_.CreateSub(e.bits, integer(p, 0x4B400000));
  Value* half = b_.CreateAShr(n, 1);
  const auto power = [&](Value* k) {
    return as_float(b_.CreateShl(b_.CreateAdd(k, integer(p, 127)), 23), p);
  };
  return b_.CreateFMul(b_.CreateFMul(p, power(half)), power(b_.CreateSub(n, half)));
}

Value* VectorMath::exp_bounded(Value* x) {
  const Reduced e = reduce_ln2(x);
  Value* q = polynomial(e.r, {0.49999994, 0.166665211, 0.041668389, 0.00836871658, 0.00138145988});
  q = fma(q, e.r, real(x, 1));
  q = fma(q, e.r, real(x, 1));
  return scale(q, e);
}

// The clamps keep n in range; beyond them the result is infinite or 0 anyway.
Value* VectorMath::exp(Value* x) { return exp_bounded(clamp_low(clamp_high(x, 89), -104)); }

// 2 (s p + s - 1/2) with s = 2^(n-1): s itself never overflows, and s - 1/2 is exact wherever it matters.
Value* VectorMath::expm1_bounded(Value* x) {
  const Reduced e = reduce_ln2(x);
  Value* q = polynomial(e.r, {0.49999997, 0.166665435, 0.0416672006, 0.00836652052, 0.00138825225});
  Value* p = fma(q, b_.CreateFMul(e.r, e.r), e.r);
  Value* s = as_float(b_.CreateAdd(b_.CreateShl(e.bits, 23), integer(x, 126 << 23)), x);
  Value* half = fma(s, p, b_.CreateFSub(s, real(x, 0.5)));
  return b_.CreateFAdd(half, half);
}

Value* VectorMath::expm1(Value* x) { return expm1_bounded(clamp_low(clamp_high(x, 89), -20)); }

// log(2^e (1 + f)) for 1 + f in [sqrt(1/2), sqrt(2)]; the small terms are summed first.
Value* VectorMath::log_poly(Value* f, Value* e) {
  Value* p = polynomial(f, {0.333333313, -0.250008196, 0.200012267, -0.166233569, 0.142017558, -0.13160184,
                            0.127615929, -0.0763451308});
  Value* square = b_.CreateFMul(f, f);
  Value* y = b_.CreateFMul(b_.CreateFMul(p, f), square);
  y = fma(e, real(f, -2.12194440054690583e-4), y);
  y = fma(square, real(f, -0.5), y);
  y = b_.CreateFAdd(f, y);
  return fma(e, real(f, 0.693359375), y);
}

Value* VectorMath::log_special(Value* x, Value* result) {
  Value* tiny = b_.CreateFCmpOLT(call(intrinsic::fabs, {x}), real(x, 0x1p-126));
  Value* special = b_.CreateSelect(b_.CreateFCmpOLT(x, real(x, 0)), real(x, nan), x);
  special = b_.CreateSelect(tiny, real(x, -inf), special);
  Value* ordinary =
      b_.CreateICmpULT(b_.CreateSub(as_bits(x), integer(x, 0x00800000)), integer(x, 0x7F000000));
  return b_.CreateSelect(ordinary, result, special);
}

namespace {
constexpr int64_t sqrt_half_bits = 0x3F3504F3;
}

Value* VectorMath::log(Value* x) {
  Value* offset = b_.CreateSub(as_bits(x), integer(x, sqrt_half_bits));
  Value* e = b_.CreateSIToFP(b_.CreateAShr(offset, 23), x->getType());
  Value* m =
      as_float(b_.CreateAdd(b_.CreateAnd(offset, integer(x, 0x7FFFFF)), integer(x, sqrt_half_bits)), x);
  return log_special(x, log_poly(b_.CreateFSub(m, real(x, 1)), e));
}

// log(u + c) with u = 1 + x rounded and c what the rounding lost (exact; Kahan). c is added to f at u's scale.
Value* VectorMath::log1p_bounded(Value* x, Value* u) {
  Value* lost = b_.CreateFSub(x, b_.CreateFSub(u, real(x, 1)));
  Value* offset = b_.CreateSub(as_bits(u), integer(x, sqrt_half_bits));
  Value* exponent = b_.CreateAnd(offset, integer(x, static_cast<int32_t>(0xFF800000)));
  Value* e = b_.CreateSIToFP(b_.CreateAShr(offset, 23), x->getType());
  Value* m = as_float(b_.CreateSub(as_bits(u), exponent), x);
  // 2^-e; from 2^127 on it would not be a normal number, and c has long been 0.
  Value* inverse_bits = b_.CreateSub(integer(x, 0x3F800000), exponent);
  Value* inverse = as_float(b_.CreateBinaryIntrinsic(intrinsic::smax, inverse_bits, integer(x, 0)), x);
  return log_poly(fma(lost, inverse, b_.CreateFSub(m, real(x, 1))), e);
}

Value* VectorMath::log1p(Value* x) {
  Value* u = b_.CreateFAdd(x, real(x, 1));
  return log_special(u, log1p_bounded(x, u));
}

// (e^2x - 1) / (e^2x + 1) on |x|; from 10 on it rounds to 1.
Value* VectorMath::tanh(Value* x) {
  Value* a = call(intrinsic::fabs, {x});
  Value* t = expm1_bounded(clamp_high(b_.CreateFAdd(a, a), 20));
  return call(intrinsic::copysign, {b_.CreateFDiv(t, b_.CreateFAdd(t, real(x, 2))), x});
}

// 1 / (1 + e^-x), with one Newton step for the rounding error of 1 + e (else up to 2.4 ulp). From -88 on down
// the result is less than any normal number, so that e need not grow further.
Value* VectorMath::sigmoid(Value* x) {
  Value* one = real(x, 1);
  if (is_f64(x)) return b_.CreateFDiv(one, b_.CreateFAdd(library("exp", {b_.CreateFNeg(x)}), one));
  Value* e = exp_bounded(clamp_low(clamp_high(b_.CreateFNeg(x), 88), -104));
  Value* y = b_.CreateFDiv(one, b_.CreateFAdd(e, one));
  if (!has_fma_) return y;  // the residue needs the exact product
  Value* residue = b_.CreateFSub(fma(b_.CreateFNeg(y), e, one), y);
  return fma(residue, y, y);
}

Value* VectorMath::softplus(Value* x) {
  Value* positive = maximum(real(x, 0), x);
  Value* away = b_.CreateFNeg(call(intrinsic::fabs, {x}));
  if (is_f64(x)) return b_.CreateFAdd(positive, library("log1p", {library("exp", {away})}));
  Value* e = exp_bounded(clamp_low(away, -104));
  return b_.CreateFAdd(positive, log1p_bounded(e, b_.CreateFAdd(e, real(x, 1))));
}

// Below 1 an odd polynomial; above, 1 - exp(-q) with a polynomial q for -log(erfc), good enough because erfc
// <= 0.16 there.
Value* VectorMath::erf(Value* x) {
  Value* a = call(intrinsic::fabs, {x});
  Value* p = polynomial(b_.CreateFMul(x, x), {0.128379167, -0.3761262, 0.11283531, -0.026852034,
                                              0.00518545089, -0.000798768131, 7.78577596e-05});
  Value* small = has_fma_ ? fma(x, p, x) : b_.CreateFMul(x, b_.CreateFAdd(p, real(x, 1)));
  Value* t = b_.CreateFSub(clamp_high(a, 4), real(x, 1));
  Value* q = polynomial(
      t, {1.84960556, 2.63896489, 0.843131483, 0.0414627157, -0.00983940437, 0.00179407559, -0.000178222821});
  Value* large = b_.CreateFSub(real(x, 1), exp_bounded(b_.CreateFNeg(q)));
  return b_.CreateSelect(b_.CreateFCmpOLT(a, real(x, 1)), small, call(intrinsic::copysign, {large, x}));
}

// sin(x + quarter_turns pi/2). The reduction runs in f64: pi/2's upper 33 bits times n <= 2^20 are exact.
Value* VectorMath::sin(Value* x, int quarter_turns) {
  Value* wide = b_.CreateFPExt(x, like(x, b_.getDoubleTy()));
  Value* shifted = b_.CreateFAdd(b_.CreateFMul(wide, real(wide, 0.63661977236758134)), real(wide, round_f64));
  Value* n = b_.CreateFSub(shifted, real(wide, round_f64));
  Value* exact = b_.CreateFSub(wide, b_.CreateFMul(n, real(wide, 0x1.921fb544p+0)));
  exact = b_.CreateFSub(exact, b_.CreateFMul(n, real(wide, 0x1.0b4611a626331p-34)));
  Value* r = b_.CreateFPTrunc(exact, x->getType());
  r = clamp_low(clamp_high(r, 0.785398185),
                -0.785398185);  // for |x| so large that n is off: never outside [-1, 1]
  Value* quarter = b_.CreateTrunc(as_bits(shifted), like(x, b_.getInt32Ty()));
  if (quarter_turns) quarter = b_.CreateAdd(quarter, integer(x, quarter_turns));

  Value* z = b_.CreateFMul(r, r);
  Value* s = polynomial(z, {-0.166666552, 0.0083321603, -0.000195152184});
  s = fma(b_.CreateFMul(s, z), r, r);
  Value* c = polynomial(z, {0.0416666456, -0.00138873153, 2.44330822e-05});
  c = fma(b_.CreateFMul(c, z), z, fma(z, real(x, -0.5), real(x, 1)));
  Value* odd = b_.CreateICmpNE(b_.CreateAnd(quarter, integer(x, 1)), integer(x, 0));
  Value* sign = b_.CreateShl(b_.CreateAnd(quarter, integer(x, 2)), 30);
  return as_float(b_.CreateXor(as_bits(b_.CreateSelect(odd, c, s)), sign), x);
}

// exp2(y log2 |x|) in f64, then C's special cases.
Value* VectorMath::pow(Value* x, Value* y) {
  if (is_f64(x)) return library("pow", {x, y});
  llvm::Type* f64 = like(x, b_.getDoubleTy());
  Value* a = call(intrinsic::fabs, {x});
  Value* wide = b_.CreateFPExt(a, f64);
  constexpr int64_t sqrt_half = 0x3FE6A09E667F3BCD;
  Value* offset = b_.CreateSub(as_bits(wide), integer(wide, sqrt_half));
  Value* exponent = b_.CreateAShr(offset, 52);
  Value* e = b_.CreateSIToFP(b_.CreateTrunc(exponent, like(x, b_.getInt32Ty())), f64);
  Value* m = as_float(b_.CreateSub(as_bits(wide), b_.CreateShl(exponent, 52)), wide);
  Value* s = b_.CreateFDiv(b_.CreateFSub(m, real(wide, 1)), b_.CreateFAdd(m, real(wide, 1)));
  Value* p = polynomial(b_.CreateFMul(s, s), {2.8853900817777327, 0.96179669418730007, 0.57707792874518915,
                                              0.41221029092426203, 0.31987081839724968, 0.28332765796804182});
  Value* log2 = fma(s, p, e);
  log2 = b_.CreateSelect(b_.CreateFCmpOEQ(wide, real(wide, 0)), real(wide, -inf), log2);
  log2 = b_.CreateSelect(b_.CreateFCmpOLT(wide, real(wide, inf)), log2, wide);  // keeps infinity and NaN
  Value* t = b_.CreateFMul(log2, b_.CreateFPExt(y, f64));
  t = clamp_low(clamp_high(t, 200), -200);
  Value* shifted = b_.CreateFAdd(t, real(t, round_f64));
  Value* f = b_.CreateFSub(t, b_.CreateFSub(shifted, real(t, round_f64)));
  Value* q = polynomial(
      f, {0.99999999996167566, 0.69314718072846793, 0.24022651198219014, 0.05550410353400851,
          0.0096180272453866358, 0.0013333922580873452, 0.00015469293813799898, 1.5201922403543514e-05});
  Value* factor =
      as_float(b_.CreateAdd(b_.CreateShl(as_bits(shifted), 52), integer(t, 0x3FF0000000000000)), t);
  Value* r = b_.CreateFPTrunc(b_.CreateFMul(q, factor), x->getType());

  Value* one = real(x, 1);
  Value* whole = b_.CreateFCmpOEQ(call(intrinsic::floor, {y}), y);
  Value* half = b_.CreateFMul(y, real(x, 0.5));
  Value* odd = b_.CreateAnd(whole, b_.CreateFCmpONE(call(intrinsic::floor, {half}), half));
  Value* finite = b_.CreateAnd(b_.CreateFCmpOLT(x, real(x, 0)), b_.CreateFCmpOGT(x, real(x, -inf)));
  r = b_.CreateSelect(b_.CreateAnd(finite, b_.CreateNot(whole)), real(x, nan), r);
  Value* sign = b_.CreateSelect(odd, b_.CreateAnd(as_bits(x), integer(x, static_cast<int32_t>(0x80000000))),
                                integer(x, 0));
  r = as_float(b_.CreateOr(as_bits(r), sign), x);
  Value* to_one = b_.CreateOr(b_.CreateFCmpOEQ(y, real(x, 0)), b_.CreateFCmpOEQ(x, one));
  Value* infinite = b_.CreateFCmpOEQ(call(intrinsic::fabs, {y}), real(x, inf));
  to_one = b_.CreateOr(to_one, b_.CreateAnd(b_.CreateFCmpOEQ(a, one), infinite));
  return b_.CreateSelect(to_one, one, r);
}

// A call of the C library for each lane.
Value* VectorMath::library(const char* name, llvm::ArrayRef<Value*> args) {
  llvm::Module* module = b_.GetInsertBlock()->getModule();
  llvm::SmallVector<llvm::Type*, 2> parameters(args.size(), b_.getDoubleTy());
  auto callee =
      module->getOrInsertFunction(name, llvm::FunctionType::get(b_.getDoubleTy(), parameters, false));
  auto* function = llvm::cast<llvm::Function>(callee.getCallee());
  function->setDoesNotThrow();
  function->setDoesNotAccessMemory();  // nothing reads errno
  function->setWillReturn();
  if (!args[0]->getType()->isVectorTy()) return b_.CreateCall(callee, llvm::SmallVector<Value*, 2>(args));
  Value* result = llvm::PoisonValue::get(args[0]->getType());
  for (int i = 0; i < lanes(args[0]); ++i) {
    llvm::SmallVector<Value*, 2> one;
    for (Value* a : args) one.push_back(b_.CreateExtractElement(a, i));
    result = b_.CreateInsertElement(result, b_.CreateCall(callee, one), i);
  }
  return result;
}

Value* VectorMath::unary(loop::UnaryOp op, Value* x) {
  using loop::UnaryOp;
  const bool wide = is_f64(x);
  switch (op) {
    case UnaryOp::neg: return b_.CreateFNeg(x);
    case UnaryOp::abs: return call(intrinsic::fabs, {x});
    case UnaryOp::sqrt: return call(intrinsic::sqrt, {x});
    case UnaryOp::rsqrt: return b_.CreateFDiv(real(x, 1), call(intrinsic::sqrt, {x}));
    case UnaryOp::floor: return call(intrinsic::floor, {x});
    case UnaryOp::round: return call(intrinsic::roundeven, {x});
    case UnaryOp::exp: return wide ? library("exp", {x}) : exp(x);
    case UnaryOp::expm1: return wide ? library("expm1", {x}) : expm1(x);
    case UnaryOp::log: return wide ? library("log", {x}) : log(x);
    case UnaryOp::log1p: return wide ? library("log1p", {x}) : log1p(x);
    case UnaryOp::tanh: return wide ? library("tanh", {x}) : tanh(x);
    case UnaryOp::erf: return wide ? library("erf", {x}) : erf(x);
    case UnaryOp::sin: return wide ? library("sin", {x}) : sin(x, 0);
    case UnaryOp::cos: return wide ? library("cos", {x}) : sin(x, 1);
    case UnaryOp::sigmoid: return sigmoid(x);
    case UnaryOp::softplus: return softplus(x);
    case UnaryOp::is_finite: return b_.CreateFCmpOLT(call(intrinsic::fabs, {x}), real(x, inf));
    case UnaryOp::logical_not: break;
  }
  GRADC_CHECK(false, "`{}` does not take floats", loop::name(op));
}

// The rounds run in 64-bit lanes whose upper halves are ignored: then a round's product, high half and low
// half are one multiply of 32-bit halves (vpmuludq) and one shift. Words that are equal in all lanes stay scalar until
// they are combined with a vector: some do for two rounds.
Value* VectorMath::philox(int word, llvm::ArrayRef<Value*> c) {
  llvm::Type* i64 = b_.getInt64Ty();
  llvm::Type* i32 = b_.getInt32Ty();
  const int count = lanes(c[0]);
  const auto widen = [&](Value* v) { return b_.CreateZExt(v, like(v, i64)); };
  const auto is_vector = [](Value* v) { return v->getType()->isVectorTy(); };
  const auto times = [&](Value* v, uint32_t k) {
    return b_.CreateMul(b_.CreateAnd(v, llvm::ConstantInt::get(v->getType(), 0xFFFFFFFF)),
                        llvm::ConstantInt::get(v->getType(), k));
  };
  const auto mix = [&](Value* high, Value* x, Value* key) {
    high = b_.CreateLShr(high, 32);
    if (is_vector(high) != is_vector(x))
      (is_vector(high) ? x : high) = b_.CreateXor(is_vector(high) ? x : high, key);
    else if (!is_vector(x))
      return b_.CreateXor(b_.CreateXor(high, x), key);
    else
      return b_.CreateXor(b_.CreateXor(high, x), b_.CreateVectorSplat(count, key));
    return b_.CreateXor(is_vector(high) ? high : b_.CreateVectorSplat(count, high),
                        is_vector(x) ? x : b_.CreateVectorSplat(count, x));
  };
  Value* x[4] = {widen(c[0]), widen(c[1]), widen(c[2]), widen(c[3])};
  for (int round = 0; round < 10; ++round) {
    const auto key = [&](Value* k, uint32_t weyl) {
      return widen(b_.CreateAdd(k, b_.getInt32(weyl * static_cast<uint32_t>(round))));
    };
    Value* p0 = times(x[0], 0xD2511F53);
    Value* p1 = times(x[2], 0xCD9E8D57);
    Value* y0 = mix(p1, x[1], key(c[4], 0x9E3779B9));
    Value* y2 = mix(p0, x[3], key(c[5], 0xBB67AE85));
    x[0] = y0;
    x[1] = p1;
    x[2] = y2;
    x[3] = p0;
  }
  if (!is_vector(x[word])) return b_.CreateTrunc(x[word], c[0]->getType());
  // The lower halves by a shuffle: where two words are put one after the other, that becomes one shuffle.
  llvm::SmallVector<int, 16> halves;
  for (int i = 0; i < count; ++i) halves.push_back(2 * i);
  Value* both = b_.CreateBitCast(x[word], llvm::FixedVectorType::get(i32, 2 * static_cast<unsigned>(count)));
  return b_.CreateShuffleVector(both, halves);
}

}  // namespace gradc::codegen
