// The training loop. A Run object holds a run's state; its methods are the steps of the loop.
#include "runtime/training/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>

#include "runtime/data/prepare.h"
#include "runtime/execution/checkpoint.h"
#include "runtime/execution/report.h"
#include "runtime/execution/safetensors.h"
#include "runtime/files.h"
#include "runtime/interrupt.h"
#include "runtime/training/checkpoint_folder.h"
#include "runtime/training/full_batch.h"
#include "runtime/training/train_state.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;
constexpr int64_t kJsonLogEvery = 100;
constexpr int kMaxLoaders = 8;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Whether the run is to end: by a signal, or because its observer cancels it.
class Interrupt {
 public:
  explicit Interrupt(TrainObserver* observer) : observer_(observer) {
    if (!observer) signal_.emplace();
  }
  bool operator()() const { return observer_ ? observer_->cancelled() : signal_->interrupted(); }
  int exit_code() const { return signal_ && signal_->interrupted() ? signal_->exit_code() : 0; }

 private:
  TrainObserver* observer_;
  std::optional<InterruptGuard> signal_;
};

std::string name_of(const gradc_program& program) { return program.name ? program.name : ""; }

class Run {
 public:
  Run(Session& session, const Dataset& data, const Experiment& experiment, const TrainOptions& options)
      : session_(session),
        data_(data),
        rules_(experiment.train),
        options_(options),
        reader_(data.split("train"), session.program().train_step, experiment.data.batch,
                experiment.data.drop_last),
        log_every_(options.log_every > 0 ? options.log_every
                   : options.json        ? kJsonLogEvery
                                         : 0),
        accumulate_(experiment.train.accumulate > 0 ? std::min(experiment.train.accumulate, reader_.batches())
                                                    : reader_.batches()),
        updates_((reader_.batches() + accumulate_ - 1) / accumulate_),
        interrupt_(options.observer),
        progress_(options.log, options.shown_progress(options.json)) {
    GRADC_CHECK(experiment.data.batch <= session.batch(), "batches of {} for a program made for {}",
                experiment.data.batch, session.batch());
    if (!options.save.empty()) check_output_path(options.save, "weights file");
    state_.seed = options.seed.value_or(static_cast<uint64_t>(experiment.train.seed));
    state_.total = total_steps(options, experiment, updates_);
    full_batch_ = make_full_batch_optimizer(session, experiment.train);
    state_.shuffle = options.shuffle && !(full_batch_ && full_batch_->keeps_order());
    state_.lr_factor = options.lr_factor.value_or(1);
    // The batch without its split into pieces: a run may be resumed with other pieces.
    state_.batch = experiment.data.batch * session.pieces();
    state_.accumulate = batches_of(session.program(), accumulate_);
    state_.examples = reader_.examples();
    state_.epochs = experiment.train.epochs;
    find_splits();
    tell_short_batch(experiment);
    // Check the splits that are evaluated later against the program now, not after training.
    for (const std::string& split : splits_) check_index_ranges(session.program().eval, data.split(split));
    if (const Split* test = data.find("test")) check_index_ranges(session.program().eval, *test);
    folder_ = CheckpointFolder(rules_.checkpoint, options.checkpoints, name_of(session.program()));
    // Examples that are only copied are assembled by the step's own threads, which is faster than a handover.
    const bool prepared = data.split("train").preparation != nullptr;
    const int loaders = options.loaders.value_or(prepared ? std::min(session.threads(), kMaxLoaders) : 0);
    if (loaders > 0) reader_.load_ahead(loaders);
  }

  TrainResult operator()() {
    if (options_.initialize) session_.initialize(state_.seed);
    if (!options_.init_from.empty()) {
      load_checkpoint(session_, options_.init_from);
      check_vocabulary();
    }
    if (!options_.resume.empty()) resume();
    // The data are prepared by what was fitted to them, not by what was fitted to the initial weights' data.
    session_.data_arrays = data_arrays_of(data_.split("train"));
    epochs_ = state_.total / updates_ + (state_.total % updates_ != 0);
    while ((state_.step < state_.total || state_.update == updates_) && !stopped_ && !interrupt_()) epoch();
    return end();
  }

