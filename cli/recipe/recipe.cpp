// `gradc recipe`: decides which trials to run, step by step, reports their results, and writes the page.
// docs/recipe.md. Knows no operator.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/command.h"
#include "cli/recipe/folder.h"
#include "cli/recipe/page.h"
#include "cli/recipe/trials.h"
#include "runtime/execution/report.h"
#include "runtime/files.h"
#include "runtime/interrupt.h"
#include "runtime/progress.h"
#include "runtime/sha256.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/philox.h"

namespace gradc::cli {

namespace {

// `gradc recipe`; docs/recipe.md describes how the steps use these.
struct RecipeOptions {
  ModelOptions model;
  std::string steps = "1-6";
  std::string folder;  // empty: the model's name and ".recipe"
  std::optional<uint64_t> seed;
  std::string objective;  // "accuracy", "min error"; empty: RecipeModel::accuracies()' first, else the loss
  bool keep_going = false;
  bool schedule = false;  // use the file's schedule in searches
  int64_t overfit_batches = 10, overfit_epochs = 200;
  double overfit_accuracy = 1;
  std::vector<double> rates = {1e-1, 1e-2, 1e-3, 1e-4};
  int64_t rate_updates = 100;
  std::vector<double> lr_range;  // two: low and high; empty: from step 3
  std::vector<double> decays = {1e-4, 1e-5, 0};
  int64_t trials = 12, refine_trials = 6;
  int64_t epochs = 3, refine_epochs = 15;
  int64_t grid = 0;    // rates of a grid; 0: at random
  int64_t rounds = 1;  // of step 7
};

using Json = nlohmann::ordered_json;

constexpr RateRange kAllRates = {1e-4, 1e-1};  // searched if step 3 was not run
constexpr double kRefineFactor = 3;            // around the best rate, either way

// "1-3,5" as the numbers of steps.
std::set<int> steps_of(const std::string& text) {
  const auto refuse = [&](const std::string& what) -> RunError {
    std::string all;
    for (int step = 1; step <= kRecipeSteps; ++step)
      all += fmt::format("{}{} {}", step == 1 ? "" : ", ", step, title_of(step));
    return RunError(kExitUsage, fmt::format("recipe: --steps {}: {}; expected numbers and ranges, as 1-4 or "
                                            "3,5. The steps are {}",
                                            text, what, all));
  };
  std::set<int> steps;
  size_t at = 0;
  const auto digit = [&] {
    const size_t begin = at;
    while (at < text.size() && text[at] >= '0' && text[at] <= '9') ++at;
    const std::string word = text.substr(begin, at - begin);
    if (word.empty())
      throw refuse(begin < text.size() ? fmt::format("'{}' is no step", text.substr(begin))
                                       : "a number is missing");
    if (word.size() > 1 || word[0] < '1' || word[0] > '0' + kRecipeSteps)
      throw refuse(fmt::format("there is no step {}", word));
    return word[0] - '0';
  };
  do {
    const int first = digit();
    int last = first;
    if (at < text.size() && text[at] == '-') {
      ++at;
      last = digit();
      if (last < first) throw refuse(fmt::format("{}-{} is empty", first, last));
    }
    for (int step = first; step <= last; ++step) steps.insert(step);
    if (at < text.size() && text[at] != ',') throw refuse(fmt::format("'{}' is no step", text.substr(at)));
  } while (at++ < text.size());
  return steps;
}

void check_numbers(const RecipeOptions& o) {
  const auto refuse = [](const std::string& text) { throw RunError(kExitUsage, "recipe: " + text); };
  const auto distinct = [&](const std::vector<double>& list, const char* option) {
    if (std::set<double>(list.begin(), list.end()).size() != list.size())
      refuse(fmt::format("{} names a number twice", option));
  };
  for (const double rate : o.rates)
    if (!(rate > 0) || !std::isfinite(rate))
      refuse(fmt::format("--rates: a learning rate of {:g}; expected numbers above 0", rate));
  for (const double decay : o.decays)
    if (!(decay >= 0) || !std::isfinite(decay))
      refuse(fmt::format("--weight-decay: {:g}; expected numbers from 0", decay));
  distinct(o.rates, "--rates");
  distinct(o.decays, "--weight-decay");
  if (o.lr_range.empty()) return;
  if (o.lr_range.size() != 2)
    refuse(fmt::format("--lr-range: expected two learning rates LOW,HIGH, not {}", o.lr_range.size()));
  const double low = o.lr_range[0], high = o.lr_range[1];
  if (!(low > 0) || !std::isfinite(high))
    refuse(fmt::format("--lr-range {:g},{:g}: learning rates are numbers above 0", low, high));
  if (!(low < high)) refuse(fmt::format("--lr-range {:g},{:g} is empty: LOW comes first", low, high));
}

// The objective of the search, on the split `val`.
Monitor objective_of(const std::string& text, const RecipeModel& model) {
  Monitor m{"val", "loss", false};
  if (text.empty()) {
    const std::vector<std::string> accuracies = model.accuracies();
    if (!accuracies.empty()) m = {"val", accuracies.front(), true};
    return m;
  }
  std::string name = text;
  std::optional<bool> greater;
  for (const auto& [word, is_greater] : {std::pair{"min ", false}, std::pair{"max ", true}})
    if (name.starts_with(word)) {
      greater = is_greater;
      name = name.substr(4);
    }
  if (name.starts_with("val.")) name = name.substr(4);
  std::vector<std::string> known = {"loss"};
  for (const frontend::MetricFacts& metric : model.metrics) known.push_back(metric.name);
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    const std::string near = nearest_name(name, known);
    throw RunError(
        kExitUsage,
        fmt::format("recipe: --objective {}: the model has no '{}' on the split `val`; {}", text, name,
                    near.empty() ? fmt::format("there are {}", fmt::join(known, ", "))
                                 : fmt::format("did you mean '{}'?", near)));
  }
  m.metric = name;
  m.greater = greater.value_or(name != "loss");
  return m;
}

class Recipe {
 public:
  explicit Recipe(const RecipeOptions& options)
      : o_(options), steps_(steps_of(options.steps)), progress_(stderr, shown_progress()) {
    check_numbers(o_);
    const CompileRequest request = compile_request(o_.model);
    describe(request);
    objective_ = objective_of(o_.objective, model_);
    if (model_.lr == 0 && !model_.line_search)
      throw RunError(kExitUsage,
                     fmt::format("recipe: `{}` has lr=0: rates are tried as factors on it; give it "
                                 "another",
                                 model_.optimizer));
    open_folder();
    runner_.emplace(request, o_.model.threads);
    if (runner_->validation() != "val")
      say(
          fmt::format("the data have no split `val`: trials are judged on a tenth of train, held back here; "
                      "`split val = {:g} of train` in the data block makes one",
                      kHeldBack));
  }

