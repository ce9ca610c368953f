// The folder of the files that the rule `checkpoint` writes: makes it, names them, and removes those that are
// not kept. Knows nothing of what is in them.
#pragma once
#include <functional>
#include <string>

#include "runtime/training/train_state.h"
#include "support/experiment.h"

namespace gradc::runtime {

class CheckpointFolder {
 public:
  // `given`: what --checkpoints says; empty: the model's name and ".checkpoints". Makes the folder where the
  // rule wants one, and clears away what killed processes left of files that they were writing. Throws
  // RunError.
  CheckpointFolder() = default;
  CheckpointFolder(const CheckpointRule& rule, const std::string& given, const std::string& model);

  bool used() const { return !path_.empty(); }  // false: there is no rule
  std::string path_of(const std::string& name) const { return path_ + "/" + name; }
  static std::string step_name(int64_t step);
  static std::string epoch_name(int64_t epoch);
  static constexpr const char* kLast = "last.safetensors";

  // What a run that goes on finds here: forgets kept files that are gone, and removes the files that were to
  // go when the run was killed. `same_run` says of a file whether this run wrote it, earlier.
  void take_over(TrainState& state, const std::function<bool(const std::string& path)>& same_run) const;

  // Has save(path) write a file of that name, with the list of those that stay in `state`; the others go once
  // it is there. The folder is made again where somebody moved it away. Returns the path.
  std::string write(const std::string& name, double value, TrainState& state,
                    const std::function<void(const std::string& path)>& save) const;

 private:
  void make() const;
  CheckpointRule rule_;
  std::string path_;
};

// Makes the folder of a file again, where it was there when the run began and is not now.
void make_folder_of(const std::string& path);

}  // namespace gradc::runtime
