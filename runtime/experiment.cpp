// Reads the experiment's records from JSON; knows nothing of what they mean.
#include "runtime/experiment.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "support/check.h"
#include "support/diagnostic.h"
#include "support/json_line.h"

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
      GRADC_CHECK(entry.is_number_integer(), "an option's list holds {}", json_line(entry));
      list.push_back(entry.get<int64_t>());
    }
    return list;
  }
  return value.get<std::string>();
}

void text_to_bytes(Json& json) {
  if (json.is_string()) json = bytes_of_text(json.get_ref<const std::string&>());
  if (json.is_structured())
    for (Json& member : json) text_to_bytes(member);
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

std::map<std::string, OptionValue> options_of(const Json& options) {
  std::map<std::string, OptionValue> result;
  for (const auto& [name, value] : options.items()) result[name] = option_value(value);
  return result;
}

std::vector<MethodRecord> methods_of(const Json& data, const char* key) {
  std::vector<MethodRecord> result;
  if (data.contains(key))
    for (const Json& method : data.at(key))
      result.push_back({method.at("field").get<std::string>(), method.at("name").get<std::string>(),
                        options_of(method.at("options"))});
  return result;
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

Experiment read_experiment(const char* json) {
  GRADC_CHECK(json != nullptr, "a program without an experiment");
  Experiment result;
  try {
    Json root = Json::parse(json);
    text_to_bytes(root);
    const Json& data = root.at("data");
    result.data.name = data.at("name").get<std::string>();
    result.data.source = data.at("source").get<std::string>();
    result.data.options = options_of(data.at("options"));
    result.data.batch = data.at("batch").get<int64_t>();
    result.data.drop_last = data.value("drop_last", false);
    if (data.contains("splits"))
      for (const Json& split : data.at("splits"))
        result.data.splits.push_back({split.at("name").get<std::string>(), split.value("count", int64_t{0}),
                                      split.at("from").get<std::string>(), split.value("fraction", 0.0),
                                      split.value("fold", int64_t{0}), split.value("folds", int64_t{0})});
    if (data.contains("fields"))
      for (const Json& field : data.at("fields"))
        result.data.fields.push_back(
            {field.at("name").get<std::string>(), field.at("dtype").get<std::string>() == "f32",
             field.at("shape").get<std::vector<int64_t>>(), field.at("train").get<std::string>(),
             field.at("test").get<std::string>(), field.at("columns").get<std::vector<std::string>>(),
             field.at("numbers").get<std::vector<int64_t>>()});
    result.data.normalize = methods_of(data, "normalize");
    result.data.augment = methods_of(data, "augment");
    if (data.contains("curriculum")) {
      result.data.curriculum = data.at("curriculum").at("field").get<std::string>();
      result.data.curriculum_epochs = data.at("curriculum").at("epochs").get<int64_t>();
    }
    if (data.contains("bootstrap")) result.data.bootstrap = data.at("bootstrap").get<int64_t>();
    if (root.contains("settings"))
      result.settings = root.at("settings").get<std::map<std::string, std::string>>();
    const Json& train = root.at("train");
    result.train.epochs = train.at("epochs").get<int64_t>();
    result.train.seed = train.at("seed").get<int64_t>();
    read_rules(train, result.train);
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
    // Anything else is written as in JSON, and stays of its kind.
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

}  // namespace gradc::runtime
