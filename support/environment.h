// The one table of environment variables that gradc reads; `gradc --help` prints it. Nothing else calls
// getenv.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace gradc {

struct EnvironmentVariable {
  std::string name;
  std::string doc;  // one line
};
const std::vector<EnvironmentVariable>& environment_variables();

// The variable's text; null when it is not set. GRADC_CHECKs that the table has the name.
const char* environment(const std::string& name);
// "on" or "off"; nothing when it is not set or empty. Throws RunError (exit 2) for any other value.
std::optional<bool> environment_switch(const std::string& name);

}  // namespace gradc
