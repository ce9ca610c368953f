// The page of `gradc recipe`: every trial in its folder on one page, offline.
#pragma once
#include <string>

#include "driver/recipe_folder.h"

namespace gradc::driver {

// The whole page: verdicts, charts, and a table of all trials. `validation`: the part they are judged on.
std::string recipe_page(const RecipeModel& model, const RecipeFolder& folder, const Monitor& objective,
                        const std::string& validation);

}  // namespace gradc::driver
