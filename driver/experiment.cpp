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
  const TrainRecord& t = record.train;
  const auto monitor = [](const Monitor& m) {
    return nlohmann::json{{"part", m.part}, {"metric", m.metric}, {"greater", m.greater}};
  };
  nlohmann::json train = {{"epochs", t.epochs}, {"seed", t.seed}};
  if (t.accumulate != 1) train["accumulate"] = t.accumulate;
  if (t.checkpoint.every > 0)
    train["checkpoint"] = {{"every", t.checkpoint.every},
                           {"steps", t.checkpoint.steps},
                           {"keep", t.checkpoint.keep},
                           {"best", monitor(t.checkpoint.best)}};
  if (t.stop.patience > 0)
    train["stop"] = {{"patience", t.stop.patience}, {"monitor", monitor(t.stop.monitor)}};
  if (t.plateau.factor != 1)
    train["plateau"] = {{"patience", t.plateau.patience},
                        {"cooldown", t.plateau.cooldown},
                        {"factor", t.plateau.factor},
                        {"threshold", t.plateau.threshold},
                        {"monitor", monitor(t.plateau.monitor)}};
  if (!t.driver.empty()) train["driver"] = {{"name", t.driver}, {"options", t.driver_options}};
  return nlohmann::json{{"data", data}, {"train", train}}.dump();
}

}  // namespace gradc::driver
