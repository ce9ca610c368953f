// Writes and removes the files of the rule `checkpoint`.
#include "runtime/training/checkpoint_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "runtime/files.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {

CheckpointFolder::CheckpointFolder(const CheckpointRule& rule, const std::string& given,
                                   const std::string& model)
    : rule_(rule) {
  if (rule.every == 0) return;
  path_ = given.empty()
              ? std::filesystem::path(model.empty() ? "model" : model).stem().string() + ".checkpoints"
              : given;
  make();
  remove_abandoned(path_, is_checkpoint_name);
  check_output_path(path_of(kLast), "checkpoint");
}

void CheckpointFolder::make() const {
  std::error_code error;
  std::filesystem::create_directories(path_, error);
  if (error || !std::filesystem::is_directory(path_))
    throw RunError(kExitRunFailed, fmt::format("{}: no folder for checkpoints can be made here: {}", path_,
                                               error ? error.message() : "a file has this name"));
}

std::string CheckpointFolder::step_name(int64_t step) { return fmt::format("step-{:08}.safetensors", step); }
std::string CheckpointFolder::epoch_name(int64_t epoch) {
  return fmt::format("epoch-{:04}.safetensors", epoch);
}

void CheckpointFolder::take_over(TrainState& state,
                                 const std::function<bool(const std::string&)>& same_run) const {
  const auto there = [&](const std::string& name) {
    return used() && std::filesystem::exists(path_of(name));
  };
  std::erase_if(state.kept, [&](const KeptFile& f) { return !there(f.name); });
  for (const std::string& name : state.dropped) {
    const bool kept =
        std::any_of(state.kept.begin(), state.kept.end(), [&](const KeptFile& f) { return f.name == name; });
    if (!kept && there(name) && same_run(path_of(name))) unlink(path_of(name).c_str());
  }
  state.dropped.clear();
}

std::string CheckpointFolder::write(const std::string& name, double value, TrainState& state,
                                    const std::function<void(const std::string&)>& save) const {
  GRADC_CHECK(is_checkpoint_name(name), "a checkpoint called {}", name);
  std::erase_if(state.kept, [&](const KeptFile& f) { return f.name == name; });
  state.kept.push_back({name, value});
  state.dropped = drop_files(state.kept, rule_);
  const std::string path = path_of(name);
  make();
  save(path);
  for (const std::string& old : state.dropped) unlink(path_of(old).c_str());  // may be removed already
  state.dropped.clear();
  return path;
}

void make_folder_of(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code ignored;  // writing the file will report it
  if (!folder.empty()) std::filesystem::create_directories(folder, ignored);
}

}  // namespace gradc::runtime
