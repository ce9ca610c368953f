// include/gradc/session.h over the runtime: no exception leaves a function here.
#include <fmt/format.h>

#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>

#include "include/gradc/session.h"
#include "runtime/checkpoint.h"
#include "runtime/experiment.h"
#include "runtime/session.h"
#include "standalone/c_session.h"
#include "standalone/image.h"
#include "support/check.h"
#include "support/diagnostic.h"

using namespace gradc;

struct gradc_session {
  const gradc_program* program = nullptr;
  std::unique_ptr<runtime::Session> runs;  // null: closed
  runtime::StepScalars progress;
  uint64_t seed = 1;
  std::string driver;           // of an optimizer of all examples; empty: none
  std::vector<double> metrics;  // of the last result
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
};

namespace gradc::standalone {

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
    return failed(GRADC_RUN_FAILED, error.what());
  } catch (const std::exception& error) {
    return failed(GRADC_INTERNAL, error.what());
  } catch (...) {
    return failed(GRADC_INTERNAL, "an unknown exception");
  }
}

gradc_status create_session(const gradc_program& program, int32_t threads, const gradc_image* image,
                            gradc_session** session) noexcept {
  return guarded([&] {
    if (!session) throw RunError(kExitUsage, "gradc_session_create: `session` is null");
    *session = nullptr;
    if (threads < 0 || threads > runtime::kMaxThreads)
      throw RunError(kExitUsage, fmt::format("gradc_session_create: {} threads; expected 0 (choose) to {}",
                                             threads, runtime::kMaxThreads));
    auto made = std::make_unique<gradc_session>();
    made->program = &program;
    made->runs = std::make_unique<runtime::Session>(program, threads);
    const runtime::TrainRecord train = runtime::read_experiment(program.experiment_json).train;
    made->seed = static_cast<uint64_t>(train.seed);
    made->driver = train.driver;
    if (image && image->weight_bytes) {
      runtime::load_checkpoint(*made->runs, "the embedded weights",
                               {image->weights, image->weights + image->weight_bytes});
    } else if (program.init.run) {
      made->runs->initialize(made->seed);
    }
    *session = made.release();
  });
}

}  // namespace gradc::standalone

namespace {

using standalone::guarded;

// Checks that a session can be used, and holds it while a call lasts.
class Use {
 public:
  Use(gradc_session* s, const char* function) : session_(s) {
    if (!s) throw RunError(kExitUsage, fmt::format("{}: `session` is null", function));
    if (s->busy.test_and_set())
      throw RunError(
          kExitUsage,
          fmt::format("{}: another thread is using this session; give each thread one of its own", function));
    if (s->runs) return;
    s->busy.clear();
    throw RunError(kExitUsage, fmt::format("{}: the session is closed", function));
  }
  ~Use() { session_->busy.clear(); }
  Use(const Use&) = delete;

