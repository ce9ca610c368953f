// Forks; the child writes its progress to a pipe, a line a message, and the parent reads until it ends or its time is
// up. The parent has no other thread, since a fork keeps only one.
#include "tools/random_models/process.h"

#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <ctime>
#include <functional>

#include "support/check.h"
#include "support/diagnostic.h"
#include "tools/random_models/generate.h"

namespace gradc::random_models {

namespace {

constexpr double kWaiting = 20;  // wall clock for each second of processor time

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The processor time of all threads of this process.
double processor_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

// Messages: a letter, the length of the rest, and the rest.
class Messages {
 public:
  explicit Messages(int file) : file_(file) {}
  void send(char kind, const std::string& text) const {
    const std::string all = fmt::format("{}{}\n{}", kind, text.size(), text);
    for (size_t at = 0; at < all.size();) {
      const ssize_t n = write(file_, all.data() + at, all.size() - at);
      if (n < 0 && errno != EINTR) _exit(1);
      if (n > 0) at += static_cast<size_t>(n);
    }
  }

 private:
  int file_;
};

void read_messages(const std::string& all, Outcome& outcome) {
  std::string kind;
  for (size_t at = 0; at < all.size();) {
    const char letter = all[at];
    const size_t line = all.find('\n', at);
    if (line == std::string::npos) return;
    const size_t length = std::stoul(all.substr(at + 1, line - at - 1));
    const std::string text = all.substr(line + 1, length);
    at = line + 1 + length;
    switch (letter) {
      case 't': outcome.text = text; break;
      case 'b': outcome.comparison = text; break;
      case 's': outcome.seconds[outcome.comparison] += std::stod(text); break;
      case 'k': kind = text; break;
      case 'w': outcome.finding = Finding{kind, text}; break;
      case 'i': outcome.invalid = true; break;
      case 'x': outcome.known.push_back(text); break;
      default: break;
    }
  }
}

// Reads until the child closes its end; false when the time is up first.
bool read_all(int file, double seconds, std::string& all) {
  const auto start = Clock::now();
  for (;;) {
    const double left = seconds - seconds_since(start);
    if (left <= 0) return false;
    pollfd wait{file, POLLIN, 0};
    if (poll(&wait, 1, static_cast<int>(left * 1000) + 1) <= 0) continue;
    char block[4096];
    const ssize_t n = read(file, block, sizeof block);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return true;
    all.append(block, static_cast<size_t>(n));
  }
}

Outcome in_child(double seconds, const std::function<void(const Messages&)>& work) {
  int ends[2];
  if (pipe(ends) != 0) throw RunError(kExitRunFailed, "random_models: no pipe can be made");
  fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw RunError(kExitRunFailed, "random_models: no process can be started");
  if (child == 0) {
    close(ends[0]);
    setpgid(0, 0);
    const auto most = static_cast<rlim_t>(std::ceil(seconds));
    const rlimit processor{most, most + 1};
    setrlimit(RLIMIT_CPU, &processor);
    const Messages messages(ends[1]);
    try {
      work(messages);
    } catch (const compiler::ModelError&) {
      messages.send('i', "");
    } catch (const InternalError& error) {
      messages.send('k', "internal error");
      messages.send('w', error.what());
    } catch (const std::exception& error) {
      messages.send('k', "error");
      messages.send('w', error.what());
    }
    _exit(0);
  }
  close(ends[1]);
  Outcome outcome;
  outcome.comparison = "generate";
  std::string all;
  // Processor time is limited in the child; a child that blocks for ever, or gets too little processor time, is ended
  // here.
  const bool in_time = read_all(ends[0], kWaiting * seconds, all);
  close(ends[0]);
  if (!in_time) kill(-child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  read_messages(all, outcome);
  if (!in_time)
    outcome.finding = Finding{"time", fmt::format("it has not ended after {} s", kWaiting * seconds)};
  else if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGXCPU || WTERMSIG(status) == SIGKILL))
    outcome.finding = Finding{"time", fmt::format("it takes more than {} s of processor time", seconds)};
  else if (WIFSIGNALED(status))
    outcome.finding = Finding{"crash", fmt::format("signal {} ended it", WTERMSIG(status))};
  else if (WEXITSTATUS(status) != 0)  // a sanitizer's report
    outcome.finding = Finding{"exit", fmt::format("it ended with exit code {}", WEXITSTATUS(status))};
  return outcome;
}

void run_comparisons(const Trial& trial, const Messages& messages) {
  double start = processor_seconds();
  bool first = true;
  const auto finished = [&] {
    if (!first) messages.send('s', fmt::format("{}", processor_seconds() - start));
    first = false;
    start = processor_seconds();
  };
  const auto finding = run_trial(trial, {[&](const std::string& comparison) {
                                           finished();
                                           messages.send('b', comparison);
                                         },
                                         [&](const std::string& name) { messages.send('x', name); }});
  finished();
  if (!finding) return;
  messages.send('k', finding->finding.kind);
  messages.send('w', finding->finding.what);
}

}  // namespace

Outcome try_number(uint64_t seed, Trial trial, double seconds) {
  return in_child(seconds, [&](const Messages& messages) {
    const RandomModel model = random_model(seed, trial.number, trial.unmended);
    messages.send('s', fmt::format("{}", processor_seconds()));
    messages.send('t', model.text);
    trial.text = model.text;
    trial.links = trial.links && model.runs_alone;
    run_comparisons(trial, messages);
  });
}

Outcome try_text(const Trial& trial, double seconds) {
  Outcome outcome = in_child(seconds, [&](const Messages& messages) { run_comparisons(trial, messages); });
  outcome.text = trial.text;
  return outcome;
}

}  // namespace gradc::random_models
