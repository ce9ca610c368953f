// Executes definitions with static values and emits tensor IR for what is a tensor. One evaluator compiles
// one file: it is pointed at one function after another (train, eval, predict, the updates) and keeps the
// module's symbols over all of them.
#pragma once
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "frontend/builtins.h"
#include "frontend/data_sources.h"
#include "frontend/program.h"
#include "frontend/results.h"
#include "frontend/value.h"
#include "ir/tensor/module.h"

namespace gradc::frontend {

inline constexpr int kMaxCallDepth = 100;            // definitions inside definitions
inline constexpr int kMaxDepth = 1200;               // of evaluation altogether: protects the stack
inline constexpr int64_t kMaxRounds = 10000;         // of one loop
inline constexpr int64_t kMaxList = 100000;          // values in a list, nested ones too; bytes of a string
inline constexpr int64_t kMaxOps = 200000;           // emitted by one file
inline constexpr int64_t kMaxEvaluations = 4000000;  // expressions, statements and copied values of a file

class Evaluator {
 public:
  // Thrown when going on makes no sense: a limit was reached, or there are too many errors. compile() catches
  // it.
  struct Abort {};

  struct Binding {
    enum class Kind : uint8_t { plain, parameter, state } kind = Kind::plain;
    Value value;
    std::string symbol;                  // of a parameter or state
    Span span;                           // of the name where it was last bound
    const Function* function = nullptr;  // that a tensor value belongs to
  };

  struct Frame {
    const Definition* definition = nullptr;  // null: train, settings, data
    bool prelude = false;
    std::vector<std::map<std::string, Binding>> scopes;
    std::string prefix;              // of the names of instances and parameters, loops included: "stage2.0."
    std::vector<std::string> bases;  // the prefixes that its loops, outermost first, have extended
    std::shared_ptr<const CallSite> call;
    Span call_span;
    std::string details;              // "with channels=32, stride=2"
    std::string rounds;               // of the caller when it called: "round 0 of `stage2`"
    std::vector<std::string> active;  // rounds of this frame's own loops
    bool reusing = false;             // an instance that exists already
    bool returned = false;
    Value result;
  };

  Evaluator(const Program& program, Diagnostics& diagnostics, Module& module);

  // --- what is being emitted
  struct Target {
    Function* function = nullptr;
    bool training = false, stochastic = false;
    int64_t next_stream = 0;
    std::map<std::string, Op*> states;  // current value of a state symbol assigned in this function
    std::map<std::string, std::pair<const Definition*, std::string>>
        instances;                   // by path: definition and static arguments
    std::set<std::string> declared;  // symbols met in this function
  };
  Target& target() { return *target_; }
  // Points the evaluator elsewhere while it lives.
  struct Redirect {
    Redirect(Evaluator& e, Target& t) : evaluator(e), saved(e.target_), saved_builder(std::move(e.builder_)) {
      e.target_ = &t;
      e.builder_ = std::make_unique<Builder>(*t.function);
    }
    ~Redirect() {
      evaluator.target_ = saved;
      evaluator.builder_ = std::move(saved_builder);
    }
    Evaluator& evaluator;
    Target* saved;
    std::unique_ptr<Builder> saved_builder;
  };
  Target init_target;  // @init

  // --- evaluation (evaluate.cpp)
  Value evaluate(const Expr& e);
  // Runs statements; true when a `return` was met. Statements of `train` go to `experiment_statement`.
  bool run_block(const Block& b, bool own_scope = true);
  void (*experiment_statement)(Evaluator&, void* context, const Statement&) = nullptr;
  void* experiment_context = nullptr;
  Frame& frame() { return *frames_.back(); }
  bool in_train() const { return frames_.size() == 1; }
  // A frame at the bottom of the stack, for train, settings and data.
  struct TopFrame {
    explicit TopFrame(Evaluator& e) : evaluator(e) {
      e.frames_.push_back(std::make_unique<Frame>());
      e.frame().scopes.emplace_back();
    }
    ~TopFrame() { evaluator.frames_.pop_back(); }
    Evaluator& evaluator;
  };
  std::map<std::string, Value> settings;
  std::map<std::string, DataSource> data;

  // --- calls (evaluate_call.cpp)
  // Arguments given by position or name, matched to parameters; parameters in `given` are filled from there
  // unless named. Null when an error was reported. The result has one entry a parameter; those left to their
  // defaults are `none`.
  bool bind(const std::string& callee, const std::vector<std::string>& names,
            const std::vector<bool>& required, const std::vector<BoundArgument>& arguments,
            const std::map<std::string, Value>& given, Span span, std::vector<BoundArgument>& out);
  // Calls a definition value with further arguments in front of its own.
  Value call(const DefinitionValue& callee, std::vector<BoundArgument> arguments, const Expr& site);
  // Runs the body of an optimizer, schedule or initialiser: parameters and names in `given` come from there.
  Value call_given(const DefinitionValue& callee, const std::map<std::string, Value>& given, Span span,
                   Frame* finished = nullptr);
  std::vector<BoundArgument> evaluate_arguments(const Expr& call);
  Value lookup_callee(const Expr& call);

  // What the calls of the model file make (see LayerValue), where anyone wants to know.
  struct NotedValue {
    std::string name, callee;
    Span span;
    Op* op = nullptr;
  };
  std::vector<NotedValue>* values = nullptr;

