// The state of a run besides the weights: what a checkpoint must hold so that the run can be resumed as if it had never
// stopped. Knows its JSON form and nothing of sessions and files.
#pragma once
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/execution/session.h"
#include "support/experiment.h"

namespace gradc::runtime {

// Sums over the examples of an epoch. Each metric counts its own: one that was added to the model file while a run was
// stopped has fewer.
struct Totals {
  Sums sums;
  // The checkpoint's sums, until restore() assigns them to the program's outputs by name: outputs without one begin
  // with no examples, sums without an output are dropped.
  int64_t kept_examples = 0;
  std::vector<SavedSum> kept;

  int64_t examples() const { return kept.empty() ? sums.rows() : kept_examples; }
  std::vector<SavedSum> saved() const { return kept.empty() ? sums.saved() : kept; }

  void restore(const gradc_entry_info& entry) {
    sums = Sums::restored(entry, kept_examples, kept);
    kept.clear();
  }
  void add(const StepResult& step) { sums.add(step.sums); }
  double mean_loss() const { return sums.loss(); }  // NaN before the first example
  Metrics mean_metrics() const { return sums.metrics(); }
};

inline constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();

// Whether a value is better than the best so far by more than `threshold` times it; the first number always is, and NaN
// never.
bool is_better(double value, double best, bool greater, double threshold = 0);

struct StopState {
  double best = kNothing;
  int64_t epoch = 0;  // complete ones at the best
  int64_t bad = 0;    // epochs since
  // Notes an epoch's value; true when it is the best so far.
  bool add(double value, int64_t epochs, const StopRule& rule);
};

// PyTorch's ReduceLROnPlateau, for a factor on all rates.
struct PlateauState {
  double factor = 1, best = kNothing;
  int64_t bad = 0, cooldown = 0;  // epochs
  // Notes an epoch's value; true when the factor shrinks.
  bool add(double value, const PlateauRule& rule);
};

// Whether this may be the name of a file of a run's checkpoints: epoch-N, step-N or last, and ".safetensors".
bool is_checkpoint_name(std::string_view name);

struct KeptFile {
  std::string name;  // in the folder of checkpoints: is_checkpoint_name()
  double value = kNothing;
};
// Removes from `files`, which are in order of time, those that a rule does not keep, and returns their names. The
// newest is always kept.
std::vector<std::string> drop_files(std::vector<KeptFile>& files, const CheckpointRule& rule);

struct TrainState {
  // Of the run, checked when it is resumed.
  uint64_t seed = 0;
  int64_t total = 0;   // updates
  int64_t epochs = 0;  // of the model file; 0: not known, in files of earlier versions
  bool shuffle = true;
  double lr_factor = 1;
  int64_t batch = 0, accumulate = 1, examples = 0;  // of the split `train`
  // The position in the run.
  int64_t step = 0, micro_step = 0;  // updates and batches done
  int64_t epoch = 0;                 // complete ones
  int64_t update = 0;                // done in this epoch; all of them: its evaluation is still to come
  double lr = kNothing;              // of the last update
  Totals totals;                     // of this epoch
  StopState stop;
  PlateauState plateau;
  std::vector<KeptFile> kept;
  // Files to remove after this one is written; a resumed run does so if the process was killed before.
  std::vector<std::string> dropped;
  std::map<std::string, double> full_batch;  // FullBatchState::numbers
  bool ended = false;                        // the best weights were put back: the run cannot be resumed

  std::string json() const;
  // Throws RunError (kExitDataError), naming `path`, for text that json() did not write.
  static TrainState parse(const std::string& text, const std::string& path);
};

}  // namespace gradc::runtime
