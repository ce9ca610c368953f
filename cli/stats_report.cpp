// The report of `gradc stats` as text, as JSON and as an SVG page. Knows nothing of models.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "cli/page.h"
#include "cli/stats.h"
#include "runtime/data/dataset.h"
#include "support/json_line.h"
#include "support/shape_text.h"

namespace gradc::cli {

namespace {

using Json = nlohmann::ordered_json;

std::string heading(const StatsReport& r) {
  return fmt::format("{} examples in {} batch{}, {}", r.examples, r.batches, r.batches == 1 ? "" : "es",
                     r.weights.empty() ? fmt::format("initial values of seed {}", r.seed)
                                       : fmt::format("weights of {}", r.weights));
}

std::string short_number(double v) { return std::isnan(v) ? "-" : fmt::format("{:.3g}", v); }

std::string percent(std::optional<double> share) {
  return share ? fmt::format("{:.1f}%", 100 * *share) : "-";
}

// Heights of bars are the square roots of counts, so that a spike does not flatten all others.
double height(int64_t count, int64_t most) {
  return most > 0 ? std::sqrt(static_cast<double>(count) / static_cast<double>(most)) : 0;
}

int64_t most_of(const std::vector<int64_t>& counts) {
  return *std::max_element(counts.begin(), counts.end());
}

std::string bars(const Summary& s) {
  constexpr std::array<const char*, 9> kBlocks = {" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::vector<int64_t> pairs;
  for (size_t i = 0; i + 1 < s.counts.size(); i += 2) pairs.push_back(s.counts[i] + s.counts[i + 1]);
  const int64_t most = most_of(pairs);
  std::string text;
  for (const int64_t count : pairs) text += kBlocks[static_cast<size_t>(std::ceil(8 * height(count, most)))];
  return text;
}

// A column of text: its heading, and its cell for a layer.
struct Column {
  const char* heading;
  std::function<std::string(const LayerStats&)> cell;
  bool left = false;
};

std::string table(const std::vector<LayerStats>& layers, const std::vector<Column>& columns) {
  std::vector<std::vector<std::string>> cells(layers.size());
  std::vector<size_t> widths;
  for (const Column& c : columns) {
    widths.push_back(std::string_view(c.heading).size());
    for (size_t i = 0; i < layers.size(); ++i) {
      cells[i].push_back(c.cell(layers[i]));
      widths.back() = std::max(widths.back(), cells[i].back().size());
    }
  }
  std::string text;
  const auto line = [&](const auto& cell) {
    for (size_t c = 0; c < columns.size(); ++c) {
      const bool last = c + 1 == columns.size();
      if (last)
        text += fmt::format("{}\n", cell(c));
      else if (columns[c].left)
        text += fmt::format("{:<{}}  ", cell(c), widths[c]);
      else
        text += fmt::format("{:>{}}  ", cell(c), widths[c]);
    }
  };
  line([&](size_t c) { return std::string(columns[c].heading); });
  for (const auto& row : cells) line([&](size_t c) { return row[c]; });
  return text;
}

Json json_of(const Summary& s) {
  Json j = {{"count", s.count}, {"not_finite", s.not_finite},
            {"mean", s.mean},   {"std", s.std},
            {"min", s.min},     {"max", s.max},
            {"zero", s.zero}};
  j["histogram"] = s.counts;
  return j;
}

}  // namespace

std::string render_stats(const StatsReport& r) {
  std::string text = fmt::format("{}: {}; mean loss {}\n\n", r.file, heading(r), short_number(r.loss));
  const Column name = {"values", [](const LayerStats& l) { return l.name; }, true};
  const bool overflow = std::any_of(r.layers.begin(), r.layers.end(), [](const LayerStats& l) {
    return l.value.not_finite > 0 || (l.gradient && l.gradient->not_finite > 0);
  });
  std::vector<Column> values = {
      name,
      {"shape", [](const LayerStats& l) { return shape_text(l.shape); }, true},
      {"mean", [](const LayerStats& l) { return short_number(l.value.mean); }},
      {"std", [](const LayerStats& l) { return short_number(l.value.std); }},
      {"min", [](const LayerStats& l) { return short_number(l.value.min); }},
      {"max", [](const LayerStats& l) { return short_number(l.value.max); }},
      {"zero", [](const LayerStats& l) { return percent(l.value.zero); }},
      {"dead", [](const LayerStats& l) { return percent(l.dead); }},
      {"saturated", [](const LayerStats& l) { return percent(l.saturated); }},
      {"histogram, min to max", [](const LayerStats& l) { return bars(l.value); }, true},
  };
  if (overflow)
    values.insert(values.end() - 1,
                  {"not finite", [](const LayerStats& l) { return fmt::format("{}", l.value.not_finite); }});
  text += table(r.layers, values);
  std::vector<LayerStats> with_gradient;
  for (const LayerStats& l : r.layers)
    if (l.gradient) with_gradient.push_back(l);
  if (with_gradient.empty()) return text;
  std::vector<Column> gradients = {
      name,
      {"mean", [](const LayerStats& l) { return short_number(l.gradient->mean); }},
      {"std", [](const LayerStats& l) { return short_number(l.gradient->std); }},
      {"min", [](const LayerStats& l) { return short_number(l.gradient->min); }},
      {"max", [](const LayerStats& l) { return short_number(l.gradient->max); }},
      {"zero", [](const LayerStats& l) { return percent(l.gradient->zero); }},
      {"histogram, min to max", [](const LayerStats& l) { return bars(*l.gradient); }, true},
  };
  gradients[0].heading = "gradients";
  if (overflow)
    gradients.insert(gradients.end() - 1, {"not finite", [](const LayerStats& l) {
                                             return fmt::format("{}", l.gradient->not_finite);
                                           }});
  return text + "\n" + table(with_gradient, gradients);
}

std::string render_stats_json(const StatsReport& r) {
  std::string text;
  for (const LayerStats& l : r.layers) {
    Json j = {{"event", "layer"},       {"name", l.name},   {"callee", l.callee},
              {"location", l.location}, {"shape", l.shape}, {"dead", l.dead}};
    if (l.saturated) j["saturated"] = *l.saturated;
    j["value"] = json_of(l.value);
    if (l.gradient) j["gradient"] = json_of(*l.gradient);
    text += json_line(j) + "\n";
  }
  return text +
         json_line(Json{{"event", "end"},
                        {"examples", r.examples},
                        {"batches", r.batches},
                        {"seed", r.seed},
                        {"weights", r.weights},
                        {"loss", r.loss}}) +
         "\n";
}

namespace {

constexpr int kPageWidth = 1180, kRow = 46, kChart = 250, kMargin = 24;
constexpr const char* kValueColour = "#2f6db3";
constexpr const char* kGradientColour = "#d1761f";
constexpr const char* kWarnColour = "#b3261e";

class Page {
 public:
  explicit Page(const StatsReport& report) : r_(report) {}

