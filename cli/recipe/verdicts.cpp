// Conclusions from the trials of `gradc recipe`: a verdict on each step, as text, and observations on a trial's curves.
// Pure functions of records.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "cli/recipe/recipe.h"

namespace gradc::cli {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

bool better(double a, double b, const Monitor& objective) { return objective.greater ? a > b : a < b; }

// The mean loss of updates from share `begin` of them to share `end`.
double mean_loss(const Trial& trial, double begin, double end) {
  const auto count = static_cast<double>(trial.losses.size());
  auto first = static_cast<size_t>(begin * count), last = static_cast<size_t>(std::ceil(end * count));
  last = std::min(std::max(last, first + 1), trial.losses.size());
  first = std::min(first, last - 1);
  double sum = 0;
  for (size_t i = first; i < last; ++i) sum += trial.losses[i].second;
  return sum / static_cast<double>(last - first);
}

std::string evaluated_split(const TrialEpoch& epoch) {
  for (const runtime::SplitResult& p : epoch.splits)
    if (p.split != "train") return p.split;
  return "";
}

std::string objective_text(const Monitor& m) { return fmt::format("{} {}", m.split, m.metric); }

std::string in_words(const RecipeModel& model, const Trial& trial, const Monitor& objective,
                     const BestValue& best) {
  return fmt::format("lr {}, weight decay {}: {} {} after {} of {} epochs", rate_text(trial.config.lr),
                     decay_text(trial.config), objective_text(objective),
                     metric_text(model, objective.metric, best.value), best.epoch, trial.config.epochs);
}

}  // namespace

const char* title_of(int step) {
  static const char* const titles[kRecipeSteps] = {"initial loss",  "overfit a few batches", "learning rates",
                                                   "coarse search", "refined search",        "curves",
                                                   "refined again"};
  return titles[step - 1];
}

const char* name_of(Status status) {
  switch (status) {
    case Status::pass: return "ok";
    case Status::warn: return "note";
    case Status::fail: return "FAIL";
    default: return "skipped";
  }
}

std::string rate_text(double rate) { return fmt::format("{:g}", rate); }

std::string metric_text(const RecipeModel& model, const std::string& metric, double value) {
  return model.is_share(metric) ? fmt::format("{:.2f}%", 100 * value) : fmt::format("{:.4g}", value);
}

std::string decay_text(const TrialConfig& config) {
  return config.weight_decay ? rate_text(*config.weight_decay) : "as in the file";
}

bool RecipeModel::is_share(const std::string& metric) const {
  return std::any_of(metrics.begin(), metrics.end(),
                     [&](const frontend::MetricFacts& m) { return m.name == metric && m.share; });
}

std::vector<std::string> RecipeModel::accuracies() const {
  std::vector<std::string> result;
  for (const frontend::MetricFacts& m : metrics)
    if (m.share && !m.grows_with_loss) result.push_back(m.name);
  return result;
}

double value_of(const TrialEpoch& epoch, const std::string& split, const std::string& metric) {
  for (const runtime::SplitResult& p : epoch.splits)
    if (p.split == split) return metric == "loss" ? p.loss : runtime::metric_of(p.metrics, metric);
  return kNaN;
}

std::optional<BestValue> best_value(const Trial& trial, const Monitor& objective) {
  std::optional<BestValue> best;
  for (const TrialEpoch& e : trial.epochs) {
    const double value = value_of(e, objective.split, objective.metric);
    if (std::isfinite(value) && (!best || better(value, best->value, objective)))
      best = BestValue{value, e.epoch};
  }
  return best;
}

const Trial* best_trial(const std::vector<Trial>& trials, const Monitor& objective,
                        const std::vector<int>& steps) {
  const Trial* best = nullptr;
  double value = 0, loss = 0;  // of equally good trials, the one with the lower loss
  for (const Trial& t : trials) {
    if (std::find(steps.begin(), steps.end(), t.config.step) == steps.end()) continue;
    const auto own = best_value(t, objective);
    if (!t.finite() || !own) continue;
    const auto own_loss = best_value(t, {objective.split, "loss", false});
    const double tie = own_loss ? own_loss->value : kInfinity;
    if (best && !better(own->value, value, objective) && !(own->value == value && tie < loss)) continue;
    best = &t;
    value = own->value;
    loss = tie;
  }
  return best;
}

