// Locations in model files as text; knows nothing of operations.
#include "support/location.h"

#include <fmt/core.h>

namespace gradc {

namespace {

bool in_prelude(const std::string& file) { return file.rfind("prelude/", 0) == 0; }

}  // namespace

std::string to_string(const Location& l) {
  if (!l.valid()) return "?";
  return fmt::format("{}:{}:{}", l.file ? *l.file : "?", l.line, l.column);
}

std::string user_location(const Location& l) {
  if (!l.valid() || !l.file || !in_prelude(*l.file)) return to_string(l);
  for (const CallSite* site = l.call.get(); site; site = site->parent.get())
    if (site->line != 0 && !in_prelude(site->file)) return fmt::format("{}:{}", site->file, site->line);
  return to_string(l);
}

}  // namespace gradc
