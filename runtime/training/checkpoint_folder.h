// The folder of the rule `checkpoint`: creates it, names its files, and removes those that are not kept. Knows nothing
// of their contents.
#pragma once
#include <functional>
#include <string>

#include "runtime/training/train_state.h"
#include "support/experiment.h"

namespace gradc::runtime {

class CheckpointFolder {
 public:
  // `given`: the value of --checkpoints; empty: the model's name and ".checkpoints". Creates the folder if there is a
  // rule, and removes temporary files that killed processes left. Throws RunError.
  CheckpointFolder() = default;
  CheckpointFolder(const CheckpointRule& rule, const std::string& given, const std::string& model);

  bool used() const { return !path_.empty(); }  // false: there is no rule
  std::string path_of(const std::string& name) const { return path_ + "/" + name; }
  static std::string step_name(int64_t step);
  static std::string epoch_name(int64_t epoch);
  static constexpr const char* kLast = "last.safetensors";

  // For a resumed run: forgets kept files that no longer exist, and removes the files that were to be removed when the
  // run was killed. `same_run` tells whether an earlier state of this run wrote a file.
  void take_over(TrainState& state, const std::function<bool(const std::string& path)>& same_run) const;

  // Calls save(path) to write a file of that name, with the list of kept files in `state`; removes the others after
  // that. Creates the folder again if it was moved away. Returns the path.
  std::string write(const std::string& name, double value, TrainState& state,
                    const std::function<void(const std::string& path)>& save) const;

 private:
  void make() const;
  CheckpointRule rule_;
  std::string path_;
};

// Creates the folder of a file again, where it was removed during the run.
void make_folder_of(const std::string& path);

}  // namespace gradc::runtime