  int run() {
    for (const int step : steps_) {
      if (interrupt_.interrupted()) break;
      one_step(step);
    }
    write_page();
    return end();
  }

 private:
  runtime::ProgressMode shown_progress() const {
    return o_.model.json ? runtime::ProgressMode::off : runtime::ProgressMode::automatic;
  }

  void describe(const CompileRequest& request) {
    CompileRequest asking = request;
    asking.facts = true;
    const std::unique_ptr<LoadedModel> loaded = load_model(asking);
    const TrainRecord& train = loaded->model.experiment.train;
    model_.file = std::filesystem::path(o_.model.file).filename().string();
    model_.losses = loaded->model.losses;
    model_.metrics = loaded->model.metrics;
    model_.optimizer = train.optimizers.front().name;
    model_.lr = train.optimizers.front().lr;
    model_.penalised = train.penalised;
    model_.line_search = train.line_search;
    model_.seed = o_.seed.value_or(static_cast<uint64_t>(train.seed));
    runtime::Sha256 hash;
    const std::string& text = loaded->sources.text(loaded->file);
    hash.add(text.data(), text.size());
    identity_ = {model_.file, hash.hex(), request.settings};
  }

  void open_folder() {
    const std::string name = std::filesystem::path(o_.model.file).stem().string() + ".recipe";
    folder_.emplace(o_.folder.empty() ? name : o_.folder, identity_);
    if (steps_.count(kCoarse) || model_.line_search) return;
    for (const int step : {kRefine, kRepeat})
      if (steps_.count(step) && of_steps({kCoarse}).empty())
        throw RunError(kExitUsage, fmt::format("recipe: step {} refines around the best trial of step 4, of "
                                               "which {} has none; --steps 4-{}",
                                               step, folder_->path(), step));
  }

