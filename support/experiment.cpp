// Experiments as JSON, both ways, and the options of data sources by name; knows nothing of what they mean.
#include "support/experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "support/check.h"
#include "support/diagnostic.h"
#include "support/json_line.h"

namespace gradc {
namespace {

using Json = nlohmann::json;

RecordValue option_value(const Json& value) {
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_array()) {
    std::vector<int64_t> list;
    for (const Json& entry : value) {
      // get<int64_t> alone would take a fraction or a truth value.
      GRADC_CHECK(entry.is_number_integer(), "an option's list holds {}", json_line(entry));
      list.push_back(entry.get<int64_t>());
    }
    return list;
  }
  return value.get<std::string>();
}

void bytes_to_text(Json& json) {
  if (json.is_string()) json = text_of_bytes(json.get_ref<const std::string&>());
  if (json.is_structured())
    for (Json& member : json) bytes_to_text(member);
}

Json options_json(const std::map<std::string, RecordValue>& options) {
  Json result = Json::object();
  for (const auto& [name, value] : options)
    std::visit([&, &name = name](const auto& v) { result[name] = v; }, value);
  return result;
}

Json methods_json(const std::vector<DataMethod>& methods) {
  Json result = Json::array();
  for (const DataMethod& method : methods)
    result.push_back(
        {{"field", method.field}, {"name", method.name}, {"options", options_json(method.options)}});
  return result;
}

Json monitor_json(const Monitor& m) {
  return {{"split", m.split}, {"metric", m.metric}, {"greater", m.greater}};
}

Json data_json(const DataRecord& data) {
  Json splits = Json::array();
  for (const DataSplit& split : data.splits) {
    Json& entry = splits.emplace_back(Json{{"name", split.name}, {"from", split.from}});
    if (split.folds > 0) {
      entry["fold"] = split.fold;
      entry["folds"] = split.folds;
    } else if (split.fraction > 0) {
      entry["fraction"] = split.fraction;
    } else {
      entry["count"] = split.count;
    }
  }
  Json fields = Json::array();
  for (const DataField& field : data.fields)
    fields.push_back({{"name", field.name},
                      {"dtype", field.is_float ? "f32" : "i32"},
                      {"shape", field.shape},
                      {"count", field.count},
                      {"train", field.train},
                      {"test", field.test},
                      {"columns", field.columns},
                      {"numbers", field.numbers}});
  Json result = {{"name", data.name},
                 {"source", data.source},
                 {"options", options_json(data.options)},
                 {"batch", data.batch},
                 {"drop_last", data.drop_last},
                 {"splits", std::move(splits)},
                 {"fields", std::move(fields)},
                 {"normalize", methods_json(data.normalize)},
                 {"augment", methods_json(data.augment)}};
  if (!data.curriculum.empty())
    result["curriculum"] = {{"field", data.curriculum}, {"epochs", data.curriculum_epochs}};
  if (data.bootstrap) result["bootstrap"] = *data.bootstrap;
  return result;
}

Json train_json(const TrainRecord& train) {
  Json result = {{"epochs", train.epochs}, {"seed", train.seed}};
  if (train.accumulate != 1) result["accumulate"] = train.accumulate;
  if (train.least_rows != 1) result["least_rows"] = train.least_rows;
  if (train.checkpoint.every > 0)
    result["checkpoint"] = {{"every", train.checkpoint.every},
                            {"steps", train.checkpoint.steps},
                            {"keep", train.checkpoint.keep},
                            {"best", monitor_json(train.checkpoint.best)}};
  if (train.stop.patience > 0)
    result["stop"] = {{"patience", train.stop.patience}, {"monitor", monitor_json(train.stop.monitor)}};
  if (train.plateau.factor != 1)
    result["plateau"] = {{"patience", train.plateau.patience},
                         {"cooldown", train.plateau.cooldown},
                         {"factor", train.plateau.factor},
                         {"threshold", train.plateau.threshold},
                         {"monitor", monitor_json(train.plateau.monitor)}};
  if (!train.full_batch.empty())
    result["full_batch"] = {{"name", train.full_batch}, {"options", train.full_batch_options}};
  if (!train.shares.empty()) result["shares"] = train.shares;
  for (const OptimizerRecord& optimizer : train.optimizers)
    result["optimizers"].push_back({{"name", optimizer.name}, {"lr", optimizer.lr}});
  if (train.penalised) result["penalised"] = true;
  if (train.line_search) result["line_search"] = true;
  return result;
}

void text_to_bytes(Json& json) {
  if (json.is_string()) json = bytes_of_text(json.get_ref<const std::string&>());
  if (json.is_structured())
    for (Json& member : json) text_to_bytes(member);
}

Monitor monitor_of(const Json& json) {
  return {json.at("split").get<std::string>(), json.at("metric").get<std::string>(),
          json.at("greater").get<bool>()};
}

std::map<std::string, RecordValue> options_of(const Json& options) {
  std::map<std::string, RecordValue> result;
  for (const auto& [name, value] : options.items()) result[name] = option_value(value);
  return result;
}

std::vector<DataMethod> methods_of(const Json& data, const char* key) {
  std::vector<DataMethod> result;
  if (data.contains(key))
    for (const Json& method : data.at(key))
      result.push_back({method.at("field").get<std::string>(), method.at("name").get<std::string>(),
                        options_of(method.at("options"))});
  return result;
}

DataRecord data_of(const Json& data) {
  DataRecord record;
  record.name = data.at("name").get<std::string>();
  record.source = data.at("source").get<std::string>();
  record.options = options_of(data.at("options"));
  record.batch = data.at("batch").get<int64_t>();
  record.drop_last = data.value("drop_last", false);
  if (data.contains("splits"))
    for (const Json& split : data.at("splits"))
      record.splits.push_back({split.at("name").get<std::string>(), split.value("count", int64_t{0}),
                               split.at("from").get<std::string>(), split.value("fraction", 0.0),
                               split.value("fold", int64_t{0}), split.value("folds", int64_t{0})});
  if (data.contains("fields"))
    for (const Json& field : data.at("fields"))
      record.fields.push_back(
          {field.at("name").get<std::string>(), field.at("dtype").get<std::string>() == "f32",
           field.at("shape").get<std::vector<int64_t>>(), field.at("count").get<int64_t>(),
           field.at("train").get<std::string>(), field.at("test").get<std::string>(),
           field.at("columns").get<std::vector<std::string>>(),
           field.at("numbers").get<std::vector<int64_t>>()});
  record.normalize = methods_of(data, "normalize");
  record.augment = methods_of(data, "augment");
  if (data.contains("curriculum")) {
    record.curriculum = data.at("curriculum").at("field").get<std::string>();
    record.curriculum_epochs = data.at("curriculum").at("epochs").get<int64_t>();
  }
  if (data.contains("bootstrap")) record.bootstrap = data.at("bootstrap").get<int64_t>();
  return record;
}

TrainRecord train_of(const Json& train) {
  TrainRecord record;
  record.epochs = train.at("epochs").get<int64_t>();
  record.seed = train.at("seed").get<int64_t>();
  record.accumulate = train.value("accumulate", int64_t{1});
  record.least_rows = train.value("least_rows", int64_t{1});
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
  if (train.contains("full_batch")) {
    record.full_batch = train.at("full_batch").at("name").get<std::string>();
    record.full_batch_options = train.at("full_batch").at("options").get<std::map<std::string, double>>();
  }
  record.shares = train.value("shares", std::vector<std::string>());
  if (train.contains("optimizers"))
    for (const Json& optimizer : train.at("optimizers"))
      record.optimizers.push_back(
          {optimizer.at("name").get<std::string>(), optimizer.at("lr").get<double>()});
  record.penalised = train.value("penalised", false);
  record.line_search = train.value("line_search", false);
  return record;
}

}  // namespace

