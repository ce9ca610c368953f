// Reads the experiment's records from JSON; knows nothing of what they mean.
#include "runtime/experiment.h"

#include <nlohmann/json.hpp>

#include "support/check.h"

namespace gradc::runtime {
namespace {

using Json = nlohmann::json;

OptionValue option_value(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_array()) {
    std::vector<int64_t> list;
    for (const Json& entry : value) {
      // get<int64_t> alone would take a fraction or a truth value.
      GRADC_CHECK(entry.is_number_integer(), "an option's list holds {}", entry.dump());
      list.push_back(entry.get<int64_t>());
    }
    return list;
  }
  return value.get<std::string>();
}

Monitor monitor_of(const Json& json) {
  return {json.at("part").get<std::string>(), json.at("metric").get<std::string>(),
          json.at("greater").get<bool>()};
}

void read_rules(const Json& train, TrainRecord& record) {
  record.accumulate = train.value("accumulate", int64_t{1});
  if (train.contains("checkpoint")) {
    const Json& rule = train.at("checkpoint");
    record.checkpoint = {rule.at("every").get<int64_t>(), rule.at("steps").get<bool>(),
                         rule.at("keep").get<int64_t>(), monitor_of(rule.at("best"))};
  }
  if (train.contains("stop")) {
    const Json& rule = train.at("stop");
    record.stop = {rule.at("patience").get<int64_t>(), monitor_of(rule.at("monitor"))};
  }
  if (train.contains("plateau")) {
    const Json& rule = train.at("plateau");
    record.plateau = {rule.at("patience").get<int64_t>(), rule.at("cooldown").get<int64_t>(),
                      rule.at("factor").get<double>(), rule.at("threshold").get<double>(),
                      monitor_of(rule.at("monitor"))};
  }
  if (train.contains("driver")) {
    record.driver = train.at("driver").at("name").get<std::string>();
    record.driver_options = train.at("driver").at("options").get<std::map<std::string, double>>();
  }
}

}  // namespace

Experiment read_experiment(const char* json) {
  GRADC_CHECK(json != nullptr, "a program without an experiment");
  Experiment result;
  try {
    const Json root = Json::parse(json);
    const Json& data = root.at("data");
    result.data.name = data.at("name").get<std::string>();
    result.data.source = data.at("source").get<std::string>();
    for (const auto& [name, value] : data.at("options").items())
      result.data.options[name] = option_value(value);
    result.data.batch = data.at("batch").get<int64_t>();
    result.data.drop_last = data.value("drop_last", false);
    if (data.contains("splits"))
      for (const Json& split : data.at("splits"))
        result.data.splits.push_back({split.at("name").get<std::string>(), split.at("count").get<int64_t>(),
                                      split.at("from").get<std::string>()});
    const Json& train = root.at("train");
    result.train.epochs = train.at("epochs").get<int64_t>();
    result.train.seed = train.at("seed").get<int64_t>();
    read_rules(train, result.train);
  } catch (const Json::exception& error) {
    GRADC_CHECK(false, "the experiment's record does not read: {}\n{}", error.what(), json);
  }
  return result;
}

}  // namespace gradc::runtime
