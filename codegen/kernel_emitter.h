// The state of emitting one kernel; private to emit_kernel.cpp and emit_expr.cpp.
#pragma once
#include <functional>

#include "codegen/emit.h"

namespace gradc::codegen {

class KernelEmitter {
 public:
  KernelEmitter(const EmitContext& context, llvm::Function* function);
  void run(const loop::Kernel& kernel, int64_t panel);

 private:
  using Value = llvm::Value;
  void bind_predefined(const loop::Kernel& kernel, int64_t panel);
  void emit(const std::vector<loop::Stmt>& body);
  void emit(const loop::StmtData& s);
  void emit_loop(const loop::StmtData& s);
  void emit_if(const loop::StmtData& s);
  void emit_store(const loop::StmtData& s);
  llvm::AllocaInst* storage(const loop::Variable& v);
  // Emits `body` under a condition and continues after it; returns the block in which body ended.
  llvm::BasicBlock* when(Value* condition, const std::function<void()>& body,
                         const std::function<void()>& other = nullptr);

  Value* emit(const loop::Expr& e);
  Value* compute(const loop::ExprData& e);
  Value* emit_constant(const loop::ExprData& e);
  Value* emit_load(const loop::ExprData& e);
  Value* emit_unary(const loop::ExprData& e);
  Value* emit_binary(const loop::ExprData& e);
  Value* combine(loop::BinaryOp op, loop::Scalar scalar, Value* a, Value* b);
  Value* emit_compare(const loop::ExprData& e);
  Value* emit_cast(const loop::ExprData& e);
  Value* emit_reduce(const loop::ExprData& e);

  // Emits make(arguments): inline, or, for small code, in a function that all kernels of the module call. `name` and
  // the arguments' types identify it; the result has the first argument's type.
  Value* shared(const std::string& name, llvm::ArrayRef<Value*> arguments,
                const std::function<Value*(VectorMath&, llvm::ArrayRef<Value*>)>& make);

  llvm::Type* type(loop::Type t);
  // in_bounds only for accesses that certainly happen: a masked one may point outside.
  Value* address(const loop::Buffer& buffer, Value* index, bool in_bounds);
  static llvm::Align alignment(const loop::Buffer& buffer);

  const EmitContext& context_;
  llvm::Function* function_;
  llvm::BasicBlock* entry_ = nullptr;
  llvm::IRBuilder<> b_;
  VectorMath math_;
  std::unordered_map<const loop::VariableData*, Value*> values_;
  std::unordered_map<const loop::VariableData*, llvm::AllocaInst*> storage_;
  std::unordered_map<const loop::BufferData*, Value*> buffers_;
  std::unordered_map<const loop::ExprData*, Value*>
      memo_;  // of the current statement: shared subexpressions are computed once
};

}  // namespace gradc::codegen
