// include/gradc/session.h over the runtime: no exception leaves a function here.
#include <fmt/format.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>

#include "capi/bundle.h"
#include "capi/session.h"
#include "include/gradc/session.h"
#include "runtime/execution/checkpoint.h"
#include "runtime/execution/session.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/experiment.h"

using namespace gradc;

namespace gradc::capi {

namespace {

thread_local std::string last_error;

}  // namespace

gradc_status failed(gradc_status status, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

gradc_status guarded(const std::function<void()>& body) noexcept {
  try {
    body();
    return GRADC_OK;
  } catch (const RunError& error) {
    return failed(static_cast<gradc_status>(error.exit_code), error.what());
  } catch (const std::bad_alloc&) {
    return failed(GRADC_RUN_FAILED, "out of memory");
  } catch (const InternalError& error) {
    return failed(GRADC_INTERNAL, error.what());
  } catch (const std::system_error& error) {
    return failed(GRADC_RUN_FAILED, (std::string("the system refused a resource: ") + error.what()).c_str());
  } catch (const std::exception& error) {
    return failed(GRADC_INTERNAL, error.what());
  } catch (...) {
    return failed(GRADC_INTERNAL, "an unknown exception");
  }
}

gradc_session* create_session(const gradc_program& program, std::shared_ptr<const void> owner,
                              const gradc_image* bundle, int32_t threads) {
  if (threads < 0 || threads > runtime::kMaxThreads)
    throw RunError(kExitUsage, fmt::format("a session of {} threads; expected 0 (choose) to {}", threads,
                                           runtime::kMaxThreads));
  auto made = std::make_unique<gradc_session>();
  made->program = &program;
  made->owner = std::move(owner);
  // Environment variables configure the tool only: an embedding program sets what it needs.
  made->runs =
      std::make_unique<runtime::Session>(program, threads > 0 ? threads : runtime::usable_processors());
  made->threads = made->runs->threads();
  const TrainRecord train = read_experiment(program.experiment_json).train;
  made->seed = static_cast<uint64_t>(train.seed);
  made->full_batch = train.driver;
  if (bundle && bundle->weight_bytes) {
    runtime::load_checkpoint(*made->runs, "the embedded weights",
                             {bundle->weights, bundle->weights + bundle->weight_bytes});
  } else if (program.init.run) {
    made->runs->initialize(made->seed);
  }
  return made.release();
}

void check_options_size(uint32_t size, size_t known, const char* function) {
  if (size == 0)
    throw RunError(kExitUsage,
                   fmt::format("{0}: the options were not initialised; call {0}_options_init()", function));
  if (size < 2 * sizeof(uint32_t) || size > known)
    throw RunError(
        kExitUsage,
        fmt::format("{}: options of {} bytes; expected at most {}: the program was compiled with a "
                    "newer gradc than it runs with",
                    function, size, known));
}

void check_result_size(uint32_t size, size_t known, const char* init) {
  if (size < 2 * sizeof(uint32_t) || size > known)
    throw RunError(
        kExitUsage,
        fmt::format("a struct of {} bytes to be filled; expected at most {}: call {}() first, and run with "
                    "no older a gradc than the program was compiled with",
                    size, known, init));
}

namespace {

gradc_range c_range(const runtime::ValueRange& r) {
  return {r.name.c_str(), r.low, r.high, r.elements, r.nan, r.above, r.below};
}

}  // namespace

KeptReport::KeptReport(runtime::NotFiniteReport made) : report(std::move(made)) {
  for (const runtime::ValueRange& operand : report.operands) operands.push_back(c_range(operand));
  for (const std::string& note : report.notes) notes.push_back(note.c_str());
  for (const std::string& help : report.helps) helps.push_back(help.c_str());
}

void check_weights(gradc_session& session) {
  if (session.checked) return;
  if (const auto found = session.runs->find_not_finite())
    throw_not_finite(session,
                     runtime::not_finite_weights(*found, session.progress.step, session.progress.step));
  session.checked = true;
}

void throw_not_finite(gradc_session& session, const runtime::NotFiniteError& error) {
  runtime::NotFiniteReport report = runtime::unexplained(error);
  if (error.function.empty()) {
    // The report has all that is known.
  } else if (session.explain) {
    try {
      report = session.explain(*session.runs, error);
    } catch (const std::exception&
                 failure) {  // the caller needs the failure of the step, not that of its explanation
      report.text +=
          fmt::format("\nThe step could not be replayed to find the operation: {}", failure.what());
    }
  } else {
    report.helps.emplace_back(
        "this library was compiled ahead of time and cannot replay the step: `gradc train` on the model "
        "file, or a "
        "session of libgradc on the same data, names the operation and its line");
    report.text += "\n  = help: " + report.helps.back();
  }
  session.not_finite = std::make_unique<KeptReport>(std::move(report));
  throw RunError(kExitCheckFailed, session.not_finite->report.text);
}

Use::Use(gradc_session* session, const char* function, bool nested) : session_(session) {
  if (!session) throw RunError(kExitUsage, fmt::format("{}: `session` is null", function));
  const std::lock_guard lock(session->mutex);
  if (session->closing) throw RunError(kExitUsage, fmt::format("{}: the session is closed", function));
  if (session->busy) {
    if (session->user != std::this_thread::get_id())
      throw RunError(
          kExitUsage,
          fmt::format("{}: another thread is using this session; give each thread one of its own", function));
    if (!session->calling_back || !nested)
      throw RunError(kExitUsage,
                     fmt::format("{}: a callback of the session cannot call this; cancel the training, and "
                                 "call it afterwards",
                                 function));
    inner_ = true;
    return;
  }
  session->busy = true;
  session->user = std::this_thread::get_id();
  session->cancelled = false;
}

Use::~Use() {
  if (inner_) return;
  bool destroyed = false;
  {
    const std::lock_guard lock(session_->mutex);
    session_->busy = false;
    session_->user = {};
    if (session_->closing) session_->runs.reset();
    destroyed = session_->destroyed;
    session_->freed.notify_all();
  }
  if (destroyed) delete session_;
}

namespace {

// "image" of "digits.image".
std::string field_name(const std::string& name) { return name.substr(name.rfind('.') + 1); }

std::string view_type(const gradc_view& view) {
  static const char* const names[] = {"f32", "f64", "i32", "bool", "u8"};
  const std::string element =
      view.element >= 0 && view.element <= GRADC_ELEMENT_U8 ? names[view.element] : "an unknown element";
  return fmt::format("{}[{}]", element, fmt::join(view.shape, view.shape + view.rank, ", "));
}

}  // namespace

int64_t rows_of_view(const gradc_view& view, const std::string& where, const char* name, int32_t dtype,
                     int32_t rank, const int64_t* shape, bool bytes_too) {
  constexpr int kMostAxes = 32;
  const auto usage = [&](const std::string& what) {
    throw RunError(kExitUsage, fmt::format("{}: `{}`: {}", where, name, what));
  };
  if (view.rank < 1 || view.rank > kMostAxes)
    usage(fmt::format("an array of {} axes; expected at least one, the rows", view.rank));
  if (!view.shape) usage("the shape is a null pointer");
  const std::string wanted = runtime::type_text(dtype, rank, shape);
  const auto data = [&](const std::string& advice) {
    throw RunError(kExitDataError, fmt::format("{}: `{}`: the array is {}; expected rows x {}{}", where, name,
                                               view_type(view), wanted, advice));
  };
  int64_t elements = 1;
  for (int32_t i = 0; i < view.rank; ++i)
    if (view.shape[i] < 0 || __builtin_mul_overflow(elements, view.shape[i], &elements))
      usage(
          fmt::format("the shape [{}] makes no sense", fmt::join(view.shape, view.shape + view.rank, ", ")));
  if (view.element != dtype && !(bytes_too && view.element == GRADC_ELEMENT_U8 && dtype == GRADC_F32))
    data(view.element == GRADC_ELEMENT_F64 && dtype == GRADC_F32
             ? "; nothing is converted on the way, so hold it as float"
         : view.element == GRADC_ELEMENT_U8
             ? "; bytes are read as training data of f32 only; scale them to float"
             : "");
  const int64_t example = runtime::element_count(rank, shape);
  const bool flat = view.rank == 1;
  if (flat ? view.shape[0] % example != 0
           : view.rank != rank + 1 || !std::equal(shape, shape + rank, view.shape + 1))
    data(flat && rank > 0
             ? fmt::format("; {} elements are no whole number of rows of {}", view.shape[0], example)
             : "");
  const int64_t rows = flat ? view.shape[0] / example : view.shape[0];
  if (rows < 1)
    throw RunError(kExitDataError,
                   fmt::format("{}: `{}`: the array has no rows; expected at least one", where, name));
  if (view.strides) {
    int64_t step = 1;
    for (int32_t i = view.rank - 1; i >= 0; --i) {
      // The stride of an axis of one element has no effect; xtensor writes 0 there.
      if (view.shape[i] != 1 && view.strides[i] != step)
        usage(
            fmt::format("the array is a view with gaps or another order (strides [{}] of {}); memory is read "
                        "as it stands, row-major without gaps: copy it into an array of its own first",
                        fmt::join(view.strides, view.strides + view.rank, ", "), view_type(view)));
      step *= view.shape[i];
    }
  }
  if (!view.data) usage("the data are a null pointer");
  return rows;
}

std::vector<const gradc_view*> match_views(const gradc_view* views, int32_t count,
                                           const std::vector<std::string>& names, const std::string& where) {
  const auto usage = [&](const std::string& what) {
    throw RunError(kExitUsage, fmt::format("{}: {}", where, what));
  };
  if (count < 0 || (count > 0 && !views)) usage("the arrays are a null pointer");
  std::vector<const gradc_view*> result(names.size(), nullptr);
  int named = 0;
  for (int32_t i = 0; i < count; ++i) named += views[i].name != nullptr;
  if (named != 0 && named != count)
    usage("some arrays have names and some have none; give all a name, or none");
  if (named == 0) {
    if (static_cast<size_t>(count) != names.size())
      usage(fmt::format("{} array{}; the model reads {}: {}", count, count == 1 ? "" : "s", names.size(),
                        fmt::join(names, ", ")));
    for (size_t i = 0; i < names.size(); ++i) result[i] = &views[i];
    return result;
  }
  for (int32_t i = 0; i < count; ++i) {
    const std::string given = views[i].name;
    size_t found = names.size(), matches = 0;
    for (size_t k = 0; k < names.size(); ++k) {
      if (given != names[k] && given != field_name(names[k])) continue;
      found = k;
      if (given == names[k]) {
        matches = 1;
        break;
      }
      ++matches;
    }
    if (matches == 0) {
      const std::string near = nearest_name(given, names);
      std::vector<std::string> short_names;
      for (const std::string& name : names) short_names.push_back(field_name(name));
      const std::string short_near = nearest_name(given, short_names);
      const std::string& best = near.empty() ? short_near : near;
      usage(fmt::format("the model reads no `{}`; it reads {}{}", given, fmt::join(names, ", "),
                        best.empty() ? "" : fmt::format("; did you mean `{}`?", best)));
    }
    if (matches > 1) usage(fmt::format("`{}` is in several data sets: {}", given, fmt::join(names, ", ")));
    if (result[found]) usage(fmt::format("`{}` is given twice", names[found]));
    result[found] = &views[i];
  }
  for (size_t k = 0; k < names.size(); ++k)
    if (!result[k]) usage(fmt::format("the model reads `{}`, which is not given", names[k]));
  return result;
}

}  // namespace gradc::capi

namespace {

using capi::guarded;
using capi::Use;

const gradc_entry_info& entry_of(const gradc_session& s, gradc_use use) {
  switch (use) {
    case GRADC_TRAIN: return s.program->train_step;
    case GRADC_EVALUATE: return s.program->eval;
    case GRADC_PREDICT: return s.program->predict;
  }
  throw RunError(kExitUsage, fmt::format("there is no use {} of a model", static_cast<int>(use)));
}

void check_inputs(const char* function, const gradc_entry_info& entry, const void* const* inputs,
                  int64_t rows) {
  if (rows < 1) throw RunError(kExitUsage, fmt::format("{}: {} rows; expected at least 1", function, rows));
  if (!inputs) throw RunError(kExitUsage, fmt::format("{}: `inputs` is null", function));
  for (int32_t i = 0; i < entry.input_count; ++i)
    if (!inputs[i])
      throw RunError(kExitUsage,
                     fmt::format("{}: input {} (`{}`) is null", function, i, entry.inputs[i].name));
  for (int32_t i = 0; i < entry.input_count; ++i)
    if (entry.inputs[i].range_count > 0)
      runtime::check_index_ranges(
          entry.inputs[i], static_cast<const int32_t*>(inputs[i]), rows, [&](int64_t row) {
            return fmt::format("{}: `{}` of row {}", function, entry.inputs[i].name, row);
          });
}

int64_t example_bytes(int32_t dtype, int32_t rank, const int64_t* shape) {
  return runtime::element_count(rank, shape) * runtime::dtype_bytes(dtype);
}

// Calls body(batch, first row) for pieces of at most B rows.
template <class F>
void in_pieces(const gradc_session& s, const gradc_entry_info& entry, const void* const* inputs, int64_t rows,
               F&& body) {
  std::vector<const void*> piece(static_cast<size_t>(entry.input_count));
  for (int64_t first = 0; first < rows; first += s.program->batch) {
    if (s.cancelled)
      throw RunError(GRADC_CANCELLED, fmt::format("cancelled after {} of {} rows", first, rows));
    for (int32_t i = 0; i < entry.input_count; ++i) {
      const gradc_input& in = entry.inputs[i];
      piece[static_cast<size_t>(i)] =
          static_cast<const uint8_t*>(inputs[i]) + first * example_bytes(in.dtype, in.rank, in.shape);
    }
    body(runtime::Batch{piece.data(), std::min(rows - first, s.program->batch)}, first);
  }
}

void give(gradc_session& s, gradc_result* result, double loss, double lr, std::vector<double> metrics) {
  s.metrics = std::move(metrics);
  if (result) *result = {loss, lr, static_cast<int32_t>(s.metrics.size()), s.metrics.data()};
}

void save(gradc_session& s, const char* path, bool slots) {
  try {
    runtime::save_checkpoint(*s.runs, path, {.seed = s.seed, .step = s.progress.step, .slots = slots});
  } catch (const runtime::NotFiniteError& error) {
    capi::throw_not_finite(s, error);
  }
}

std::vector<double> values(const runtime::Metrics& metrics) {
  std::vector<double> result;
  for (const auto& [name, value] : metrics) result.push_back(value);
  return result;
}

gradc_array array_of(const gradc_symbol& s) {
  return {s.name, s.kind, s.dtype, s.rank, s.shape, example_bytes(s.dtype, s.rank, s.shape)};
}

}  // namespace

extern "C" {

const char* gradc_last_error(void) { return capi::last_error.c_str(); }

gradc_status gradc_session_create(const gradc_image* image, int32_t threads, gradc_session** session) {
  if (session) *session = nullptr;
  return guarded([&] {
    if (!image || !session)
      throw RunError(kExitUsage,
                     fmt::format("gradc_session_create: `{}` is null", image ? "session" : "image"));
    *session = capi::create_session(capi::program_for_this_processor(*image), {}, image, threads);
  });
}

void gradc_session_close(gradc_session* session) {
  if (!session) return;
  std::unique_lock lock(session->mutex);
  session->closing = session->cancelled = true;
  if (session->busy && session->user == std::this_thread::get_id()) return;  // in a callback: see ~Use
  session->freed.wait(lock, [&] { return !session->busy; });
  session->runs.reset();
}

void gradc_session_destroy(gradc_session* session) {
  if (!session) return;
  gradc_session_close(session);
  {
    const std::lock_guard lock(session->mutex);
    if (session->busy) {  // in a callback
      session->destroyed = true;
      return;
    }
  }
  delete session;
}

void gradc_session_cancel(gradc_session* session) {
  if (!session) return;
  const std::lock_guard lock(session->mutex);
  if (session->busy) session->cancelled = true;
}

gradc_status gradc_session_initialize(gradc_session* session, uint64_t seed) {
  return guarded([&] {
    const Use use(session, "gradc_session_initialize");
    session->runs->initialize(seed);
    session->seed = seed;
    session->progress.step = session->progress.epoch = 0;
    session->steps = 0;
    session->checked = true;
  });
}

gradc_status gradc_session_step(gradc_session* session, const void* const* inputs, int64_t rows,
                                gradc_result* result) {
  return guarded([&] {
    const Use use(session, "gradc_session_step");
    session->runs->require_training();
    if (!session->full_batch.empty())
      throw RunError(kExitUsage,
                     fmt::format("gradc_session_step: the optimizer {} looks at all examples before "
                                 "it moves, and a step has one batch",
                                 session->full_batch));
    if (const int64_t most = gradc_session_batch(session); rows > most)
      throw RunError(kExitUsage,
                     fmt::format("gradc_session_step: {} rows; the model was compiled for at most {} a step",
                                 rows, most));
    check_inputs("gradc_session_step", session->program->train_step, inputs, rows);
    session->not_finite.reset();
    const runtime::Batch batch{inputs, rows};
    const runtime::StepResult step = session->runs->step(batch, session->progress, session->seed);
    give(*session, result, step.loss, step.lr, values(step.metrics));
    if (!step.finite)
      capi::throw_not_finite(
          *session, runtime::not_finite_loss(*session->runs, session->progress, 0, session->seed, -1, batch));
    session->steps = ++session->progress.step;
    session->checked = false;
  });
}

gradc_status gradc_session_not_finite(const gradc_session* session, gradc_not_finite* report) {
  return guarded([&] {
    const Use use(const_cast<gradc_session*>(session), "gradc_session_not_finite", true);
    if (!report) throw RunError(kExitUsage, "gradc_session_not_finite: `report` is null");
    if (!session->not_finite)
      throw RunError(kExitUsage,
                     "gradc_session_not_finite: the last step was finite; there is nothing to report");
    const capi::KeptReport& kept = *session->not_finite;
    const runtime::NotFiniteReport& r = kept.report;
    gradc_not_finite made;
    gradc_not_finite_init(&made);
    made.line = static_cast<int32_t>(r.line);
    made.column = static_cast<int32_t>(r.column);
    made.step = r.step;
    made.epoch = r.epoch;
    made.batch = r.batch;
    made.text = r.text.c_str();
    made.operation = r.operation.c_str();
    made.name = r.name.c_str();
    made.type = r.type.c_str();
    made.file = r.file.empty() ? nullptr : r.file.c_str();
    made.result = capi::c_range(r.result);
    made.operand_count = static_cast<int32_t>(kept.operands.size());
    made.operands = kept.operands.data();
    made.note_count = static_cast<int32_t>(kept.notes.size());
    made.notes = kept.notes.data();
    made.help_count = static_cast<int32_t>(kept.helps.size());
    made.helps = kept.helps.data();
    capi::give_result(report, made, "gradc_not_finite_init");
  });
}

gradc_status gradc_session_evaluate(gradc_session* session, const void* const* inputs, int64_t rows,
                                    gradc_result* result) {
  return guarded([&] {
    const Use use(session, "gradc_session_evaluate", true);
    const gradc_entry_info& entry = session->program->eval;
    check_inputs("gradc_session_evaluate", entry, inputs, rows);
    capi::check_weights(*session);
    runtime::Sums sums;
    in_pieces(*session, entry, inputs, rows,
              [&](const runtime::Batch& batch, int64_t) { sums.add(session->runs->evaluation_sums(batch)); });
    give(*session, result, sums.loss(), NAN, values(sums.metrics()));
  });
}

gradc_status gradc_session_predict(gradc_session* session, const void* const* inputs, int64_t rows,
                                   void* output, int64_t bytes) {
  return guarded([&] {
    const Use use(session, "gradc_session_predict", true);
    const gradc_output& out = session->runs->predict_output();
    const gradc_entry_info& entry = session->program->predict;
    check_inputs("gradc_session_predict", entry, inputs, rows);
    if (!output) throw RunError(kExitUsage, "gradc_session_predict: `output` is null");
    const int64_t size = example_bytes(out.dtype, out.rank, out.shape);
    if (bytes != rows * size)
      throw RunError(
          kExitUsage,
          fmt::format("gradc_session_predict: an output of {} bytes for {} rows of {}; expected {}", bytes,
                      rows, runtime::type_text(out.dtype, out.rank, out.shape), rows * size));
    capi::check_weights(*session);
    in_pieces(*session, entry, inputs, rows, [&](const runtime::Batch& batch, int64_t first) {
      const void* made = session->runs->predict(batch);
      std::memcpy(static_cast<uint8_t*>(output) + first * size, made, static_cast<size_t>(batch.rows * size));
    });
  });
}

gradc_status gradc_session_set_progress(gradc_session* session, int64_t step, int64_t epoch, int64_t total) {
  return guarded([&] {
    const Use use(session, "gradc_session_set_progress");
    if (step < 0 || epoch < 0 || total < 1)
      throw RunError(kExitUsage,
                     fmt::format("gradc_session_set_progress: step {}, epoch {}, total {}; expected numbers "
                                 "from 0, and a total from 1",
                                 step, epoch, total));
    session->progress.step = step;
    session->steps = step;
    session->progress.epoch = epoch;
    session->progress.total = total;
  });
}

gradc_status gradc_session_set_lr_factor(gradc_session* session, double factor) {
  return guarded([&] {
    const Use use(session, "gradc_session_set_lr_factor", true);
    if (!std::isfinite(factor) || factor < 0)
      throw RunError(kExitUsage,
                     fmt::format("gradc_session_set_lr_factor: {}; expected a number from 0", factor));
    session->progress.lr_factor = factor;
  });
}

int64_t gradc_session_steps(const gradc_session* session) { return session ? session->steps.load() : 0; }
int64_t gradc_session_batch(const gradc_session* session) {
  return session ? session->program->batch * std::max<int64_t>(session->program->pieces, 1) : 0;
}
int32_t gradc_session_threads(const gradc_session* session) { return session ? session->threads : 0; }

gradc_status gradc_session_input(const gradc_session* session, gradc_use use, int32_t index,
                                 gradc_array* input) {
  return guarded([&] {
    if (!session || !input) throw RunError(kExitUsage, "gradc_session_input: a null pointer");
    const gradc_entry_info& entry = entry_of(*session, use);
    if (index < 0 || index >= entry.input_count)
      throw RunError(kExitUsage, fmt::format("gradc_session_input: there is no input {}; there are {}", index,
                                             entry.input_count));
    const gradc_input& in = entry.inputs[index];
    *input = {in.name, 0, in.dtype, in.rank, in.shape, example_bytes(in.dtype, in.rank, in.shape)};
  });
}

gradc_status gradc_session_bind(const gradc_session* session, gradc_use use, const gradc_view* views,
                                int32_t count, const void** inputs, int64_t* rows) {
  return guarded([&] {
    if (!session || !inputs || !rows) throw RunError(kExitUsage, "gradc_session_bind: a null pointer");
    const gradc_entry_info& entry = entry_of(*session, use);
    std::vector<std::string> names;
    for (int32_t i = 0; i < entry.input_count; ++i) names.emplace_back(entry.inputs[i].name);
    const std::string where = use == GRADC_TRAIN ? "step" : use == GRADC_EVALUATE ? "evaluate" : "predict";
    const auto matched = capi::match_views(views, count, names, where);
    int64_t first_rows = 0;
    for (size_t i = 0; i < matched.size(); ++i) {
      const gradc_input& in = entry.inputs[i];
      const int64_t found = capi::rows_of_view(*matched[i], where, in.name, in.dtype, in.rank, in.shape);
      if (i == 0) first_rows = found;
      if (found != first_rows)
        throw RunError(kExitDataError,
                       fmt::format("{}: `{}` has {} rows, but `{}` has {}; expected equally many", where,
                                   in.name, found, entry.inputs[0].name, first_rows));
    }
    for (size_t i = 0; i < matched.size(); ++i) inputs[i] = matched[i]->data;
    *rows = first_rows;
  });
}

gradc_status gradc_session_output(const gradc_session* session, gradc_array* output) {
  return guarded([&] {
    if (!session || !output) throw RunError(kExitUsage, "gradc_session_output: a null pointer");
    const gradc_output& out = runtime::predict_output(*session->program);
    *output = {out.name, 0, out.dtype, out.rank, out.shape, example_bytes(out.dtype, out.rank, out.shape)};
  });
}

const char* gradc_session_metric(const gradc_session* session, gradc_use use, int32_t index) {
  if (!session || index < 0 || (use != GRADC_TRAIN && use != GRADC_EVALUATE)) return nullptr;
  const gradc_entry_info& entry = use == GRADC_TRAIN ? session->program->train_step : session->program->eval;
  for (int32_t i = 1; i < entry.output_count; ++i) {  // the first output is the loss
    if (entry.outputs[i].batched || entry.outputs[i].dtype == GRADC_F64 ||
        entry.outputs[i].role != GRADC_RESULT)
      continue;
    if (index-- == 0) return entry.outputs[i].name;
  }
  return nullptr;
}

gradc_status gradc_session_tensor(const gradc_session* session, int32_t index, gradc_array* tensor) {
  return guarded([&] {
    if (!session || !tensor) throw RunError(kExitUsage, "gradc_session_tensor: a null pointer");
    if (index < 0 || index >= session->program->symbol_count)
      throw RunError(kExitUsage, fmt::format("gradc_session_tensor: there is no tensor {}; there are {}",
                                             index, session->program->symbol_count));
    *tensor = array_of(session->program->symbols[index]);
  });
}

gradc_status gradc_session_tensor_data(gradc_session* session, const char* name, void** data,
                                       gradc_array* tensor) {
  return guarded([&] {
    const Use use(session, "gradc_session_tensor_data", true);
    if (!name || !data) throw RunError(kExitUsage, "gradc_session_tensor_data: a null pointer");
    const gradc_symbol* symbol = session->runs->find(name);
    if (!symbol) {
      std::vector<std::string> names;
      for (int32_t i = 0; i < session->program->symbol_count; ++i)
        names.emplace_back(session->program->symbols[i].name);
      const std::string near = nearest_name(name, names);
      throw RunError(kExitUsage, fmt::format("the model has no tensor `{}`{}", name,
                                             near.empty() ? "" : fmt::format("; did you mean `{}`?", near)));
    }
    *data = session->runs->data(*symbol);
    if (tensor) *tensor = array_of(*symbol);
  });
}

gradc_status gradc_session_save(const gradc_session* session, const char* path) {
  return guarded([&] {
    const Use use(const_cast<gradc_session*>(session), "gradc_session_save", true);
    if (!path) throw RunError(kExitUsage, "gradc_session_save: `path` is null");
    save(*const_cast<gradc_session*>(session), path, false);
  });
}

gradc_status gradc_session_save_all(const gradc_session* session, const char* path) {
  return guarded([&] {
    const Use use(const_cast<gradc_session*>(session), "gradc_session_save_all", true);
    if (!path) throw RunError(kExitUsage, "gradc_session_save_all: `path` is null");
    save(*const_cast<gradc_session*>(session), path, true);
  });
}

gradc_status gradc_session_load(gradc_session* session, const char* path) {
  return guarded([&] {
    const Use use(session, "gradc_session_load");
    if (!path) throw RunError(kExitUsage, "gradc_session_load: `path` is null");
    runtime::load_checkpoint(*session->runs, path);
    session->checked = true;
  });
}

}  // extern "C"
