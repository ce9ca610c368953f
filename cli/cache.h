// Where the tool keeps compiled objects, from environment variables.
#pragma once
#include <string>

namespace gradc::cli {

// Where objects are kept by default: $GRADC_CACHE_DIR, else $XDG_CACHE_HOME/gradc, else $HOME/.cache/gradc;
// empty when none of them is set.
std::string default_cache_folder();
// The value of GRADC_CACHE; throws RunError (exit 2) if it is neither on nor off.
bool cache_is_on();

}  // namespace gradc::cli
