// A team of threads that runs one function on all of them (SPMD) with a barrier; knows nothing of what is
// run.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <type_traits>
#include <vector>

namespace gradc::runtime {

inline constexpr int kMaxThreads = 1024;

// Threads to use: `requested` if positive, else GRADC_THREADS, else OMP_NUM_THREADS, else the processors this
// process may use (affinity mask and control group quota, rounded up). Throws RunError (kExitUsage) for an invalid
// value.
int choose_thread_count(int requested);

// Processors this process may use: the affinity mask, limited by the control group's quota.
int usable_processors();

// The caller is thread 0; the other threads are started once and wait between runs: first spinning, then
// yielding, then asleep.
class Team {
 public:
  explicit Team(int threads);
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

  // Calls fn(thread, threads) on the first `threads` threads of the team (all by default) and returns when
  // all are done. fn must not throw, and either all its threads or none call barrier(). Only one thread may
  // call run(), and not from within fn.
  template <typename F>
  void run(F&& fn, int threads = 0) {
    using Function = std::remove_reference_t<F>;
    run_erased(
        [](void* context, int thread, int count) { (*static_cast<Function*>(context))(thread, count); },
        const_cast<void*>(static_cast<const void*>(&fn)), threads);
  }

  // Returns when every thread of this run has called it; what they wrote before is then visible to all.
  void barrier();
  static void barrier_of(void* team) { static_cast<Team*>(team)->barrier(); }  // for gradc_step_args.barrier

 private:
  using Erased = void (*)(void*, int, int);
  void run_erased(Erased function, void* context, int threads);
  void worker(int thread);
  void wait_while(std::atomic<uint32_t>& word, uint32_t value) const;

  // Words that waiting threads read and words that arriving threads write are in separate cache lines.
  alignas(128) std::atomic<uint32_t> phase_{0};    // barriers passed
  alignas(128) std::atomic<uint32_t> missing_{0};  // threads not yet at the barrier
  alignas(128) std::atomic<uint32_t> start_{0};    // runs begun
  alignas(128) std::atomic<uint32_t> busy_{0};     // workers not yet done with this run
  alignas(128) Erased function_ = nullptr;         // null: stop
  void* context_ = nullptr;
  int active_ = 1;  // threads of this run
  int spins_ = 0;   // loads of a word before going to sleep
  std::vector<std::thread> workers_;
};

}  // namespace gradc::runtime
