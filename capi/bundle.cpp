// Chooses among the programs of a bundle.
#include "capi/bundle.h"

#include <fmt/format.h>

#include "runtime/processor.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::capi {

const gradc_program& program_for_this_processor(const gradc_image& bundle) {
  if (bundle.abi_version != GRADC_ABI_VERSION)
    throw RunError(
        kExitRunFailed,
        fmt::format("the model was compiled for version {} of the runtime's interface, and linked with "
                    "version {}; compile it again",
                    bundle.abi_version, GRADC_ABI_VERSION));
  std::string reasons;
  for (int32_t i = 0; i < bundle.program_count; ++i) {
    const std::string missing = runtime::missing_feature(bundle.features[i]);
    if (missing.empty()) return *bundle.programs[i];
    reasons += fmt::format("{}{} (needs {})", i ? ", " : "", bundle.programs[i]->target, missing);
  }
  throw RunError(kExitRunFailed,
                 fmt::format("this processor runs none of the targets compiled in: {}; compile with a lower "
                             "--target",
                             reasons));
}

}  // namespace gradc::capi
