// A shape as messages, tables and IR write it.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace gradc {

std::string shape_text(const std::vector<int64_t>& shape);  // "[1, 28, 28]", "[]"

}  // namespace gradc
