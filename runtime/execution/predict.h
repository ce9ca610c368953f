// Implements `gradc eval` and `gradc predict` for a session that has its weights. Knows nothing of training.
#pragma once
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "runtime/data/dataset.h"
#include "runtime/execution/ensemble.h"
#include "runtime/execution/session.h"

namespace gradc::runtime {

// The split of that name; without a name test, else val, else train. Throws RunError (kExitDataError).
const Split& split_to_use(const Dataset& data, const std::string& name);

// Evaluates and writes the result: {"event":"eval","split":"test","examples":N,"loss":..,METRIC:..} or a line
// of text. Throws RunError; after writing, NotFiniteError for a loss that is not finite.
EvalResult run_eval(Session& session, const Split& split, bool json, std::FILE* out = stdout);

struct PredictOptions {
  // Inputs from .npy files by input name; the name may be empty where the program has one input. The first
  // axis counts the examples. The types of numbers are those of the source `npy` (runtime/data/npy_field.h).
  std::map<std::string, std::string> inputs;
  std::shared_ptr<const Preparation> preparation;  // of the inputs; null: none
  const Split* split = nullptr;                    // used when `inputs` is empty
  std::string output;                              // name.npy or name.csv; empty: a line an example on `out`
  std::optional<int64_t> rows;                     // only the first `rows` examples
  bool json = false;
  std::FILE* out = stdout;
  EnsembleOptions ensemble;  // with more than one member: the mean of its predictions
  std::string spread;        // then: name.npy for their standard deviation; empty: not written
};

// Writes predict's output for every example and returns the number of examples.
// .npy: examples x shape; .csv: a header line, then a line an example; through a temporary file, and then a
// line on `out`, or {"event":"end","examples":N,"output":..}. Lines on `out`: numbers with spaces between, or
// {"event":"predict","row":R,"predict":[..]}. Numbers read back to the same value. Throws RunError.
int64_t run_predict(Session& session, const PredictOptions& options);

}  // namespace gradc::runtime
