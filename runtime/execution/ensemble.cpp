// Means, spreads and votes of several predictions.
#include "runtime/execution/ensemble.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/data/prepare.h"
#include "runtime/execution/checkpoint.h"
#include "runtime/execution/report.h"
#include "runtime/interrupt.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

// Mean and sum of squared deviations, one value at a time (Welford 1962).
struct Moments {
  double mean = 0, squares = 0;
  void add(double x, int64_t count) {  // `count` includes x
    const double off = x - mean;
    mean += off / static_cast<double>(count);
    squares += off * (x - mean);
  }
};

int64_t greatest(const float* values, int64_t count) {
  return std::max_element(values, values + count) - values;
}

// The label: the field that evaluation compares predictions with.
const Field& label_field(const gradc_program& program, const Split& split) {
  std::set<std::string> predicted_from;
  for (int32_t i = 0; i < program.predict.input_count; ++i)
    predicted_from.insert(program.predict.inputs[i].name);
  const gradc_input* label = nullptr;
  int found = 0;
  for (int32_t i = 0; i < program.eval.input_count; ++i) {
    const gradc_input& input = program.eval.inputs[i];
    if (input.dtype != GRADC_I32 || input.rank != 0 || predicted_from.count(input.name)) continue;
    label = &input;
    ++found;
  }
  const gradc_output& output = program.predict.outputs[0];
  if (found != 1 || output.rank != 1)
    throw RunError(
        kExitModelError,
        "an ensemble is evaluated by comparing the greatest number of its prediction with a label: the "
        "model must predict one list of numbers, and its loss must read one integer; `gradc predict` "
        "writes the mean of any predictions");
  return field_of(*label, split);
}

}  // namespace

std::vector<View> EnsembleOptions::views() const {
  std::vector<View> result;
  for (const int64_t scale : scales.empty() ? std::vector<int64_t>{0} : scales)
    for (int crop = ten_crop ? 1 : 0; crop <= (ten_crop ? 10 : 0); ++crop) result.push_back({scale, crop});
  return result;
}

Ensemble predict_ensemble(Session& session, const Split& split, const EnsembleOptions& options) {
  const gradc_output& output = session.predict_output();
  if (output.dtype != GRADC_F32)
    throw RunError(kExitModelError, fmt::format("the model predicts {}: only f32 has a mean",
                                                type_text(output.dtype, output.rank, output.shape)));
  const gradc_program& program = session.program();
  Ensemble result;
  result.rows = split.count;
  result.elements = element_count(output.rank, output.shape);
  const auto size = static_cast<size_t>(result.rows * result.elements);
  std::vector<Moments> moments(size);
  if (result.elements > 1) result.votes.assign(size, 0);
  std::vector<std::unique_ptr<BatchReader>> readers;  // of each view
  for (const View& view : options.views()) {
    Split seen = split;
    seen.view = view;
    if (!view.plain()) {
      GRADC_CHECK(split.preparation, "views of data without a preparation");
      split.preparation->check_view(split, view);
    }
    readers.push_back(
        std::make_unique<BatchReader>(seen, program.predict, std::min(program.batch, split.count)));
  }
  const InterruptGuard interrupt;
  int64_t member = 0;
  for (size_t w = 0; w < std::max<size_t>(options.weights.size(), 1); ++w) {
    if (!options.weights.empty()) {
      load_checkpoint(session, options.weights[w]);
      if (options.raw) use_raw_parameters(session);
    }
    for (int64_t sample = 0; sample < options.samples; ++sample)
      for (const auto& reader : readers) {
        ++member;
        int64_t row = 0;
        for (int64_t index = 0; index < reader->batches(); ++index) {
          if (interrupt.interrupted()) throw RunError(interrupt.exit_code(), "interrupted");
          const auto* values = static_cast<const float*>(
              session.predict(*reader, index, options.seed, static_cast<uint64_t>(sample)));
          for (int64_t r = 0; r < reader->rows(index); ++r, ++row) {
            const float* own = values + r * result.elements;
            for (int64_t i = 0; i < result.elements; ++i)
              moments[static_cast<size_t>(row * result.elements + i)].add(own[i], member);
            if (!result.votes.empty())
              ++result.votes[static_cast<size_t>(row * result.elements + greatest(own, result.elements))];
          }
        }
      }
  }
  for (const Moments& m : moments) {
    result.mean.push_back(static_cast<float>(m.mean));
    result.spread.push_back(static_cast<float>(std::sqrt(m.squares / static_cast<double>(member))));
  }
  return result;
}

void run_ensemble_eval(Session& session, const Split& split, const EnsembleOptions& options, bool json,
                       std::FILE* out) {
  session.predict_output();
  const Field& label = label_field(session.program(), split);
  const Ensemble e = predict_ensemble(session, split, options);
  std::vector<int64_t> rows(static_cast<size_t>(e.rows));
  for (size_t i = 0; i < rows.size(); ++i) rows[i] = split.row(static_cast<int64_t>(i));
  std::vector<int32_t> labels(rows.size());
  label.gather(rows.data(), e.rows, labels.data());
  int64_t right = 0, voted = 0;
  double log_loss = 0, spread = 0;
  bool probabilities = true;
  for (int64_t row = 0; row < e.rows; ++row) {
    const float* mean = e.mean.data() + row * e.elements;
    const int32_t* votes = e.votes.data() + row * e.elements;
    const int32_t own = labels[static_cast<size_t>(row)];
    right += greatest(mean, e.elements) == own;
    voted += std::max_element(votes, votes + e.elements) - votes == own;
    double sum = 0;
    for (int64_t i = 0; i < e.elements; ++i) {
      sum += mean[i];
      probabilities = probabilities && mean[i] >= 0;
    }
    probabilities = probabilities && std::fabs(sum - 1) < 1e-3 && own >= 0 && own < e.elements;
    if (probabilities) log_loss -= std::log(static_cast<double>(mean[own]));
  }
  for (const float s : e.spread) spread += s;
  const auto count = static_cast<double>(e.rows);
  const double accuracy = static_cast<double>(right) / count, vote = static_cast<double>(voted) / count;
  log_loss = probabilities ? log_loss / count : std::numeric_limits<double>::quiet_NaN();
  spread /= static_cast<double>(e.spread.size());
  if (json) {
    write_event(out, {{"event", "ensemble"},
                      {"split", split.name},
                      {"examples", e.rows},
                      {"members", options.members()},
                      {"accuracy", accuracy},
                      {"vote_accuracy", vote},
                      {"log_loss", log_loss},
                      {"spread", spread}});
  } else {
    const auto text = [](double x) { return std::isfinite(x) ? fmt::format("{:.4f}", x) : "not finite"; };
    write_line(out, fmt::format("{} of {} predictions: accuracy {:.2f}%  by vote {:.2f}%{}  spread {}  ({} "
                                "examples)",
                                split.name, options.members(), 100 * accuracy, 100 * vote,
                                probabilities ? "  log loss " + text(log_loss) : "", text(spread), e.rows));
  }
  if (!std::isfinite(spread) || (probabilities && !std::isfinite(log_loss)))
    throw RunError(kExitCheckFailed,
                   fmt::format("the {} on `{}` {} not finite",
                               std::isfinite(spread) ? "log loss of the mean prediction" : "predictions",
                               split.name, std::isfinite(spread) ? "is" : "are"));
}

}  // namespace gradc::runtime