 private:
  void tell_short_batch(const Experiment& experiment) {
    const int64_t left = experiment.data.drop_last ? 0 : reader_.examples() % experiment.data.batch;
    if (left == 0 || left >= rules_.least_rows) return;
    progress_.line(fmt::format(
        "the last {} of {} examples in batches of {} {} too few for the variance that the model takes over a "
        "batch: normalised they are 0, and running statistics leave them out; `last=drop` leaves out such a "
        "batch, or take another `batch`",
        left, reader_.examples(), experiment.data.batch, left == 1 ? "is" : "are"));
  }

  // Finds the splits to evaluate after each epoch: `val`, and those that a rule watches.
  void find_splits() {
    if (data_.find("val")) splits_.push_back("val");
    const auto watch = [&](const Monitor& m, const char* rule) {
      if (m.split.empty() || m.split == "train") return;
      if (!data_.find(m.split))
        throw RunError(kExitDataError, fmt::format("`{}` watches {}.{}, but the data have no split `{}`",
                                                   rule, m.split, m.metric, m.split));
      if (std::find(splits_.begin(), splits_.end(), m.split) == splits_.end()) splits_.push_back(m.split);
    };
    watch(rules_.stop.monitor, "stop");
    watch(rules_.checkpoint.best, "checkpoint");
    watch(rules_.plateau.monitor, "reduce_on_plateau");
  }

  // Weights of a language model depend on the numbers of its characters.
  void check_vocabulary() const {
    const DataArrays now = data_arrays_of(data_.split("train"));
    const DataArrays& kept = session_.data_arrays;
    const auto mine = now.find(kVocabularyArray), theirs = kept.find(kVocabularyArray);
    if (mine == now.end() || theirs == kept.end() || mine->second.values == theirs->second.values) return;
    throw RunError(
        kExitDataError,
        fmt::format("{}: its {} characters are not the {} of this text, so that their numbers mean "
                    "others; go on with text of the same characters, or train from the beginning",
                    options_.init_from, theirs->second.values.size(), mine->second.values.size()));
  }

