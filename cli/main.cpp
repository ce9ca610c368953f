// The process: runs the command line. Knows nothing else.
#include <fmt/format.h>

#include "cli/command_line.h"
#include "compiler/compile.h"
#include "standalone/options.h"
#include "support/diagnostic.h"

int main(int argc, char** argv) {
  using namespace gradc;
  return standalone::run_process("gradc", [&]() -> int {
    try {
      return cli::run_command_line(argc, argv);
    } catch (const compiler::ModelError& error) {
      fmt::print(stderr, "{}", error.what());
      if (!error.code.empty())
        fmt::print(stderr, "\ngradc explain {} says more of this error.\n", error.code);
      return kExitModelError;
    }
  });
}