  CallArguments function_calls;  // of functions, in the model file

  // The user's place and the trail of what reads at positions (OpDef::index), for errors that are found when
  // the whole function is there.
  std::map<const Op*, Diagnostic> index_places;

  // --- parameters and states (parameters.cpp)
  void declare(const Statement& s);
  void assign(const Statement& s, Value v);
  Value read(const Binding& b);
  // The first value of a symbol of this shape, as an operation of @init.
  Op* first_value(const Value& init, const Type& type, Span span);
  std::string parameter;         // whose update is being emitted; empty: none
  bool late_parameters = false;  // a new parameter is an error: training is done

  // --- operators and emission (operators.cpp, emit.cpp)
  Value unary(const std::string& op, const Value& a, const Expr& site);
  Value binary(const std::string& op, const Value& a, const Value& b, const Expr& site);
  Value matmul(const Value& a, const Value& b, const Expr& site);
  Value select(const Value& c, const Value& a, const Value& b, Span span);
  // Creates an operation after asking infer(); an error names `what` ("`conv2d`") and the operands' types.
  Value emit(const std::string& op, std::vector<Op*> operands, Attributes attributes, Span span,
             const std::string& what = {});
  // A tensor for a static value or tensor, of the element type wanted when static; poison stays null,
  // silently.
  Op* lift(const Value& v, DType dtype, Span span);
  // Makes the operands of an elementwise operation agree: static numbers take the tensors' type, f64 scalars
  // become f32 beside f32.
  bool unify(std::vector<Value>& values, std::vector<Op*>& out, Span span, const std::string& what);
  Op* cast(Op* op, DType to, Span span);
  void at(Span span);  // sets the location of what is emitted next
  Location location(Span span) const;

  // --- conversions with messages
  bool to_integer(const Value& v, Span span, const std::string& what, int64_t& out);
  bool to_number(const Value& v, Span span, const std::string& what, double& out);
  bool to_boolean(const Value& v, Span span, const std::string& what, bool& out);
  bool to_integers(const Value& v, Span span, const std::string& what, std::vector<int64_t>& out);
  bool to_axis(const Value& v, int rank, Span span, int64_t& out);               // negative from the end
  bool to_axes(const Value& v, int rank, Span span, std::vector<int64_t>& out);  // one or a list, sorted
  bool to_shape(const Value& v, Span span, const std::string& what,
                Shape& out);  // extents >= 1 within the limits
  bool to_shape(const std::vector<ExprPtr>& dims, const std::string& what,
                Shape& out);  // of param[..] and state

  // --- messages
  // Adds an error with the trail of calls; a place in the prelude becomes the user's own place that led
  // there. Repeated ones are dropped.
  Diagnostic& error(const char* code, Span span, std::string message, std::string label = {});
  // The innermost call outside the prelude on the way to a place in it; any other place itself.
  Span user_span(Span span) const;
  // "WHAT must be EXPECTED, not V".
  Diagnostic& must_be(const Value& v, Span span, const std::string& what, const std::string& expected);
  const Program& program() const { return program_; }
  Module& module() { return module_; }
  Diagnostics& diagnostics() { return diagnostics_; }
  void count_evaluation(Span span, int64_t cost = 1);

 private:
  friend struct Redirect;
  struct Deeper;
  // Whether a list or value holds (Value::weight - 1) no more than kMaxList; else an error.
  bool within_limit(int64_t held, const char* what, Span span);
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
  Value static_binary(const std::string& op, const Value& a, const Value& b, const Expr& site);
  Value call_value(const DefinitionValue& callee, std::vector<BoundArgument> arguments, const Expr& site);
  void note_value(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                  const Expr& site, const Value& result);
  void note(const std::string& name, const std::string& callee, Span span, Op* op);
  void note_function(const DefinitionValue& callee, const std::vector<BoundArgument>& arguments,
                     const Value& result);
  Value call_definition(const DefinitionValue& callee, std::vector<BoundArgument> arguments,
                        const Expr& site);
  Value call_builtin(const DefinitionValue& callee, std::vector<BoundArgument> arguments, const Expr& site);
  Value call_op(const DefinitionValue& callee, std::vector<BoundArgument> arguments, const Expr& site);
  bool enter_instance(Frame& f, const Definition& d, const std::string& statics, const Expr& site);
  bool bind_parameters(Frame& f, const Definition& d, std::vector<BoundArgument> arguments,
                       const std::map<std::string, Value>& given, Span span, std::string& statics);
  Value run_body(std::unique_ptr<Frame> f, Span span, Frame* finished = nullptr);
  Binding* find(const std::string& name);
  void trail(Diagnostic& d, Span failing) const;
  const std::shared_ptr<const std::string>& file_name(uint32_t file) const;

  const Program& program_;
  Diagnostics& diagnostics_;
  Module& module_;
  Target* target_ = nullptr;
  std::unique_ptr<Builder> builder_;
  std::vector<std::unique_ptr<Frame>> frames_;
  int depth_ = 0;
  int64_t ops_ = 0, evaluations_ = 0;
  std::set<std::tuple<std::string, uint32_t, uint32_t, std::string>> reported_;
  std::string last_instance_;  // that ended last
  Diagnostic dropped_;
  mutable std::map<uint32_t, std::shared_ptr<const std::string>> file_names_;
};

}  // namespace gradc::frontend