  void one_step(int step) {
    const bool search = step == kCoarse || step == kRefine || step == kRepeat;
    if (model_.line_search && (search || step == kRates))
      return conclude(
          {step,
           Status::skip,
           fmt::format("`{}` finds the lengths of its steps by itself: there is no rate to search",
                       model_.optimizer),
           {}});
    if (search && failed_ > 0 && !o_.keep_going)
      return conclude(
          {step,
           Status::skip,
           fmt::format("not begun: step {} failed, and a search would be wasted on such a model", failed_),
           {fmt::format("--keep-going searches regardless, --steps {} does so alone", step)}});
    switch (step) {
      case kInitialLoss: return initial_loss();
      case kOverfit: return overfit();
      case kRates: return rates();
      case kCoarse: return coarse();
      case kRefine: return refine(kRefine, kRefineFactor, of_steps({kCoarse}));
      case kCurves: return conclude(judge_curves(model_, folder_->trials(), objective_));
      default: return repeat();
    }
  }

  // --- the steps

  void initial_loss() {
    const ExpectedLoss expected = expected_loss(model_);
    InitialLoss measured = runner_->initial_loss(model_.seed, o_.overfit_batches, model_.penalised);
    if (expected.value && std::abs(*expected.value) < 1e-9)
      measured.why_not = "the loss begins at 0 by itself";
    conclude(judge_initial_loss(model_, measured));
  }

  void overfit() {
    // The file's rate first, then the others in order of distance from it.
    std::vector<double> rates = {model_.lr};
    if (!model_.line_search) {
      std::vector<double> others = o_.rates;
      std::stable_sort(others.begin(), others.end(), [&](double a, double b) {
        return std::abs(std::log(a / model_.lr)) < std::abs(std::log(b / model_.lr));
      });
      for (const double rate : others)
        if (rate != model_.lr) rates.push_back(rate);
    }
    std::vector<TrialConfig> plan;
    for (const double rate : rates)
      plan.push_back({.step = kOverfit,
                      .lr = rate,
                      .weight_decay = model_.line_search ? std::optional<double>() : 0.0,
                      .regularised = false,
                      .batches = o_.overfit_batches,
                      .epochs = o_.overfit_epochs,
                      .target = o_.overfit_accuracy,
                      .seed = model_.seed});
    const int64_t examples = runner_->examples(o_.overfit_batches);
    heading(kOverfit, fmt::format("{} examples, without regularisation and augmentation, {} epochs at most",
                                  examples, o_.overfit_epochs));
    const auto trials = run_all(plan, [&](const Trial& t) { return overfitted(model_, t); });
    if (trials) conclude(judge_overfit(model_, *trials, examples));
  }

  void rates() {
    std::vector<double> rates = o_.rates;
    if (std::find(rates.begin(), rates.end(), model_.lr) == rates.end()) rates.push_back(model_.lr);
    std::sort(rates.begin(), rates.end(), std::greater<>());
    std::vector<TrialConfig> plan;
    for (const double rate : rates)
      plan.push_back({.step = kRates, .lr = rate, .updates = o_.rate_updates, .seed = model_.seed});
    heading(kRates, fmt::format("{} updates each, on all training examples", o_.rate_updates));
    const auto trials = run_all(plan);
    if (trials) conclude(judge_rates(model_, *trials));
  }

  void coarse() {
    RateRange range = kAllRates;
    if (!o_.lr_range.empty())
      range = {o_.lr_range[0], o_.lr_range[1]};
    else if (const auto found = promising_rates(folder_->trials()))
      range = {found->first, found->second};
    search(kCoarse, 0, range, o_.decays, o_.trials, o_.epochs);
  }

