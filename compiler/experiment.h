// The frontend's records of data and training as the JSON that runtime/experiment.h documents.
#pragma once
#include <map>
#include <string>

#include "ir/experiment.h"

namespace gradc::compiler {

// `settings`: those that `--set` chose.
std::string experiment_json(const ExperimentRecord& record,
                            const std::map<std::string, std::string>& settings);

}  // namespace gradc::compiler
