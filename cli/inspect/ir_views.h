// Tensor IR and loop IR for other programs: as JSON records and as Graphviz graphs. Knows no operator.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ir/tensor/module.h"
#include "passes/pipeline.h"

namespace gradc::cli {

// An operation's locations in the source, with the trail of calls, innermost first. Equal origins give equal texts.
nlohmann::ordered_json locations_json(const std::vector<Location>& locations);

nlohmann::ordered_json symbols_json(const Module& module);
// {"name", "inputs", "ops", "updates", "outputs"}; docs/inspect.md has the fields.
nlohmann::ordered_json function_json(const Function& f);
// {"name", "kernels", "allocations", "calls", ...}, each kernel with its text.
nlohmann::ordered_json program_json(const passes::LoweredProgram& lowered, bool locations);

// Directed graphs in Graphviz's language. Operations of one kernel share a box.
std::string functions_dot(const std::vector<const Function*>& functions);
// Calls in order; an edge where a call reads what an earlier one wrote.
std::string programs_dot(const std::vector<const passes::LoweredProgram*>& programs);

}  // namespace gradc::cli