  // Searches around the best trial of `known`, with the weight decays of the best third of them.
  void refine(int step, double factor, std::vector<Trial> known, int round = 0) {
    const std::vector<int> steps = {kCoarse, kRefine, kRepeat};
    const Trial* best = best_trial(known, objective_, steps);
    if (!best) {
      if (interrupt_.interrupted()) return;
      return conclude({step, Status::skip, "no trial before it has a finite loss", {}});
    }
    const double lr = best->config.lr;
    const size_t third = std::max<size_t>(1, known.size() / 3);
    std::vector<double> decays;
    for (size_t i = 0; i < third; ++i) {
      const Trial* next = best_trial(known, objective_, steps);
      if (!next) break;
      const std::optional<double> decay = next->config.weight_decay;
      if (decay && std::find(decays.begin(), decays.end(), *decay) == decays.end()) decays.push_back(*decay);
      const std::string id = next->id;
      std::erase_if(known, [&](const Trial& t) { return t.id == id; });
    }
    search(step, round, {lr / factor, lr * factor}, decays, o_.refine_trials, o_.refine_epochs);
  }

  void repeat() {
    std::vector<Trial> known = of_steps({kCoarse, kRefine});
    double factor = kRefineFactor;
    for (int round = 1; round <= o_.rounds && !interrupt_.interrupted(); ++round) {
      factor = std::sqrt(factor);
      refine(kRepeat, factor, known, round);
      for (const Trial& t : last_search_) known.push_back(t);
    }
  }

  void search(int step, int round, RateRange range, const std::vector<double>& decays, int64_t count,
              int64_t epochs) {
    std::vector<TrialConfig> plan;
    const auto add = [&](double lr, double decay) {
      plan.push_back({.step = step,
                      .lr = lr,
                      .weight_decay = decay,
                      .schedule = o_.schedule,
                      .epochs = epochs,
                      .seed = model_.seed,
                      .validation = runner_->validation()});
    };
    const double low = std::log(range.low), high = std::log(range.high);
    // Three digits: a rate that can be typed.
    const auto rate_at = [&](double share) {
      return std::stod(fmt::format("{:.3g}", std::exp(low + share * (high - low))));
    };
    if (o_.grid > 0) {
      for (int64_t i = 0; i < o_.grid; ++i)
        for (const double decay : decays)
          add(rate_at(o_.grid == 1 ? 0.5 : static_cast<double>(i) / static_cast<double>(o_.grid - 1)), decay);
    } else {
      const auto key = static_cast<uint64_t>(step) * 1000 + static_cast<uint64_t>(round);
      std::set<std::pair<double, double>> drawn;
      // A pair that was drawn before is rejected; a narrow range may not have so many.
      for (uint64_t i = 0; std::ssize(plan) < count && i < 100 * static_cast<uint64_t>(count); ++i) {
        const double which = uniform_from_word(random_word(model_.seed, key, 0, i, 1));
        const double decay = decays[static_cast<size_t>(which * static_cast<double>(decays.size()))];
        const double lr = rate_at(uniform_from_word(random_word(model_.seed, key, 0, i, 0)));
        if (drawn.emplace(lr, decay).second) add(lr, decay);
      }
    }
    heading(step, fmt::format("{} trials of {} epoch{}, lr {:.3g} .. {:.3g} {}, weight decay {}", plan.size(),
                              epochs, epochs == 1 ? "" : "s", range.low, range.high,
                              o_.grid > 0 ? "in a grid" : "at random", fmt::join(decays, ", ")));
    const auto trials = run_all(plan);
    last_search_ = trials.value_or(std::vector<Trial>());
    if (trials) conclude(judge_search(model_, step, *trials, objective_, range));
  }

  // --- running

  std::vector<Trial> of_steps(const std::vector<int>& steps) const {
    std::vector<Trial> result;
    for (const Trial& t : folder_->trials())
      if (std::find(steps.begin(), steps.end(), t.config.step) != steps.end()) result.push_back(t);
    return result;
  }

