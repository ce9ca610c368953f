// The thread team: workers wait on a counter of runs, the caller on a counter of workers that are not done.
#include "runtime/threads.h"

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <string>
#include <system_error>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "runtime/cgroup.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/environment.h"

namespace gradc::runtime {
namespace {

// About 30 microseconds of pauses, longer than threads that all run wait for each other.
constexpr int kSpins = 1000;
// Then the thread yields for some 100 microseconds: on a shared machine two threads of the team may be on one
// processor, and a thread that slept at once would be woken on the same processor again and again. Measured on 2
// processors under a load of 8: 200 microseconds a barrier for seconds without yielding; with it soon 0.3 again.
constexpr int kYields = 400;

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// A count from an environment variable's text, up to a comma; 0 when it is none.
int count_of(const char* text) {
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [rest, error] = std::from_chars(text, end, value);
  if (error != std::errc() || (rest != end && *rest != ',')) return 0;
  return value < 0 ? 0 : value;
}

}  // namespace

int usable_processors() {
  int processors = 0;
  // The mask can be larger than cpu_set_t: grow until the kernel accepts it.
  for (int bits = 1024; bits <= 1 << 20 && processors == 0; bits *= 4) {
    cpu_set_t* mask = CPU_ALLOC(bits);
    if (!mask) break;
    if (sched_getaffinity(0, CPU_ALLOC_SIZE(bits), mask) == 0)
      processors = CPU_COUNT_S(CPU_ALLOC_SIZE(bits), mask);
    CPU_FREE(mask);
  }
  if (processors == 0) processors = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  if (const auto quota = cgroup_cpu_limit(CgroupFiles{}))
    processors = std::min(processors, static_cast<int>(std::ceil(std::min(*quota, 1e6))));
  return std::clamp(processors, 1, kMaxThreads);
}

int choose_thread_count(int requested) {
  if (requested < 0 || requested > kMaxThreads)
    throw RunError(kExitUsage,
                   fmt::format("{} threads: expected 1 to {}, or 0 for a count that fits the machine",
                               requested, kMaxThreads));
  if (requested > 0) return requested;
  if (const char* text = environment("GRADC_THREADS"); text && *text) {
    const int count = count_of(text);
    if (count < 1 || count > kMaxThreads || std::strchr(text, ','))
      throw RunError(kExitUsage, fmt::format("GRADC_THREADS is \"{}\": expected a number from 1 to {}", text,
                                             kMaxThreads));
    return count;
  }
  // OpenMP's variable may hold a list, one count a nesting level; like OpenMP, an invalid value counts as unset.
  if (const char* text = environment("OMP_NUM_THREADS"))
    if (const int count = count_of(text); count > 0) return std::min(count, kMaxThreads);
  return usable_processors();
}

Team::Team(int threads) {
  GRADC_CHECK(threads >= 1 && threads <= kMaxThreads, "{} threads", threads);
  // With more threads than processors, spinning only keeps the awaited thread from running.
  spins_ = threads <= usable_processors() ? kSpins : 1;
  workers_.reserve(static_cast<size_t>(threads) - 1);
  try {
    for (int thread = 1; thread < threads; ++thread)
      workers_.emplace_back([this, thread] { worker(thread); });
  } catch (const std::system_error& error) {
    const size_t started = workers_.size();
    function_ = nullptr;
    start_.fetch_add(1, std::memory_order_release);
    start_.notify_all();
    for (auto& worker : workers_) worker.join();
    throw RunError(kExitRunFailed, fmt::format("cannot start thread {} of {}: {}; use fewer (--threads {})",
                                               started + 2, threads, error.code().message(), started + 1));
  }
}

Team::~Team() {
  function_ = nullptr;
  start_.fetch_add(1, std::memory_order_release);
  start_.notify_all();
  for (auto& worker : workers_) worker.join();
}

void Team::wait_while(std::atomic<uint32_t>& word, uint32_t value) const {
  for (int spin = 0; spin < spins_; ++spin) {
    if (word.load(std::memory_order_acquire) != value) return;
    pause();
  }
  for (int turn = 0; turn < kYields; ++turn) {
    if (word.load(std::memory_order_acquire) != value) return;
    std::this_thread::yield();
  }
  while (word.load(std::memory_order_acquire) == value) word.wait(value, std::memory_order_acquire);
}

void Team::run_erased(Erased function, void* context, int threads) {
  if (threads <= 0 || threads > this->threads()) threads = this->threads();
  active_ = threads;
  missing_.store(static_cast<uint32_t>(threads), std::memory_order_relaxed);
  if (threads == 1) return function(context, 0, 1);
  function_ = function;
  context_ = context;
  busy_.store(static_cast<uint32_t>(workers_.size()), std::memory_order_relaxed);
  start_.fetch_add(1, std::memory_order_release);
  start_.notify_all();
  function(context, 0, threads);
  for (uint32_t left = busy_.load(std::memory_order_acquire); left != 0;
       left = busy_.load(std::memory_order_acquire))
    wait_while(busy_, left);
}

void Team::worker(int thread) {
  for (uint32_t run = 0;; ++run) {
    wait_while(start_, run);
    if (!function_) return;
    if (thread < active_) function_(context_, thread, active_);
    if (busy_.fetch_sub(1, std::memory_order_acq_rel) == 1) busy_.notify_one();
  }
}

void Team::barrier() {
  // The phase cannot change before this thread has arrived, so it may be read first.
  const uint32_t phase = phase_.load(std::memory_order_relaxed);
  if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
    missing_.store(static_cast<uint32_t>(active_), std::memory_order_relaxed);
    phase_.fetch_add(1, std::memory_order_release);
    phase_.notify_all();
    return;
  }
  wait_while(phase_, phase);
}

}  // namespace gradc::runtime
