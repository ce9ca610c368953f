// The page of `gradc dump --format html`: one file that shows a model at every stage, offline.
#pragma once
#include <string>

#include "compiler/compile.h"

namespace gradc::cli {

using namespace compiler;

// The whole page. `program`: the code of one program alone ("train_step"); empty: of all. Throws what
// compiling throws; RunError (exit 2) for an unknown program.
std::string inspect_page(const CompileRequest& request, const std::string& program);

}  // namespace gradc::cli
