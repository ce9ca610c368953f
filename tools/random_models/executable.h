// A linked program of a model against the tool: both train from the same seed to the same bits.
#pragma once
#include <optional>
#include <string>

#include "tools/random_models/native_run.h"

namespace gradc::random_models {

// The model's data source must need no file. Runs the `gradc` in this program's folder. Throws RunError where it does
// not exist.
std::optional<Finding> compare_executable(const std::string& text);

}  // namespace gradc::random_models