namespace {

// "log(10)" where the number is that of a whole one, else "9".
std::string loss_text(double loss) {
  const double classes = std::round(std::exp(loss));
  return classes >= 2 && classes <= 1e6 && std::abs(loss - std::log(classes)) < 1e-6 / classes
             ? fmt::format("log({:.0f})", classes)
             : fmt::format("{:g}", loss);
}

}  // namespace

ExpectedLoss expected_loss(const RecipeModel& model) {
  ExpectedLoss expected;
  double sum = 0;
  std::vector<std::string> terms;
  for (const frontend::LossFacts& l : model.losses) {
    if (!l.at_equal_scores) {
      expected.text = fmt::format("no value of {} follows from equal scores alone",
                                  l.name.empty() ? "the loss" : fmt::format("the loss `{}`", l.name));
      return expected;
    }
    sum += l.weight * *l.at_equal_scores;
    const std::string value = loss_text(*l.at_equal_scores);
    terms.push_back(l.weight == 1 ? value : fmt::format("{:g} {}", l.weight, value));
  }
  expected.value = sum;
  expected.text = fmt::format("{}", fmt::join(terms, " + "));
  return expected;
}

Verdict judge_initial_loss(const RecipeModel& model, const InitialLoss& measured) {
  Verdict v;
  v.step = kInitialLoss;
  const ExpectedLoss expected = expected_loss(model);
  if (!measured.why_not.empty() || !expected.value) {
    v.status = Status::skip;
    const std::string why = measured.why_not.empty() ? expected.text : measured.why_not;
    v.text = fmt::format("{}, so that there is no number the loss must begin with", why);
    if (measured.why_not.empty() && std::isfinite(measured.loss))
      v.text += fmt::format("; it begins with {:.4f}", measured.loss);
    return v;
  }
  const std::string wanted = fmt::format("{} = {:.4f}", expected.text, *expected.value);
  if (!std::isfinite(measured.loss)) {
    v.status = Status::fail;
    v.text = fmt::format("the loss is not finite at the initial values; {} is expected", wanted);
    v.hints = {"`gradc stats` shows the layers whose values explode", "`gradc train` names the operation"};
    return v;
  }
  v.text =
      fmt::format("{:.4f} on {} examples without regularisation, where a model that knows nothing has {}",
                  measured.loss, measured.examples, wanted);
  const double scale = std::max(std::abs(*expected.value), 1e-12);
  if (measured.loss > *expected.value + kInitialLossTolerance * scale) {
    v.status = Status::fail;
    v.text += ": too high, the scores differ before anything was learnt";
    v.hints = {"smaller initial values in the last layer, as in dense(10, init=normal(0, 0.01))",
               "inputs of unit scale: `normalize image by channel` or `by standard` in the data block",
               "`gradc stats` shows a layer whose values explode"};
  } else if (measured.loss < *expected.value - kInitialLossTolerance * scale) {
    v.status = Status::fail;
    v.text += ": too low for a model that has seen nothing";
    v.hints = {"does the label, or what was made of it, reach the model's input?",
               "are the weights of the losses and the number of classes right?"};
  }
  if (measured.penalised) {
    v.text += fmt::format("; the penalties add {:.3g}", *measured.penalised - measured.loss);
    if (!(*measured.penalised >= measured.loss)) {
      v.status = Status::fail;
      v.hints.emplace_back("a penalty cannot make the loss smaller: is its sign wrong?");
    }
  }
  return v;
}

bool overfitted(const RecipeModel& model, const Trial& trial) {
  if (!trial.finite() || trial.epochs.empty() || trial.losses.empty()) return false;
  const std::vector<std::string> accuracies = model.accuracies();
  const TrialEpoch& last = trial.epochs.back();
  if (accuracies.empty())
    return value_of(last, "train", "loss") <= kOverfitLoss * trial.losses.front().second;
  return std::all_of(accuracies.begin(), accuracies.end(),
                     [&](const std::string& m) { return value_of(last, "train", m) >= trial.config.target; });
}

