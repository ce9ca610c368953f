// The entry of a program: its kernel calls one after another, each over this thread's part, with barriers and
// the guard between.
#include <map>
#include <tuple>

#include "codegen/emit.h"
#include "support/check.h"

namespace gradc::codegen {
namespace {

using llvm::BasicBlock;
using llvm::Value;

constexpr uint32_t flush_and_zero = 0x8040;     // MXCSR: FTZ and DAZ
constexpr uint64_t flush_to_zero = 1ULL << 24;  // FPCR: FZ, which covers operands and results

class EntryEmitter {
 public:
  EntryEmitter(llvm::Function* f, const loop::Program& program, const Target& target, bool profile)
      : f_(f),
        program_(program),
        neon_(has_neon(target)),
        profile_(profile),
        b_(BasicBlock::Create(f->getContext(), "entry", f)) {}

  void run(const std::vector<llvm::Function*>& kernels, llvm::DebugLoc location) {
    b_.SetCurrentDebugLocation(location);
    flush_subnormals();
    thread_ = b_.CreateSExt(f_->getArg(1), b_.getInt64Ty(), "thread");
    threads_ = b_.CreateSExt(f_->getArg(2), b_.getInt64Ty(), "threads");
    several_ = b_.CreateICmpSGT(threads_, b_.getInt64(1), "several");
    for (const loop::Call& call : program_.calls) part(call.partition);
    if (profile_) {
      Value* first = b_.CreateMul(thread_, b_.getInt64(2 * program_.calls.size()));
      times_ = b_.CreateInBoundsGEP(b_.getInt64Ty(), field(b_.getPtrTy(), offsetof(gradc_step_args, profile)),
                                    first, "times");
    }
    for (size_t i = 0; i < program_.calls.size(); ++i) emit(i, kernels[i]);
    finish(0);
  }

 private:
  struct Part {
    Value *lo, *hi;
  };

  // Until finish() subnormal operands and results are zero. saved_: on x86-64 where the control register was
  // written, on aarch64 its value.
  void flush_subnormals() {
    if (neon_) {
      saved_ = b_.CreateIntrinsic(llvm::Intrinsic::aarch64_get_fpcr, {}, {});
      b_.CreateIntrinsic(llvm::Intrinsic::aarch64_set_fpcr, {}, {b_.CreateOr(saved_, flush_to_zero)});
      return;
    }
    saved_ = b_.CreateAlloca(b_.getInt32Ty());
    Value* changed = b_.CreateAlloca(b_.getInt32Ty());
    b_.CreateIntrinsic(llvm::Intrinsic::x86_sse_stmxcsr, {}, {saved_});
    b_.CreateStore(b_.CreateOr(b_.CreateLoad(b_.getInt32Ty(), saved_), b_.getInt32(flush_and_zero)), changed);
    b_.CreateIntrinsic(llvm::Intrinsic::x86_sse_ldmxcsr, {}, {changed});
  }

  Value* field(llvm::Type* type, size_t offset) {
    return b_.CreateLoad(type, b_.CreateConstInBoundsGEP1_64(b_.getInt8Ty(), f_->getArg(0), offset));
  }

  // Computed once, before the first call, for each way of splitting that the program uses.
  Part part(const loop::Partition& p) {
    const auto key = std::make_tuple(p.kind, p.extent, p.unit);
    if (const auto it = parts_.find(key); it != parts_.end()) return it->second;
    const auto number = [&](int64_t v) { return b_.getInt64(static_cast<uint64_t>(v)); };
    Part r{};
    if (p.kind == loop::Partition::Extent::fixed && p.extent <= 1) {
      r = {number(0), b_.CreateSelect(b_.CreateICmpEQ(thread_, number(0)), number(p.extent), number(0))};
    } else {
      Value* extent = number(p.extent);
      if (p.kind == loop::Partition::Extent::panels) {
        Value* rows = field(b_.getInt64Ty(), offsetof(gradc_step_args, rows));
        extent = b_.CreateMul(
            b_.CreateUDiv(b_.CreateAdd(rows, number(program_.panel - 1)), number(program_.panel)), extent);
      }
      Value* units = b_.CreateUDiv(b_.CreateAdd(extent, number(p.unit - 1)), number(p.unit));
      const auto bound = [&](Value* t) {
        Value* at = b_.CreateMul(b_.CreateUDiv(b_.CreateMul(units, t), threads_), number(p.unit));
        return b_.CreateSelect(b_.CreateICmpULT(at, extent), at, extent);
      };
      r.lo = bound(thread_);
      r.hi = bound(b_.CreateAdd(thread_, number(1)));
    }
    parts_[key] = r;
    return r;
  }

