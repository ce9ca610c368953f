// The state that the sections of `gradc check` share: one compiled model with two copies of its IR, the rows, the
// report, and the comparisons that f32 rounding may still explain. The sections are in check.cpp (set-up, initial
// values), programs.cpp (values, outputs, updates), numeric.cpp (slopes) and kinks.cpp.
#pragma once
#include <memory>
#include <set>

#include "cli/check/check.h"
#include "cli/check/compare.h"

namespace gradc::cli {

class Checker {
 public:
  explicit Checker(const CheckRequest& request);
  CheckReport run();

 private:
  // A comparison beyond its tolerance that f32 rounding may explain.
  struct Doubt {
    size_t row;  // of the report
    const Op* op;
    interpreter::Tensor native;
    RoundingBound bound;
  };

  // check.cpp
  static CompileRequest native_request(const CheckRequest& request);
  int64_t numeric_rows() const;  // rows of the central differences: two forward runs a parameter
  CallRequest call_for(int64_t rows) const;
  bool has_symbol(const std::string& name) const;
  std::string symbol_location(const std::string& name) const;
  Tensors symbols_now() const;
  void restore(const Tensors& symbols);
  // Adds a row; `op` is the reference's operation in the function that settle() will be called for.
  void add(CheckRow row, const interpreter::Tensor& native, const interpreter::Tensor& reference,
           const Op* op);
  // Settles the doubts about comparisons with this function's values, with as few Monte Carlo runs as possible.
  void settle(const Function& f, const interpreter::RunInput& input);
  void not_finite(const char* kind, const std::string& program, int64_t rows);
  void check_init();
  void warm_up(int64_t rows);

  // programs.cpp
  void check_rows(int64_t rows);
  void check_values(const std::string& program, const CallRequest& call, const Tensors& symbols);
  void check_as_trained(int64_t rows);
  void check_outputs(const std::string& program, const CallRequest& call, const Tensors& symbols,
                     int64_t rows);
  void check_updates(const Function& f, const interpreter::RunInput& input, int64_t rows,
                     std::set<std::string>& done, const interpreter::RunResult* known = nullptr);

  // numeric.cpp
  struct Difference {
    double slope = 0;
    double rounding = 0;  // how far the rounding of the loss may move it
  };
  struct Slope {
    std::string name;  // of the parameter
    interpreter::Tensor direction{};
    Difference difference{};
    double reference = 0, native = 0;  // the slopes from the gradients
    double scale = 0;                  // the reference value of relative errors
    double spread = 0;                 // of the reference with f32 rounding, so far
    size_t row = 0;                    // of the report, for the native slope
  };
  // Gradients by the interpreter, through @update where several batches make one update; with every f32 result moved as
  // in rounding_run `run`, unless it is 0.
  Tensors gradients(const CallRequest& call, const Tensors& symbols, uint64_t run = 0) const;
  double loss(const interpreter::RunInput& input) const;
  Difference central_difference(interpreter::RunInput& input, const Tensors& directions) const;
  // How far the average slope within a step of central differences is from that in its middle.
  struct Curvature {
    double shift = 0;
    bool unresolved = false;  // the gradient turns too much to tell
  };
  // Along the directions from these symbols, where the slope in the middle is `middle`.
  Curvature curvature_of(const Tensors& directions, double middle, const CallRequest& call,
                         const Tensors& symbols) const;
  void accept_curved(CheckRow& row, const Slope& s, double value, const Curvature& curvature) const;
  size_t add_slope(const char* kind, const Slope& s, double value, int64_t rows, double tolerance);
  void settle_slopes(std::vector<Slope>& slopes, std::vector<size_t> doubtful, const CallRequest& call);
  void settle_gradients(const CallRequest& call);
  void check_numeric();
  void check_zeros();

  // kinks.cpp
  void check_kinks();

  const CheckRequest& request_;
  const Tolerances tolerances_;
  CompiledModel compiled_;
  std::unique_ptr<LoadedModel> reference_, forward_;
  NativeCaller caller_;
  std::vector<Doubt> doubts_;
  Tensors batch_, initial_, symbols_, with_sums_, native_gradient_;
  double largest_gradient_ = 0;
  CheckReport report_;
};

std::string location_of(const Op& op);  // the innermost location in the user's file
double norm(const interpreter::Tensor& t);
double dot(const interpreter::Tensor& a, const interpreter::Tensor& b);

}  // namespace gradc::cli
