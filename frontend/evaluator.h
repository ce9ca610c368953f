// Evaluates definitions: computes static values, and emits tensor IR for tensors. One evaluator compiles one
// file and keeps the module's symbols across all of its functions.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "frontend/call_notes.h"
#include "frontend/emitter.h"
#include "frontend/program.h"
#include "frontend/value.h"

namespace gradc::frontend {

// Runs the statements that only `train` has.
struct ExperimentStatements {
  virtual ~ExperimentStatements() = default;
  virtual void run(const Statement& s) = 0;
};

class Evaluator : public Emitter {
 public:
  using Emitter::Emitter;

  // --- expressions and statements (evaluate.cpp)
  Value evaluate(const Expr& e);
  // Runs statements; true when one of them ended the block: a `return`, or an error on which the rest
  // depends.
  bool run_block(const Block& b, bool own_scope = true);
  ExperimentStatements* experiment = nullptr;

  // --- calls (evaluate_call.cpp)
  // Calls a definition value; its own bound arguments come before `arguments`.
  Value call(const DefinitionValue& callee, std::vector<BoundArgument> arguments, const Expr& site);
  // Runs the body of an optimizer, schedule or initialiser: `given` supplies parameters and predefined names.
  Value call_given(const DefinitionValue& callee, const std::map<std::string, Value>& given, Span span,
                   Frame* finished = nullptr);
  std::vector<BoundArgument> evaluate_arguments(const Expr& call);
  Value lookup_callee(const Expr& call);
  CallNotes notes;

  // --- parameters and states (parameters.cpp)
  bool late_parameters = false;  // a new parameter is an error: @train is complete

  using Emitter::to_shape;
  // The shape of param[..] and state; false after an error.
  bool to_shape(const std::vector<ExprPtr>& dims, const std::string& what, Shape& out);

 private:
  struct Deeper;
  Value evaluate_kind(const Expr& e);
  Value evaluate_name(const Expr& e);
  Value evaluate_member(const Expr& e);
  Value evaluate_index(const Expr& e);
  Value index_tensor(const Expr& e, Op* x);
  Value evaluate_choice(const Expr& e);
  Value global(const std::string& name, const std::string& qualifier, Span span);
  bool run_statement(const Statement& s);
  bool run_for(const Statement& s);
  bool static_condition(const Expr& e, bool& out, const char* where);

  Value call_value(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                   const Expr& site);
  Value call_definition(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                        const Expr& site);
  Value call_later(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments, Span span);
  bool bind_parameters(Frame& f, const Definition& d, const std::vector<BoundArgument>& arguments,
                       const std::map<std::string, Value>& given, Span span, std::string& statics);
  static std::unique_ptr<Frame> new_frame(const Definition& d, Span span);
  std::shared_ptr<CallSite> call_site(const Frame& f, Span span);
  bool complete_parameter(const Definition& d, const ParameterSyntax& p, Span span);
  Value run_body(std::unique_ptr<Frame> f, Span span, Frame* finished = nullptr);

  void declare(const Statement& s);
  void assign(const Statement& s, Value v);
  // The initial value of a symbol of this type, as an operation of @init; null after an error.
  Op* first_value(const Value& init, const Type& type, Span span);

  int depth_ = 0;
  std::string last_instance_;  // of the call that ended last; empty: no instance
};

}  // namespace gradc::frontend
