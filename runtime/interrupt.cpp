// A handler that sets a flag at the first signal and restores the default action for the second.
#include "runtime/interrupt.h"

#include <cerrno>

namespace gradc::runtime {
namespace {

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};

volatile std::sig_atomic_t came = 0;

extern "C" {
static void note_interrupt(int number) {
  if (came == 0) {
    came = number;
    return;
  }
  // The second signal: blocked until this handler returns, then its default action ends the process.
  const int error = errno;
  struct sigaction action{};
  action.sa_handler = SIG_DFL;
  sigemptyset(&action.sa_mask);
  sigaction(number, &action, nullptr);
  std::raise(number);
  errno = error;
}
}

}  // namespace

InterruptGuard::InterruptGuard() {
  came = 0;
  struct sigaction action{};
  action.sa_handler = note_interrupt;
  action.sa_flags = static_cast<int>(SA_RESTART);
  sigemptyset(&action.sa_mask);
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &old_[i]);
    if (old_[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

InterruptGuard::~InterruptGuard() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &old_[i], nullptr);
}

int InterruptGuard::signal() const { return static_cast<int>(came); }

int InterruptGuard::exit_code() const { return 128 + signal(); }

}  // namespace gradc::runtime
