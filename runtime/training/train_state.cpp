// The state of a run as JSON, and the rules that are applied to epochs.
#include "runtime/training/train_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "support/check.h"
#include "support/diagnostic.h"
#include "support/json_line.h"

namespace gradc::runtime {
namespace {

using Json = nlohmann::ordered_json;
constexpr int64_t kVersion = 1;
constexpr uint64_t kMostCounted = uint64_t{1} << 60;  // so that sums of counts fit

// JSON has no NaN: null.
Json number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }
double number(const Json& x) { return x.is_null() ? kNothing : x.get<double>(); }

// A count or position. A number with a fraction or an exponent is rejected: it might not fit.
int64_t count_of(const Json& object, const char* key) {
  const Json& value = object.at(key);
  if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > kMostCounted))
    throw std::out_of_range(fmt::format("`{}` is {}, no count", key, json_line(value)));
  const int64_t count = value;
  if (count < 0) throw std::out_of_range(fmt::format("`{}` counts backwards: {}", key, count));
  return count;
}

}  // namespace

bool is_checkpoint_name(std::string_view name) {
  constexpr std::string_view kSuffix = ".safetensors";
  if (!name.ends_with(kSuffix)) return false;
  name.remove_suffix(kSuffix.size());
  if (name == "last") return true;
  for (const std::string_view prefix : {"epoch-", "step-"})
    if (name.starts_with(prefix))
      return name.size() > prefix.size() &&
             name.find_first_not_of("0123456789", prefix.size()) == std::string_view::npos;
  return false;
}

bool is_better(double value, double best, bool greater, double threshold) {
  if (std::isnan(value)) return false;
  if (std::isnan(best)) return true;
  return greater ? value > best * (1 + threshold) : value < best * (1 - threshold);
}

bool StopState::add(double value, int64_t epochs, const StopRule& rule) {
  if (!is_better(value, best, rule.monitor.greater)) {
    ++bad;
    return false;
  }
  best = value;
  epoch = epochs;
  bad = 0;
  return true;
}

bool PlateauState::add(double value, const PlateauRule& rule) {
  if (is_better(value, best, rule.monitor.greater, rule.threshold)) {
    best = value;
    bad = 0;
  } else {
    ++bad;
  }
  if (cooldown > 0) {
    --cooldown;
    bad = 0;
  }
  if (bad <= rule.patience) return false;
  factor *= rule.factor;
  cooldown = rule.cooldown;
  bad = 0;
  return true;
}

std::vector<std::string> drop_files(std::vector<KeptFile>& files, const CheckpointRule& rule) {
  std::vector<std::string> dropped;
  if (rule.keep == 0 || files.empty()) return dropped;
  std::vector<size_t> order(files.size());  // sorted: those to keep first
  for (size_t i = 0; i < order.size(); ++i) order[i] = files.size() - 1 - i;
  if (!rule.best.split.empty())
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return is_better(files[a].value, files[b].value, rule.best.greater);
    });
  std::vector<bool> keep(files.size(), false);
  keep.back() = true;
  for (size_t i = 0; i < order.size() && i < static_cast<size_t>(rule.keep); ++i) keep[order[i]] = true;
  std::vector<KeptFile> left;
  for (size_t i = 0; i < files.size(); ++i) {
    if (keep[i])
      left.push_back(files[i]);
    else
      dropped.push_back(files[i].name);
  }
  files = std::move(left);
  return dropped;
}

