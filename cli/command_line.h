// Parses the command line and calls the command it names; knows nothing of what commands do.
#pragma once
#include <string>

namespace gradc::cli {

// The process's exit code. Command line mistakes are reported on stderr and give 2.
int run_command_line(int argc, char** argv);

// Whether text for people on stderr may have colour.
bool use_color();
// Whether text on stdout may have colour; `when` is "always", "never" or "auto" (a terminal, and no
// NO_COLOR).
bool use_color(const std::string& when);

}  // namespace gradc::cli