std::string text_of_bytes(const std::string& bytes) {
  std::string text;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) text += static_cast<char>(0xC0 | byte >> 6);
    text += static_cast<char>(byte >= 0x80 ? 0x80 | (byte & 0x3F) : byte);
  }
  return text;
}

std::string bytes_of_text(const std::string& text) {
  std::string bytes;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    GRADC_CHECK(byte < 0xC4, "a record's string has a code point above 255: {}", text);
    const bool two = byte >= 0xC2 && i + 1 < text.size();
    bytes += static_cast<char>(two ? (byte & 3) << 6 | (static_cast<unsigned char>(text[++i]) & 0x3F) : byte);
  }
  return bytes;
}

std::string experiment_json(const Experiment& experiment) {
  Json root = {{"data", data_json(experiment.data)}, {"train", train_json(experiment.train)}};
  if (!experiment.settings.empty()) root["settings"] = experiment.settings;
  bytes_to_text(root);
  return json_line(root);
}

Experiment read_experiment(const char* json) {
  GRADC_CHECK(json != nullptr, "a program without an experiment");
  Experiment result;
  try {
    Json root = Json::parse(json);
    text_to_bytes(root);
    result.data = data_of(root.at("data"));
    result.train = train_of(root.at("train"));
    if (root.contains("settings"))
      result.settings = root.at("settings").get<std::map<std::string, std::string>>();
  } catch (const Json::exception& error) {
    GRADC_CHECK(false, "the experiment's record does not read: {}\n{}", error.what(), json);
  }
  return result;
}

void override_options(DataRecord& record, const std::vector<std::string>& given) {
  for (const std::string& text : given) {
    // A path may hold a `=` too, but an option's name holds no `/`.
    const size_t equals = text.find('=');
    const bool named = equals != std::string::npos && text.find('/') > equals;
    const std::string name = named ? text.substr(0, equals) : "path";
    const std::string value = named ? text.substr(equals + 1) : text;
    std::vector<std::string> names;
    for (const auto& [known, ignored] : record.options) names.push_back(known);
    const auto it = record.options.find(name);
    if (it == record.options.end()) {
      const std::string near = nearest_name(name, names);
      throw RunError(
          kExitUsage,
          fmt::format("--data {}: the source `{}` has no option `{}`; it has {}{}", text, record.source, name,
                      names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")),
                      near.empty() ? "" : fmt::format("; did you mean `{}`?", near)));
    }
    if (std::holds_alternative<std::string>(it->second)) {
      it->second = value;
      continue;
    }
    // Other values are written as in JSON, and must keep their type.
    const Json parsed = Json::parse(value, nullptr, /*allow_exceptions=*/false);
    const bool number = parsed.is_number_integer();
    const bool list = parsed.is_array() && std::all_of(parsed.begin(), parsed.end(),
                                                       [](const Json& v) { return v.is_number_integer(); });
    if ((std::holds_alternative<bool>(it->second) && parsed.is_boolean()) ||
        (std::holds_alternative<int64_t>(it->second) && number) ||
        (std::holds_alternative<std::vector<int64_t>>(it->second) && list)) {
      it->second = option_value(parsed);
    } else if (std::holds_alternative<double>(it->second) && parsed.is_number()) {
      it->second = parsed.get<double>();
    } else {
      constexpr const char* kinds[] = {"true or false", "a whole number", "a number", "a text",
                                       "a list of whole numbers"};
      throw RunError(kExitUsage, fmt::format("--data {}: `{}` is {}, not `{}`", text, name,
                                             kinds[it->second.index()], value));
    }
  }
}

}  // namespace gradc