  Value* pointer(int index) {
    const loop::Allocation& a = program_.allocations[static_cast<size_t>(index)];
    const auto offset = static_cast<uint64_t>(a.offset);
    switch (a.space) {
      case loop::Space::arena:
        return b_.CreateConstInBoundsGEP1_64(b_.getInt8Ty(),
                                             field(b_.getPtrTy(), offsetof(gradc_step_args, arena)), offset);
      case loop::Space::parameter:
        return b_.CreateConstInBoundsGEP1_64(
            b_.getInt8Ty(), field(b_.getPtrTy(), offsetof(gradc_step_args, parameters)), offset);
      case loop::Space::input:
        return b_.CreateLoad(
            b_.getPtrTy(),
            b_.CreateConstInBoundsGEP1_64(b_.getPtrTy(),
                                          field(b_.getPtrTy(), offsetof(gradc_step_args, inputs)), offset));
      case loop::Space::output:
        return b_.CreateLoad(
            b_.getPtrTy(),
            b_.CreateConstInBoundsGEP1_64(b_.getPtrTy(),
                                          field(b_.getPtrTy(), offsetof(gradc_step_args, outputs)), offset));
      case loop::Space::scratch: {
        Value* mine =
            b_.CreateAdd(b_.CreateMul(thread_, b_.getInt64(static_cast<uint64_t>(program_.scratch_bytes))),
                         b_.getInt64(static_cast<uint64_t>(program_.arena_bytes) + offset));
        return b_.CreateInBoundsGEP(b_.getInt8Ty(), field(b_.getPtrTy(), offsetof(gradc_step_args, arena)),
                                    mine);
      }
      case loop::Space::scalars: return field(b_.getPtrTy(), offsetof(gradc_step_args, scalars));
    }
    GRADC_CHECK(false, "space {}", static_cast<int>(a.space));
  }

  BasicBlock* block(const char* name) { return BasicBlock::Create(f_->getContext(), name, f_); }

  void note_time(size_t index) {
    if (!profile_) return;
    // aarch64 lets programs read the counter of the system's clock, not that of cycles.
    b_.CreateStore(
        b_.CreateIntrinsic(neon_ ? llvm::Intrinsic::readsteadycounter : llvm::Intrinsic::readcyclecounter, {},
                           {}),
        b_.CreateConstInBoundsGEP1_64(b_.getInt64Ty(), times_, index));
  }

  void emit(size_t index, llvm::Function* kernel) {
    const loop::Call& call = program_.calls[index];
    if (call.barrier_before || call.guard_before) barrier();
    if (call.guard_before) guard();
    const Part p = part(call.partition);
    BasicBlock* work = block("work");
    BasicBlock* next = block("next");
    b_.CreateCondBr(b_.CreateICmpULT(p.lo, p.hi), work, next);
    b_.SetInsertPoint(work);
    llvm::SmallVector<Value*, 16> arguments = {f_->getArg(0), p.lo, p.hi};
    for (int buffer : call.buffers) arguments.push_back(pointer(buffer));
    note_time(2 * index);
    b_.CreateCall(kernel, arguments);
    note_time(2 * index + 1);
    b_.CreateBr(next);
    b_.SetInsertPoint(next);
  }

  void barrier() {
    BasicBlock* wait = block("barrier");
    BasicBlock* next = block("next");
    b_.CreateCondBr(several_, wait, next);
    b_.SetInsertPoint(wait);
    Value* function = field(b_.getPtrTy(), offsetof(gradc_step_args, barrier));
    auto* type = llvm::FunctionType::get(b_.getVoidTy(), {b_.getPtrTy()}, false);
    b_.CreateCall(type, function, {field(b_.getPtrTy(), offsetof(gradc_step_args, team))});
    b_.CreateBr(next);
    b_.SetInsertPoint(next);
  }

  void guard() {
    BasicBlock* stop = block("not_finite");
    BasicBlock* next = block("next");
    Value* v = b_.CreateLoad(b_.getFloatTy(), pointer(program_.guard));
    Value* magnitude = b_.CreateUnaryIntrinsic(llvm::Intrinsic::fabs, v);
    b_.CreateCondBr(b_.CreateFCmpOLT(magnitude, llvm::ConstantFP::getInfinity(b_.getFloatTy())), next, stop);
    b_.SetInsertPoint(stop);
    finish(1);
    b_.SetInsertPoint(next);
  }

  void finish(uint32_t result) {
    llvm::Intrinsic::ID restore = llvm::Intrinsic::x86_sse_ldmxcsr;
    if (neon_) restore = llvm::Intrinsic::aarch64_set_fpcr;
    b_.CreateIntrinsic(restore, {}, {saved_});
    b_.CreateRet(b_.getInt32(result));
  }

  llvm::Function* f_;
  const loop::Program& program_;
  const bool neon_, profile_;
  llvm::IRBuilder<> b_;
  Value *saved_ = nullptr, *thread_ = nullptr, *threads_ = nullptr, *several_ = nullptr, *times_ = nullptr;
  std::map<std::tuple<loop::Partition::Extent, int64_t, int64_t>, Part> parts_;
};

}  // namespace

llvm::Function* emit_entry(const EmitContext& context, const loop::Program& program,
                           const std::string& symbol, const std::vector<llvm::Function*>& kernels,
                           bool profile) {
  llvm::LLVMContext& c = context.module.getContext();
  llvm::Type* i32 = llvm::Type::getInt32Ty(c);
  auto* f =
      llvm::Function::Create(llvm::FunctionType::get(i32, {llvm::PointerType::getUnqual(c), i32, i32}, false),
                             llvm::GlobalValue::ExternalLinkage, symbol, context.module);
  set_function_attributes(*f, context.target);
  f->getArg(0)->setName("args");
  f->addParamAttr(0, llvm::Attribute::NoAlias);
  f->addParamAttr(0, llvm::Attribute::ReadOnly);
  f->addDereferenceableParamAttr(0, sizeof(gradc_step_args));
  llvm::DebugLoc location;
  if (context.debug) {
    context.debug->enter_function(*f, program.name, {});
    location = context.debug->at({});
  }
  EntryEmitter(f, program, context.target, profile).run(kernels, location);
  return f;
}

}  // namespace gradc::codegen
