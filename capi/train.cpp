// gradc_session_train: the model file's own training loop in an embedding program, on the file's data or on
// arrays of the program.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "capi/session.h"
#include "runtime/data/dataset.h"
#include "runtime/data/prepare.h"
#include "runtime/data/source_options.h"
#include "runtime/training/train.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/experiment.h"

using namespace gradc;

namespace {

using capi::guarded;
using capi::Use;

// Stores results of splits as C structs, with their storage, in the session.
void keep_splits(gradc_session& s, const std::vector<runtime::SplitResult>& splits) {
  s.kept_values.clear();
  s.kept_names.clear();
  s.kept_splits.clear();
  s.kept_values.reserve(splits.size());
  s.kept_names.reserve(splits.size());
  for (const runtime::SplitResult& split : splits) {
    std::vector<double>& values = s.kept_values.emplace_back();
    for (const auto& [name, value] : split.metrics) values.push_back(value);
    s.kept_splits.push_back({s.kept_names.emplace_back(split.split).c_str(), split.loss,
                             static_cast<int32_t>(values.size()), values.data()});
  }
}

// Forwards events to the program's callbacks.
class Callbacks final : public runtime::TrainObserver {
 public:
  Callbacks(gradc_session& session, const gradc_train_options& options)
      : session_(session), options_(options), factor_(session.progress.lr_factor) {}

  bool cancelled() override { return session_.cancelled; }

  void step_done(const runtime::StepReport& report) override {
    session_.progress.step = report.step;
    session_.steps = report.step;
    session_.checked = false;
    if (!options_.on_step) return;
    metrics_.clear();
    for (const auto& [name, value] : report.result.metrics) metrics_.push_back(value);
    const gradc_step_event event = {report.step,
                                    report.epoch,
                                    report.total,
                                    report.result.loss,
                                    report.result.lr,
                                    report.result.grad_norm,
                                    static_cast<int32_t>(metrics_.size()),
                                    metrics_.data()};
    call([&] { return options_.on_step(options_.user, &event); });
  }

  void epoch_done(const runtime::EpochReport& report) override {
    session_.progress.epoch = report.epoch;
    if (!options_.on_epoch) return;
    keep_splits(session_, report.splits);
    const gradc_epoch_event event = {report.epoch,
                                     report.epochs,
                                     report.step,
                                     report.lr,
                                     report.seconds,
                                     static_cast<int32_t>(session_.kept_splits.size()),
                                     session_.kept_splits.data()};
    call([&] { return options_.on_epoch(options_.user, &event); });
  }

  std::optional<double> new_lr_factor() override {
    if (session_.progress.lr_factor == factor_) return std::nullopt;
    return factor_ = session_.progress.lr_factor;
  }

 private:
  template <class F>
  void call(F&& callback) {
    const auto set = [&](bool on) {
      const std::lock_guard lock(session_.mutex);
      session_.calling_back = on;
    };
    set(true);
    int32_t result = 1;
    try {
      result = callback();
    } catch (...) {  // of a callback in C++
      set(false);
      throw;
    }
    set(false);
    if (result != 0) session_.cancelled = true;
  }