  std::string draw() {
    const int rows_top = 84 + kChart + 64;
    const int height = rows_top + kRow * static_cast<int>(r_.layers.size()) + 58;
    out_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
        "font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" font-size=\"12\" fill=\"#222\">\n"
        "<rect width=\"{0}\" height=\"{1}\" fill=\"#fff\"/>\n",
        kPageWidth, height);
    text(kMargin, 36, r_.file, "font-size=\"20\" font-weight=\"bold\"");
    text(kMargin, 58, fmt::format("{}; mean loss {}", heading(r_), short_number(r_.loss)), "fill=\"#555\"");
    chart(84);
    header(rows_top - 14);
    int y = rows_top;
    for (const LayerStats& l : r_.layers) {
      row(l, y);
      y += kRow;
    }
    text(
        kMargin, y + 24,
        "Heights of bars: square roots of counts, between the least and the greatest value. Dead: units that "
        "are 0 for every example.",
        "fill=\"#777\" font-size=\"11\"");
    text(kMargin, y + 40,
         "Saturated: within 2.5 % of an end of the function's range (|tanh| > 0.95). Gradients: of the "
         "batch's "
         "mean loss in each value.",
         "fill=\"#777\" font-size=\"11\"");
    return out_ + "</svg>\n";
  }

 private:
  struct Point {
    size_t layer;
    double value;
  };

