// Reports of values that are not finite. Knows no operator.
#pragma once
#include "compiler/compile.h"
#include "runtime/execution/not_finite.h"

namespace gradc::cli {

// Explains an error of a session, whose model was compiled for `request`, on stderr, and with `json` in an event on
// stdout. Returns the exit code.
int report_not_finite(const compiler::CompileRequest& request, const runtime::Session& session,
                      const runtime::NotFiniteError& error, bool json);

}  // namespace gradc::cli
