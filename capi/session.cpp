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
