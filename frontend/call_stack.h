// Where evaluation is: the calls it is in, what names mean there, and messages that tell the way. Knows
// nothing of operations, nor how anything is evaluated.
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
inline constexpr int kMaxDepth = 1200;               // of evaluation altogether: protects the stack
inline constexpr int64_t kMaxRounds = 10000;         // of one loop
inline constexpr int64_t kMaxList = 100000;          // values in a list, nested ones too; bytes of a string
inline constexpr int64_t kMaxOps = 200000;           // emitted by one file
inline constexpr int64_t kMaxEvaluations = 4000000;  // expressions, statements and copied values of a file

class CallStack {
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
  // What a name is bound to in the frame; null: nothing.
  Binding* find(const std::string& name);
  // Known in every frame but those of the prelude.
  std::map<std::string, Value> settings;
  std::map<std::string, DataSource> data;

  // --- messages
  // Adds an error with the trail of calls; a place in the prelude becomes the user's own place that led
  // there. Repeated ones are dropped.
  Diagnostic& error(const char* code, Span span, std::string message, std::string label = {});
  // The innermost call outside the prelude on the way to a place in it; any other place itself.
  Span user_span(Span span) const;
  // "WHAT must be EXPECTED, not V".
  Diagnostic& must_be(const Value& v, Span span, const std::string& what, const std::string& expected);
  // Notes of the calls on the way to a place.
  void trail(Diagnostic& d, Span failing) const;
  Location location(Span span) const;

  // --- limits
  void count_evaluation(Span span, int64_t cost = 1);
  // Whether a list or value holds (Value::weight - 1) no more than kMaxList; else an error.
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
