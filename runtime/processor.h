// What the processor of this machine can do. Knows nothing of programs.
#pragma once
#include <string>

namespace gradc::runtime {

// The first of these features (LLVM's names, split by commas) that this processor is known to lack; empty
// when it has them all. Features that cannot be asked for are taken to be there.
std::string missing_feature(const std::string& features);

}  // namespace gradc::runtime
