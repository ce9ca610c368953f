// Trials and verdicts as JSON files, each written atomically.
#include "cli/recipe/folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <tuple>
#include <utility>

#include "include/gradc/version.h"
#include "runtime/files.h"
#include "runtime/sha256.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/json_line.h"

namespace gradc::cli {

namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kIndex = "recipe.json";
constexpr const char* kTrials = "trials";
constexpr int kFormat = 1;
constexpr size_t kIdDigits = 12;
constexpr uint64_t kMostBytes = 64 << 20;  // of a file that this command wrote

Json number(double value) { return std::isfinite(value) ? Json(value) : Json(nullptr); }
double number_of(const Json& json) { return json.is_null() ? std::nan("") : json.get<double>(); }

// A whole number that fits. nlohmann's own conversion wraps values out of range, and truncates fractions.
template <class Int>
Int whole_number(const Json& value, const char* field, Int least = 0,
                 Int most = std::numeric_limits<Int>::max()) {
  const auto fits = [&](auto number) {
    return std::in_range<Int>(number) && static_cast<Int>(number) >= least &&
           static_cast<Int>(number) <= most;
  };
  if (value.is_number_unsigned() ? fits(value.get<uint64_t>())
                                 : value.is_number_integer() && fits(value.get<int64_t>()))
    return value.get<Int>();
  throw std::runtime_error(
      fmt::format("`{}` is {}; expected a whole number from {} to {}", field, json_line(value), least, most));
}

template <class Int>
Int whole(const Json& object, const char* field, Int least = 0, Int most = std::numeric_limits<Int>::max()) {
  return whole_number(object.at(field), field, least, most);
}

Json config_json(const TrialConfig& c) {
  return {{"step", c.step},
          {"lr", c.lr},
          {"weight_decay", c.weight_decay ? Json(*c.weight_decay) : Json(nullptr)},
          {"regularised", c.regularised},
          {"schedule", c.schedule},
          {"batches", c.batches},
          {"epochs", c.epochs},
          {"updates", c.updates},
          {"target", c.target},
          {"seed", c.seed},
          {"validation", c.validation}};
}

TrialConfig config_of(const Json& j) {
  TrialConfig c;
  c.step = whole<int>(j, "step", 1, kRecipeSteps);
  c.lr = j.at("lr");
  if (!j.at("weight_decay").is_null()) c.weight_decay = j.at("weight_decay").get<double>();
  c.regularised = j.at("regularised");
  c.schedule = j.at("schedule");
  c.batches = whole<int64_t>(j, "batches");
  c.epochs = whole<int64_t>(j, "epochs");
  c.updates = whole<int64_t>(j, "updates");
  c.target = j.at("target");
  c.seed = whole<uint64_t>(j, "seed");
  c.validation = j.at("validation");
  return c;
}

Trial trial_of(const Json& j) {
  Trial t;
  t.config = config_of(j.at("config"));
  t.id = id_of(t.config);
  t.failed_update = whole<int64_t>(j, "failed_update");
  t.updates = whole<int64_t>(j, "updates");
  for (const Json& point : j.at("losses"))
    t.losses.emplace_back(whole_number<int64_t>(point.at(0), "losses"), number_of(point.at(1)));
  for (const Json& e : j.at("epochs")) {
    TrialEpoch epoch{whole<int64_t>(e, "epoch"), whole<int64_t>(e, "update"), {}};
    for (const Json& p : e.at("splits")) {
      runtime::SplitResult split{p.at("split"), number_of(p.at("loss")), {}};
      for (const auto& [name, value] : p.at("metrics").items())
        split.metrics.emplace_back(name, number_of(value));
      epoch.splits.push_back(std::move(split));
    }
    t.epochs.push_back(std::move(epoch));
  }
  t.seconds = j.at("seconds");
  t.weights_sha256 = j.at("weights_sha256");
  return t;
}

Verdict verdict_of(const Json& j) {
  Verdict v;
  v.step = whole<int>(j, "step", 1, kRecipeSteps);
  for (const Status s : {Status::pass, Status::warn, Status::fail, Status::skip})
    if (j.at("status") == name_of(s)) v.status = s;
  v.text = j.at("text");
  v.hints = j.at("hints").get<std::vector<std::string>>();
  return v;
}

// An order that does not depend on whether trials were run or read.
bool before(const Trial& a, const Trial& b) {
  return std::tie(a.config.step, a.id) < std::tie(b.config.step, b.id);
}

// Reads a file that this command wrote; other contents are an error of the file.
template <class Read>
void read_json(const std::string& path, Read&& read) {
  const std::vector<uint8_t> bytes = runtime::read_file(path, "recipe's file", kMostBytes);
  try {
    read(Json::parse(bytes.begin(), bytes.end()));
  } catch (const RunError&) {
    throw;
  } catch (const std::exception& error) {
    throw RunError(kExitDataError, fmt::format("{} is damaged ({}); remove it, and its trial is run again",
                                               path, error.what()));
  }
}

void write_json(const std::string& path, const Json& json, const char* what) {
  runtime::OutputFile file(path, what);
  file.write(json_line(json) + "\n");
  file.commit();
}

void make_folder(const std::string& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error || !fs::is_directory(path))
    throw RunError(kExitRunFailed, fmt::format("recipe: no folder can be made at {}: {}", path,
                                               error ? error.message() : "a file has this name"));
}

}  // namespace