 private:
  gradc_session* session_;
};

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

const char* gradc_last_error(void) { return standalone::last_error.c_str(); }

gradc_status gradc_session_create(const gradc_image* image, int32_t threads, gradc_session** session) {
  if (session) *session = nullptr;
  const gradc_program* program = nullptr;
  const gradc_status status = guarded([&] {
    if (!image) throw RunError(kExitUsage, "gradc_session_create: `image` is null");
    program = &standalone::program_for_this_processor(*image);
  });
  return status == GRADC_OK ? standalone::create_session(*program, threads, image, session) : status;
}

void gradc_session_close(gradc_session* session) {
  if (session) session->runs.reset();
}

void gradc_session_destroy(gradc_session* session) { delete session; }

gradc_status gradc_session_initialize(gradc_session* session, uint64_t seed) {
  return guarded([&] {
    const Use use(session, "gradc_session_initialize");
    session->runs->initialize(seed);
    session->seed = seed;
    session->progress.step = session->progress.epoch = 0;
  });
}

gradc_status gradc_session_step(gradc_session* session, const void* const* inputs, int64_t rows,
                                gradc_result* result) {
  return guarded([&] {
    const Use use(session, "gradc_session_step");
    session->runs->require_training();
    if (!session->driver.empty())
      throw RunError(kExitUsage,
                     fmt::format("gradc_session_step: the optimizer {} looks at all examples before "
                                 "it moves, and a step has one batch",
                                 session->driver));
    check_inputs("gradc_session_step", session->program->train_step, inputs, rows);
    if (rows > session->program->batch)
      throw RunError(kExitUsage,
                     fmt::format("gradc_session_step: {} rows; the model was compiled for at most {} a step",
                                 rows, session->program->batch));
    const runtime::StepResult step = session->runs->step({inputs, rows}, session->progress, session->seed);
    give(*session, result, step.loss, step.lr, values(step.metrics));
    if (!step.finite)
      throw RunError(kExitCheckFailed, fmt::format("the loss of step {} is not finite; nothing was updated",
                                                   session->progress.step + 1));
    ++session->progress.step;
  });
}

gradc_status gradc_session_evaluate(gradc_session* session, const void* const* inputs, int64_t rows,
                                    gradc_result* result) {
  return guarded([&] {
    const Use use(session, "gradc_session_evaluate");
    const gradc_entry_info& entry = session->program->eval;
    check_inputs("gradc_session_evaluate", entry, inputs, rows);
    double loss = 0;
    std::vector<double> metrics(static_cast<size_t>(entry.output_count - 1), 0.0);
    in_pieces(*session, entry, inputs, rows, [&](const runtime::Batch& batch, int64_t) {
      const runtime::EvalResult part = session->runs->evaluate(batch);
      const double share = static_cast<double>(batch.rows) / static_cast<double>(rows);
      loss += part.loss * share;
      for (size_t i = 0; i < metrics.size(); ++i) metrics[i] += part.metrics[i].second * share;
    });
    give(*session, result, loss, NAN, std::move(metrics));
  });
}

gradc_status gradc_session_predict(gradc_session* session, const void* const* inputs, int64_t rows,
                                   void* output, int64_t bytes) {
  return guarded([&] {
    const Use use(session, "gradc_session_predict");
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
    session->progress.epoch = epoch;
    session->progress.total = total;
  });
}

gradc_status gradc_session_set_lr_factor(gradc_session* session, double factor) {
  return guarded([&] {
    const Use use(session, "gradc_session_set_lr_factor");
    if (!std::isfinite(factor) || factor < 0)
      throw RunError(kExitUsage,
                     fmt::format("gradc_session_set_lr_factor: {}; expected a number from 0", factor));
    session->progress.lr_factor = factor;
  });
}

int64_t gradc_session_steps(const gradc_session* session) { return session ? session->progress.step : 0; }
int64_t gradc_session_batch(const gradc_session* session) { return session ? session->program->batch : 0; }
int32_t gradc_session_threads(const gradc_session* session) {
  return session && session->runs ? session->runs->threads() : 0;
}

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

gradc_status gradc_session_output(const gradc_session* session, gradc_array* output) {
  return guarded([&] {
    if (!session || !output) throw RunError(kExitUsage, "gradc_session_output: a null pointer");
    if (!session->runs) throw RunError(kExitUsage, "gradc_session_output: the session is closed");
    const gradc_output& out = session->runs->predict_output();
    *output = {out.name, 0, out.dtype, out.rank, out.shape, example_bytes(out.dtype, out.rank, out.shape)};
  });
}

const char* gradc_session_metric(const gradc_session* session, gradc_use use, int32_t index) {
  if (!session || index < 0 || (use != GRADC_TRAIN && use != GRADC_EVALUATE)) return nullptr;
  const gradc_entry_info& entry = use == GRADC_TRAIN ? session->program->train_step : session->program->eval;
  for (int32_t i = 1; i < entry.output_count; ++i) {  // the first output is the loss
    if (std::strcmp(entry.outputs[i].name, "lr") == 0) continue;
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
    const Use use(session, "gradc_session_tensor_data");
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
    const Use use(const_cast<gradc_session*>(session), "gradc_session_save");
    if (!path) throw RunError(kExitUsage, "gradc_session_save: `path` is null");
    runtime::save_checkpoint(*session->runs, path, {session->seed, session->progress.step});
  });
}

gradc_status gradc_session_load(gradc_session* session, const char* path) {
  return guarded([&] {
    const Use use(session, "gradc_session_load");
    if (!path) throw RunError(kExitUsage, "gradc_session_load: `path` is null");
    runtime::load_checkpoint(*session->runs, path);
  });
}

}  // extern "C"
