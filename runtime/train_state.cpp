// The state of a run as JSON, and the rules that judge epochs.
#include "runtime/train_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

using Json = nlohmann::ordered_json;
constexpr int64_t kVersion = 1;

// JSON has no NaN: null.
Json number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }
double number(const Json& x) { return x.is_null() ? kNothing : x.get<double>(); }

}  // namespace

void Totals::add(const StepResult& step, int64_t rows) {
  if (metrics.empty())
    for (const auto& [name, value] : step.metrics) metrics.emplace_back(name, 0.0);
  examples += rows;
  loss += step.loss * static_cast<double>(rows);
  for (size_t i = 0; i < metrics.size(); ++i)
    metrics[i].second += step.metrics[i].second * static_cast<double>(rows);
}

double Totals::mean_loss() const { return examples ? loss / static_cast<double>(examples) : kNothing; }

Metrics Totals::mean_metrics() const {
  Metrics means = metrics;
  for (auto& [name, value] : means) value /= static_cast<double>(examples);
  return means;
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
  std::vector<size_t> order(files.size());  // those to keep first
  for (size_t i = 0; i < order.size(); ++i) order[i] = files.size() - 1 - i;
  if (!rule.best.part.empty())
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
  Json metrics = Json::array(), files = Json::array();
  for (const auto& [name, value] : totals.metrics)
    metrics.push_back({{"name", name}, {"sum", number(value)}});
  for (const KeptFile& f : kept) files.push_back({{"name", f.name}, {"value", number(f.value)}});
  Json numbers = Json::object();
  for (const auto& [name, value] : driver) numbers[name] = number(value);
  return Json{
      {"version", kVersion},
      {"seed", seed},
      {"total", total},
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
      {"totals", {{"examples", totals.examples}, {"loss", number(totals.loss)}, {"metrics", metrics}}},
      {"stop", {{"best", number(stop.best)}, {"epoch", stop.epoch}, {"bad", stop.bad}}},
      {"plateau",
       {{"factor", plateau.factor},
        {"best", number(plateau.best)},
        {"bad", plateau.bad},
        {"cooldown", plateau.cooldown}}},
      {"kept", files},
      {"driver", numbers},
      {"ended", ended}}
      .dump();
}

TrainState TrainState::parse(const std::string& text, const std::string& path) {
  const auto wrong = [&](const std::string& what) {
    return RunError(kExitDataError, fmt::format("{}: the state of the run in its metadata {}", path, what));
  };
  TrainState s;
  try {
    const Json j = Json::parse(text);
    if (const int64_t version = j.at("version"); version != kVersion)
      throw wrong(fmt::format("has version {}, this gradc reads {}", version, kVersion));
    s.seed = j.at("seed");
    s.total = j.at("total");
    s.shuffle = j.at("shuffle");
    s.lr_factor = j.at("lr_factor");
    s.batch = j.at("batch");
    s.accumulate = j.at("accumulate");
    s.examples = j.at("examples");
    s.step = j.at("step");
    s.micro_step = j.at("micro_step");
    s.epoch = j.at("epoch");
    s.update = j.at("update");
    s.lr = number(j.at("lr"));
    const Json& totals = j.at("totals");
    s.totals.examples = totals.at("examples");
    s.totals.loss = number(totals.at("loss"));
    for (const Json& m : totals.at("metrics"))
      s.totals.metrics.emplace_back(m.at("name").get<std::string>(), number(m.at("sum")));
    const Json& stop = j.at("stop");
    s.stop = {number(stop.at("best")), stop.at("epoch"), stop.at("bad")};
    const Json& plateau = j.at("plateau");
    s.plateau = {plateau.at("factor"), number(plateau.at("best")), plateau.at("bad"), plateau.at("cooldown")};
    for (const Json& f : j.at("kept")) s.kept.push_back({f.at("name"), number(f.at("value"))});
    for (const auto& [name, value] : j.at("driver").items()) s.driver[name] = number(value);
    s.ended = j.at("ended");
  } catch (const Json::exception& error) {
    throw wrong(fmt::format("does not read: {}", error.what()));
  }
  if (s.step < 0 || s.micro_step < 0 || s.epoch < 0 || s.update < 0 || s.total < 0)
    throw wrong("counts backwards");
  return s;
}

}  // namespace gradc::runtime