Json json_of(const Trial& t) {
  Json losses = Json::array(), epochs = Json::array();
  for (const auto& [update, loss] : t.losses) losses.push_back({update, number(loss)});
  for (const TrialEpoch& e : t.epochs) {
    Json splits = Json::array();
    for (const runtime::SplitResult& p : e.splits) {
      Json metrics = Json::object();
      for (const auto& [name, value] : p.metrics) metrics[name] = number(value);
      splits.push_back({{"split", p.split}, {"loss", number(p.loss)}, {"metrics", std::move(metrics)}});
    }
    epochs.push_back({{"epoch", e.epoch}, {"update", e.update}, {"splits", std::move(splits)}});
  }
  return {{"id", t.id},
          {"config", config_json(t.config)},
          {"failed_update", t.failed_update},
          {"updates", t.updates},
          {"seconds", t.seconds},
          {"weights_sha256", t.weights_sha256},
          {"epochs", std::move(epochs)},
          {"losses", std::move(losses)}};
}

Json json_of(const Verdict& v) {
  return {{"step", v.step},
          {"title", title_of(v.step)},
          {"status", name_of(v.status)},
          {"text", v.text},
          {"hints", v.hints}};
}

// A name as read back from JSON, where bytes that are not UTF-8 were replaced.
static std::string as_written(const std::string& name) {
  return Json::parse(json_line(Json(name))).get<std::string>();
}

std::string id_of(const TrialConfig& config) {
  const std::string text = json_line(config_json(config));
  runtime::Sha256 hash;
  hash.add(text.data(), text.size());
  return hash.hex().substr(0, kIdDigits);
}

RecipeFolder::RecipeFolder(std::string path, const RecipeIdentity& identity)
    : path_(std::move(path)), identity_(identity) {
  std::error_code error;
  const bool there = fs::exists(path_ + "/" + kIndex, error);
  if (!there && fs::is_directory(path_, error) && !fs::is_empty(path_, error))
    throw RunError(
        kExitUsage,
        fmt::format("recipe: {} holds other files, and none of a recipe ({}); name an empty or a new "
                    "folder with --out",
                    path_, kIndex));
  make_folder(path_);
  make_folder(path_ + "/" + kTrials);
  runtime::remove_abandoned(path_ + "/" + kTrials,
                            [](std::string_view name) { return name.ends_with(".json"); });
  for (const std::string& file : {path_ + "/" + kIndex, page(), path_ + "/" + kTrials + "/new.json"})
    runtime::check_output_path(file, "recipe's file");
  if (there) read();
  write();
}

void RecipeFolder::read() {
  const std::string index = path_ + "/" + kIndex;
  read_json(index, [&](const Json& j) {
    if (j.at("format") != kFormat)
      throw RunError(kExitUsage,
                     fmt::format("recipe: {} was written by another version of gradc; name another "
                                 "folder with --out",
                                 path_));
    const std::string model = j.at("model");
    if (model != as_written(identity_.model))
      throw RunError(kExitUsage, fmt::format("recipe: {} holds the trials of another model, {}; name another "
                                             "folder with --out",
                                             path_, model));
    const bool text = j.at("source_sha256") == identity_.source_sha256;
    if (!text || j.at("settings").get<std::map<std::string, std::string>>() != identity_.settings)
      throw RunError(
          kExitUsage,
          fmt::format("recipe: {} have changed since the trials in {} were run; name another folder "
                      "with --out, or remove that one",
                      text ? "the values of --set" : fmt::format("the lines of {}", model), path_));
    for (const Json& v : j.at("verdicts")) {
      const Verdict verdict = verdict_of(v);
      verdicts_[verdict.step] = verdict;
    }
  });
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(path_ + "/" + kTrials, error))
    if (entry.path().extension() == ".json")
      read_json(entry.path().string(), [&](const Json& j) { trials_.push_back(trial_of(j)); });
  std::sort(trials_.begin(), trials_.end(), before);
}

void RecipeFolder::write() const {
  Json verdicts = Json::array();
  for (const auto& [step, verdict] : verdicts_) verdicts.push_back(json_of(verdict));
  write_json(path_ + "/" + kIndex,
             {{"format", kFormat},
              {"gradc", GRADC_VERSION},
              {"model", identity_.model},
              {"source_sha256", identity_.source_sha256},
              {"settings", identity_.settings},
              {"verdicts", std::move(verdicts)}},
             "recipe's index");
}

const Trial* RecipeFolder::find(const TrialConfig& config) const {
  const std::string id = id_of(config);
  for (const Trial& t : trials_)
    if (t.id == id) return &t;
  return nullptr;
}

const Trial& RecipeFolder::add(Trial trial) {
  trial.id = id_of(trial.config);
  write_json(fmt::format("{}/{}/{}-{}.json", path_, kTrials, trial.config.step, trial.id), json_of(trial),
             "trial");
  const auto after = std::upper_bound(trials_.begin(), trials_.end(), trial, before);
  return *trials_.insert(after, std::move(trial));
}

void RecipeFolder::set(const Verdict& verdict) {
  verdicts_[verdict.step] = verdict;
  write();
}

}  // namespace gradc::cli
