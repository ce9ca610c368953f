// One loop IR kernel to one LLVM function: statements, loops and memory; arithmetic is in emit_expr.cpp.
#include "codegen/kernel_emitter.h"

#include <algorithm>

#include "support/check.h"

namespace gradc::codegen {

using llvm::BasicBlock;
using llvm::Value;
using loop::Stmt;
using loop::StmtKind;

namespace {
constexpr int64_t most_unrolled_turns = 1024;  // above it `unroll` is ignored: code would grow without bound
}

KernelEmitter::KernelEmitter(const EmitContext& context, llvm::Function* function)
    : context_(context), function_(function), b_(function->getContext()), math_(b_, context.target) {}

void KernelEmitter::run(const loop::Kernel& kernel, int64_t panel) {
  llvm::LLVMContext& c = function_->getContext();
  entry_ = BasicBlock::Create(c, "entry", function_);
  BasicBlock* body = BasicBlock::Create(c, "body", function_);
  b_.SetInsertPoint(entry_);
  if (context_.debug)
    b_.SetCurrentDebugLocation(
        context_.debug->at(kernel.locations.empty() ? Location{} : kernel.locations[0]));
  bind_predefined(kernel, panel);
  for (size_t i = 0; i < kernel.buffers.size(); ++i) {
    buffers_[kernel.buffers[i].get()] = function_->getArg(static_cast<unsigned>(3 + i));
  }
  b_.SetInsertPoint(body);
  emit(kernel.body);
  b_.CreateRetVoid();
  b_.SetInsertPoint(entry_);
  b_.CreateBr(body);
}

// Reads of fields that the kernel does not use are dropped by the clean-up passes.
void KernelEmitter::bind_predefined(const loop::Kernel& kernel, int64_t panel) {
  const loop::Kernel::Predefined& p = kernel.predefined;
  const auto of_examples = [&](Value* count) {
    return kernel.rows == 1 ? count : b_.CreateMul(count, b_.getInt64(static_cast<uint64_t>(kernel.rows)));
  };
  Value* args = function_->getArg(0);
  const auto field = [&](llvm::Type* type, int64_t offset) {
    return b_.CreateAlignedLoad(
        type, b_.CreateConstInBoundsGEP1_64(b_.getInt8Ty(), args, static_cast<uint64_t>(offset)),
        llvm::Align(4));
  };
  Value* rows = of_examples(field(b_.getInt64Ty(), offsetof(gradc_step_args, rows)));
  values_[p.lo.get()] = function_->getArg(1);
  values_[p.hi.get()] = function_->getArg(2);
  values_[p.rows.get()] = rows;
  values_[p.panels.get()] = b_.CreateUDiv(b_.CreateAdd(rows, b_.getInt64(static_cast<uint64_t>(panel - 1))),
                                          b_.getInt64(static_cast<uint64_t>(panel)));
  values_[p.row_offset.get()] = of_examples(field(b_.getInt64Ty(), offsetof(gradc_step_args, row_offset)));
  values_[p.seed_lo.get()] = field(b_.getInt32Ty(), offsetof(gradc_step_args, seed));
  values_[p.seed_hi.get()] = field(b_.getInt32Ty(), offsetof(gradc_step_args, seed) + 4);
  values_[p.step_lo.get()] = field(b_.getInt32Ty(), offsetof(gradc_step_args, micro_step));
  values_[p.step_hi.get()] = field(b_.getInt32Ty(), offsetof(gradc_step_args, micro_step) + 4);
}

llvm::Type* KernelEmitter::type(loop::Type t) {
  llvm::Type* s = nullptr;
  switch (t.scalar) {
    case loop::Scalar::i1: s = b_.getInt1Ty(); break;
    case loop::Scalar::i8: s = b_.getInt8Ty(); break;
    case loop::Scalar::i32: s = b_.getInt32Ty(); break;
    case loop::Scalar::i64: s = b_.getInt64Ty(); break;
    case loop::Scalar::f32: s = b_.getFloatTy(); break;
    case loop::Scalar::f64: s = b_.getDoubleTy(); break;
  }
  return t.lanes == 1 ? s : llvm::FixedVectorType::get(s, t.lanes);
}

void KernelEmitter::emit(const std::vector<Stmt>& body) {
  for (const Stmt& s : body) emit(*s);
}

void KernelEmitter::emit(const loop::StmtData& s) {
  if (context_.debug) b_.SetCurrentDebugLocation(context_.debug->at(s.location));
  memo_.clear();
  switch (s.kind) {
    case StmtKind::block: emit(s.body); break;
    case StmtKind::for_loop: emit_loop(s); break;
    case StmtKind::let: values_[s.variable.get()] = emit(s.value); break;
    case StmtKind::declare: b_.CreateStore(emit(s.value), storage(s.variable)); break;
    case StmtKind::assign: b_.CreateStore(emit(s.value), storage(s.variable)); break;
    case StmtKind::store: emit_store(s); break;
    case StmtKind::if_then: emit_if(s); break;
    case StmtKind::prefetch:
      b_.CreateIntrinsic(
          llvm::Intrinsic::prefetch, {b_.getPtrTy()},
          {address(s.buffer, emit(s.index), false), b_.getInt32(0), b_.getInt32(2), b_.getInt32(1)});
      break;
  }
}

// Mutable variables are allocas of the entry block until SROA promotes them to registers.
llvm::AllocaInst* KernelEmitter::storage(const loop::Variable& v) {
  llvm::AllocaInst*& slot = storage_[v.get()];
  if (!slot) {
    llvm::IRBuilder<> at_entry(entry_, entry_->begin());
    slot = at_entry.CreateAlloca(type(v->type), nullptr, v->name);
  }
  return slot;
}

// Rotated from the start: a guard, then a loop tested at its end, the form that LLVM's loop passes expect.
void KernelEmitter::emit_loop(const loop::StmtData& s) {
  Value* begin = emit(s.begin);
  Value* end = emit(s.end);
  const auto* first = llvm::dyn_cast<llvm::ConstantInt>(begin);
  const auto* last = llvm::dyn_cast<llvm::ConstantInt>(end);
  if (first && last) {
    const int64_t from = first->getSExtValue(), to = last->getSExtValue();
    if (from >= to) return;
    const auto turns =
        (static_cast<uint64_t>(to) - static_cast<uint64_t>(from) - 1) / static_cast<uint64_t>(s.step) + 1;
    if (turns == 1 || (s.unroll && turns <= most_unrolled_turns)) {
      for (uint64_t i = 0; i < turns; ++i) {
        values_[s.variable.get()] =
            b_.getInt64(static_cast<uint64_t>(from) + i * static_cast<uint64_t>(s.step));
        emit(s.body);
      }
      return;
    }
  }
  llvm::LLVMContext& c = function_->getContext();
  BasicBlock* loop = BasicBlock::Create(c, s.variable->name, function_);
  BasicBlock* latch = BasicBlock::Create(c, s.variable->name + ".next", function_);
  BasicBlock* done = BasicBlock::Create(c, s.variable->name + ".done", function_);
  BasicBlock* preheader = b_.GetInsertBlock();
  if (first && last) {
    b_.CreateBr(loop);
  } else {
    preheader = BasicBlock::Create(c, s.variable->name + ".enter", function_, loop);
    b_.CreateCondBr(b_.CreateICmpSLT(begin, end), preheader, done);
    b_.SetInsertPoint(preheader);
    b_.CreateBr(loop);
  }
  b_.SetInsertPoint(loop);
  llvm::PHINode* counter = b_.CreatePHI(b_.getInt64Ty(), 2, s.variable->name);
  counter->addIncoming(begin, preheader);
  values_[s.variable.get()] = counter;
  const llvm::DebugLoc location = b_.getCurrentDebugLocation();
  emit(s.body);
  b_.SetCurrentDebugLocation(location);
  b_.CreateBr(latch);
  b_.SetInsertPoint(latch);
  Value* next = b_.CreateNSWAdd(counter, b_.getInt64(static_cast<uint64_t>(s.step)));
  counter->addIncoming(next, latch);
  b_.CreateCondBr(b_.CreateICmpSLT(next, end), loop, done);
  b_.SetInsertPoint(done);
}

void KernelEmitter::emit_if(const loop::StmtData& s) {
  Value* condition = emit(s.condition);
  const llvm::DebugLoc location = b_.getCurrentDebugLocation();
  const auto branch = [&](const std::vector<Stmt>& body) {
    return [this, &body, location] {
      emit(body);
      b_.SetCurrentDebugLocation(location);
    };
  };
  if (s.other.empty()) {
    when(condition, branch(s.body));
  } else {
    when(condition, branch(s.body), branch(s.other));
  }
}

BasicBlock* KernelEmitter::when(Value* condition, const std::function<void()>& body,
                                const std::function<void()>& other) {
  llvm::LLVMContext& c = function_->getContext();
  BasicBlock* then = BasicBlock::Create(c, "then", function_);
  BasicBlock* done = BasicBlock::Create(c, "done", function_);
  BasicBlock* otherwise = other ? BasicBlock::Create(c, "else", function_, done) : done;
  b_.CreateCondBr(condition, then, otherwise);
  b_.SetInsertPoint(then);
  body();
  BasicBlock* end_of_body = b_.GetInsertBlock();
  b_.CreateBr(done);
  if (other) {
    b_.SetInsertPoint(otherwise);
    other();
    b_.CreateBr(done);
  }
  b_.SetInsertPoint(done);
  return end_of_body;
}

Value* KernelEmitter::address(const loop::Buffer& buffer, Value* index, bool in_bounds) {
  Value* base = buffers_.at(buffer.get());
  llvm::Type* element = type({buffer->scalar, 1});
  index = b_.CreateSExt(
      index,
      index->getType()->isVectorTy()
          ? llvm::cast<llvm::Type>(llvm::FixedVectorType::get(
                b_.getInt64Ty(), llvm::cast<llvm::FixedVectorType>(index->getType())->getNumElements()))
          : b_.getInt64Ty());
  return in_bounds ? b_.CreateInBoundsGEP(element, base, index) : b_.CreateGEP(element, base, index);
}

llvm::Align KernelEmitter::alignment(const loop::Buffer& buffer) {
  return llvm::Align(
      static_cast<uint64_t>(std::min<int64_t>(loop::bytes(buffer->scalar), buffer->alignment)));
}

void KernelEmitter::emit_store(const loop::StmtData& s) {
  Value* value = emit(s.value);
  if (s.buffer->scalar == loop::Scalar::i8)
    value = b_.CreateZExt(value, type({loop::Scalar::i8, s.value->type.lanes}));
  Value* mask = s.mask ? emit(s.mask) : nullptr;
  Value* pointer = address(s.buffer, emit(s.index), !mask);
  const llvm::Align align = alignment(s.buffer);
  const unsigned lanes = s.value->type.lanes;
  if (s.index->type.lanes > 1) {
    if (!mask) mask = llvm::ConstantInt::getTrue(type({loop::Scalar::i1, s.value->type.lanes}));
    b_.CreateMaskedScatter(value, pointer, align, mask);
  } else if (!mask) {
    b_.CreateAlignedStore(value, pointer, align);
  } else if (lanes > 1) {
    b_.CreateMaskedStore(value, pointer, align, mask);
  } else {
    when(mask, [&] { b_.CreateAlignedStore(value, pointer, align); });
  }
}

llvm::FunctionType* kernel_type(llvm::LLVMContext& c, const loop::Kernel& kernel) {
  llvm::Type* pointer = llvm::PointerType::getUnqual(c);
  llvm::SmallVector<llvm::Type*, 16> parameters = {pointer, llvm::Type::getInt64Ty(c),
                                                   llvm::Type::getInt64Ty(c)};
  parameters.append(kernel.buffers.size(), pointer);
  return llvm::FunctionType::get(llvm::Type::getVoidTy(c), parameters, false);
}

llvm::Function* emit_kernel(const EmitContext& context, const loop::Kernel& kernel, int64_t panel,
                            const std::vector<bool>& exclusive, const std::string& symbol,
                            llvm::GlobalValue::LinkageTypes linkage) {
  llvm::LLVMContext& c = context.module.getContext();
  auto* f = llvm::Function::Create(kernel_type(c, kernel), linkage, symbol, context.module);
  set_function_attributes(*f, context.target);
  f->addFnAttr(llvm::Attribute::NoInline);
  f->getArg(0)->setName("args");
  f->getArg(1)->setName("lo");
  f->getArg(2)->setName("hi");
  for (const auto attribute :
       {llvm::Attribute::NoAlias, llvm::Attribute::ReadOnly, llvm::Attribute::NoCapture})
    f->addParamAttr(0, attribute);
  f->addDereferenceableParamAttr(0, sizeof(gradc_step_args));
  for (unsigned i = 0; i < kernel.buffers.size(); ++i) {
    const loop::BufferData& buffer = *kernel.buffers[i];
    f->getArg(3 + i)->setName(buffer.name);
    f->addParamAttr(3 + i, llvm::Attribute::NoCapture);
    f->addParamAttr(
        3 + i, llvm::Attribute::getWithAlignment(c, llvm::Align(static_cast<uint64_t>(buffer.alignment))));
    if (exclusive[i]) f->addParamAttr(3 + i, llvm::Attribute::NoAlias);
    if (buffer.access == loop::Access::read) f->addParamAttr(3 + i, llvm::Attribute::ReadOnly);
  }
  if (context.debug)
    context.debug->enter_function(*f, kernel.name,
                                  kernel.locations.empty() ? Location{} : kernel.locations[0]);
  KernelEmitter(context, f).run(kernel, panel);
  return f;
}

}  // namespace gradc::codegen