std::string TrainState::json() const {
  Json metrics = Json::array(), files = Json::array(), loss = 0;
  for (const SavedSum& s : totals.saved()) {
    if (s.name == "loss")
      loss = number(s.sum);
    else
      metrics.push_back({{"name", s.name}, {"sum", number(s.sum)}, {"examples", s.rows}});
  }
  for (const KeptFile& f : kept) files.push_back({{"name", f.name}, {"value", number(f.value)}});
  Json numbers = Json::object();
  for (const auto& [name, value] : full_batch) numbers[name] = number(value);
  return json_line(Json{{"version", kVersion},
                        {"seed", seed},
                        {"total", total},
                        {"epochs", epochs},
                        {"shuffle", shuffle},
                        {"lr_factor", lr_factor},
                        {"batch", batch},
                        {"accumulate", accumulate},
                        {"examples", examples},
                        {"step", step},
                        {"micro_step", micro_step},
                        {"epoch", epoch},
                        {"update", update},
                        {"lr", number(lr)},
                        {"totals", {{"examples", totals.examples()}, {"loss", loss}, {"metrics", metrics}}},
                        {"stop", {{"best", number(stop.best)}, {"epoch", stop.epoch}, {"bad", stop.bad}}},
                        {"plateau",
                         {{"factor", plateau.factor},
                          {"best", number(plateau.best)},
                          {"bad", plateau.bad},
                          {"cooldown", plateau.cooldown}}},
                        {"kept", files},
                        {"dropped", dropped},
                        {"full_batch", numbers},
                        {"ended", ended}});
}

TrainState TrainState::parse(const std::string& text, const std::string& path) {
  const auto wrong = [&](const std::string& what) {
    return RunError(kExitDataError, fmt::format("{}: the state of the run in its metadata {}", path, what));
  };
  TrainState s;
  try {
    const Json j = Json::parse(text);
    if (const int64_t version = count_of(j, "version"); version != kVersion)
      throw wrong(fmt::format("has version {}, this gradc reads {}", version, kVersion));
    if (!j.at("seed").is_number_integer()) throw std::out_of_range("`seed` is no whole number");
    s.seed = j.at("seed");
    s.total = count_of(j, "total");
    s.shuffle = j.at("shuffle");
    s.lr_factor = j.at("lr_factor");
    s.batch = count_of(j, "batch");
    s.accumulate = count_of(j, "accumulate");
    s.examples = count_of(j, "examples");
    s.step = count_of(j, "step");
    s.micro_step = count_of(j, "micro_step");
    s.epoch = count_of(j, "epoch");
    s.update = count_of(j, "update");
    s.lr = number(j.at("lr"));
    const Json& totals = j.at("totals");
    s.totals.kept_examples = count_of(totals, "examples");
    s.totals.kept.push_back({"loss", number(totals.at("loss")), s.totals.kept_examples});
    for (const Json& m : totals.at("metrics"))
      s.totals.kept.push_back({m.at("name").get<std::string>(), number(m.at("sum")),
                               m.contains("examples") ? count_of(m, "examples") : s.totals.kept_examples});
    const Json& stop = j.at("stop");
    s.stop = {number(stop.at("best")), count_of(stop, "epoch"), count_of(stop, "bad")};
    const Json& plateau = j.at("plateau");
    s.plateau = {plateau.at("factor"), number(plateau.at("best")), count_of(plateau, "bad"),
                 count_of(plateau, "cooldown")};
    for (const Json& f : j.at("kept")) s.kept.push_back({f.at("name"), number(f.at("value"))});
    for (const auto& [name, value] : j.at("full_batch").items()) s.full_batch[name] = number(value);
    s.ended = j.at("ended");
    // Keys that earlier versions did not write.
    if (j.contains("epochs")) s.epochs = count_of(j, "epochs");
    if (j.contains("dropped")) s.dropped = j.at("dropped").get<std::vector<std::string>>();
  } catch (const Json::exception& error) {
    throw wrong(fmt::format("does not read: {}", error.what()));
  } catch (const std::out_of_range& error) {
    throw wrong(fmt::format("does not read: {}", error.what()));
  }
  // The run will remove these files, so their names are checked.
  std::vector<std::string> files = s.dropped;
  for (const KeptFile& f : s.kept) files.push_back(f.name);
  for (const std::string& name : files)
    if (!is_checkpoint_name(name))
      throw wrong(
          fmt::format("counts {} among the files of its checkpoints; expected epoch-N, step-N or last, "
                      "with .safetensors",
                      json_line(Json(name))));
  return s;
}

}  // namespace gradc::runtime
