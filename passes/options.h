// Options of the pass pipeline, and its report on each pass.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "passes/machine.h"

namespace gradc {
class Module;
namespace loop {
struct Program;
}
}  // namespace gradc

namespace gradc::passes {

struct PassInfo {
  std::string name;      // "fuse_dropout", as --print-after and --disable-pass take it
  std::string doc;       // one line
  bool optional = true;  // may be disabled
};
struct LoweredProgram;

// The effect of a pass. During the callback, operations that existed before a tensor pass keep their Op::id and new
// ones are numbered after them, so that the texts of print() compare line by line. Afterwards every function is
// numbered as usual. A function that a pass made of another begins with that one's operations (@train_step with those
// of @train).
struct PassReport {
  const PassInfo& pass;
  bool enabled = true, changed = false;
  const Module* module = nullptr;            // after a tensor pass
  std::map<std::string, int> numbered = {};  // by function: the highest id before the pass
  const LoweredProgram* program = nullptr;   // after a loop pass, which shows each program
};

struct PipelineOptions {
  std::vector<std::string>
      print_after;  // pass names, or "all"; unknown names: RunError (usage) with did-you-mean
  std::vector<std::string> disable;  // optional passes only
  std::string stop_after;            // empty: run all
  bool print_locations = false;
  bool verify = true;  // the IR verifier after every pass; else once, after the tensor passes
  // With `verify`: loop::check_plan after the last pass. It rejects what it cannot prove, sound or not.
  bool prove_plans = true;
  // Receives the text of --print-after: a heading line, then the IR, or "(unchanged)".
  std::function<void(const std::string&)> print;
  std::function<void(const PassReport&)> observe;  // called after every pass, disabled ones too
  // For tests of the tools that find wrong passes: may corrupt the result of a tensor pass before it is verified and
  // observed.
  std::function<void(const PassInfo&, Module&)> tamper;
  std::function<void(const PassInfo&, loop::Program&)> tamper_loops;  // the same for passes on loop IR
  int64_t batch = 1;                                                  // B
  int64_t pieces = 1;  // of each batch; with more than one, @train_step's first row need not be its batch's
  Machine machine;     // that kernels are made for
  int recompute = 0;   // level of the pass: 0: where it saves time; 1: elementwise operations; n > 1: forward
                       // in n segments (recompute.cpp)
  bool strict_math = false;       // convolutions by their definition alone, no Winograd
  bool gradient_outputs = false;  // outputs "grad.P" on @train_step (gradc check)
  bool keep_all_values =
      false;  // no memory is reused, so that every stored value can be read after a call (gradc check)
};

}  // namespace gradc::passes
