// The first termination signal (SIGINT, SIGTERM, SIGHUP) requests that a run end, the second kills. Knows nothing of
// the run.
#pragma once
#include <array>
#include <csignal>

namespace gradc::runtime {

// While it exists, a first SIGINT (^C), SIGTERM (schedulers, kill) or SIGHUP (a terminal that closes) only
// sets a flag; a second of any of them has its default action. The destructor restores the old handlers. A signal
// that the process ignores (nohup, jobs of scripts) stays ignored. One guard at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  bool interrupted() const { return signal() != 0; }
  int signal() const;     // the one received; 0: none
  int exit_code() const;  // 128 and its number, as shells count: 130, 143, 129

 private:
  std::array<struct sigaction, 3> old_;
};

}  // namespace gradc::runtime
