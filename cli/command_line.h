// Parses the command line and calls the command it names; knows nothing of what commands do.
#pragma once

namespace gradc::cli {

// The process's exit code. Command line mistakes are reported on stderr and give 2.
int run_command_line(int argc, char** argv);

}  // namespace gradc::cli
