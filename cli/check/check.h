// `gradc check`: does the optimised native code compute what the model file specifies? Compares native code, the
// double-precision interpreter, and central differences of the interpreted loss; see docs/check.md.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "cli/check/native_call.h"
#include "compiler/compile.h"

namespace gradc::cli {

using namespace compiler;

// The table of tolerances, all relative; docs/check.md derives each.
struct Tolerances {
  double value = 5e-5;           // a stored value or output, native against the interpreter
  double gradient = 2e-4;        // a parameter's gradient, native against the interpreter
  double trained = 2e-4;         // a product as training makes it, given its native operands
  double update = 5e-5;          // a new parameter, state or slot, given the native gradient
  double numeric = 1e-5;         // the interpreter's gradient along a direction against central differences
  double native_numeric = 1e-3;  // the native gradient along a direction against central differences
  // Beyond these a native value may differ by so many times the spread of Monte Carlo runs with f32 rounding.
  double rounding = 8;
};

struct CheckRequest {
  CompileRequest compile;
  uint64_t seed = 1;
  std::string break_gradient;  // an operator whose gradient is corrupted first (to test the check);
                               // empty: none
};

// One line of the report.
struct CheckRow {
  std::string kind;      // "init", "value", "trained", "output", "gradient", "update", "numeric", "native
                         // numeric", "kink", "zeros"
  std::string program;   // "train_step"
  std::string name;      // "%12 einsum", "dense_1.weight"
  std::string location;  // "mlp.nn:12:5"
  std::string type;
  int64_t rows = 0;
  double max_absolute = 0;
  double max_relative = 0;
  double tolerance = 0;
  bool rounding = false;  // beyond the tolerance, but within what f32 rounding explains
  bool pass = true;
  bool curved =
      false;  // the gradient turns within the step of central differences, which explains the distance
};

struct CheckReport {
  std::vector<CheckRow> rows;
  std::vector<std::string> notes;  // where the data came from, what is zero
  bool pass() const;
};

// Throws what compiling throws.
CheckReport check_model(const CheckRequest& request);

// The result of `--bisect-passes`: the model run after each step of the compilation, compared with the interpreter on
// the model as written.
struct BisectReport {
  struct Step {
    std::string name;  // of a pass, or of a later step
    bool enabled = true, changed = false;
    double worst = 0;            // relative difference of an output or update
    std::string program, value;  // where: "train_step", "loss"
    bool pass = true;
  };
  std::vector<Step> steps;  // up to the first that differs
  std::vector<std::string> notes;
  const Step* culprit() const;  // null: none
};

// `break_pass`: a pass, or "code_generation", whose result is corrupted first (to test the bisection); empty: none.
// Throws what compiling throws.
BisectReport bisect_passes(const CheckRequest& request, const std::string& break_pass);
std::string render_bisect(const BisectReport& report);
std::string render_bisect_json(const BisectReport& report);

// A table with a line for each operation and parameter (the worst of the batches) and the verdict last; or one JSON
// object a line.
std::string render_check(const CheckReport& report);
std::string render_check_json(const CheckReport& report);

}  // namespace gradc::cli