  // Restores the state of a saved run, and checks that it is the same run.
  void resume() {
    const std::string& path = options_.resume;
    TrainingFile file = load_training(session_, path);
    std::map<std::string, std::string>& metadata = file.metadata;
    TrainState saved = TrainState::parse(file.training, path);
    best_ = std::move(file.best);
    const auto differs = [&](int exit_code, const std::string& what) {
      throw RunError(exit_code,
                     fmt::format("{}: {}, so that this is not the run it was made in", path, what));
    };
    if (saved.ended)
      throw RunError(
          kExitDataError,
          fmt::format("{}: this run has ended and its best weights were put back; start another from "
                      "them with --init-from",
                      path));
    if (options_.seed && *options_.seed != saved.seed)
      differs(kExitUsage, fmt::format("it has seed {}, --seed says {}", saved.seed, *options_.seed));
    if (!options_.shuffle && saved.shuffle) differs(kExitUsage, "it shuffles, --no-shuffle does not");
    if (saved.batch != state_.batch)
      differs(kExitDataError,
              fmt::format("it has batches of {}, the model file of {}", saved.batch, state_.batch));
    if (saved.accumulate != state_.accumulate)
      differs(kExitDataError, fmt::format("it has {} batches an update, the model file {}", saved.accumulate,
                                          state_.accumulate));
    if (saved.examples != state_.examples)
      differs(kExitDataError,
              fmt::format("it has {} training examples, there are {}", saved.examples, state_.examples));
    if (full_batch_ ? !full_batch_->restore({file.arrays, saved.full_batch})
                    : !saved.full_batch.empty() || !file.arrays.empty())
      differs(kExitDataError, "its optimizer is another");
    if (saved.update > updates_) differs(kExitDataError, "it is further in its epoch than the epoch is long");
    const int64_t planned = saved.total, file_epochs = saved.epochs;
    const bool other_epochs = saved.epochs != 0 && saved.epochs != state_.epochs;
    if (options_.epochs || options_.steps || other_epochs) saved.total = state_.total;
    saved.epochs = state_.epochs;
    if (options_.lr_factor) saved.lr_factor = *options_.lr_factor;
    folder_.take_over(
        saved, [&](const std::string& other) { return is_earlier(other, path, saved, metadata["source"]); });
    state_ = std::move(saved);
    state_.totals.restore(session_.program().train_step);
    checked_ = state_.step;
    stopped_ = rules_.stop.patience > 0 && state_.stop.bad >= rules_.stop.patience;
    const gradc_program& program = session_.program();
    if (program.target && metadata["target"] != program.target)
      progress_.line(fmt::format("{} was made on {}: here, on {}, last bits will differ", path,
                                 metadata["target"], program.target));
    if (program.source && !metadata["source"].empty() && metadata["source"] != program.source)
      progress_.line(fmt::format("the model file has changed since {} was made", path));
    if (other_epochs && !options_.epochs && !options_.steps)
      progress_.line(
          fmt::format("the model file's epochs are {} now, {} when {} was made: {} updates in all "
                      "instead of {}, and schedules count these",
                      state_.epochs, file_epochs, path, state_.total, planned));
    if (options_.json)
      write_event(
          options_.out,
          {{"event", "resume"}, {"step", state_.step}, {"epoch", state_.epoch}, {"total", state_.total}});
    else if (state_.step >= state_.total && state_.update != updates_)
      progress_.line(
          fmt::format("{}: this run is complete, its {} updates are done; raise `epochs` in the "
                      "model file or give --epochs to train on",
                      path, state_.total));
    else
      progress_.line(fmt::format("going on after step {} (epoch {})", state_.step, state_.epoch + 1));
  }

  // Whether file `path` is an earlier checkpoint of the run that wrote `later`, whose state and model file these are,
  // in the same folder.
  static bool is_earlier(const std::string& path, const std::string& later, const TrainState& state,
                         const std::string& source) {
    const auto folder = [](const std::string& file) { return std::filesystem::absolute(file).parent_path(); };
    std::error_code error;
    if (!std::filesystem::equivalent(folder(path), folder(later), error)) return false;
    try {
      const TensorFile file = read_safetensors(path);
      if (const auto text = file.metadata.find("source");
          text == file.metadata.end() || text->second != source)
        return false;
      const auto training = file.metadata.find("training");
      if (training == file.metadata.end()) return false;
      const TrainState other = TrainState::parse(training->second, path);
      return other.seed == state.seed && other.batch == state.batch && other.accumulate == state.accumulate &&
             other.examples == state.examples && other.step < state.step;
    } catch (const RunError&) {
      return false;
    }
  }

  void epoch() {
    reader_.begin_epoch(state_.seed, static_cast<uint64_t>(state_.epoch), state_.shuffle, options_.augment);
    if (state_.update == 0) state_.totals = {};
    const double before = seconds_;
    while (state_.update < updates_) {
      if (state_.step == state_.total || interrupt_()) return;
      one_step();
      const CheckpointRule& rule = rules_.checkpoint;
      if (rule.every > 0 && rule.steps && state_.step % rule.every == 0)
        checkpoint(CheckpointFolder::step_name(state_.step), kNothing);
    }
    end_epoch(seconds_ - before);
  }

