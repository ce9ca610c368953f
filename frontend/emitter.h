// Emits tensor IR into the current target function (train, eval, predict, an update): converts values to
// operands, and applies operators to static values and tensors. Knows no syntax but an expression's location,
// and calls no definition.
#pragma once
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "frontend/call_stack.h"
#include "frontend/value.h"
#include "ir/tensor/module.h"

namespace gradc::frontend {

// Whether extents are at least 1 and the shape has no more elements and axes than any tensor may have.
bool fits_limits(const Shape& shape);

class Emitter : public CallStack {
 public:
  Emitter(const Program& program, Diagnostics& diagnostics, Module& module)
      : CallStack(program, diagnostics), module_(module) {}

  // --- the target of emission
  struct Target {
    Function* function = nullptr;
    bool training = false, stochastic = false;
    int64_t next_stream = 0;
    std::map<std::string, Op*> states;  // current value of a state symbol assigned in this function
    std::map<std::string, std::pair<const Definition*, std::string>>
        instances;                   // by path: definition and static arguments
    std::set<std::string> declared;  // symbols declared in this function
  };
  Target& target() { return *target_; }
  // Redirects emission to another target during its lifetime.
  struct Redirect {
    Redirect(Emitter& e, Target& t) : emitter(e), saved(e.target_), saved_builder(std::move(e.builder_)) {
      e.target_ = &t;
      e.builder_ = std::make_unique<Builder>(*t.function);
    }
    ~Redirect() {
      emitter.target_ = saved;
      emitter.builder_ = std::move(saved_builder);
    }
    Emitter& emitter;
    Target* saved;
    std::unique_ptr<Builder> saved_builder;
  };
  Target init_target;     // @init
  std::string parameter;  // whose update is being emitted; empty: none
  Module& module() { return module_; }

  // For operations that read at positions (OpDef::index): the user's location and the call notes, for errors
  // that are found after the whole function is emitted.
  std::map<const Op*, Diagnostic> index_locations;

  // --- operations (emit.cpp)
  // Creates an operation if infer() accepts its operands; an error names `what` ("`conv2d`") and the
  // operands' types.
  Value emit(const std::string& op, std::vector<Op*> operands, Attributes attributes, Span span,
             const std::string& what = {});
  // A value as an operation: a tensor unchanged, a static value as a constant of this element type. Null for
  // poison, without a new error, and after an error.
  Op* lift(const Value& v, DType dtype, Span span);
  // Converts the operands of an elementwise operation to one element type: static numbers take the tensors'
  // type, f64 scalars become f32 beside f32. False after an error.
  bool unify(std::vector<Value>& values, std::vector<Op*>& out, Span span, const std::string& what);
  Op* cast(Op* op, DType to, Span span);
  // The value of a binding; emits a read of the symbol of a parameter or state.
  Value read(const Binding& b);

  // --- operators (operators.cpp)
  Value unary(const std::string& op, const Value& a, const Expr& site);
  Value binary(const std::string& op, const Value& a, const Value& b, const Expr& site);
  Value matmul(const Value& a, const Value& b, const Expr& site);
  Value select(const Value& c, const Value& a, const Value& b, Span span);

  // --- conversions with messages (conversions.cpp)
  bool to_integer(const Value& v, Span span, const std::string& what, int64_t& out);
  bool to_number(const Value& v, Span span, const std::string& what, double& out);
  bool to_boolean(const Value& v, Span span, const std::string& what, bool& out);
  bool to_integers(const Value& v, Span span, const std::string& what, std::vector<int64_t>& out);
  bool to_axis(const Value& v, int rank, Span span, int64_t& out);               // negative from the end
  bool to_axes(const Value& v, int rank, Span span, std::vector<int64_t>& out);  // one or a list, sorted
  bool to_shape(const Value& v, Span span, const std::string& what,
                Shape& out);  // extents >= 1 within the limits

 protected:
  Target* target_ = nullptr;  // null: only static values are evaluated

 private:
  friend struct Redirect;
  Value static_binary(const std::string& op, const Value& a, const Value& b, const Expr& site);
  // Of two numbers.
  Value static_arithmetic(const std::string& op, const Value& a, const Value& b, const Expr& site);
  // An operand of a matrix product, with a letter for each axis.
  struct MatmulSide {
    Op* op = nullptr;
    Shape shape;
    std::string letters;
    size_t stacked() const { return shape.size() > 2 ? shape.size() - 2 : 0; }  // axes before the matrices
  };
  bool name_stack(MatmulSide& side, const MatmulSide& other, const Shape& facing_stack, size_t stack,
                  const Expr& site);
  void at(Span span);  // sets the location of operations emitted next

  Module& module_;
  std::unique_ptr<Builder> builder_;
  int64_t ops_ = 0;
};

}  // namespace gradc::frontend
