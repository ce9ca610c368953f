// Explains why a loss or an update is not finite: replays the step, or its forward pass, on the interpreter and names
// the first operation at fault. Finite steps have no overhead.
#pragma once
#include "compiler/compile.h"
#include "runtime/execution/not_finite.h"

namespace gradc::compiler {

// `request` is the one that compiled the session's model; the text is taken from the program. The session holds every
// parameter, state and slot from before the step: native code changes nothing when the loss is not finite, and the
// runtime has undone an update that is not. Where nothing can be replayed it returns the runtime's report.
runtime::NotFiniteReport explain_not_finite(const CompileRequest& request, const runtime::Session& session,
                                            const runtime::NotFiniteError& error);

// A value's range, as in the report's text: "0 .. 3.2, 5 NaN, 1 +inf, of 1280 elements".
std::string range_text(const runtime::ValueRange& range);

}  // namespace gradc::compiler
