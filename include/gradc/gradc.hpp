// gradc for C++20: models, sessions and errors as classes over the C interface (gradc.h), so that the library
// may be compiled by another compiler than the program. Everything that fails throws gradc::Error.
#pragma once
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "gradc/error.hpp"
#include "gradc/gradc.h"
#include "gradc/view.hpp"

namespace gradc {
inline namespace v0 {  // apart from what a library that `gradc compile` made holds inside

struct CompileOptions {
  std::map<std::string, std::string> settings;  // as `--set NAME=VALUE`
  std::string target = "native";
  int64_t batch = 0;  // rows of a step at most; 0: as the model file says
  bool strict_math = false;
  bool infer = false;        // without training
  std::string cache;         // folder of objects compiled before; empty: none is used
  int64_t memory_limit = 0;  // bytes of a session at most; 0: none
  int limit_threads = 0;     // of the sessions that the limit is for; 0: the processors there are
};

// A model compiled for this processor. May be used by several threads, and be gone before its sessions are.
class Model {
 public:
  // Throw Error with diagnostics.
  static Model from_file(const std::string& path, const CompileOptions& options = {}) {
    return Model([&](const gradc_compile_options* o, gradc_model** model,
                     gradc_diagnostics** d) { return gradc_model_compile_file(path.c_str(), o, model, d); },
                 options);
  }
  static Model from_string(const std::string& text, const std::string& name = "model.nn",
                           const CompileOptions& options = {}) {
    return Model(
        [&](const gradc_compile_options* o, gradc_model** model, gradc_diagnostics** d) {
          return gradc_model_compile_string(text.c_str(), name.c_str(), o, model, d);
        },
        options);
  }

  std::string target() const { return gradc_model_target(model_.get()); }
  const gradc_model* c() const { return model_.get(); }

 private:
  template <class Compile>
  Model(Compile&& compile, const CompileOptions& options) {
    std::vector<gradc_setting> settings;
    for (const auto& [name, value] : options.settings) settings.push_back({name.c_str(), value.c_str()});
    gradc_compile_options o;
    gradc_compile_options_init(&o);
    o.settings = settings.data();
    o.setting_count = static_cast<int32_t>(settings.size());
    o.target = options.target.c_str();
    o.batch = options.batch;
    o.strict_math = options.strict_math;
    o.infer = options.infer;
    o.cache = options.cache.empty() ? nullptr : options.cache.c_str();
    o.memory_limit = options.memory_limit;
    o.limit_threads = options.limit_threads;
    gradc_model* model = nullptr;
    gradc_diagnostics* diagnostics = nullptr;
    const gradc_status status = compile(&o, &model, &diagnostics);
    const std::unique_ptr<gradc_diagnostics, void (*)(gradc_diagnostics*)> kept(diagnostics,
                                                                                gradc_diagnostics_free);
    if (status != GRADC_OK) {
      const std::string message = gradc_last_error();
      throw Error(status, message, detail::diagnostics_of(diagnostics));
    }
    model_.reset(model);
  }

  struct Free {
    void operator()(gradc_model* model) const { gradc_model_free(model); }
  };
  std::unique_ptr<gradc_model, Free> model_;
};

struct Metric {
  const char* name;  // lives as the session
  double value;
};

// Means over the rows of a call or over a split of the data.
struct Result {
  double loss = 0;
  double lr = 0;  // of a step; NaN otherwise
  std::vector<Metric> metrics;
  // Throws std::out_of_range where the model has no such metric.
  double metric(std::string_view name) const {
    for (const Metric& m : metrics)
      if (name == m.name) return m.value;
    throw std::out_of_range("the model has no metric `" + std::string(name) + "`");
  }
};

// What a call takes or gives for each example, or a tensor of the model.
struct Array {
  std::string name;
  gradc_kind kind = GRADC_KIND_PARAMETER;  // of tensors
  gradc_element element = GRADC_ELEMENT_F32;
  std::vector<int64_t> shape;
  int64_t bytes = 0;
  int64_t elements() const {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    return count;
  }
};

// The examples of one split of the data ("train", "val", "test"): its fields, by name.
struct Split {
  std::string name;
  std::vector<View> fields;
};

struct SplitResult : Result {
  std::string split;
};

struct StepEvent : Result {
  int64_t step = 0, epoch = 0, total = 0;
  double grad_norm = 0;  // NaN where the model file does not clip
};

struct EpochEvent {
  int64_t epoch = 0, epochs = 0, step = 0;
  double lr = 0, seconds = 0;
  std::vector<SplitResult> splits;  // train first
};

// As gradc_train_options; what is not given is as the model file says.
struct TrainOptions {
  int64_t epochs = -1, steps = -1, seed = -1;
  bool shuffle = true;
  bool keep_parameters = false;  // train on from the session's parameters
  int loaders = -1;
  std::string init_from, resume, save, checkpoints;
  bool save_state = false;
  std::vector<Split> splits;  // empty: the model file's own data
  // After each update and epoch, in the thread that trains; false ends the training. What they throw ends it
  // too, and comes out of train().
  std::function<bool(const StepEvent&)> on_step;
  std::function<bool(const EpochEvent&)> on_epoch;
};

struct TrainResult {
  int64_t steps = 0, epochs = 0, best_epoch = 0;
  double seconds = 0, examples_per_second = 0;
  std::string weights_sha256;
  std::vector<SplitResult> splits;  // train, what was evaluated after the last epoch, test
  bool cancelled = false;           // by cancel() or a callback
  // Throws std::out_of_range where there is no such split.
  const SplitResult& split(std::string_view name) const {
    for (const SplitResult& p : splits)
      if (p.split == name) return p;
    throw std::out_of_range("the training has no split `" + std::string(name) + "`");
  }
};

// As gradc_sample_options.
struct SampleOptions {
  std::string prompt = "\n";
  int32_t length = 200;  // characters
  double temperature = 1;
  uint64_t seed = 1;
};

// Parameters, optimizer state and threads. One thread at a time uses a session; cancel() and close() may be
// called by any.
class Session {
 public:
  // threads: 0: the processors there are. Results are the same for any number.
  explicit Session(const Model& model, int threads = 0) {
    gradc_session* made = nullptr;
    detail::check(gradc_session_create_from_model(model.c(), threads, &made));
    session_.reset(made);
  }
  // Of a model that `gradc compile` made.
  explicit Session(const gradc_image& image, int threads = 0) {
    gradc_session* made = nullptr;
    detail::check(gradc_session_create(&image, threads, &made));
    session_.reset(made);
  }

  // Ends the call that another thread has under way, waits for it and gives memory and threads back.
  void close() { gradc_session_close(c()); }
  // Asks the training, evaluation or prediction that is under way to end soon.
  void cancel() { gradc_session_cancel(c()); }

  void initialize(uint64_t seed) { detail::check(gradc_session_initialize(c(), seed)); }

  // One update. Arrays are given in the model's order, or each with the name of its input.
  Result step(Views inputs) {
    const Bound b(*this, GRADC_TRAIN, inputs);
    gradc_result r;
    detail::check_step(c(), gradc_session_step(c(), b.pointers.data(), b.rows, &r));
    return result(r, GRADC_TRAIN);
  }
  Result evaluate(Views inputs) {
    const Bound b(*this, GRADC_EVALUATE, inputs);
    gradc_result r;
    detail::check_step(c(), gradc_session_evaluate(c(), b.pointers.data(), b.rows, &r));
    return result(r, GRADC_EVALUATE);
  }
  // rows x output().shape, into memory of the caller's.
  template <detail::Element T>
  void predict(Views inputs, std::span<T> to) {
    const Array out = output();
    check_element<T>(out);
    const Bound b(*this, GRADC_PREDICT, inputs);
    detail::check_step(c(), gradc_session_predict(c(), b.pointers.data(), b.rows, to.data(),
                                                  static_cast<int64_t>(to.size_bytes())));
  }
  template <detail::Element T = float>
  std::vector<T> predict(Views inputs) {
    const Array out = output();
    check_element<T>(out);
    const Bound b(*this, GRADC_PREDICT, inputs);
    std::vector<T> made(static_cast<size_t>(b.rows * out.elements()));
    detail::check_step(
        c(), gradc_session_predict(c(), b.pointers.data(), b.rows, made.data(), b.rows * out.bytes));
    return made;
  }

  TrainResult train(const TrainOptions& options = {});

  // Where the model file says `normalize` or crops images: of examples as the data hold them what the model
  // reads, as at evaluation, as a range for step, evaluate and predict. `scale` and `crop` choose another
  // view of each image (gradc_session_prepare_view).
  std::vector<float> prepare(const std::string& field, const View& raw, int64_t scale = 0, int crop = 0) {
    const View named(field, raw);
    const gradc_view view = named.c();
    if (view.element == GRADC_ELEMENT_I32)
      throw Error(GRADC_USAGE, "prepare: `" + field + "` holds whole numbers, which are read as they are");
    int64_t bytes = 0;
    detail::check(gradc_session_prepare_view(c(), &view, scale, crop, nullptr, &bytes));
    std::vector<float> made(static_cast<size_t>(bytes) / sizeof(float));
    detail::check(gradc_session_prepare_view(c(), &view, scale, crop, made.data(), &bytes));
    return made;
  }

  // The prompt, and what a model of characters makes after it.
  std::string sample(const SampleOptions& options = {}) {
    gradc_sample_options o;
    gradc_sample_options_init(&o);
    o.prompt = options.prompt.c_str();
    o.length = options.length;
    o.temperature = options.temperature;
    o.seed = options.seed;
    const char* text = nullptr;
    detail::check_step(c(), gradc_session_sample(c(), &o, &text));
    return text;
  }

  // What the schedule knows, and a factor on the learning rate that it gives.
  void set_progress(int64_t step, int64_t epoch, int64_t total) {
    detail::check(gradc_session_set_progress(c(), step, epoch, total));
  }
  void set_lr_factor(double factor) { detail::check(gradc_session_set_lr_factor(c(), factor)); }
  int64_t steps() const { return gradc_session_steps(c()); }
  int64_t batch() const { return gradc_session_batch(c()); }
  int threads() const { return gradc_session_threads(c()); }

  std::vector<Array> inputs(gradc_use use) const {
    std::vector<Array> list;
    gradc_array a;
    for (int32_t i = 0; gradc_session_input(c(), use, i, &a) == GRADC_OK; ++i) list.push_back(array(a));
    return list;
  }
  Array output() const {
    gradc_array a;
    detail::check(gradc_session_output(c(), &a));
    return array(a);
  }
  // Parameters, states, optimizer slots and averages.
  std::vector<Array> tensors() const {
    std::vector<Array> list;
    gradc_array a;
    for (int32_t i = 0; gradc_session_tensor(c(), i, &a) == GRADC_OK; ++i) list.push_back(array(a));
    return list;
  }
  // A tensor's elements where they stand, row-major: to be read and written between calls.
  template <detail::Element T = float>
  std::span<T> tensor(const std::string& name, Array* description = nullptr) {
    void* data = nullptr;
    gradc_array a;
    detail::check(gradc_session_tensor_data(c(), name.c_str(), &data, &a));
    const Array found = array(a);
    check_element<T>(found);
    if (description) *description = found;
    return {static_cast<T*>(data), static_cast<size_t>(found.elements())};
  }

  void save(const std::string& path) const { detail::check_step(c(), gradc_session_save(c(), path.c_str())); }
  void save_all(const std::string& path) const {
    detail::check_step(c(), gradc_session_save_all(c(), path.c_str()));
  }
  void load(const std::string& path) { detail::check(gradc_session_load(c(), path.c_str())); }

  gradc_session* c() const { return session_.get(); }

 private:
  struct Bound {
    Bound(const Session& session, gradc_use use, Views views) {
      std::vector<gradc_view> list;
      for (const View& view : views) list.push_back(view.c());
      gradc_array ignored;
      int32_t count = 0;
      while (gradc_session_input(session.c(), use, count, &ignored) == GRADC_OK) ++count;
      pointers.resize(static_cast<size_t>(count));
      detail::check(gradc_session_bind(session.c(), use, list.data(), static_cast<int32_t>(list.size()),
                                       pointers.data(), &rows));
    }
    std::vector<const void*> pointers;
    int64_t rows = 0;
  };

  static Array array(const gradc_array& a) {
    return {a.name,
            static_cast<gradc_kind>(a.kind),
            static_cast<gradc_element>(a.element),
            {a.shape, a.shape + a.rank},
            a.bytes};
  }
  template <class T>
  static void check_element(const Array& a) {
    if (detail::kElement<std::remove_cv_t<T>> == a.element) return;
    static const char* const names[] = {"float", "double", "int32_t", "bool"};
    throw Error(GRADC_USAGE,
                "`" + a.name + "` holds elements of " + names[a.element] + "; ask for it as these");
  }
  std::vector<Metric> metrics(gradc_use use, const double* values, int32_t count) const {
    std::vector<Metric> list;
    for (int32_t i = 0; i < count; ++i) list.push_back({gradc_session_metric(c(), use, i), values[i]});
    return list;
  }
  Result result(const gradc_result& r, gradc_use use) const {
    return {r.loss, r.lr, metrics(use, r.metrics, r.metric_count)};
  }
  std::vector<SplitResult> splits(const gradc_split_result* from, int32_t count) const {
    std::vector<SplitResult> list;
    for (int32_t i = 0; i < count; ++i) {
      SplitResult& made = list.emplace_back();
      made.split = from[i].split;
      made.loss = from[i].loss;
      made.metrics = metrics(GRADC_EVALUATE, from[i].metrics, from[i].metric_count);
    }
    return list;
  }

  struct Destroy {
    void operator()(gradc_session* session) const { gradc_session_destroy(session); }
  };
  std::unique_ptr<gradc_session, Destroy> session_;
};

inline TrainResult Session::train(const TrainOptions& options) {
  // Exceptions stay on this side of the C interface.
  struct Calls {
    const Session& session;
    const TrainOptions& options;
    std::exception_ptr thrown;
  } calls{*this, options, nullptr};
  const auto text = [](const std::string& given) { return given.empty() ? nullptr : given.c_str(); };
  std::vector<std::vector<gradc_view>> fields;
  std::vector<gradc_split> c_splits;
  for (const Split& split : options.splits) {
    std::vector<gradc_view>& views = fields.emplace_back();
    for (const View& view : split.fields) views.push_back(view.c());
  }
  for (size_t i = 0; i < fields.size(); ++i)
    c_splits.push_back(
        {options.splits[i].name.c_str(), fields[i].data(), static_cast<int32_t>(fields[i].size())});

  gradc_train_options o;
  gradc_train_options_init(&o);
  o.epochs = options.epochs;
  o.steps = options.steps;
  o.seed = options.seed;
  o.shuffle = options.shuffle;
  o.keep_parameters = options.keep_parameters;
  o.loaders = options.loaders;
  o.init_from = text(options.init_from);
  o.resume = text(options.resume);
  o.save = text(options.save);
  o.save_state = options.save_state;
  o.checkpoints = text(options.checkpoints);
  o.splits = c_splits.data();
  o.split_count = static_cast<int32_t>(c_splits.size());
  o.user = &calls;
  if (options.on_step)
    o.on_step = [](void* user, const gradc_step_event* e) -> int32_t {
      auto& calls = *static_cast<Calls*>(user);
      try {
        StepEvent event;
        event.loss = e->loss;
        event.lr = e->lr;
        event.metrics = calls.session.metrics(GRADC_TRAIN, e->metrics, e->metric_count);
        event.step = e->step;
        event.epoch = e->epoch;
        event.total = e->total;
        event.grad_norm = e->grad_norm;
        return calls.options.on_step(event) ? 0 : 1;
      } catch (...) {
        calls.thrown = std::current_exception();
        return 1;
      }
    };
  if (options.on_epoch)
    o.on_epoch = [](void* user, const gradc_epoch_event* e) -> int32_t {
      auto& calls = *static_cast<Calls*>(user);
      try {
        const EpochEvent event{e->epoch, e->epochs,  e->step,
                               e->lr,    e->seconds, calls.session.splits(e->splits, e->split_count)};
        return calls.options.on_epoch(event) ? 0 : 1;
      } catch (...) {
        calls.thrown = std::current_exception();
        return 1;
      }
    };
  gradc_train_result r{};
  const gradc_status status = gradc_session_train(c(), &o, &r);
  if (calls.thrown) std::rethrow_exception(calls.thrown);
  if (status != GRADC_CANCELLED) detail::check_step(c(), status);
  TrainResult made;
  made.steps = r.steps;
  made.epochs = r.epochs;
  made.best_epoch = r.best_epoch;
  made.seconds = r.seconds;
  made.examples_per_second = r.examples_per_second;
  made.weights_sha256 = r.weights_sha256 ? r.weights_sha256 : "";
  made.splits = splits(r.splits, r.split_count);
  made.cancelled = status == GRADC_CANCELLED;
  return made;
}

}  // namespace v0
}  // namespace gradc
