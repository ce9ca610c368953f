// Loop IR expressions to LLVM values; knows no statements.
#include "codegen/kernel_emitter.h"
#include "support/check.h"

namespace gradc::codegen {

using llvm::Value;
using loop::BinaryOp;
using loop::ExprData;
using loop::ExprKind;
using loop::Scalar;
namespace intrinsic = llvm::Intrinsic;

// Operations of many instructions; the others take one to three.
static bool is_polynomial(loop::UnaryOp op) {
  using loop::UnaryOp;
  switch (op) {
    case UnaryOp::neg:
    case UnaryOp::abs:
    case UnaryOp::sqrt:
    case UnaryOp::rsqrt:
    case UnaryOp::floor:
    case UnaryOp::round:
    case UnaryOp::is_finite:
    case UnaryOp::logical_not: return false;
    default: return true;
  }
}

Value* KernelEmitter::emit(const loop::Expr& e) {
  if (const auto it = memo_.find(e.get()); it != memo_.end()) return it->second;
  Value* v = compute(*e);
  memo_[e.get()] = v;
  return v;
}

Value* KernelEmitter::compute(const ExprData& e) {
  switch (e.kind) {
    case ExprKind::constant: return emit_constant(e);
    case ExprKind::variable:
      if (e.variable->is_mutable) return b_.CreateLoad(type(e.type), storage(e.variable), e.variable->name);
      return values_.at(e.variable.get());
    case ExprKind::load: return emit_load(e);
    case ExprKind::broadcast: return b_.CreateVectorSplat(e.type.lanes, emit(e.args[0]));
    case ExprKind::ramp: {
      llvm::SmallVector<llvm::Constant*, 32> steps;
      for (int i = 0; i < e.type.lanes; ++i)
        steps.push_back(llvm::ConstantInt::get(
            type(e.type.with_lanes(1)), static_cast<uint64_t>(static_cast<int64_t>(e.number) * i), true));
      return b_.CreateAdd(b_.CreateVectorSplat(e.type.lanes, emit(e.args[0])),
                          llvm::ConstantVector::get(steps));
    }
    case ExprKind::unary: return emit_unary(e);
    case ExprKind::binary: return emit_binary(e);
    case ExprKind::compare: return emit_compare(e);
    case ExprKind::select: {
      Value* c = emit(e.args[0]);
      Value* a = emit(e.args[1]);
      return b_.CreateSelect(c, a, emit(e.args[2]));
    }
    case ExprKind::fma: {
      Value* a = emit(e.args[0]);
      Value* b = emit(e.args[1]);
      return math_.fma(a, b, emit(e.args[2]));
    }
    case ExprKind::cast: return emit_cast(e);
    case ExprKind::reduce: return emit_reduce(e);
    case ExprKind::zip: {
      const int n = e.type.lanes, first = e.integer ? n / 2 : 0;
      llvm::SmallVector<int, 64> lanes;
      for (int i = 0; i < n / 2; ++i) {
        lanes.push_back(first + i);
        lanes.push_back(n + first + i);
      }
      return b_.CreateShuffleVector(emit(e.args[0]), emit(e.args[1]), lanes);
    }
    case ExprKind::concat: {
      llvm::SmallVector<int, 64> lanes;
      for (int i = 0; i < e.type.lanes; ++i) lanes.push_back(i);
      const auto vector = [&](const loop::Expr& a) {  // shuffles need vectors
        return a->type.lanes == 1 ? b_.CreateVectorSplat(1, emit(a)) : emit(a);
      };
      Value* low = vector(e.args[0]);
      return b_.CreateShuffleVector(low, vector(e.args[1]), lanes);
    }
    case ExprKind::philox: {
      llvm::SmallVector<Value*, 6> words;
      for (const loop::Expr& a : e.args) words.push_back(emit(a));
      const int word = static_cast<int>(e.number);
      return shared("philox" + std::to_string(word), words,
                    [&](VectorMath& math, llvm::ArrayRef<Value*> a) { return math.philox(word, a); });
    }
  }
  GRADC_CHECK(false, "expression kind {}", static_cast<int>(e.kind));
}

Value* KernelEmitter::shared(const std::string& name, llvm::ArrayRef<Value*> arguments,
                             const std::function<Value*(VectorMath&, llvm::ArrayRef<Value*>)>& make) {
  if (!context_.small) return make(math_, arguments);
  std::string symbol = "shared." + name;
  llvm::SmallVector<llvm::Type*, 6> types;
  for (Value* a : arguments) {
    types.push_back(a->getType());
    llvm::raw_string_ostream(symbol) << '.' << *a->getType();
  }
  llvm::Function* f = context_.module.getFunction(symbol);
  if (!f) {
    f = llvm::Function::Create(llvm::FunctionType::get(types[0], types, false),
                               llvm::GlobalValue::InternalLinkage, symbol, context_.module);
    set_function_attributes(*f, context_.target);
    f->addFnAttr(llvm::Attribute::NoInline);
    llvm::IRBuilder<> b(llvm::BasicBlock::Create(b_.getContext(), "entry", f));
    VectorMath math(b, context_.target);
    llvm::SmallVector<Value*, 6> given;
    for (llvm::Argument& argument : f->args()) given.push_back(&argument);
    b.CreateRet(make(math, given));
  }
  return b_.CreateCall(f, arguments);
}

Value* KernelEmitter::emit_constant(const ExprData& e) {
  llvm::Type* t = type(e.type);
  if (e.type.is_float()) return llvm::ConstantFP::get(t, e.number);
  return llvm::ConstantInt::get(t, static_cast<uint64_t>(e.integer), true);
}

Value* KernelEmitter::emit_load(const ExprData& e) {
  Value* index = emit(e.args[0]);
  Value* mask = e.args.size() > 1 ? emit(e.args[1]) : nullptr;
  const llvm::Align align = alignment(e.buffer);
  llvm::Type* stored = type({e.buffer->scalar, e.type.lanes});
  Value* pointer = address(e.buffer, index, !mask);
  Value* v = nullptr;
  if (e.args[0]->type.lanes > 1) {
    if (!mask) mask = llvm::ConstantInt::getTrue(type({Scalar::i1, e.type.lanes}));
    v = b_.CreateMaskedGather(stored, pointer, align, mask, llvm::Constant::getNullValue(stored));
  } else if (!mask) {
    v = b_.CreateAlignedLoad(stored, pointer, align);
  } else if (e.type.lanes > 1) {
    v = b_.CreateMaskedLoad(stored, pointer, align, mask, llvm::Constant::getNullValue(stored));
  } else {
    Value* loaded = nullptr;
    llvm::BasicBlock* before = b_.GetInsertBlock();
    llvm::BasicBlock* inside = when(mask, [&] { loaded = b_.CreateAlignedLoad(stored, pointer, align); });
    llvm::PHINode* merged = b_.CreatePHI(stored, 2);
    merged->addIncoming(loaded, inside);
    merged->addIncoming(llvm::Constant::getNullValue(stored), before);
    v = merged;
  }
  return e.buffer->scalar == Scalar::i8 ? b_.CreateICmpNE(v, llvm::Constant::getNullValue(stored)) : v;
}

Value* KernelEmitter::emit_unary(const ExprData& e) {
  Value* a = emit(e.args[0]);
  if (e.args[0]->type.is_float() && !is_polynomial(e.unary)) return math_.unary(e.unary, a);
  if (e.args[0]->type.is_float())
    return shared(std::string(loop::name(e.unary)), {a},
                  [&](VectorMath& math, llvm::ArrayRef<Value*> x) { return math.unary(e.unary, x[0]); });
  switch (e.unary) {
    case loop::UnaryOp::neg: return b_.CreateNeg(a);
    case loop::UnaryOp::abs: return b_.CreateIntrinsic(intrinsic::abs, {a->getType()}, {a, b_.getFalse()});
    case loop::UnaryOp::logical_not: return b_.CreateNot(a);
    default: GRADC_CHECK(false, "`{}` of {}", loop::name(e.unary), loop::to_string(e.args[0]->type));
  }
}

Value* KernelEmitter::emit_binary(const ExprData& e) {
  Value* a = emit(e.args[0]);
  Value* b = emit(e.args[1]);
  return combine(e.binary, e.type.scalar, a, b);
}

Value* KernelEmitter::combine(BinaryOp op, Scalar scalar, Value* a, Value* b) {
  const bool real = scalar == Scalar::f32 || scalar == Scalar::f64;
  switch (op) {
    case BinaryOp::add: return real ? b_.CreateFAdd(a, b) : b_.CreateAdd(a, b);
    case BinaryOp::sub: return real ? b_.CreateFSub(a, b) : b_.CreateSub(a, b);
    case BinaryOp::mul: return real ? b_.CreateFMul(a, b) : b_.CreateMul(a, b);
    case BinaryOp::div: return real ? b_.CreateFDiv(a, b) : b_.CreateUDiv(a, b);
    case BinaryOp::rem: return b_.CreateURem(a, b);
    case BinaryOp::min: return real ? math_.minimum(a, b) : b_.CreateBinaryIntrinsic(intrinsic::smin, a, b);
    case BinaryOp::max: return real ? math_.maximum(a, b) : b_.CreateBinaryIntrinsic(intrinsic::smax, a, b);
    case BinaryOp::pow: return math_.pow(a, b);
    case BinaryOp::bit_and: return b_.CreateAnd(a, b);
    case BinaryOp::bit_or: return b_.CreateOr(a, b);
    case BinaryOp::bit_xor: return b_.CreateXor(a, b);
    case BinaryOp::shift_left: return b_.CreateShl(a, b);
    case BinaryOp::shift_right: return b_.CreateLShr(a, b);
  }
  GRADC_CHECK(false, "binary operation {}", static_cast<int>(op));
}

Value* KernelEmitter::emit_compare(const ExprData& e) {
  using P = llvm::CmpInst::Predicate;
  struct Row {
    P real, integer, mask;
  };
  static constexpr Row rows[] = {
      {P::FCMP_OLT, P::ICMP_SLT, P::ICMP_ULT}, {P::FCMP_OLE, P::ICMP_SLE, P::ICMP_ULE},
      {P::FCMP_OGT, P::ICMP_SGT, P::ICMP_UGT}, {P::FCMP_OGE, P::ICMP_SGE, P::ICMP_UGE},
      {P::FCMP_OEQ, P::ICMP_EQ, P::ICMP_EQ},   {P::FCMP_UNE, P::ICMP_NE, P::ICMP_NE},
  };
  const Row& row = rows[static_cast<size_t>(e.compare)];
  Value* a = emit(e.args[0]);
  Value* b = emit(e.args[1]);
  if (e.args[0]->type.is_float()) return b_.CreateFCmp(row.real, a, b);
  return b_.CreateICmp(e.args[0]->type.scalar == Scalar::i1 ? row.mask : row.integer, a, b);
}

Value* KernelEmitter::emit_cast(const ExprData& e) {
  const loop::Type from = e.args[0]->type;
  Value* a = emit(e.args[0]);
  llvm::Type* to = type(e.type);
  if (from.is_float() && e.type.is_float()) return b_.CreateFPCast(a, to);
  if (from.is_float())
    return b_.CreateIntrinsic(intrinsic::fptosi_sat, {to, a->getType()},
                              {a});  // out of range: the nearest integer; NaN: 0
  if (from.scalar == Scalar::i1) return e.type.is_float() ? b_.CreateUIToFP(a, to) : b_.CreateZExt(a, to);
  return e.type.is_float() ? b_.CreateSIToFP(a, to) : b_.CreateSExtOrTrunc(a, to);
}

// Loop IR defines the order: upper half onto lower half until one lane is left.
Value* KernelEmitter::emit_reduce(const ExprData& e) {
  Value* v = emit(e.args[0]);
  for (int n = e.args[0]->type.lanes / 2; n >= 1; n /= 2) {
    if (n == 1) {
      return combine(e.binary, e.type.scalar, b_.CreateExtractElement(v, uint64_t{0}),
                     b_.CreateExtractElement(v, uint64_t{1}));
    }
    llvm::SmallVector<int, 64> low, high;
    for (int i = 0; i < n; ++i) {
      low.push_back(i);
      high.push_back(n + i);
    }
    v = combine(e.binary, e.type.scalar, b_.CreateShuffleVector(v, low), b_.CreateShuffleVector(v, high));
  }
  return v;
}

}  // namespace gradc::codegen
