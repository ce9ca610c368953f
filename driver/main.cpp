// The process: runs the command line and turns whatever it throws into a message and an exit code. Knows
// nothing else.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <new>
#include <system_error>

#include "driver/command_line.h"
#include "driver/compile.h"
#include "support/check.h"
#include "support/diagnostic.h"

int main(int argc, char** argv) {
  using namespace gradc;
  try {
    const int code = driver::run_command_line(argc, argv);
    // Results that did not reach their reader are a failed run (a full disk behind a redirection).
    const bool failed = std::ferror(stdout) != 0;
    if ((std::fflush(stdout) != 0 || failed) && code == kExitOk) {
      std::perror("gradc: cannot write to stdout");
      return kExitRunFailed;
    }
    return code;
  } catch (const driver::ModelError& error) {
    fmt::print(stderr, "{}", error.what());
    return kExitModelError;
  } catch (const RunError& error) {
    fmt::print(stderr, "gradc: {}\n", error.what());
    return error.exit_code;
  } catch (const InternalError& error) {
    fmt::print(stderr, "gradc: internal error, please report: {}\n", error.what());
    return kExitInternal;
  } catch (const std::system_error& error) {
    fmt::print(stderr, "gradc: {}\n", error.what());
    return kExitRunFailed;
  } catch (const std::bad_alloc&) {
    fmt::print(stderr, "gradc: out of memory; a smaller batch or model needs less\n");
    return kExitRunFailed;
  } catch (const std::exception& error) {
    fmt::print(stderr, "gradc: internal error, please report: {}\n", error.what());
    return kExitInternal;
  }
}