  // The trials of a plan, run or found in the folder; none when interrupted.
  std::optional<std::vector<Trial>> run_all(const std::vector<TrialConfig>& plan,
                                            const std::function<bool(const Trial&)>& enough = {}) {
    std::vector<Trial> trials;
    for (size_t i = 0; i < plan.size(); ++i) {
      const std::string label = fmt::format("trial {}/{}", i + 1, plan.size());
      const Trial* known = folder_->find(plan[i]);
      if (known) {
        trials.push_back(*known);
        ++kept_;
      } else {
        const auto shown = [&](int64_t done, int64_t total) {
          if (progress_.due())
            progress_.update(fmt::format("step {}, {}", plan[i].step, label), done, total,
                             fmt::format("lr {}", rate_text(plan[i].lr)));
        };
        if (interrupt_.interrupted()) return std::nullopt;
        std::optional<Trial> trial = runner_->run(plan[i], model_, interrupt_, shown);
        progress_.clear();
        if (!trial) return std::nullopt;
        trials.push_back(folder_->add(std::move(*trial)));
        ++run_;
      }
      report(trials.back(), label, known != nullptr);
      if (enough && enough(trials.back())) break;
    }
    return trials;
  }

  // --- telling

  void say(const std::string& text) { fmt::print(stderr, "gradc: {}\n", text); }

  void heading(int step, const std::string& text) {
    if (!o_.model.json) runtime::write_line(stdout, fmt::format("{} {}: {}", step, title_of(step), text));
  }

  void report(const Trial& t, const std::string& label, bool kept) {
    if (o_.model.json) {
      Json event = {{"event", "trial"}, {"kept", kept}};
      event.update(json_of(t));
      event.erase("losses");
      return runtime::write_event(stdout, event);
    }
    std::string text = fmt::format("    {:<12} lr {:<9}", label, rate_text(t.config.lr));
    if (t.config.step >= kCoarse) text += fmt::format(" weight decay {:<7}", decay_text(t.config));
    const auto best = best_value(t, objective_);
    if (!t.finite())
      text += fmt::format(" not finite in update {}", t.failed_update);
    else if (best)
      text += fmt::format(" {} {} (epoch {})", objective_.split + " " + objective_.metric,
                          metric_text(model_, objective_.metric, best->value), best->epoch);
    else if (!t.losses.empty())
      text += fmt::format(" loss {:.4g} to {:.4g} in {} updates", t.losses.front().second,
                          t.losses.back().second, t.updates);
    text += kept ? "  kept" : fmt::format("  {:.1f} s", t.seconds);
    runtime::write_line(stdout, text);
  }

  void conclude(const Verdict& v) {
    folder_->set(v);
    if (v.status == Status::fail && failed_ == 0) failed_ = v.step;
    if (o_.model.json) {
      Json event = {{"event", "verdict"}};
      event.update(json_of(v));
      return runtime::write_event(stdout, event);
    }
    std::string text = fmt::format("{} {}: {}: {}", v.step, title_of(v.step), name_of(v.status), v.text);
    for (const std::string& hint : v.hints) text += "\n    - " + hint;
    runtime::write_line(stdout, text);
  }

  void write_page() {
    const std::string page = recipe_page(model_, *folder_, objective_, runner_->validation());
    runtime::OutputFile file(folder_->page(), "page");
    file.write(page);
    file.commit();
  }

  int end() {
    const bool interrupted = interrupt_.interrupted();
    const Trial* best = best_trial(folder_->trials(), objective_, {kCoarse, kRefine, kRepeat});
    if (o_.model.json) {
      Json event = {{"event", "end"},
                    {"folder", folder_->path()},
                    {"page", folder_->page()},
                    {"trials_run", run_},
                    {"trials_kept", kept_},
                    {"best", nullptr},
                    {"interrupted", interrupted}};
      if (best) event["best"] = {{"id", best->id}, {"lr", best->config.lr}};
      if (best && best->config.weight_decay) event["best"]["weight_decay"] = *best->config.weight_decay;
      if (best) event["best"]["val_" + objective_.metric] = best_value(*best, objective_)->value;
      runtime::write_event(stdout, event);
    } else {
      std::string text = fmt::format("{} trial{} run, {} kept from before; every run on one page: {}", run_,
                                     run_ == 1 ? "" : "s", kept_, folder_->page());
      if (interrupted) text = "interrupted: finished trials are kept, the same command goes on\n" + text;
      runtime::write_line(stdout, text);
    }
    return interrupted ? interrupt_.exit_code() : failed_ > 0 ? kExitCheckFailed : kExitOk;
  }

