// The frontend's records of data and training as the JSON that runtime/experiment.h documents.
#pragma once
#include <string>

#include "ir/experiment.h"

namespace gradc::compiler {

std::string experiment_json(const ExperimentRecord& record);

}  // namespace gradc::compiler
