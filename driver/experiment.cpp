// Writes the experiment's records as JSON for the runtime; knows nothing of what they mean.
#include "driver/experiment.h"

#include <nlohmann/json.hpp>

namespace gradc::driver {

std::string experiment_json(const ExperimentRecord& record) {
  nlohmann::json options = nlohmann::json::object(), splits = nlohmann::json::array();
  for (const auto& [name, value] : record.data.options)
    std::visit([&, &name = name](const auto& v) { options[name] = v; }, value);
  for (const DataSplit& split : record.data.splits) {
    nlohmann::json entry = {{"name", split.name}, {"from", split.from}};
    if (split.folds > 0) {
      entry["fold"] = split.fold;
      entry["folds"] = split.folds;
    } else if (split.fraction > 0) {
      entry["fraction"] = split.fraction;
    } else {
      entry["count"] = split.count;
    }
    splits.push_back(std::move(entry));
  }
  nlohmann::json fields = nlohmann::json::array();
  for (const DataField& field : record.data.fields)
    fields.push_back({{"name", field.name},
                      {"dtype", field.dtype},
                      {"shape", field.shape},
                      {"train", field.train},
                      {"test", field.test},
                      {"columns", field.columns},
                      {"numbers", field.numbers}});
  const nlohmann::json data = {{"name", record.data.name},
                               {"source", record.data.source},
                               {"options", options},
                               {"batch", record.data.batch},
                               {"drop_last", record.data.drop_last},
                               {"splits", splits},
                               {"fields", fields}};
  return nlohmann::json{{"data", data},
                        {"train", {{"epochs", record.train.epochs}, {"seed", record.train.seed}}}}
      .dump();
}

}  // namespace gradc::driver
