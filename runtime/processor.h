// The features of this machine's processor. Knows nothing of programs.
#pragma once
#include <string>

namespace gradc::runtime {

// The first of these features (LLVM's names, split by commas) that this processor is known to lack; empty
// when it has them all. Features that cannot be queried count as present.
std::string missing_feature(const std::string& features);

}  // namespace gradc::runtime
