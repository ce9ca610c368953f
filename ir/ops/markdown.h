// The reference of all primitives as text for docs/ops.md. It must not know any primitive.
#pragma once
#include <string>

namespace gradc {

// Markdown made from the registry alone; a test keeps docs/ops.md equal to it.
std::string ops_markdown();

}  // namespace gradc
