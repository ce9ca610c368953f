// What every function of the C interface has in common: errors as a status and a text, sizes of structs, one caller of a
// session at a time, views of a caller's arrays.
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
  made->full_batch = train.full_batch;
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

gradc_range c_range(const runtime::ValueRange& r) {
  return {r.name.c_str(), r.low, r.high, r.elements, r.nan, r.above, r.below};
}

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

extern "C" const char* gradc_last_error(void) { return gradc::capi::last_error.c_str(); }
