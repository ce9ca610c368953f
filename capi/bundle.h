// The bundle that a compiled executable or library holds: one model's programs. Knows nothing of command lines.
#pragma once
#include "runtime/abi.h"

namespace gradc::capi {

// The first of the bundle's programs that this processor can run. Throws RunError (kExitRunFailed) when there is none,
// or the bundle is of another version of the interface.
const gradc_program& program_for_this_processor(const gradc_image& bundle);

}  // namespace gradc::capi
