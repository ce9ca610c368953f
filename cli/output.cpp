// Where a command's result goes.
#include "cli/output.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runtime/files.h"
#include "support/json_line.h"

namespace gradc::cli {

void write_result(const std::string& text, const std::string& path, const char* what) {
  const char* end = text.empty() || text.back() == '\n' ? "" : "\n";
  if (path.empty()) {
    fmt::print("{}{}", text, end);
    return;
  }
  runtime::OutputFile file(path, what);
  file.write(text);
  file.write(end);
  file.commit();
}

std::string json_text(const nlohmann::ordered_json& record) { return json_line(record) + "\n"; }

}  // namespace gradc::cli
