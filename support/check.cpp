#include "support/check.h"

#include <string_view>

namespace gradc {

void internal_error(const char* file, int line, const std::string& what) {
  std::string_view path(file);
  if (const auto slash = path.rfind('/'); slash != path.npos) path.remove_prefix(slash + 1);
  throw InternalError(fmt::format("{}:{}: {}", path, line, what));
}

}  // namespace gradc
