// Text of a model at every stage of its compilation: what is printed is read again and prints the same.
#pragma once
#include <optional>

#include "tools/random_models/native_run.h"

namespace gradc::random_models {

std::optional<Finding> compare_stage_text(const CompileRequest& request);

}  // namespace gradc::random_models
