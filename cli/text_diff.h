// The difference of two texts, line by line. Knows nothing of their contents.
#pragma once
#include <string>

namespace gradc::cli {

// In the unified form of POSIX diff, three lines of context, without a heading; empty when they are equal.
// `color`: with ANSI escapes.
std::string unified_diff(const std::string& before, const std::string& after, bool color = false);

}  // namespace gradc::cli
