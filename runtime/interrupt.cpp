// SIGINT by a flag and a handler that is in force once.
#include "runtime/interrupt.h"

namespace gradc::runtime {
namespace {

volatile std::sig_atomic_t flag = 0;

extern "C" {
static void note_interrupt(int) { flag = 1; }
}

}  // namespace

InterruptGuard::InterruptGuard() {
  flag = 0;
  struct sigaction action{};
  action.sa_handler = note_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, nullptr, &old_);
  if (old_.sa_handler != SIG_IGN) sigaction(SIGINT, &action, nullptr);
}

InterruptGuard::~InterruptGuard() { sigaction(SIGINT, &old_, nullptr); }

bool InterruptGuard::interrupted() const { return flag != 0; }

}  // namespace gradc::runtime