namespace {

// The results on the training examples in the last epoch: "accuracy 34.1%, loss 1.87".
std::string reached(const RecipeModel& model, const Trial& trial) {
  if (trial.epochs.empty()) return "no epoch was completed";
  std::vector<std::string> parts;
  for (const std::string& m : model.accuracies())
    parts.push_back(
        fmt::format("{} {}", m, metric_text(model, m, value_of(trial.epochs.back(), "train", m))));
  parts.push_back(fmt::format("loss {:.4g}", value_of(trial.epochs.back(), "train", "loss")));
  return fmt::format("{}", fmt::join(parts, ", "));
}

std::string what_failed(const RecipeModel& model, const Trial& trial) {
  return trial.finite() ? reached(model, trial) + fmt::format(" after {} epochs", trial.epochs.size())
                        : fmt::format("not finite in update {}", trial.failed_update);
}

}  // namespace

Verdict judge_overfit(const RecipeModel& model, const std::vector<Trial>& trials, int64_t examples) {
  Verdict v;
  v.step = kOverfit;
  const Trial& last = trials.back();
  if (overfitted(model, last)) {
    v.text = fmt::format("{} on {} examples after {} epochs at lr {}", reached(model, last), examples,
                         last.epochs.size(), rate_text(last.config.lr));
    if (last.config.lr == model.lr) {
      v.text += ", the file's";
      return v;
    }
    v.status = Status::warn;
    v.text += fmt::format(", but not at the file's lr {}: {}", rate_text(model.lr),
                          what_failed(model, trials.front()));
    v.hints = {fmt::format("the file's learning rate is too {}", model.lr > last.config.lr ? "high" : "low")};
    return v;
  }
  v.status = Status::fail;
  std::vector<std::string> rates;
  const Trial* nearest = nullptr;
  for (const Trial& t : trials) {
    rates.push_back(rate_text(t.config.lr));
    if (!t.finite() || t.epochs.empty()) continue;
    if (!nearest ||
        value_of(t.epochs.back(), "train", "loss") < value_of(nearest->epochs.back(), "train", "loss"))
      nearest = &t;
  }
  v.text = fmt::format("the network cannot overfit {} examples with lr {}", examples, fmt::join(rates, ", "));
  if (nearest)
    v.text +=
        fmt::format("; nearest: {} at lr {}", what_failed(model, *nearest), rate_text(nearest->config.lr));
  else
    v.text += ": the loss was not finite at any of them";
  v.hints = {
      "too small a network: more units or layers",
      "units that are dead or saturated from the start: `gradc stats`",
      "labels that do not belong to their examples, or two equal examples with different labels",
      "a frozen layer, or a loss whose gradient vanishes: `gradc check`, `gradc stats`",
      "longer: --overfit-epochs; where 100 % cannot be had (text, equal examples): --overfit-accuracy"};
  return v;
}

double fall(const Trial& trial) {
  if (!trial.finite() || trial.losses.empty()) return -kInfinity;
  const double first = trial.losses.front().second, last = mean_loss(trial, 0.9, 1);
  return (first - last) / std::max(std::abs(first), 1e-12);
}

std::optional<std::pair<double, double>> promising_rates(const std::vector<Trial>& trials) {
  double best = kFall;
  bool any = false;
  for (const Trial& t : trials) {
    if (t.config.step != kRates || fall(t) < best) continue;
    best = fall(t);
    any = true;
  }
  if (!any) return std::nullopt;
  double low = kInfinity, high = 0;
  for (const Trial& t : trials) {
    if (t.config.step != kRates || fall(t) < std::max(best / 2, kFall)) continue;
    low = std::min(low, t.config.lr);
    high = std::max(high, t.config.lr);
  }
  return std::pair{low / std::sqrt(10.0), high * std::sqrt(10.0)};
}