  void text(double x, double y, const std::string& content, const std::string& style = "") {
    out_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\"{}{}>{}</text>\n", x, y, style.empty() ? "" : " ",
                        style, escape_markup(content));
  }
  void line(double x1, double y1, double x2, double y2, const char* colour, double width = 1) {
    out_ += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"{}\"/>\n",
        x1, y1, x2, y2, colour, width);
  }

  // Standard deviations over depth, on a logarithmic scale, which shows vanishing and exploding values.
  void chart(int top) {
    std::vector<Point> values, gradients;
    for (size_t i = 0; i < r_.layers.size(); ++i) {
      const LayerStats& l = r_.layers[i];
      if (l.value.std > 0) values.push_back({i, l.value.std});
      if (l.gradient && l.gradient->std > 0) gradients.push_back({i, l.gradient->std});
    }
    text(kMargin, top + 12, "Standard deviation by depth", "font-weight=\"bold\"");
    const double half = (kPageWidth - 3.0 * kMargin) / 2;
    curve(values, kMargin, top + 24, half, "values", kValueColour);
    curve(gradients, 2 * kMargin + half, top + 24, half, "gradients", kGradientColour);
  }

  void curve(const std::vector<Point>& points, double left, double top, double width, const char* what,
             const char* colour) {
    const double axis = left + 52, right = left + width - 8, bottom = top + kChart - 50, head = top + 22;
    text(left, top + 10, what, fmt::format("fill=\"{}\" font-weight=\"bold\"", colour));
    line(axis, bottom, right, bottom, "#999");
    if (points.empty()) {
      text(axis + 8, bottom - 8, "nothing above 0", "fill=\"#777\"");
      return;
    }
    double low = INFINITY, high = -INFINITY;
    for (const Point& p : points) {
      low = std::min(low, std::log10(p.value));
      high = std::max(high, std::log10(p.value));
    }
    low = std::floor(low);
    high = std::max(std::ceil(high), low + 1);
    const auto y_of = [&](double log) { return bottom - (log - low) / (high - low) * (bottom - head); };
    const double last = std::max<double>(1, static_cast<double>(r_.layers.size()) - 1);
    const auto x_of = [&](size_t layer) {
      return axis + 10 + static_cast<double>(layer) / last * (right - axis - 20);
    };
    const int each = std::max(1, static_cast<int>(std::ceil((high - low) / 8)));
    for (int k = static_cast<int>(low); k <= static_cast<int>(high); k += each) {
      line(axis, y_of(k), right, y_of(k), "#e4e4e4");
      text(axis - 6, y_of(k) + 4, fmt::format("1e{}", k),
           "text-anchor=\"end\" fill=\"#555\" font-size=\"11\"");
    }
    std::string path;
    for (const Point& p : points)
      path += fmt::format("{:.1f},{:.1f} ", x_of(p.layer), y_of(std::log10(p.value)));
    out_ += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n", path,
                        colour);
    for (const Point& p : points)
      out_ += fmt::format(
          "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\" fill=\"{}\"><title>{}: {}</title></circle>\n",
          x_of(p.layer), y_of(std::log10(p.value)), colour, escape_markup(r_.layers[p.layer].name),
          short_number(p.value));
    text(axis, bottom + 16, "first layer", "fill=\"#777\" font-size=\"11\"");
    text(right, bottom + 16, "last layer", "fill=\"#777\" font-size=\"11\" text-anchor=\"end\"");
  }

  // Where the columns of the rows end (numbers) or begin (histograms).
  static constexpr double kMean = 318, kStd = 388, kDead = 448, kSaturated = 518, kValues = 540,
                          kGradientMean = 850, kGradientStd = 920, kGradients = 940, kBars = 214;

  void header(int y) {
    const auto right = [&](double x, const char* what) {
      text(x, y, what, "text-anchor=\"end\" fill=\"#555\" font-size=\"11\"");
    };
    text(kMargin, y, "layer", "fill=\"#555\" font-size=\"11\"");
    right(kMean, "mean");
    right(kStd, "std");
    right(kDead, "dead");
    right(kSaturated, "saturated");
    text(kValues, y, "values",
         fmt::format("fill=\"{}\" font-weight=\"bold\" font-size=\"11\"", kValueColour));
    right(kGradientMean, "mean");
    right(kGradientStd, "std");
    text(kGradients, y, "gradients",
         fmt::format("fill=\"{}\" font-weight=\"bold\" font-size=\"11\"", kGradientColour));
    line(kMargin, y + 6, kPageWidth - kMargin, y + 6, "#999");
  }

  // Shortens names at the front, since their ends distinguish them.
  static std::string shortened(const std::string& name, size_t most) {
    return name.size() <= most ? name : "…" + name.substr(name.size() - most + 1);
  }

  void row(const LayerStats& l, int y) {
    const double base = y + kRow / 2.0;
    out_ += fmt::format("<g><title>{} ({}) at {}</title>\n", escape_markup(l.name), escape_markup(l.callee),
                        escape_markup(l.location));
    text(kMargin, base, shortened(l.name, 34), "font-weight=\"bold\"");
    text(kMargin, base + 14, fmt::format("{} {}", l.callee, shape_text(l.shape)),
         "fill=\"#777\" font-size=\"11\"");
    out_ += "</g>\n";
    const auto right = [&](double x, const std::string& what, bool warn = false) {
      text(x, base + 4, what,
           fmt::format("text-anchor=\"end\"{}",
                       warn ? fmt::format(" fill=\"{}\" font-weight=\"bold\"", kWarnColour) : ""));
    };
    right(kMean, short_number(l.value.mean));
    right(kStd, short_number(l.value.std));
    right(kDead, percent(l.dead), l.dead > 0.5);
    right(kSaturated, percent(l.saturated), l.saturated.value_or(0) > 0.5);
    histogram(l.value, kValues, y, kValueColour);
    if (l.gradient) {
      right(kGradientMean, short_number(l.gradient->mean));
      right(kGradientStd, short_number(l.gradient->std));
      histogram(*l.gradient, kGradients, y, kGradientColour);
    }
    line(kMargin, y + kRow, kPageWidth - kMargin, y + kRow, "#eee");
  }

  void histogram(const Summary& s, double x, double y, const char* colour) {
    if (s.not_finite > 0)
      text(x + kBars, y + 12, fmt::format("{} not finite", s.not_finite),
           fmt::format("text-anchor=\"end\" fill=\"{}\" font-size=\"10\" font-weight=\"bold\"", kWarnColour));
    if (std::isnan(s.mean)) return;
    const double bottom = y + kRow - 15, tall = kRow - 20, wide = kBars / kHistogramBins;
    const int64_t most = most_of(s.counts);
    for (size_t i = 0; i < s.counts.size(); ++i) {
      if (s.counts[i] == 0) continue;
      const double h = std::max(0.6, tall * height(s.counts[i], most));
      out_ +=
          fmt::format("<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\"/>\n",
                      x + static_cast<double>(i) * wide, bottom - h, wide - 0.6, h, colour);
    }
    line(x, bottom, x + kBars, bottom, "#bbb", 0.5);
    text(x, bottom + 11, short_number(s.min), "fill=\"#777\" font-size=\"10\"");
    text(x + kBars, bottom + 11, short_number(s.max), "fill=\"#777\" font-size=\"10\" text-anchor=\"end\"");
    if (s.min < 0 && s.max > 0) {
      const double zero = x - s.min / (s.max - s.min) * kBars;
      line(zero, bottom, zero, bottom + 4, "#666", 0.8);
      if (zero > x + 60 && zero < x + kBars - 60)
        text(zero, bottom + 13, "0", "fill=\"#777\" font-size=\"10\" text-anchor=\"middle\"");
    }
  }

  const StatsReport& r_;
  std::string out_;
};

}  // namespace

std::string render_stats_svg(const StatsReport& report) { return Page(report).draw(); }

}  // namespace gradc::cli
