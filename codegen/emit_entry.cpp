// The entry of a program: its kernel calls one after another, each over this thread's chunk, with barriers and the
// guard between.
#include <map>
#include <tuple>

#include "codegen/emit.h"
#include "runtime/panels.h"
#include "support/check.h"

namespace gradc::codegen {
namespace {

using llvm::BasicBlock;
using llvm::Value;

constexpr uint32_t flush_and_zero = 0x8040;     // MXCSR: FTZ and DAZ
constexpr uint64_t flush_to_zero = 1ULL << 24;  // FPCR: FZ, which covers operands and results

// A count in the code that is built, or a condition on counts, for the rules of runtime/panels.h.
struct Count {
  llvm::IRBuilder<>* b;
  Value* value;

  Value* number(int64_t n) const { return b->getInt64(static_cast<uint64_t>(n)); }
  Count operator+(const Count& o) const { return {b, b->CreateAdd(value, o.value)}; }
  Count operator-(int64_t n) const { return {b, b->CreateSub(value, number(n))}; }
  Count operator*(const Count& o) const { return {b, b->CreateMul(value, o.value)}; }
  Count operator*(int64_t n) const { return {b, b->CreateMul(value, number(n))}; }
  Count operator/(const Count& o) const { return {b, b->CreateUDiv(value, o.value)}; }
  Count operator>=(const Count& o) const { return {b, b->CreateICmpUGE(value, o.value)}; }
  Count operator>(const Count& o) const { return {b, b->CreateICmpUGT(value, o.value)}; }
  Count operator&(const Count& o) const { return {b, b->CreateAnd(value, o.value)}; }
  Count operator|(const Count& o) const { return {b, b->CreateOr(value, o.value)}; }
  friend Count select(const Count& condition, const Count& yes, const Count& no) {
    return {yes.b, yes.b->CreateSelect(condition.value, yes.value, no.value)};
  }
};

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
    Value* rows = field(b_.getInt64Ty(), offsetof(gradc_step_args, rows));
    rows_ = rows;
    panels_ = panels_of(1);
    for (const loop::Call& call : program_.calls) chunk(call.partition);
    if (!program_.segments.empty()) {
      chunk({loop::Partition::Extent::panels, 1, 1});
      const Count panels{&b_, panels_}, full{&b_, number(program_.panels)}, threads{&b_, threads_};
      runs_by_panels_ = runtime::runs_by_panels(panels, full, threads).value;
      local_panels_ = runtime::local_panels(full, threads).value;
    }
    if (profile_) {
      Value* first = b_.CreateMul(thread_, b_.getInt64(2 * program_.calls.size()));
      times_ = b_.CreateInBoundsGEP(b_.getInt64Ty(), field(b_.getPtrTy(), offsetof(gradc_step_args, profile)),
                                    first, "times");
    }
    auto segment = program_.segments.begin();
    for (size_t i = 0; i < program_.calls.size();) {
      const bool begins = segment != program_.segments.end() && static_cast<size_t>(segment->first) == i;
      const size_t end = begins ? static_cast<size_t>(segment->last) : i + 1;
      if (begins)
        emit(*segment++, kernels);
      else
        emit(i, kernels[i]);
      i = end;
    }
    finish(0);
  }

 private:
  struct Chunk {
    Value *lo, *hi;
  };

  // Flushes subnormal operands and results to zero until finish(). saved_: on x86-64 the address of the saved control
  // register, on aarch64 its value.
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

  // Panels of the batch where an example has so many rows.
  Value* panels_of(int64_t rows) {
    Value* all = rows == 1 ? rows_ : b_.CreateMul(rows_, number(rows));
    return b_.CreateUDiv(b_.CreateAdd(all, number(program_.panel - 1)), number(program_.panel), "panels");
  }

  // This thread's chunk. Computed once for each partition that the program uses, before the first call.
  Chunk chunk(const loop::Partition& p) {
    const auto key = std::make_tuple(p.kind, p.extent, p.unit, p.rows);
    if (const auto it = chunks_.find(key); it != chunks_.end()) return it->second;
    Chunk r{};
    if (p.kind == loop::Partition::Extent::fixed && p.extent <= 1) {
      r = {number(0), b_.CreateSelect(b_.CreateICmpEQ(thread_, number(0)), number(p.extent), number(0))};
    } else {
      Value* extent = number(p.extent);
      if (p.kind == loop::Partition::Extent::panels)
        extent = b_.CreateMul(p.rows == 1 ? panels_ : panels_of(p.rows), extent);
      Value* units = b_.CreateUDiv(b_.CreateAdd(extent, number(p.unit - 1)), number(p.unit));
      const auto bound = [&](Value* t) {
        Value* at = b_.CreateMul(b_.CreateUDiv(b_.CreateMul(units, t), threads_), number(p.unit));
        return b_.CreateSelect(b_.CreateICmpULT(at, extent), at, extent);
      };
      r.lo = bound(thread_);
      r.hi = bound(b_.CreateAdd(thread_, number(1)));
    }
    chunks_[key] = r;
    return r;
  }