  void one_step() {
    const int64_t first = state_.update * accumulate_;
    const int64_t count = std::min(accumulate_, reader_.batches() - first);
    const StepScalars scalars{state_.step, state_.epoch, state_.total,
                              state_.lr_factor * state_.plateau.factor, state_.micro_step};
    const bool check = is_checked(state_.step + 1, state_.update + 1);
    const uint8_t* block = session_.parameters();
    if (check && options_.undo) before_.assign(block, block + session_.program().parameter_bytes);
    const auto start = Clock::now();
    const StepResult result = full_batch_ ? full_batch_->step(reader_, first, count, scalars, state_.seed)
                                          : session_.step(reader_, first, scalars, state_.seed, count);
    seconds_ += seconds_since(start);
    if (!result.finite) {
      const int64_t call = first + result.failed;
      throw not_finite_loss(session_, scalars, result.failed, state_.seed,
                            call_position(session_.program(), call).batch, reader_.batch(call),
                            not_written());
    }
    if (check) check_update({reader_, first, count, scalars, state_.seed});
    ++state_.step;
    ++state_.update;
    state_.micro_step += batches_of(session_.program(), count);
    int64_t rows = 0;
    for (int64_t i = first; i < first + count; ++i) rows += reader_.rows(i);
    examples_ += rows;
    ++steps_here_;
    state_.totals.add(result);
    state_.lr = result.lr;
    converged_ = result.converged;
    const bool logged = log_every_ > 0 && state_.step % log_every_ == 0;
    if (logged && options_.json) {
      Json event = {
          {"event", "step"}, {"step", state_.step}, {"epoch", state_.epoch + 1}, {"loss", result.loss}};
      for (const auto& [name, value] : result.metrics) event[name] = value;
      if (!std::isnan(state_.lr)) event["lr"] = state_.lr;
      if (!std::isnan(result.grad_norm)) event["grad_norm"] = result.grad_norm;
      write_event(options_.out, event);
    } else if (logged && !options_.json && !progress_.off()) {
      progress_.line(
          fmt::format("step {}  {}", state_.step, results_text(result.loss, result.metrics, rules_.shares)));
    }
    if (progress_.due()) show(first + count);
    if (TrainObserver* observer = options_.observer) {
      observer->step_done({state_.step, state_.epoch + 1, state_.total, result});
      if (const std::optional<double> factor = observer->new_lr_factor()) state_.lr_factor = *factor;
    }
  }

  std::string not_written() const {
    return options_.save.empty() ? "" : fmt::format("; {} was not written", options_.save);
  }

  // Whether parameters and state are checked after an update, given by its number in the run and in its epoch: updates
  // that are reported or saved, and the last.
  bool is_checked(int64_t step, int64_t update) const {
    const CheckpointRule& rule = rules_.checkpoint;
    return step == state_.total || update == updates_ || (log_every_ > 0 && step % log_every_ == 0) ||
           (rule.every > 0 && rule.steps && step % rule.every == 0);
  }

  void check_update(const UpdateMade& update) {
    if (const std::optional<NotFiniteSymbol> found = session_.find_not_finite()) {
      if (full_batch_ || !options_.undo)
        throw not_finite_weights(*found, state_.step + 1, checked_, not_written());
      if (const auto earlier = find_not_finite(session_.program(), before_.data()))
        throw not_finite_weights(*earlier, state_.step, checked_, not_written());
      throw not_finite_update(session_, *found, before_, update, not_written());
    }
    checked_ = state_.step + 1;
  }

  // The same check where the run ends with an update that was not known to be the last.
  void check_weights() {
    if (checked_ == state_.step) return;
    if (const std::optional<NotFiniteSymbol> found = session_.find_not_finite())
      throw not_finite_weights(*found, state_.step, checked_, not_written());
    checked_ = state_.step;
  }

  void show(int64_t done) {
    const double rate = seconds_ > 0 ? static_cast<double>(examples_) / seconds_ : 0;
    const double left = seconds_ / static_cast<double>(std::max<int64_t>(steps_here_, 1)) *
                        static_cast<double>(state_.total - state_.step);
    progress_.update(
        fmt::format("epoch {}/{}", state_.epoch + 1, epochs_), done, reader_.batches(),
        fmt::format("{}  {} examples/s  ETA {}",
                    results_text(state_.totals.mean_loss(), state_.totals.mean_metrics(), rules_.shares),
                    count_text(static_cast<int64_t>(rate)), duration_text(left)));
  }

