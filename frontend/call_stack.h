// The evaluator's call stack: the active calls, the names bound in each, limits, and errors with a note for
// each call. Knows nothing of operations, nor how anything is evaluated.
#pragma once
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "frontend/data_sources.h"
#include "frontend/program.h"
#include "frontend/value.h"
#include "ir/tensor/module.h"

namespace gradc::frontend {

inline constexpr int kMaxCallDepth = 100;            // definitions inside definitions
inline constexpr int kMaxDepth = 1200;               // of nested evaluations: bounds the C++ stack
inline constexpr int64_t kMaxRounds = 10000;         // of one loop
inline constexpr int64_t kMaxList = 100000;          // values in a list, nested ones too; bytes of a string
inline constexpr int64_t kMaxOps = 200000;           // emitted by one file
inline constexpr int64_t kMaxEvaluations = 4000000;  // expressions, statements and copied values of a file

class CallStack {
 public:
  // Thrown to stop the compilation: a limit was reached, or there are too many errors. compile() catches it.
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
    std::vector<std::string> bases;  // the prefix outside each active loop, outermost first
    std::shared_ptr<const CallSite> call;
    Span call_span;
    std::string details;              // "with channels=32, stride=2"
    std::string rounds;               // of the caller's loops at the call: "round 0 of `stage2`"
    std::vector<std::string> active;  // rounds of this frame's own loops
    bool reusing = false;             // inside an instance that `reuse` names
    bool returned = false;
    Value result;
  };

  CallStack(const Program& program, Diagnostics& diagnostics)
      : program_(program), diagnostics_(diagnostics) {}

  Frame& frame() { return *frames_.back(); }
  bool in_train() const { return frames_.size() == 1; }
  // A frame at the bottom of the stack, for train, settings and data.
  struct TopFrame {
    explicit TopFrame(CallStack& s) : stack(s) {
      s.frames_.push_back(std::make_unique<Frame>());
      s.frame().scopes.emplace_back();
    }
    ~TopFrame() { stack.frames_.pop_back(); }
    CallStack& stack;
  };
  // The binding of a name in the current frame; null: none.
  Binding* find(const std::string& name);
  // Visible in every frame but those of the prelude.
  std::map<std::string, Value> settings;
  std::map<std::string, DataSource> data;

  // --- messages
  // Adds an error with a note for each active call. A location in the prelude is replaced by that of the
  // user's call that led there. Repeated errors are dropped.
  Diagnostic& error(const char* code, Span span, std::string message, std::string label = {});
  // For a span in the prelude the innermost active call outside it; any other span unchanged.
  Span user_span(Span span) const;
  // "WHAT must be EXPECTED, not V".
  Diagnostic& must_be(const Value& v, Span span, const std::string& what, const std::string& expected);
  // Adds a note for each active call, innermost first; `failing` is where the error is.
  void trail(Diagnostic& d, Span failing) const;
  Location location(Span span) const;

  // --- limits
  void count_evaluation(Span span, int64_t cost = 1);
  // Whether `held`, the weight of a list or value less 1 (Value::weight), is at most kMaxList; reports an
  // error if it is not.
  bool within_limit(int64_t held, const char* what, Span span);

  const Program& program() const { return program_; }
  Diagnostics& diagnostics() { return diagnostics_; }

 protected:
  std::vector<std::unique_ptr<Frame>> frames_;

 private:
  const std::shared_ptr<const std::string>& file_name(uint32_t file) const;

  const Program& program_;
  Diagnostics& diagnostics_;
  int64_t evaluations_ = 0;
  std::set<std::tuple<std::string, uint32_t, uint32_t, std::string>> reported_;
  Diagnostic dropped_;
  mutable std::map<uint32_t, std::shared_ptr<const std::string>> file_names_;
};

}  // namespace gradc::frontend
