// The one table of environment variables that gradc reads; knows nothing of what they do.
#include "support/environment.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc {

const std::vector<EnvironmentVariable>& environment_variables() {
  static const std::vector<EnvironmentVariable> table = {
      {"GRADC_THREADS", "number of threads, where --threads says nothing"},
      {"OMP_NUM_THREADS", "the same, where GRADC_THREADS says nothing either"},
      {"GRADC_CACHE", "off: no compiled objects are kept or used (default: on)"},
      {"GRADC_CACHE_DIR", "the folder that they are kept in"},
      {"XDG_CACHE_HOME", "if that is not set: gradc/ in this folder"},
      {"HOME", "if neither is set: .cache/gradc/ in this folder"},
      {"GRADC_LINKER",
       "the C++ compiler that `gradc compile` links with (default: c++, g++ or clang++; for another "
       "architecture its cross compiler, for example aarch64-linux-gnu-g++)"},
      {"PATH", "where that is looked for"},
      {"GRADC_DEBUG_INFO",
       "on, off: lines for debuggers in code that runs in memory (default: where one watches the process)"},
      {"GRADC_VERIFY",
       "on: the IR is verified after every pass, and LLVM's; off: once (default, but for check)"},
      {"GRADC_PROVE_PLANS",
       "on: where the IR is verified after every pass, memory, barriers and segments are proven sound too; "
       "what cannot be proven ends the run (default with GRADC_VERIFY=on); off: they are not (default)"},
      {"NO_COLOR", "if set and not empty, no colour on the terminal"},
      {"GRADC_UPDATE_GOLDENS", "if set, the tests rewrite the files they compare with"},
  };
  return table;
}

const char* environment(const std::string& name) {
  const auto& table = environment_variables();
  GRADC_CHECK(std::any_of(table.begin(), table.end(), [&](const auto& v) { return v.name == name; }),
              "the environment variable {} is not in the table", name);
  return std::getenv(name.c_str());
}

std::optional<bool> environment_switch(const std::string& name) {
  const char* text = environment(name);
  const std::string_view value = text ? text : "";
  if (value.empty()) return {};
  if (value != "on" && value != "off")
    throw RunError(kExitUsage, fmt::format("{} is \"{}\": expected on or off", name, value));
  return value == "on";
}

}  // namespace gradc
