// Shared by the C interfaces, and private to them: exceptions to statuses, and sessions of any program.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "include/gradc/session.h"
#include "runtime/abi.h"
#include "runtime/execution/not_finite.h"
#include "runtime/execution/session.h"

namespace gradc::capi {

// Keeps the message for gradc_last_error() and returns the status.
gradc_status failed(gradc_status status, const char* message) noexcept;

// Runs `body` and turns what it throws into a status and a message.
gradc_status guarded(const std::function<void()>& body) noexcept;

// Creates a session of a program, which exists as long as `owner` (null: for ever); `bundle` (may be null) may hold
// parameters to start from. Throws.
gradc_session* create_session(const gradc_program& program, std::shared_ptr<const void> owner,
                              const gradc_image* bundle, int32_t threads);

// Checks the size of options that a caller of this or an earlier version filled: fields that it did not know have their
// defaults. `function` is for messages. Throws RunError (kExitUsage).
void check_options_size(uint32_t size, size_t known, const char* function);
// The same for structs that are filled for a caller, whose initialiser is `init`: only fields that the caller knows are
// written.
void check_result_size(uint32_t size, size_t known, const char* init);
template <class Result>
void give_result(Result* to, Result made, const char* init) {
  check_result_size(to->size, sizeof(Result), init);
  made.size = to->size;
  std::memcpy(to, &made, made.size);
}
// The caller's options over `defaults`, which are from the struct's _init(); `given` may be null.
template <class Options>
Options known_options(const Options* given, const Options& defaults, const char* function) {
  Options result = defaults;
  if (!given) return result;
  check_options_size(given->size, sizeof(Options), function);
  std::memcpy(&result, given, given->size);
  result.size = sizeof(Options);
  return result;
}

// Checks an array of the caller's against the type `name: dtype[shape]` of one example; returns its rows. Throws
// RunError (kExitUsage, kExitDataError) with `where` before the message.
int64_t rows_of_view(const gradc_view& view, const std::string& where, const char* name, int32_t dtype,
                     int32_t rank, const int64_t* shape, bool bytes_too = false);

// The view for the index-th of `names` ("digits.image" is `image` too): by name, or where none has names, by
// position. Throws RunError (kExitUsage) where views and names do not match one to one.
std::vector<const gradc_view*> match_views(const gradc_view* views, int32_t count,
                                           const std::vector<std::string>& names, const std::string& where);

gradc_range c_range(const runtime::ValueRange& r);

// A report as a C struct, with the storage that it points to.
struct KeptReport {
  explicit KeptReport(runtime::NotFiniteReport made);
  KeptReport(const KeptReport&) = delete;
  runtime::NotFiniteReport report;
  std::vector<gradc_range> operands;
  std::vector<const char*> notes, helps;
};

// Throws as throw_not_finite() does where an update since the last check made parameters or state not finite.
void check_weights(gradc_session& session);

// Keeps the report of a failed step and throws its text as a RunError (kExitCheckFailed).
[[noreturn]] void throw_not_finite(gradc_session& session, const runtime::NotFiniteError& error);

}  // namespace gradc::capi

struct gradc_session {
  const gradc_program* program = nullptr;
  std::shared_ptr<const void> owner;  // of the program
  int32_t threads = 0;
  std::unique_ptr<gradc::runtime::Session> runs;  // null: closed
  gradc::runtime::StepScalars progress;
  bool checked = true;             // parameters and state, since the last update
  std::atomic<int64_t> steps = 0;  // progress.step, for any thread
  uint64_t seed = 1;
  std::string full_batch;       // name of the full-batch optimizer; empty: none
  std::vector<double> metrics;  // of the last result
  // Of the last training.
  std::vector<std::vector<double>> kept_values;
  std::vector<std::string> kept_names;
  std::vector<gradc_split_result> kept_splits;
  std::string sha256;
  std::string sampled;  // of the last sample
  // Explains why a loss is not finite; null: without a compiler. May throw.
  std::function<gradc::runtime::NotFiniteReport(const gradc::runtime::Session&,
                                                const gradc::runtime::NotFiniteError&)>
      explain;
  std::unique_ptr<gradc::capi::KeptReport> not_finite;  // of the last step; null: it was finite

  // The current user; the mutex is never held during a call.
  std::mutex mutex;
  std::condition_variable freed;
  bool busy = false, closing = false, destroyed = false;
  bool calling_back = false;  // the thread `user` is in a callback
  std::thread::id user;       // while busy
  std::atomic<bool> cancelled = false;
};

namespace gradc::capi {

// Marks a session as used during a call. Throws RunError (kExitUsage) when it is null, closed or in use by another
// thread. Calls from a callback are nested in the call that made it, and allowed if `nested`.
class Use {
 public:
  Use(gradc_session* session, const char* function, bool nested = false);
  ~Use();
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;

 private:
  gradc_session* session_;
  bool inner_ = false;
};

}  // namespace gradc::capi
