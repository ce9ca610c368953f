// Why a loss or an update is not finite: replays the step, or its forward part, on the interpreter and names
// the operation where it began. Steps that are finite pay nothing for it.
#pragma once
#include "compiler/compile.h"
#include "runtime/execution/not_finite.h"

namespace gradc::compiler {

// `request` as the model of the session was compiled; its text is taken from the program. The session holds
// every parameter, state and slot as it was before the step: native code changes nothing when the loss is not
// finite, and the runtime has undone an update that is not. Where nothing can be replayed the report is the
// runtime's.
runtime::NotFiniteReport explain_not_finite(const CompileRequest& request, const runtime::Session& session,
                                            const runtime::NotFiniteError& error);

// What a value holds, as the report's text says it: "0 .. 3.2, 5 NaN, 1 +inf, of 1280 elements".
std::string range_text(const runtime::ValueRange& range);

}  // namespace gradc::compiler