Verdict judge_rates(const RecipeModel& model, const std::vector<Trial>& trials) {
  Verdict v;
  v.step = kRates;
  const Trial *best = nullptr, *own = nullptr;
  std::vector<std::string> falling, flat, lost;
  for (const Trial& t : trials) {
    const std::string rate = rate_text(t.config.lr);
    if (t.config.lr == model.lr) own = &t;
    if (!t.finite()) {
      lost.push_back(fmt::format("{} (not finite in update {})", rate, t.failed_update));
    } else if (fall(t) < kFall) {
      flat.push_back(
          fmt::format("{} ({:.4g} to {:.4g})", rate, t.losses.front().second, mean_loss(t, 0.9, 1)));
    } else {
      falling.push_back(
          fmt::format("{} ({:.4g} to {:.4g})", rate, t.losses.front().second, mean_loss(t, 0.9, 1)));
      if (!best || fall(t) > fall(*best)) best = &t;
    }
  }
  if (!best) {
    v.status = Status::fail;
    v.text = fmt::format("no rate makes the loss fall by {:g} % within {} updates", 100 * kFall,
                         trials.front().config.updates);
    if (!flat.empty()) v.text += fmt::format("; it stays at {}", fmt::join(flat, ", "));
    if (!lost.empty()) v.text += fmt::format("; too high: {}", fmt::join(lost, ", "));
    v.hints = {"step 2 says whether the network learns a few examples at all",
               "other rates: --rates; more updates: --rate-updates",
               "is the loss lost in noise, or the data not learnable (as `random`)?"};
    return v;
  }
  v.text = fmt::format("the loss falls with {}; fastest with {}", fmt::join(falling, ", "),
                       rate_text(best->config.lr));
  if (!flat.empty()) v.text += fmt::format("; it does not with {}", fmt::join(flat, ", "));
  if (!lost.empty()) v.text += fmt::format("; too high: {}", fmt::join(lost, ", "));
  if (own && (!own->finite() || fall(*own) < kFall)) {
    v.status = Status::warn;
    const bool high = !own->finite() || own->config.lr > best->config.lr;
    v.hints.push_back(fmt::format("the file's lr {} is too {}; {} is a better start", rate_text(model.lr),
                                  high ? "high" : "low", rate_text(best->config.lr)));
  }
  return v;
}

Verdict judge_search(const RecipeModel& model, int step, const std::vector<Trial>& trials,
                     const Monitor& objective, const RateRange& range) {
  Verdict v;
  v.step = step;
  const auto lost = std::count_if(trials.begin(), trials.end(), [](const Trial& t) { return !t.finite(); });
  const Trial* best = best_trial(trials, objective, {step});
  if (!best) {
    v.status = Status::fail;
    v.text =
        fmt::format("none of {} trials ended with a finite {}", trials.size(), objective_text(objective));
    v.hints = {"lower rates: --lr-range", "step 3 shows which rates make the loss fall"};
    return v;
  }
  v.text = fmt::format("best of {}: {}", trials.size(),
                       in_words(model, *best, objective, *best_value(*best, objective)));
  if (lost > 0) v.text += fmt::format("; {} not finite", lost);
  // Within a tenth of the range (on the scale of logarithms) of one of its ends.
  const double place = (std::log(best->config.lr) - std::log(range.low)) /
                       std::max(std::log(range.high) - std::log(range.low), 1e-12);
  if (step == kCoarse && trials.size() > 2 && range.high > range.low && (place < 0.1 || place > 0.9)) {
    v.status = Status::warn;
    v.hints.push_back(
        fmt::format("the best rate lies at the {} end of {} .. {}: look further with --lr-range",
                    place < 0.5 ? "lower" : "upper", rate_text(range.low), rate_text(range.high)));
  }
  v.hints.push_back(fmt::format(
      "in the file: `optimizer {}(lr={}{})`", model.optimizer, rate_text(best->config.lr),
      best->config.weight_decay ? fmt::format(", weight_decay={}", rate_text(*best->config.weight_decay))
                                : ""));
  return v;
}

