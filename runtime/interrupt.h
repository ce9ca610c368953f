// The first SIGINT asks a run to end, the second kills. Knows nothing of the run.
#pragma once
#include <csignal>

namespace gradc::runtime {

// While it lives, a first SIGINT only sets a flag; then the signal's default action is back. The old handling
// returns at the end. A process that ignores SIGINT (nohup) goes on ignoring it. One guard at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  bool interrupted() const;

 private:
  struct sigaction old_;
};

}  // namespace gradc::runtime
