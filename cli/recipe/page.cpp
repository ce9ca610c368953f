// The page of `gradc recipe`: the folder's trials and verdicts as one JSON record that the page's script
// (cli/page/recipe.js) shows.
#include "cli/recipe/page.h"

#include <nlohmann/json.hpp>

#include "cli/page.h"
#include "cli/page_text.h"
#include "include/gradc/version.h"

namespace gradc::cli {

std::string recipe_page(const RecipeModel& model, const RecipeFolder& folder, const Monitor& objective,
                        const std::string& validation) {
  using Json = nlohmann::ordered_json;
  Json verdicts = Json::array(), trials = Json::array();
  for (const auto& [step, verdict] : folder.verdicts()) verdicts.push_back(json_of(verdict));
  for (const Trial& t : folder.trials()) {
    Json trial = json_of(t);
    const auto best = best_value(t, objective);
    trial["best"] = best ? Json{{"value", best->value}, {"epoch", best->epoch}} : Json(nullptr);
    trial["remarks"] = t.config.step >= kCoarse ? Json(look_at_curves(model, t, objective)) : Json::array();
    trials.push_back(std::move(trial));
  }
  const Trial* best = best_trial(folder.trials(), objective, {kCoarse, kRefine, kRepeat});
  Json shares = Json::array();
  for (const frontend::MetricFacts& m : model.metrics)
    if (m.share) shares.push_back(m.name);
  Json titles = Json::array();
  for (int step = 1; step <= kRecipeSteps; ++step) titles.push_back(title_of(step));
  const Json record = {{"model", model.file},
                       {"gradc", GRADC_VERSION},
                       {"optimizer", model.optimizer},
                       {"lr", model.lr},
                       {"seed", model.seed},
                       {"settings", folder.identity().settings},
                       {"objective", {{"metric", objective.metric}, {"greater", objective.greater}}},
                       {"shares", std::move(shares)},
                       {"validation", validation},
                       {"best", best ? Json(best->id) : Json(nullptr)},
                       {"titles", std::move(titles)},
                       {"verdicts", std::move(verdicts)},
                       {"trials", std::move(trials)}};
  return fill_page(kRecipePage, model.file, kRecipeStyle, kRecipeScript, record);
}

}  // namespace gradc::cli