  gradc_session& session_;
  const gradc_train_options& options_;
  double factor_;
  std::vector<double> metrics_;
};

// The fields that some program reads, before any preparation.
std::vector<DataField> fields_to_give(const gradc_program& program, const DataRecord& record) {
  std::vector<DataField> fields;
  const auto add = [&](const std::string& name) {
    const auto named = [&](const DataField& f) { return f.name == name; };
    if (std::any_of(fields.begin(), fields.end(), named)) return;
    const auto field = std::find_if(record.fields.begin(), record.fields.end(), named);
    GRADC_CHECK(field != record.fields.end(), "a program reads `{}`, which the data lack", name);
    fields.push_back(*field);
  };
  for (const gradc_entry_info* entry : {&program.train_step, &program.eval})
    for (int32_t i = 0; i < entry->input_count; ++i) {
      const std::string full = entry->inputs[i].name;
      add(full.substr(full.rfind('.') + 1));
    }
  if (!record.curriculum.empty()) add(record.curriculum);  // read by no program
  return fields;
}

// Whether the record changes a field before a program reads it.
bool is_prepared(const DataField& type, const DataRecord& record) {
  const auto prepares = [&](const std::vector<DataMethod>& methods) {
    return std::any_of(methods.begin(), methods.end(),
                       [&](const DataMethod& m) { return m.field == type.name; });
  };
  // Mixing (mixup, cutmix) also changes the labels' type.
  return prepares(record.normalize) || prepares(record.augment) ||
         (type.name == "label" && !record.augment.empty());
}

runtime::Field field_of(const gradc_view& view, const std::string& where, const DataField& type,
                        bool prepared, int64_t& rows) {
  runtime::Field field{.name = type.name, .shape = type.shape, .origin = where};
  // `normalize` and `augment` may change a field's shape.
  const bool own_shape = prepared && view.shape && view.rank > 1;
  if (own_shape) field.shape.assign(view.shape + 1, view.shape + view.rank);
  const int32_t dtype = type.is_float ? GRADC_F32 : GRADC_I32;
  const int64_t found = capi::rows_of_view(view, where, type.name.c_str(), dtype,
                                           static_cast<int32_t>(field.shape.size()), field.shape.data(),
                                           /*bytes_too=*/true);
  if (rows == 0) rows = found;
  if (rows != found)
    throw RunError(
        kExitDataError,
        fmt::format("{}: `{}` has {} rows, but the fields before it have {}; expected equally many", where,
                    type.name, found, rows));
  if (view.element == GRADC_ELEMENT_U8)
    field.given.bytes = static_cast<const uint8_t*>(view.data);
  else if (dtype == GRADC_I32)
    field.given.integers = static_cast<const int32_t*>(view.data);
  else
    field.given.floats = static_cast<const float*>(view.data);
  return field;
}

std::vector<runtime::Split> splits_of(const gradc_train_options& options, const gradc_program& program,
                                      const DataRecord& record) {
  if (!options.splits) throw RunError(kExitUsage, "gradc_session_train: `splits` is null");
  const std::vector<DataField> types = fields_to_give(program, record);
  std::vector<std::string> names;
  for (const DataField& type : types) names.push_back(type.name);
  std::vector<runtime::Split> splits;
  for (int32_t i = 0; i < options.split_count; ++i) {
    const gradc_split& split = options.splits[i];
    if (!split.name || !*split.name)
      throw RunError(kExitUsage, fmt::format("gradc_session_train: split {} has no name", i));
    for (const runtime::Split& other : splits)
      if (other.name == split.name)
        throw RunError(kExitUsage,
                       fmt::format("gradc_session_train: the split `{}` is given twice", split.name));
    const std::string where = fmt::format("the split `{}`", split.name);
    const auto views = capi::match_views(split.fields, split.field_count, names, where);
    runtime::Table table;
    for (size_t k = 0; k < types.size(); ++k) {
      table.fields.push_back(field_of(*views[k], where, types[k], is_prepared(types[k], record), table.rows));
      runtime::sources::check_classes(where, table.fields.back(), table.rows, types[k].count,
                                      [](size_t row) { return fmt::format("of row {}", row); });
    }
    splits.push_back(runtime::sources::whole(split.name, std::move(table)));
  }
  return splits;
}

int64_t given_or(int64_t value, const char* name) {
  if (value < -1)
    throw RunError(
        kExitUsage,
        fmt::format("gradc_session_train: {} {}; expected a number from 0, or -1 for the model file's", name,
                    value));
  return value;
}

runtime::TrainOptions run_options(const gradc_train_options& options, const gradc_session& session) {
  runtime::TrainOptions run;
  if (given_or(options.epochs, "epochs") >= 0) run.epochs = options.epochs;
  if (given_or(options.steps, "steps") >= 0) run.steps = options.steps;
  if (given_or(options.seed, "seed") >= 0) run.seed = static_cast<uint64_t>(options.seed);
  if (given_or(options.loaders, "loaders") >= 0) run.loaders = options.loaders;
  if (options.keep_parameters && (options.resume || options.init_from))
    throw RunError(
        kExitUsage,
        "gradc_session_train: keep_parameters, and a file to start from; a training starts from one");
  run.shuffle = options.shuffle != 0;
  run.initialize = !options.keep_parameters;
  const auto text = [](const char* given) { return std::string(given ? given : ""); };
  run.init_from = text(options.init_from);
  run.resume = text(options.resume);
  run.save = text(options.save);
  run.save_state = options.save_state != 0;
  run.checkpoints = text(options.checkpoints);
  if (session.progress.lr_factor != 1) run.lr_factor = session.progress.lr_factor;
  run.progress = runtime::ProgressMode::off;
  run.out = nullptr;
  return run;
}

}  // namespace