  // Loss and metrics of a split, into the result's metrics; empty without the split or when interrupted.
  std::optional<EvalResult> evaluate(const std::string& name) {
    const Split* split = data_.find(name);
    if (!split) return std::nullopt;
    EvalResult result = session_.evaluate(*split, [&](int64_t done, int64_t total) {
      if (progress_.due()) progress_.update(fmt::format("evaluating {}", name), done, total, "");
      return !interrupt_();
    });
    if (!result.complete) return std::nullopt;
    if (result.failed >= 0) {
      const NotFiniteError error = not_finite_evaluation(session_, *split, result.failed);
      if (state_.step < state_.total) progress_.line(error.what());  // else the run ends with it
      result_.not_finite = std::make_shared<const NotFiniteError>(error);
    }
    result_.metrics[name + "_loss"] = result.loss;
    for (const auto& [metric, value] : result.metrics) result_.metrics[name + "_" + metric] = value;
    return result;
  }

  void end_epoch(double seconds) {
    std::vector<std::pair<std::string, EvalResult>> evaluations;
    result_.not_finite.reset();  // it was about an earlier epoch's weights
    for (const std::string& split : splits_) {
      const auto result = evaluate(split);
      if (!result) return;  // interrupted: a resumed run evaluates first
      evaluations.emplace_back(split, *result);
    }
    ++state_.epoch;
    state_.update = 0;
    const Metrics metrics = state_.totals.mean_metrics();
    const double loss = state_.totals.mean_loss();
    Json event = {{"event", "epoch"}, {"epoch", state_.epoch}, {"step", state_.step}, {"train_loss", loss}};
    for (const auto& [name, value] : metrics) event["train_" + name] = value;
    std::string text =
        fmt::format("epoch {}/{}  {}", state_.epoch, epochs_, results_text(loss, metrics, rules_.shares));
    for (const auto& [split, result] : evaluations) {
      event[split + "_loss"] = result.loss;
      for (const auto& [name, value] : result.metrics) event[split + "_" + name] = value;
      text += "  " + results_text(result.loss, result.metrics, rules_.shares, split + " ");
    }
    if (!std::isnan(state_.lr)) event["lr"] = state_.lr;
    event["seconds"] = seconds;
    if (options_.json) write_event(options_.out, event);
    progress_.line(fmt::format("{}  {:.1f} s", text, seconds));
    note("train", loss, metrics);
    for (const auto& [split, result] : evaluations) note(split, result.loss, result.metrics);
    if (options_.observer)
      options_.observer->epoch_done({state_.epoch, epochs_, state_.step, state_.lr, seconds, result_.splits});
    const auto value_of = [&](const Monitor& m) {
      if (m.split == "train") return m.metric == "loss" ? loss : metric_of(metrics, m.metric);
      for (const auto& [split, result] : evaluations)
        if (split == m.split) return m.metric == "loss" ? result.loss : metric_of(result.metrics, m.metric);
      return kNothing;
    };
    judge(value_of);
  }

  // Stores the latest numbers of a split in the result.
  void note(const std::string& split, double loss, const Metrics& metrics) {
    for (SplitResult& known : result_.splits)
      if (known.split == split) {
        known.loss = loss;
        known.metrics = metrics;
        return;
      }
    result_.splits.push_back({split, loss, metrics});
  }

  static std::string text_of(const Monitor& m) { return m.split + "." + m.metric; }