std::vector<std::string> look_at_curves(const RecipeModel& model, const Trial& trial,
                                        const Monitor& objective) {
  if (!trial.finite())
    return {
        fmt::format("the loss became not finite in update {}: the rate is too high", trial.failed_update)};
  std::vector<std::string> seen;
  if (trial.losses.size() < 10 || trial.epochs.empty()) return seen;
  const double first = trial.losses.front().second, early = mean_loss(trial, 0, 0.2),
               last = mean_loss(trial, 0.9, 1);
  const double before = mean_loss(trial, 0.6, 0.7);
  const double drop = first - last, scale = std::max(std::abs(first), 1e-12);
  if (drop < kFall * scale) {
    seen.push_back(
        drop < -kFall * scale
            ? "the training loss rises: the rate is too high"
            : "the training loss hardly moves: the rate is too low or too high, or nothing can be learnt");
    return seen;
  }
  if (first - early < 0.02 * scale)
    seen.push_back(
        "the loss does not fall at first and falls later: unlucky initial values, or a rate that needs a "
        "warm-up");
  // How far single updates deviate from their neighbours, compared with the whole change of the loss.
  double stray = 0;
  const size_t half = trial.losses.size() / 2;
  for (size_t i = half + 1; i < trial.losses.size(); ++i)
    stray += std::pow(trial.losses[i].second - trial.losses[i - 1].second, 2) / 2;
  stray = std::sqrt(stray / static_cast<double>(trial.losses.size() - half - 1));
  if (stray > 0.3 * drop)
    seen.push_back("the loss of single updates strays widely: a lower rate or a larger batch is smoother");
  const TrialEpoch& end = trial.epochs.back();
  const std::string split = evaluated_split(end);
  if (!split.empty()) {
    const std::vector<std::string> accuracies = model.accuracies();
    const std::string& metric = accuracies.empty() ? "loss" : accuracies.front();
    const double train = value_of(end, "train", metric), val = value_of(end, split, metric);
    const double gap = accuracies.empty() ? (val - train) / std::max(std::abs(train), 1e-12) : train - val;
    if (gap > (accuracies.empty() ? 0.5 : 0.05))
      seen.push_back(
          fmt::format("a wide gap, {} {} on train and {} on {}: overfitting; more data, augmentation, "
                      "dropout or weight decay",
                      metric, metric_text(model, metric, train), metric_text(model, metric, val), split));
    const auto best = best_value(trial, {split, "loss", false});
    const double final = value_of(end, split, "loss");
    const bool rises = best && end.epoch - best->epoch >= std::max<int64_t>(2, end.epoch / 5) &&
                       final > best->value + 0.05 * std::abs(best->value);
    if (rises)
      seen.push_back(
          fmt::format("the {} loss is least in epoch {} and rises from there: stop earlier or regularise",
                      split, best->epoch));
    else if (gap < (accuracies.empty() ? 0.05 : 0.01) && (accuracies.empty() || train < 0.99))
      seen.push_back(
          fmt::format("{} is no worse than train: a larger network, less regularisation or longer "
                      "training may do better",
                      split));
    const auto goal = best_value(trial, objective);
    if (goal && goal->epoch == end.epoch && trial.epochs.size() > 1)
      seen.push_back("the last epoch is the best: train longer");
  }
  if (before - last < 0.01 * drop && stray > 0.02 * drop)
    seen.push_back("the training loss has stopped falling: now a schedule that lowers the rate helps");
  return seen;
}

Verdict judge_curves(const RecipeModel& model, const std::vector<Trial>& trials, const Monitor& objective) {
  Verdict v;
  v.step = kCurves;
  const Trial* best = best_trial(trials, objective, {kCoarse, kRefine, kRepeat});
  if (!best) {
    v.status = Status::skip;
    v.text = "there is no trial of steps 4, 5 or 7 to look at";
    return v;
  }
  v.text =
      fmt::format("of the best trial: {}", in_words(model, *best, objective, *best_value(*best, objective)));
  v.hints = look_at_curves(model, *best, objective);
  if (v.hints.empty()) v.text += "; its curves show nothing out of the ordinary";
  return v;
}

}  // namespace gradc::cli
