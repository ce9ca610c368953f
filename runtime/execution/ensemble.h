// Combines several predictions of each example: of several weights files, of one whose random layers draw several
// times, or of several crops of an image. Knows nothing of training.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "runtime/data/dataset.h"
#include "runtime/execution/session.h"

namespace gradc::runtime {

struct EnsembleOptions {
  std::vector<std::string> weights;  // files; the session keeps the last one's; none: its own parameters
  bool raw = false;                  // use parameters, even where the model has averages of them
  int64_t samples = 1;    // predictions with each file: more than one where the program draws random numbers
  uint64_t seed = 0;      // of these
  bool ten_crop = false;  // predictions of ten crops of each image
  std::vector<int64_t> scales;  // and of each image at several sizes
  std::vector<View> views() const;
  int64_t members() const {
    return static_cast<int64_t>(std::max<size_t>(weights.size(), 1) * views().size()) * samples;
  }
};

// Rows x elements of `predict`, which must be f32.
struct Ensemble {
  int64_t rows = 0, elements = 0;
  std::vector<float> mean, spread;  // the standard deviation over the members, sqrt(mean (x - mean)^2)
  // For each row and element, how many members have their greatest element there; empty where a prediction is one
  // number.
  std::vector<int32_t> votes;
};

// Throws RunError for files that do not fit, for predictions that are no f32, and when interrupted.
Ensemble predict_ensemble(Session& session, const Split& split, const EnsembleOptions& options);

// How often the greatest element of the mean, and the one with most votes (of equal ones the first), is the
// example's label; and, where the means are probabilities, the mean of -log p(label) (NaN else). The label is
// the one integer that evaluation reads and prediction does not; throws RunError (kExitModelError) where
// there is none. Writes
//   {"event":"ensemble","split":"test","examples":N,"members":M,"accuracy":..,"vote_accuracy":..,"log_loss":..,
//    "spread":..}
// or a line of text; spread is the mean over all numbers. Where they or the log loss are not finite it throws RunError
// (kExitCheckFailed) after writing.
void run_ensemble_eval(Session& session, const Split& split, const EnsembleOptions& options, bool json,
                       std::FILE* out = stdout);

}  // namespace gradc::runtime