extern "C" gradc_status gradc_session_train(gradc_session* session, const gradc_train_options* given,
                                            gradc_train_result* result) {
  return guarded([&] {
    const Use use(session, "gradc_session_train");
    gradc_train_options defaults;
    gradc_train_options_init(&defaults);
    const gradc_train_options options = capi::known_options(given, defaults, "gradc_train");
    session->runs->require_training();
    Experiment experiment = read_experiment(session->program->experiment_json);
    const runtime::TrainOptions wanted = run_options(options, *session);
    runtime::Dataset data =
        options.split_count > 0
            ? runtime::make_dataset(experiment.data, splits_of(options, *session->program, experiment.data))
            : runtime::load_dataset(experiment.data);
    runtime::fit_preparation(data, experiment.data);
    Callbacks callbacks(*session, options);
    runtime::TrainOptions run = wanted;
    run.observer = &callbacks;
    session->seed = run.seed.value_or(static_cast<uint64_t>(experiment.train.seed));
    session->not_finite.reset();
    const runtime::TrainResult trained = [&] {
      try {
        return runtime::train(*session->runs, data, experiment, run);
      } catch (const runtime::NotFiniteError& error) {
        capi::throw_not_finite(*session, error);
      }
    }();
    session->progress.step = trained.steps;
    session->checked = true;
    session->steps = trained.steps;
    session->progress.epoch = trained.epochs;
    session->progress.total = std::max(session->progress.total, trained.steps);
    keep_splits(*session, trained.splits);
    session->sha256 = trained.weights_sha256;
    if (result)
      *result = {trained.steps,
                 trained.epochs,
                 trained.best_epoch,
                 trained.seconds,
                 trained.examples_per_second,
                 session->sha256.c_str(),
                 static_cast<int32_t>(session->kept_splits.size()),
                 session->kept_splits.data()};
    if (trained.interrupted)
      throw RunError(GRADC_CANCELLED, fmt::format("cancelled after {} steps", trained.steps));
    if (trained.not_finite) capi::throw_not_finite(*session, *trained.not_finite);
  });
}

namespace {

// Prepares examples as the model reads them, through a view.
void prepare(gradc_session* session, const gradc_view* raw, const runtime::View& view, void* output,
             int64_t* bytes) {
  if (!raw || !raw->name || !bytes)
    throw RunError(kExitUsage, "gradc_session_prepare: a null pointer; the array needs its field's name");
  const DataRecord record = read_experiment(session->program->experiment_json).data;
  const std::vector<DataField> types = fields_to_give(*session->program, record);
  std::vector<std::string> names;
  for (const DataField& type : types) names.push_back(type.name);
  const auto type = std::find(names.begin(), names.end(), raw->name) - names.begin();
  if (type == static_cast<std::ptrdiff_t>(names.size()))
    throw RunError(kExitUsage,
                   fmt::format("prepare: the model reads no `{}`; it reads {}{}", raw->name,
                               fmt::join(names, ", "), runtime::sources::suggestion(raw->name, names)));
  const DataField& wanted = types[static_cast<size_t>(type)];
  runtime::Table table;
  table.fields.push_back(field_of(*raw, "prepare", wanted, is_prepared(wanted, record), table.rows));
  runtime::Split split = runtime::sources::whole("given", std::move(table));
  split.view = view;
  const runtime::Field& field = split.table->fields[0];
  const auto preparation = runtime::restored_preparation(record, session->runs->data_arrays,
                                                         "the session's parameters", !view.plain());
  if (!view.plain()) preparation->check_view(split, view);
  const std::vector<int64_t> shape = preparation ? preparation->shape_of(field) : field.shape;
  const int32_t dtype = preparation ? preparation->dtype_of(field) : field.dtype();
  const auto rank = static_cast<int32_t>(shape.size());
  const int64_t size = split.count * runtime::element_count(rank, shape.data()) * runtime::dtype_bytes(dtype);
  if (!output) {
    *bytes = size;
    return;
  }
  if (*bytes != size)
    throw RunError(kExitUsage,
                   fmt::format("prepare: an output of {} bytes for {} rows of {}; expected {}", *bytes,
                               split.count, runtime::type_text(dtype, rank, shape.data()), size));
  std::vector<int64_t> rows(static_cast<size_t>(split.count));
  std::iota(rows.begin(), rows.end(), int64_t{0});
  if (preparation)
    preparation->gather(split, field, rows.data(), split.count, nullptr, output);
  else
    field.gather(rows.data(), split.count, output);
}

}  // namespace

extern "C" gradc_status gradc_session_prepare(gradc_session* session, const gradc_view* raw, void* output,
                                              int64_t* bytes) {
  return guarded([&] {
    const Use use(session, "gradc_session_prepare", true);
    prepare(session, raw, {}, output, bytes);
  });
}

extern "C" gradc_status gradc_session_prepare_view(gradc_session* session, const gradc_view* raw,
                                                   int64_t scale, int32_t crop, void* output,
                                                   int64_t* bytes) {
  return guarded([&] {
    const Use use(session, "gradc_session_prepare_view", true);
    if (scale < 0 || scale > (1 << 16) || crop < 0 || crop > 10)
      throw RunError(kExitUsage,
                     fmt::format("gradc_session_prepare_view: scale {}, crop {}; expected a scale from 0 to "
                                 "{} and a crop from 0 to 10",
                                 scale, crop, 1 << 16));
    prepare(session, raw, {scale, crop}, output, bytes);
  });
}
