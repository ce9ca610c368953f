// The page of `gradc recipe`: every trial in its folder on one page, offline.
#pragma once
#include <string>

#include "cli/recipe/folder.h"

namespace gradc::cli {

// The whole page: verdicts, charts, and a table of all trials. `validation`: the split they are judged on.
std::string recipe_page(const RecipeModel& model, const RecipeFolder& folder, const Monitor& objective,
                        const std::string& validation);

}  // namespace gradc::cli
