// Draws a progress bar or writes progress lines.
#include "runtime/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace gradc::runtime {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);
constexpr auto kLine = std::chrono::seconds(10);
constexpr int kBar = 24;

int columns(std::FILE* out) {
  winsize size{};
  if (ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 100;
}

}  // namespace

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto all = static_cast<int64_t>(std::min(seconds + 0.5, 1e9));
  if (all >= 3600) return fmt::format("{}:{:02}:{:02}", all / 3600, all / 60 % 60, all % 60);
  return fmt::format("{}:{:02}", all / 60, all % 60);
}

std::string count_text(int64_t count) {
  const std::string digits = std::to_string(count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && digits[i - 1] != '-' && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

Progress::Progress(std::FILE* out, ProgressMode mode) : out_(out), mode_(mode) {
  if (mode_ == ProgressMode::automatic) mode_ = isatty(fileno(out)) ? ProgressMode::bar : ProgressMode::lines;
}

bool Progress::due() {
  if (mode_ == ProgressMode::off) return false;
  const auto now = Clock::now();
  if (now - last_ < (mode_ == ProgressMode::bar ? std::chrono::duration_cast<Clock::duration>(kRedraw)
                                                : std::chrono::duration_cast<Clock::duration>(kLine)))
    return false;
  last_ = now;
  return true;
}

void Progress::update(const std::string& label, int64_t done, int64_t total, const std::string& text) {
  if (mode_ == ProgressMode::off) return;
  const std::string counts = fmt::format("{}/{}", done, total);
  if (mode_ == ProgressMode::lines) return line(fmt::format("{}  {}  {}", label, counts, text));
  const int64_t filled = total > 0 ? std::clamp<int64_t>(done * kBar / total, 0, kBar) : 0;
  std::string shown = fmt::format("{} [{}{}] {}  {}", label, std::string(static_cast<size_t>(filled), '='),
                                  std::string(static_cast<size_t>(kBar - filled), ' '), counts, text);
  // One column stays free, so that no terminal wraps the line.
  const auto width = static_cast<size_t>(std::max(columns(out_) - 1, 20));
  if (shown.size() > width) shown.resize(width);
  fmt::print(out_, "\r{}\x1b[K", shown);
  std::fflush(out_);
  drawn_ = true;
}

void Progress::line(const std::string& text) {
  if (mode_ == ProgressMode::off) return;
  clear();
  fmt::print(out_, "{}\n", text);
  std::fflush(out_);
}

void Progress::clear() {
  if (!drawn_) return;
  std::fputs("\r\x1b[K", out_);
  std::fflush(out_);
  drawn_ = false;
}

}  // namespace gradc::runtime
