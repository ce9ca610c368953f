// Compiler mistakes: an internal error that names the broken invariant and ends in exit code 70, in every
// build type.
#pragma once
#include <fmt/core.h>

#include <stdexcept>
#include <string>

namespace gradc {

// Thrown by GRADC_CHECK; the tool prints it with a request to report it and exits 70.
struct InternalError : std::logic_error {
  using std::logic_error::logic_error;
};

[[noreturn]] void internal_error(const char* file, int line, const std::string& what);

// A run that cannot continue for a reason the user can correct (files, data, limits); carries the exit code.
struct RunError : std::runtime_error {
  RunError(int exit_code, const std::string& message) : std::runtime_error(message), exit_code(exit_code) {}
  int exit_code;
};

}  // namespace gradc

#define GRADC_CHECK(condition, ...)                                                            \
  do {                                                                                         \
    if (!(condition))                                                                          \
      ::gradc::internal_error(__FILE__, __LINE__, #condition ": " + fmt::format(__VA_ARGS__)); \
  } while (0)
