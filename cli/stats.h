// `gradc stats`: statistics of the values of a model's layers on its data, and of their gradients: moments, dead and
// saturated units, histograms. docs/stats.md defines each number.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compiler/compile.h"

namespace gradc::cli {

// A value counts as saturated within this share of its function's range from either end: |tanh| > 0.95.
inline constexpr double kSaturatedShare = 0.025;
inline constexpr int kHistogramBins = 40;

// Statistics of one array over all examples that were read. Moments, extremes and histogram are those of
// its finite elements.
struct Summary {
  int64_t count = 0, not_finite = 0;
  double mean = 0, std = 0;  // biased
  double min = 0, max = 0;
  double zero = 0;              // share of elements that are exactly 0
  std::vector<int64_t> counts;  // of kHistogramBins equal bins from min to max
};

struct LayerStats {
  std::string name, callee, location;
  Shape shape;  // of one example
  Summary value;
  std::optional<Summary> gradient;  // none where no trained parameter comes before it
  double dead = 0;                  // share of units that are 0 for every example
  std::optional<double> saturated;  // share of values; none for a function with an unbounded range
};

struct StatsReport {
  std::string file, weights;  // the model's name; the file of its parameters, empty: the initialisers
  int64_t examples = 0, batches = 0;
  uint64_t seed = 0;
  double loss = 0;  // mean
  std::vector<LayerStats> layers;
};

std::string render_stats(const StatsReport& report);
// One JSON object a line.
std::string render_stats_json(const StatsReport& report);
// One page: standard deviations over depth, then a row a layer.
std::string render_stats_svg(const StatsReport& report);

}  // namespace gradc::cli