  // Applies the rules to a complete epoch.
  template <class ValueOf>
  void judge(ValueOf&& value_of) {
    const StopRule& stop = rules_.stop;
    if (stop.patience > 0) {
      if (state_.stop.add(value_of(stop.monitor), state_.epoch, stop))
        best_.assign(session_.parameters(), session_.parameters() + session_.program().parameter_bytes);
      stopped_ = state_.stop.bad >= stop.patience;
    }
    const PlateauRule& plateau = rules_.plateau;
    if (plateau.factor != 1 && state_.plateau.add(value_of(plateau.monitor), plateau)) {
      if (options_.json)
        write_event(options_.out, {{"event", "plateau"},
                                   {"epoch", state_.epoch},
                                   {"monitor", text_of(plateau.monitor)},
                                   {"lr_factor", state_.plateau.factor}});
      progress_.line(fmt::format("{} is on a plateau: learning rates are now {:g} of the schedule's",
                                 text_of(plateau.monitor), state_.plateau.factor));
    }
    const CheckpointRule& rule = rules_.checkpoint;
    if (rule.every > 0 && !rule.steps && state_.epoch % rule.every == 0)
      checkpoint(CheckpointFolder::epoch_name(state_.epoch),
                 rule.best.split.empty() ? kNothing : value_of(rule.best));
    if (converged_ && !stopped_) {
      stopped_ = true;
      if (options_.json) write_event(options_.out, {{"event", "converged"}, {"epoch", state_.epoch}});
      progress_.line(fmt::format("{} sees no way further down: stopped", rules_.full_batch));
      return;
    }
    if (!stopped_) return;
    if (options_.json)
      write_event(options_.out, {{"event", "stop"},
                                 {"epoch", state_.epoch},
                                 {"monitor", text_of(stop.monitor)},
                                 {"best", state_.stop.best},
                                 {"best_epoch", state_.stop.epoch}});
    progress_.line(
        fmt::format("{} has stalled for {} epochs: stopped", text_of(stop.monitor), state_.stop.bad));
  }

  // Saves everything that resuming needs.
  void save_all(const std::string& path) {
    const FullBatchState full_batch = full_batch_ ? full_batch_->state() : FullBatchState();
    state_.full_batch = full_batch.numbers;
    save_checkpoint(session_, path,
                    {.seed = state_.seed,
                     .step = state_.step,
                     .slots = true,
                     .training = state_.json(),
                     .best = best_.empty() ? nullptr : best_.data(),
                     .arrays = full_batch.arrays});
  }

  // Writes a file of the rule `checkpoint`; those it does not keep are removed after that.
  void checkpoint(const std::string& name, double value) {
    const std::string path =
        folder_.write(name, value, state_, [&](const std::string& file) { save_all(file); });
    if (options_.json)
      write_event(options_.out,
                  {{"event", "checkpoint"}, {"file", path}, {"step", state_.step}, {"epoch", state_.epoch}});
  }

  // Restores the weights of the best epoch in the session.
  void put_back_best() {
    const gradc_program& program = session_.program();
    for (int32_t i = 0; i < program.symbol_count; ++i) {
      const gradc_symbol& s = program.symbols[i];
      if (s.kind == GRADC_SLOT || s.kind == GRADC_GRADIENT || s.kind == GRADC_WEIGHTS) continue;
      std::memcpy(session_.data(s), best_.data() + s.offset,
                  static_cast<size_t>(element_count(s.rank, s.shape) * dtype_bytes(s.dtype)));
    }
    result_.best_epoch = state_.stop.epoch;
    result_.not_finite.reset();
    state_.ended = true;
  }

