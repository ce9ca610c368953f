// Small experiments run natively, one step at a time: what an expression gives, its gradients, what an
// optimizer makes of a parameter. Knows nothing of what is tested.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "cli/check/native_call.h"
#include "tests/cli/tool.h"

namespace gradc::test {

using Values = std::vector<double>;

// A model file compiled for this machine, with the gradient of every trained parameter as an output
// "grad.NAME". Throws what compiling throws (cli::ModelError with the diagnostics as text).
class Probe {
 public:
  explicit Probe(const std::string& text, uint64_t seed = 1);

  // The value of a parameter, state or slot; setting it needs as many elements as it has.
  Values get(const std::string& symbol) const;
  void set(const std::string& symbol, const Values& values);
  bool has(const std::string& symbol) const;

  // Runs "train_step", "eval" or "predict" on rows of inputs; returns its outputs by name.
  std::map<std::string, Values> run(const std::string& program, const std::map<std::string, Values>& inputs,
                                    int64_t rows, double step = 0, double epoch = 0, double total = 1);

  const cli::CompiledModel& compiled() const { return *compiled_; }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<cli::CompiledModel> compiled_;
  std::unique_ptr<cli::NativeCaller> caller_;
  uint64_t seed_;
};

// Largest |got - wanted| over max(floor, |wanted|), element by element; where both are the same infinity or
// NaN they agree.
double worst_error(const Values& got, const Values& wanted, double floor);

}  // namespace gradc::test
