// Shows the progress of a long run: a bar on a terminal, elsewhere a line at intervals. Knows nothing of training.
#pragma once
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace gradc::runtime {

enum class ProgressMode { automatic, bar, lines, off };

class Progress {
 public:
  // automatic: a bar where `out` is a terminal, else lines.
  Progress(std::FILE* out, ProgressMode mode);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  bool off() const { return mode_ == ProgressMode::off; }
  // True when update() would show something now; lets the caller skip making the text: a bar is
  // redrawn at most ten times a second, a line is written every ten seconds.
  bool due();
  // `label` is before the bar ("epoch 3/10"), `text` after it; done / total is its filled share.
  void update(const std::string& label, int64_t done, int64_t total, const std::string& text);
  // A line that stays.
  void line(const std::string& text);
  void clear();  // removes the bar

 private:
  using Clock = std::chrono::steady_clock;
  std::FILE* out_;
  ProgressMode mode_;
  bool drawn_ = false;
  Clock::time_point last_ = Clock::now();
};

std::string duration_text(double seconds);  // "0:07", "1:02:03"
std::string count_text(int64_t count);      // "60,000"

}  // namespace gradc::runtime
