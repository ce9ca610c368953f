// Why a loss is not finite: replays a step's forward part on the interpreter and names the operation where it
// began.
#pragma once
#include <string>

#include "compiler/compile.h"
#include "driver/native_call.h"

namespace gradc::driver {

using namespace compiler;

struct NotFinite {
  std::string
      operation;  // "log"; "parameter" or "input" when the values came in so; empty: the replay stays finite
  std::string name;   // "%17", or the parameter's or input's name
  std::string place;  // the user's .nn place, "mlp.nn:12:5"
  std::string text;   // several lines for people, with the source line and the operands' ranges
};

// `request` as the model was compiled, `step` the inputs and numbers of the failed call, `symbols` every
// parameter, state and slot as it was before the step (native code changes nothing when the loss is not
// finite).
NotFinite explain_not_finite(const CompileRequest& request, const CallRequest& step, const Tensors& symbols);

}  // namespace gradc::driver
