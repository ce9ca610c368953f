// Writes results and checks that the stream took them.
#include "runtime/execution/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <nlohmann/json.hpp>

#include "runtime/files.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/json_line.h"

namespace gradc::runtime {

void write_line(std::FILE* out, const std::string& line) {
  errno = 0;
  if (std::fwrite(line.data(), 1, line.size(), out) != line.size() || std::fputc('\n', out) == EOF ||
      std::fflush(out) != 0)
    throw RunError(kExitRunFailed, fmt::format("cannot write the results: {}", error_text(errno)));
}

void write_event(std::FILE* out, const nlohmann::ordered_json& event) { write_line(out, json_line(event)); }

std::string results_text(double loss, const Metrics& metrics, const std::vector<std::string>& shares,
                         const std::string& prefix) {
  std::string text = prefix + "loss " + (std::isfinite(loss) ? fmt::format("{:.4f}", loss) : "not finite");
  for (const auto& [name, value] : metrics) {
    const bool percent = std::find(shares.begin(), shares.end(), name) != shares.end();
    text += fmt::format("  {}{} ", prefix, name);
    if (!std::isfinite(value))
      text += "not finite";
    else
      text += percent ? fmt::format("{:.2f}%", 100 * value) : fmt::format("{:.4f}", value);
  }
  return text;
}

}  // namespace gradc::runtime
