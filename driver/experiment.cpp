// Writes the experiment's records as JSON for the runtime; knows nothing of what they mean.
#include "driver/experiment.h"

#include <nlohmann/json.hpp>

namespace gradc::driver {

std::string experiment_json(const ExperimentRecord& record) {
  nlohmann::json options = nlohmann::json::object(), splits = nlohmann::json::array();
  for (const auto& [name, value] : record.data.options)
    std::visit([&, &name = name](const auto& v) { options[name] = v; }, value);
  for (const DataSplit& split : record.data.splits)
    splits.push_back({{"name", split.name}, {"count", split.count}, {"from", split.from}});
  const nlohmann::json data = {
      {"name", record.data.name},   {"source", record.data.source},       {"options", options},
      {"batch", record.data.batch}, {"drop_last", record.data.drop_last}, {"splits", splits}};
  return nlohmann::json{{"data", data},
                        {"train", {{"epochs", record.train.epochs}, {"seed", record.train.seed}}}}
      .dump();
}

}  // namespace gradc::driver
