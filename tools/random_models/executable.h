// A linked program of a model against the tool: both train from the same seed to the same bits.
#pragma once
#include <optional>
#include <string>

#include "tools/random_models/native_run.h"

namespace gradc::random_models {

// The model's data source must need no file. Runs `gradc` beside this program. Throws RunError where that is
// not there.
std::optional<Finding> compare_executable(const std::string& text);

}  // namespace gradc::random_models
