// Step lengths along a line, from losses and slopes alone. Knows nothing of what is minimised.
#pragma once
#include <cstdint>
#include <functional>

namespace gradc::runtime {

// An evaluation of a function along a line: the value at t and its slope there.
struct LinePoint {
  double t = 0, loss = 0, slope = 0;
};
using LineFunction = std::function<LinePoint(double t)>;

// The first of t, t shrink, t shrink^2, ... (so many at most) at which the loss has fallen by armijo t
// |slope|; t = 0 when none has. Nocedal and Wright 2006, algorithm 3.1.
LinePoint backtrack(const LinePoint& start, double t, double armijo, double shrink, int64_t trials,
                    const LineFunction& evaluate);

// A step that satisfies the strong Wolfe conditions (c1 = 1e-4, c2 = 0.9), or the best seen in 25
// evaluations. Nocedal and Wright 2006, algorithms 3.5 and 3.6, with cubic interpolation (eq. 3.59) and the safeguards
// of PyTorch's LBFGS, whose steps it reproduces. `start` is the point at t = 0, `width` the largest
// element of the direction: an interval shorter than tolerance_change in every element ends the search.
LinePoint strong_wolfe(const LinePoint& start, double t, double width, double tolerance_change,
                       const LineFunction& evaluate);

}  // namespace gradc::runtime
