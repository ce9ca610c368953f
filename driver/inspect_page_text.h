// The files of driver/page/, embedded when building.
#pragma once

namespace gradc::driver {

extern const char* const kInspectPage;
extern const char* const kInspectStyle;
extern const char* const kInspectScript;

}  // namespace gradc::driver
