// Backtracking and the strong Wolfe line search.
#include "runtime/training/line_search.h"

#include <algorithm>
#include <cmath>

namespace gradc::runtime {
namespace {

constexpr double kFall = 1e-4, kFlat = 0.9;  // c1 and c2
constexpr int kEvaluations = 25;

// The minimum of the cubic through two points with their slopes, within bounds; the bounds' middle where
// there is none.
double cubic_minimum(const LinePoint& p, const LinePoint& q, double low, double high) {
  const LinePoint &a = p.t <= q.t ? p : q, &b = p.t <= q.t ? q : p;
  const double mean = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t);
  const double square = mean * mean - a.slope * b.slope;
  if (!(square >= 0)) return (low + high) / 2;
  const double root = std::sqrt(square);
  const double t = b.t - (b.t - a.t) * ((b.slope + root - mean) / (b.slope - a.slope + 2 * root));
  return std::isnan(t) ? (low + high) / 2 : std::clamp(t, low, high);
}

class WolfeSearch {
 public:
  WolfeSearch(const LinePoint& start, double width, double tolerance_change, const LineFunction& evaluate)
      : start_(start), width_(width), tolerance_change_(tolerance_change), evaluate_(evaluate) {}

  LinePoint run(double t) {
    if (!bracket(t)) return best_;
    zoom();
    return best_;
  }

 private:
  bool falls(const LinePoint& p) const { return p.loss <= start_.loss + kFall * p.t * start_.slope; }
  bool flat(const LinePoint& p) const { return std::fabs(p.slope) <= -kFlat * start_.slope; }

  // Steps outwards until a minimum is between best_ and other_; false when a point already satisfies the conditions.
  bool bracket(double t) {
    LinePoint last = start_, now = evaluate_(t);
    for (int turn = 0; turn < kEvaluations; ++turn) {
      evaluations_ = turn;
      if (!falls(now) || (turn > 1 && now.loss >= last.loss)) return between(last, now);
      if (flat(now)) {
        best_ = now;
        return false;
      }
      if (now.slope >= 0) return between(last, now);
      const double next = cubic_minimum(last, now, now.t + 0.01 * (now.t - last.t), now.t * 10);
      last = now;
      now = evaluate_(next);
    }
    evaluations_ = kEvaluations;
    return between(start_, now);
  }

  // Where both are equal, `first` counts as the lower one.
  bool between(const LinePoint& first, const LinePoint& second) {
    const bool swap = !(first.loss <= second.loss);
    best_ = swap ? second : first;
    other_ = swap ? first : second;
    return true;
  }

  void zoom() {
    bool slow = false;  // the last point was close to an end
    while (evaluations_ < kEvaluations && std::fabs(other_.t - best_.t) * width_ >= tolerance_change_) {
      const double low = std::min(best_.t, other_.t), high = std::max(best_.t, other_.t);
      double t = cubic_minimum(best_, other_, low, high);
      const double margin = 0.1 * (high - low);
      if (std::min(high - t, t - low) < margin) {
        if (slow || t >= high || t <= low) {
          t = std::fabs(t - high) < std::fabs(t - low) ? high - margin : low + margin;
          slow = false;
        } else {
          slow = true;
        }
      } else {
        slow = false;
      }
      const LinePoint now = evaluate_(t);
      ++evaluations_;
      if (!falls(now) || now.loss >= best_.loss) {
        other_ = now;
        if (other_.loss < best_.loss) std::swap(best_, other_);
        continue;
      }
      const bool done = flat(now);
      if (!done && now.slope * (other_.t - best_.t) >= 0) other_ = best_;
      best_ = now;
      if (done) return;
    }
  }

  const LinePoint start_;
  const double width_, tolerance_change_;
  const LineFunction& evaluate_;
  LinePoint best_, other_;
  int evaluations_ = 0;
};

}  // namespace

LinePoint backtrack(const LinePoint& start, double t, double armijo, double shrink, int64_t trials,
                    const LineFunction& evaluate) {
  for (int64_t i = 0; i < trials; ++i, t *= shrink) {
    const LinePoint point = evaluate(t);
    if (point.loss <= start.loss + armijo * t * start.slope) return point;
  }
  return start;
}

LinePoint strong_wolfe(const LinePoint& start, double t, double width, double tolerance_change,
                       const LineFunction& evaluate) {
  return WolfeSearch(start, width, tolerance_change, evaluate).run(t);
}

}  // namespace gradc::runtime
