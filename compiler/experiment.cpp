// Writes the experiment's records as JSON for the runtime; knows nothing of what they mean.
#include "compiler/experiment.h"
#include "runtime/experiment.h"
#include "support/json_line.h"

#include <nlohmann/json.hpp>

namespace gradc::compiler {

namespace {

nlohmann::json options_json(const std::map<std::string, RecordValue>& options) {
  nlohmann::json result = nlohmann::json::object();
  for (const auto& [name, value] : options)
    std::visit([&, &name = name](const auto& v) { result[name] = v; }, value);
  return result;
}

// All strings are bytes, since paths are, and JSON holds code points (runtime/experiment.h).
void bytes_to_text(nlohmann::json& json) {
  if (json.is_string()) json = runtime::text_of_bytes(json.get_ref<const std::string&>());
  if (json.is_structured())
    for (nlohmann::json& member : json) bytes_to_text(member);
}

nlohmann::json methods_json(const std::vector<DataMethod>& methods) {
  nlohmann::json result = nlohmann::json::array();
  for (const DataMethod& method : methods)
    result.push_back(
        {{"field", method.field}, {"name", method.name}, {"options", options_json(method.options)}});
  return result;
}

}  // namespace

std::string experiment_json(const ExperimentRecord& record,
                            const std::map<std::string, std::string>& settings) {
  nlohmann::json splits = nlohmann::json::array();
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
  nlohmann::json data = {{"name", record.data.name},
                         {"source", record.data.source},
                         {"options", options_json(record.data.options)},
                         {"batch", record.data.batch},
                         {"drop_last", record.data.drop_last},
                         {"splits", splits},
                         {"fields", fields},
                         {"normalize", methods_json(record.data.normalize)},
                         {"augment", methods_json(record.data.augment)}};
  if (!record.data.curriculum.empty())
    data["curriculum"] = {{"field", record.data.curriculum}, {"epochs", record.data.curriculum_epochs}};
  if (record.data.bootstrap) data["bootstrap"] = *record.data.bootstrap;
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
  nlohmann::json root = {{"data", data}, {"train", train}};
  if (!settings.empty()) root["settings"] = settings;
  bytes_to_text(root);
  return json_line(root);
}

}  // namespace gradc::compiler
