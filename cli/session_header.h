// The text of include/gradc/session.h, generated when building.
#pragma once

namespace gradc::cli {

extern const char* const kSessionHeader;

}  // namespace gradc::cli
