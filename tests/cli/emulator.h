// Programs for aarch64 on a machine of another architecture: Debian's cross compiler makes them, QEMU runs
// them, where they are installed.
#pragma once
#include <string>
#include <vector>

#include "tests/cli/tool.h"

namespace gradc::test {

// What is missing to link and run such programs, for the message of a test that is skipped; empty: nothing.
std::string missing_for_aarch64();
// aarch64-linux-gnu-gcc, as a path.
std::string aarch64_compiler();
// Runs a program of aarch64 with nothing in its environment. cpu: QEMU's name of a processor, empty: all that
// it knows.
ToolResult run_aarch64(std::vector<std::string> command, const std::string& folder,
                       const std::string& cpu = {});

}  // namespace gradc::test
