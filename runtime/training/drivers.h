// Optimizers that are procedures over whole programs: they look at all examples before they move (line
// searches, L-BFGS, SVRG). Compiled code gives losses and gradients; the rest is here. Knows nothing of
// epochs, files and logs.
#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/execution/session.h"
#include "support/experiment.h"

namespace gradc::runtime {

// What a driver carries from one update to the next, for checkpoints: arrays and numbers by name.
struct DriverState {
  std::map<std::string, std::vector<float>> arrays;
  std::map<std::string, double> numbers;
};

class Driver {
 public:
  virtual ~Driver() = default;
  // One update, as Session::step. The reader's order of examples must be the same for a whole update.
  virtual StepResult step(BatchReader& reader, int64_t first, int64_t count, const StepScalars& scalars,
                          uint64_t seed) = 0;
  virtual DriverState state() const { return {}; }
  // False when the state is not one that state() gave for this program.
  virtual bool restore(const DriverState& state) { return state.arrays.empty() && state.numbers.empty(); }
  // Whether every update needs the same examples in the same order.
  virtual bool keeps_order() const { return true; }
};

// The driver that a model file names, or null. Options are the frontend's, checked there.
std::unique_ptr<Driver> make_driver(Session& session, const TrainRecord& record);

}  // namespace gradc::runtime
