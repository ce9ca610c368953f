// The options of a run: which of them contradict each other or the model file's rules, and the number of updates.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "runtime/files.h"
#include "runtime/training/train.h"
#include "support/diagnostic.h"

namespace gradc::runtime {

void check_train_options(const TrainOptions& options, const TrainRecord& rules) {
  if (options.log_every < 0)
    throw RunError(kExitUsage, fmt::format("--log-every {}: expected 1 or more", options.log_every));
  if (options.lr_factor && (!std::isfinite(*options.lr_factor) || *options.lr_factor < 0))
    throw RunError(kExitUsage,
                   fmt::format("a learning rate factor of {}: expected a number from 0", *options.lr_factor));
  if (!options.resume.empty() && !options.init_from.empty())
    throw RunError(kExitUsage, "--resume and --init-from: a run starts from one file");
  if (options.save_state && options.save.empty())
    throw RunError(kExitUsage, "--save-state: say where with --save FILE");
  if (rules.checkpoint.every == 0 && !options.checkpoints.empty())
    throw RunError(kExitUsage,
                   "--checkpoints: the model file has no rule for them; add one to its train block, as in "
                   "`checkpoint every 1 epoch keep 3`");
  if (std::error_code error; !options.checkpoints.empty() &&
                             std::filesystem::exists(options.checkpoints, error) &&
                             !std::filesystem::is_directory(options.checkpoints, error))
    throw RunError(kExitRunFailed,
                   fmt::format("{}: no folder for checkpoints can be made here: a file has this name",
                               options.checkpoints));
  for (const std::string& file : {options.resume, options.init_from})
    if (!file.empty()) check_input_path(file, "weights file");
}

int64_t total_steps(const TrainOptions& options, const Experiment& experiment, int64_t updates) {
  const auto check = [](const char* name, std::optional<int64_t> value) {
    if (value && *value < 0)
      throw RunError(kExitUsage, fmt::format("{} {}: expected 0 or more", name, *value));
  };
  check("--steps", options.steps);
  check("--epochs", options.epochs);
  if (options.steps && !options.epochs) return *options.steps;
  int64_t total = 0;
  if (__builtin_mul_overflow(options.epochs.value_or(experiment.train.epochs), updates, &total))
    total = INT64_MAX;
  return std::min(total, options.steps.value_or(INT64_MAX));
}

}  // namespace gradc::runtime