  Value* number(int64_t n) { return b_.getInt64(static_cast<uint64_t>(n)); }

  // `panel`: the current one where calls run panel by panel, else null.
  Value* pointer(int index, Value* panel = nullptr) {
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
        Value* mine = b_.CreateAdd(b_.CreateMul(thread_, number(program_.scratch_bytes)),
                                   number(program_.arena_bytes + a.offset));
        if (program_.local_bytes > 0)
          mine = b_.CreateAdd(mine, b_.CreateMul(local_panels_, number(program_.local_bytes)));
        return b_.CreateInBoundsGEP(b_.getInt8Ty(), field(b_.getPtrTy(), offsetof(gradc_step_args, arena)),
                                    mine);
      }
      case loop::Space::local: {
        // Kernels count panels from the batch's first, while local memory holds only a thread's current panel.
        Value* at = panel ? b_.CreateSub(b_.CreateAdd(b_.CreateMul(thread_, number(program_.local_bytes)),
                                                      number(a.offset)),
                                         b_.CreateMul(panel, number(panel_bytes(program_, a))))
                          : b_.CreateMul(local_panels_, number(a.offset));
        return b_.CreateGEP(b_.getInt8Ty(), field(b_.getPtrTy(), offsetof(gradc_step_args, arena)),
                            b_.CreateAdd(at, number(program_.arena_bytes)));
      }
      case loop::Space::scalars: return field(b_.getPtrTy(), offsetof(gradc_step_args, scalars));
    }
    GRADC_CHECK(false, "space {}", static_cast<int>(a.space));
  }

  BasicBlock* block(const char* name) { return BasicBlock::Create(f_->getContext(), name, f_); }

  // On aarch64 programs can read the system counter, but not the cycle counter.
  Value* cycles() {
    return b_.CreateIntrinsic(neon_ ? llvm::Intrinsic::readsteadycounter : llvm::Intrinsic::readcyclecounter,
                              {}, {});
  }
  Value* time(size_t index) { return b_.CreateConstInBoundsGEP1_64(b_.getInt64Ty(), times_, index); }

  void note_time(size_t index) {
    if (profile_) b_.CreateStore(cycles(), time(index));
  }

  // A call made in pieces is recorded as one interval: from the begin of its first piece, as long as all pieces
  // together.
  void add_time(size_t call, Value* begin) {
    Value* taken = b_.CreateSub(cycles(), begin);
    Value* first = b_.CreateLoad(b_.getInt64Ty(), time(2 * call));
    Value* none = b_.CreateICmpEQ(first, b_.getInt64(0));
    Value* end = b_.CreateLoad(b_.getInt64Ty(), time(2 * call + 1));
    b_.CreateStore(b_.CreateSelect(none, begin, first), time(2 * call));
    b_.CreateStore(b_.CreateAdd(b_.CreateSelect(none, begin, end), taken), time(2 * call + 1));
  }

  void synchronise(const loop::Call& call) {
    if (call.barrier_before || call.guard_before) barrier();
    if (call.guard_before) guard();
  }

  void emit(size_t index, llvm::Function* kernel) {
    synchronise(program_.calls[index]);
    emit_work(index, kernel);
  }

  void emit_work(size_t index, llvm::Function* kernel) {
    const loop::Call& call = program_.calls[index];
    const Chunk p = chunk(call.partition);
    BasicBlock* work = block("work");
    BasicBlock* next = block("next");
    b_.CreateCondBr(b_.CreateICmpULT(p.lo, p.hi), work, next);
    b_.SetInsertPoint(work);
    llvm::SmallVector<Value*, 16> arguments = {f_->getArg(0), p.lo, p.hi};
    for (const loop::CallBuffer& b : call.buffers) arguments.push_back(pointer(b.allocation));
    note_time(2 * index);
    b_.CreateCall(kernel, arguments);
    note_time(2 * index + 1);
    b_.CreateBr(next);
    b_.SetInsertPoint(next);
  }

  // for value = begin to end: body(value)
  template <class F>
  void loop(Value* begin, Value* end, F&& body) {
    BasicBlock *before = b_.GetInsertBlock(), *head = block("head"), *turn = block("turn"),
               *after = block("after");
    b_.CreateBr(head);
    b_.SetInsertPoint(head);
    llvm::PHINode* value = b_.CreatePHI(b_.getInt64Ty(), 2);
    value->addIncoming(begin, before);
    b_.CreateCondBr(b_.CreateICmpULT(value, end), turn, after);
    b_.SetInsertPoint(turn);
    body(value);
    value->addIncoming(b_.CreateAdd(value, b_.getInt64(1)), b_.GetInsertBlock());
    b_.CreateBr(head);
    b_.SetInsertPoint(after);
  }

  // Panel by panel where threads have about as many of them, else call by call.
  void emit(const loop::Segment& segment, const std::vector<llvm::Function*>& kernels) {
    const auto first = static_cast<size_t>(segment.first), last = static_cast<size_t>(segment.last);
    synchronise(program_.calls[first]);
    const Chunk panels = chunk({loop::Partition::Extent::panels, 1, 1});
    BasicBlock *together = block("segment"), *apart = block("apart"), *next = block("next");
    b_.CreateCondBr(runs_by_panels_, together, apart);

    b_.SetInsertPoint(together);
    if (profile_)
      for (size_t i = 2 * first; i < 2 * last; ++i) b_.CreateStore(b_.getInt64(0), time(i));
    llvm::GlobalVariable* table = band_table(segment);
    loop(panels.lo, panels.hi, [&](Value* panel) {
      loop(b_.getInt64(0), b_.getInt64(segment.bands.size()), [&](Value* band) {
        for (size_t i = first; i < last; ++i) {
          const auto made = [&](Value* row) {
            Value* at = b_.CreateAdd(b_.CreateMul(row, b_.getInt64(last - first)), b_.getInt64(i - first));
            return b_.CreateLoad(b_.getInt64Ty(), b_.CreateInBoundsGEP(b_.getInt64Ty(), table, at));
          };
          const auto extent = static_cast<uint64_t>(program_.calls[i].partition.extent);
          Value* base = b_.CreateMul(panel, b_.getInt64(extent));
          Value *lo = made(band), *hi = made(b_.CreateAdd(band, b_.getInt64(1)));
          BasicBlock *work = block("work"), *done = block("done");
          b_.CreateCondBr(b_.CreateICmpULT(lo, hi), work, done);
          b_.SetInsertPoint(work);
          llvm::SmallVector<Value*, 16> arguments = {f_->getArg(0), b_.CreateAdd(base, lo),
                                                     b_.CreateAdd(base, hi)};
          for (const loop::CallBuffer& b : program_.calls[i].buffers)
            arguments.push_back(pointer(b.allocation, panel));
          Value* begin = profile_ ? cycles() : nullptr;
          b_.CreateCall(kernels[i], arguments);
          if (profile_) add_time(i, begin);
          b_.CreateBr(done);
          b_.SetInsertPoint(done);
        }
      });
    });
    b_.CreateBr(next);

    b_.SetInsertPoint(apart);
    // All chunks' bounds were computed before the first call.
    for (size_t i = first; i < last; ++i) {
      if (i > first) synchronise(program_.calls[i]);
      emit_work(i, kernels[i]);
    }
    b_.CreateBr(next);
    b_.SetInsertPoint(next);
  }

  // Chunks completed before the first band, then at the end of each: [band][call].
  llvm::GlobalVariable* band_table(const loop::Segment& segment) {
    std::vector<uint64_t> values(static_cast<size_t>(segment.last - segment.first), 0);
    for (const std::vector<int64_t>& band : segment.bands)
      for (const int64_t chunks : band) values.push_back(static_cast<uint64_t>(chunks));
    llvm::Constant* data = llvm::ConstantDataArray::get(f_->getContext(), values);
    return new llvm::GlobalVariable(*f_->getParent(), data->getType(), true,
                                    llvm::GlobalValue::PrivateLinkage, data, "bands");
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
  Value *rows_ = nullptr, *panels_ = nullptr, *saved_ = nullptr, *thread_ = nullptr, *threads_ = nullptr,
        *several_ = nullptr, *times_ = nullptr, *runs_by_panels_ = nullptr, *local_panels_ = nullptr;
  std::map<std::tuple<loop::Partition::Extent, int64_t, int64_t, int64_t>, Chunk> chunks_;
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
