#include "support/shape_text.h"

#include <fmt/format.h>

namespace gradc {

std::string shape_text(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace gradc