  TrainResult end() {
    result_.interrupted = interrupt_();
    check_weights();
    if (!result_.interrupted && !best_.empty()) put_back_best();
    result_.weights_sha256 = weights_sha256(session_);
    // Save before the last evaluation, so that its failure cannot lose the weights.
    if (!options_.save.empty()) {
      make_folder_of(options_.save);
      if (options_.save_state || result_.interrupted)
        save_all(options_.save);
      else
        save_checkpoint(session_, options_.save, {.seed = state_.seed, .step = state_.step});
    }
    if (result_.interrupted && folder_.used()) checkpoint(CheckpointFolder::kLast, kNothing);
    std::optional<EvalResult> test;
    if (!result_.interrupted) test = evaluate("test");
    if (interrupt_()) result_.interrupted = true;
    result_.exit_code = interrupt_.exit_code();
    progress_.clear();
    result_.steps = state_.step;
    result_.epochs = state_.epoch;
    result_.seconds = seconds_;
    result_.data_wait_seconds = reader_.waited();
    result_.examples_per_second = seconds_ > 0 ? static_cast<double>(examples_) / seconds_ : 0;
    result_.train_loss = state_.totals.mean_loss();
    result_.test_loss = test ? test->loss : kNothing;
    result_.metrics["train_loss"] = result_.train_loss;
    for (const auto& [name, value] : state_.totals.mean_metrics()) result_.metrics["train_" + name] = value;
    note("train", result_.train_loss, state_.totals.mean_metrics());
    if (test) note("test", test->loss, test->metrics);
    if (!options_.out) return result_;
    if (options_.json)
      write_end(test);
    else
      summarise(test);
    return result_;
  }

  void write_end(const std::optional<EvalResult>& test) {
    Json event = {{"event", "end"},
                  {"steps", result_.steps},
                  {"seconds", result_.seconds},
                  {"train_loss", result_.train_loss},
                  {"test_loss", result_.test_loss}};
    for (const auto& [name, value] : test ? test->metrics : state_.totals.mean_metrics())
      event["test_" + name] = test ? value : kNothing;
    event["weights_sha256"] = result_.weights_sha256;
    event["epochs"] = result_.epochs;
    event["examples_per_second"] = result_.examples_per_second;
    event["data_wait_seconds"] = result_.data_wait_seconds;
    event["interrupted"] = result_.interrupted;
    event["best_epoch"] = result_.best_epoch > 0 ? Json(result_.best_epoch) : Json(nullptr);
    event["metrics"] = result_.metrics;
    write_event(options_.out, event);
  }

  void summarise(const std::optional<EvalResult>& test) {
    std::string text =
        fmt::format("{}{} steps in {:.1f} s, {} examples/s", result_.interrupted ? "interrupted after " : "",
                    count_text(result_.steps), result_.seconds,
                    count_text(static_cast<int64_t>(result_.examples_per_second)));
    if (test) text += "\n" + results_text(test->loss, test->metrics, rules_.shares, "test ");
    if (result_.best_epoch > 0) text += fmt::format("\nweights of epoch {}, the best", result_.best_epoch);
    if (!options_.save.empty()) text += fmt::format("\nweights saved to {}", options_.save);
    if (result_.interrupted && (!options_.save.empty() || folder_.used()))
      text += fmt::format("\ngo on with --resume {}",
                          options_.save.empty() ? folder_.path_of(CheckpointFolder::kLast) : options_.save);
    write_line(options_.out, text);
  }

  Session& session_;
  const Dataset& data_;
  const TrainRecord& rules_;
  const TrainOptions& options_;
  BatchReader reader_;
  int64_t log_every_;
  int64_t accumulate_, updates_;  // batches an update, updates an epoch
  int64_t epochs_ = 0;            // of the whole run
  Interrupt interrupt_;
  CheckpointFolder folder_;
  Progress progress_;
  std::vector<std::string> splits_;  // evaluated after each epoch
  TrainState state_;
  int64_t checked_ = 0;          // updates done when parameters and state were last known to be finite
  std::vector<uint8_t> before_;  // the block before an update that is checked
  std::vector<uint8_t> best_;    // a copy of the parameter block, with a rule `stop`
  bool stopped_ = false, converged_ = false;
  std::unique_ptr<FullBatchOptimizer> full_batch_;  // null: each update is one call of the program
  int64_t examples_ = 0, steps_here_ = 0;           // of this process
  double seconds_ = 0;
  TrainResult result_;
};

}  // namespace

TrainResult train(Session& session, const Dataset& data, const Experiment& experiment,
                  const TrainOptions& options) {
  check_train_options(options, experiment.train);
  return Run(session, data, experiment, options)();
}

}  // namespace gradc::runtime
