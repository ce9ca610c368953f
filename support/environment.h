// The one table of environment variables that gradc reads; `gradc --help` prints it. Nothing else calls
// getenv.
#pragma once
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

}  // namespace gradc
