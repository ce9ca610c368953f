// Options of the pass pipeline, and its report on each pass.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

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

// What a pass did. While it is shown, Op::id of an operation that was there before a tensor pass is its
// number from before, and the new ones are numbered from there on, so that print() by id gives texts that
// compare line by line. Afterwards every function is numbered as usual. A function that a pass
// made of another begins with that one's operations (@train_step with those of @train).
struct PassReport {
  const PassInfo& pass;
  bool enabled = true, changed = false;
  const Module* module = nullptr;            // after a tensor pass
  std::map<std::string, int> numbered = {};  // by function: the highest number from before
  const LoweredProgram* program = nullptr;   // after a loop pass, which shows each program
};

struct PipelineOptions {
  std::vector<std::string>
      print_after;  // pass names, or "all"; unknown names: RunError (usage) with did-you-mean
  std::vector<std::string> disable;  // optional passes only
  std::string stop_after;            // empty: run all
  bool print_locations = false;
  bool verify = true;  // the IR verifier after every pass; else once, after the tensor passes
  // With it: loop::check_plan after the last pass. It refuses what it cannot prove, sound or not.
  bool prove_plans = true;
  // Receives the text of --print-after: a heading line, then the IR, or "(unchanged)".
  std::function<void(const std::string&)> print;
  std::function<void(const PassReport&)> observe;  // is shown what every pass did, disabled ones too
  // Tests of what finds wrong passes: may make what a tensor pass made wrong, before it is verified and
  // shown.
  std::function<void(const PassInfo&, Module&)> tamper;
  std::function<void(const PassInfo&, loop::Program&)> tamper_loops;  // the same for passes on loop IR
  int64_t batch = 1;                                                  // B
  int64_t pieces = 1;     // of each batch; more than one: @train_step's first row need not be its batch's
  int vector_width = 16;  // f32 lanes
  int registers = 32;
  int recompute = 0;  // level of the pass: 0: what costs less so; 1: elementwise operations; n > 1: forward
                      // in n segments (recompute.cpp)
  int64_t band_bytes = 640 << 10;  // of what the calls of a segment touch for a band of images
                                   // (segments.cpp); second-level caches have 1 MiB or more
  bool strict_math = false;        // convolutions by their definition alone, no Winograd
  bool gradient_outputs = false;   // outputs "grad.P" on @train_step (gradc check)
  bool keep_all_values =
      false;  // no memory is reused, so that every stored value can be read after a call (gradc check)
};

}  // namespace gradc::passes