  const RecipeOptions& o_;
  const std::set<int> steps_;
  runtime::InterruptGuard interrupt_;
  runtime::Progress progress_;
  RecipeModel model_;
  RecipeIdentity identity_;
  Monitor objective_;
  std::optional<RecipeFolder> folder_;
  std::optional<TrialRunner> runner_;
  std::vector<Trial> last_search_;
  int failed_ = 0;  // the first step that failed
  int64_t run_ = 0, kept_ = 0;
};

int run_recipe(const RecipeOptions& options) { return Recipe(options).run(); }

// The options of single steps, in the order of the steps.
void add_step_options(CLI::App* c, RecipeOptions& o) {
  c->add_option("--overfit-batches", o.overfit_batches, "steps 1 and 2: batches")
      ->check(from_to(1, kMany))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--overfit-epochs", o.overfit_epochs, "step 2: rounds through them at most")
      ->check(from_to(1, kMany))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--overfit-accuracy", o.overfit_accuracy, "step 2: the share that must be right")
      ->check(number_from_to(0, 1))
      ->capture_default_str()
      ->type_name("X");
  c->add_option("--rates", o.rates,
                "step 3: learning rates, beside the file's (default: 0.1,0.01,0.001,0.0001)")
      ->delimiter(',')
      ->check(number_from_to(-HUGE_VAL, HUGE_VAL))
      ->type_name("X,X,...");
  c->add_option("--rate-updates", o.rate_updates, "step 3: updates with each")
      ->check(from_to(10, kMany))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--lr-range", o.lr_range, "step 4: rates between these (default: around those of step 3)")
      ->delimiter(',')
      ->check(number_from_to(-HUGE_VAL, HUGE_VAL))
      ->type_name("LOW,HIGH");
  c->add_option("--weight-decay", o.decays, "step 4: one of these (default: 0.0001,1e-05,0)")
      ->delimiter(',')
      ->check(number_from_to(-HUGE_VAL, HUGE_VAL))
      ->type_name("X,X,...");
  c->add_option("--trials", o.trials, "step 4: trials, at random on a logarithmic scale")
      ->check(from_to(1, 100000))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--epochs", o.epochs, "step 4: epochs of a trial")
      ->check(from_to(1, kMany))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--refine-trials", o.refine_trials, "steps 5 and 7: trials around the best one")
      ->check(from_to(1, 100000))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--refine-epochs", o.refine_epochs, "steps 5 and 7: epochs of a trial")
      ->check(from_to(1, kMany))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--grid", o.grid,
                "instead of random trials: so many rates at equal distances, each with every weight decay")
      ->check(from_to(1, 1000))
      ->type_name("N");
  c->add_option("--rounds", o.rounds, "step 7: times to refine again, each in half the range of the last")
      ->check(from_to(1, 100))
      ->capture_default_str()
      ->type_name("N");
}

}  // namespace

Command add_recipe(CLI::App& app) {
  const auto o = std::make_shared<RecipeOptions>();
  CLI::App* c = app.add_subcommand(
      "recipe",
      "find learning rate and weight decay of a new model, step by step, and compare every run on one page:\n"
      "1 initial loss, 2 overfit a few batches, 3 learning rates, 4 coarse search, 5 refined search, 6 look "
      "at\n"
      "the curves, 7 refine again. Finished trials are kept in the folder and not run again.");
  add_model_options(c, o->model);
  c->add_option("--steps", o->steps, "the steps to make, as 1-4 or 3,5")
      ->capture_default_str()
      ->type_name("LIST");
  c->add_option("--out,-o", o->folder, "the folder of trials and the page (default: MODEL.recipe)")
      ->type_name("DIR");
  c->add_option("--seed", o->seed, "of every random number (default: the file's)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  c->add_option(
       "--objective", o->objective,
       "what is searched for on the split val: loss, a metric's name, or as 'min error' (default: the\n"
       "first accuracy, else the loss)")
      ->type_name("NAME");
  c->add_flag("--keep-going", o->keep_going, "search although step 1, 2 or 3 failed");
  c->add_flag("--schedule", o->schedule, "search with the file's schedule, not with constant rates");
  add_step_options(c, *o);
  add_thread_option(c, o->model.threads);
  add_code_options(c, o->model);
  return {c, [o] { return run_recipe(*o); }, &o->model.json};
}

}  // namespace gradc::cli
