// Full-batch optimizers: those that need losses and gradients of all examples (line searches, L-BFGS, SVRG). They run
// as procedures over compiled code, which gives losses and gradients. Knows nothing of epochs, files and logs.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/execution/session.h"
#include "support/experiment.h"

namespace gradc::runtime {

// The state that a full-batch optimizer keeps between updates, for checkpoints: arrays and numbers by name.
struct FullBatchState {
  std::map<std::string, std::vector<float>> arrays;
  std::map<std::string, double> numbers;
};

class FullBatchOptimizer {
 public:
  virtual ~FullBatchOptimizer() = default;
  // One update, as Session::step. The reader's order of examples must be the same for a whole update.
  virtual StepResult step(BatchReader& reader, int64_t first, int64_t count, const StepScalars& scalars,
                          uint64_t seed) = 0;
  virtual FullBatchState state() const { return {}; }
  // False when the state is not one that state() gave for this program.
  virtual bool restore(const FullBatchState& state) { return state.arrays.empty() && state.numbers.empty(); }
  // Whether every update needs the same examples in the same order.
  virtual bool keeps_order() const { return true; }
};

// The full-batch optimizer of a model file (TrainRecord::full_batch), or null. The frontend has checked its options.
std::unique_ptr<FullBatchOptimizer> make_full_batch_optimizer(Session& session, const TrainRecord& record);

}  // namespace gradc::runtime
