// The model that a compiled executable or library holds. Knows nothing of command lines.
#pragma once
#include "runtime/abi.h"

namespace gradc::capi {

// The first of the image's programs that this processor can run. Throws RunError (kExitRunFailed) when there
// is none, or the image is of another version of the interface.
const gradc_program& program_for_this_processor(const gradc_image& image);

}  // namespace gradc::capi
