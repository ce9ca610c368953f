// `gradc stats`: runs the compiled training step on some batches without keeping its updates, and summarises the values
// of layers and their gradients, which are further outputs of the step. Knows no operator.
#include "cli/stats.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cli/command.h"
#include "runtime/data/prepare.h"
#include "runtime/execution/checkpoint.h"
#include "runtime/execution/session.h"
#include "runtime/files.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::cli {

namespace {

struct StatsOptions {
  ModelOptions model;
  std::string weights;              // safetensors; empty: the initialisers
  std::vector<std::string> layers;  // patterns; empty: all
  int64_t batches = 10;
  std::optional<int64_t> seed;
  std::string output;  // *.svg
};

// Sums of one array's elements. Each batch is read twice: the extremes must be known before elements are counted into
// bins.
class Moments {
 public:
  void add(const float* values, int64_t count) {
    double sum = 0;
    int64_t finite = 0;
    for (int64_t i = 0; i < count; ++i) {
      const float v = values[i];
      if (!std::isfinite(v)) continue;
      ++finite;
      sum += v;
      s_.min = std::min<double>(s_.min, v);
      s_.max = std::max<double>(s_.max, v);
      zeros_ += v == 0;
    }
    s_.count += count;
    s_.not_finite += count - finite;
    if (finite == 0) return;
    const auto n = static_cast<double>(finite);
    const double mean = sum / n;
    double squares = 0;
    for (int64_t i = 0; i < count; ++i)
      if (std::isfinite(values[i])) squares += (values[i] - mean) * (values[i] - mean);
    // Chan, Golub and LeVeque 1983: sums of squared deviations of two sets joined.
    const double all = finite_ + n, apart = mean - mean_;
    squares_ += squares + apart * apart * finite_ * n / all;
    mean_ += apart * n / all;
    finite_ = all;
  }
  void count_bins(const float* values, int64_t count) {
    const double low = s_.min, width = (s_.max - s_.min) / kHistogramBins;
    for (int64_t i = 0; i < count; ++i) {
      if (!std::isfinite(values[i])) continue;
      const double bin = width > 0 ? (values[i] - low) / width : 0;
      ++s_.counts[static_cast<size_t>(std::clamp(static_cast<int>(bin), 0, kHistogramBins - 1))];
    }
  }
  Summary summary() const {
    Summary s = s_;
    if (finite_ == 0) {
      s.mean = s.std = s.min = s.max = std::numeric_limits<double>::quiet_NaN();
      return s;
    }
    s.mean = mean_;
    s.std = std::sqrt(squares_ / finite_);
    s.zero = static_cast<double>(zeros_) / static_cast<double>(s.count);
    return s;
  }

 private:
  Summary s_{.min = std::numeric_limits<double>::infinity(),
             .max = -std::numeric_limits<double>::infinity(),
             .counts = std::vector<int64_t>(kHistogramBins)};
  double finite_ = 0, mean_ = 0, squares_ = 0;
  int64_t zeros_ = 0;
};

// A layer: the indices of its value and gradient among the step's outputs, and their statistics.
struct Layer {
  const frontend::LayerValue* what = nullptr;
  size_t value = 0;
  std::optional<size_t> gradient;
  Shape shape;
  int64_t elements = 1;
  Moments values, gradients;
  std::vector<uint8_t> alive;  // of each unit
  int64_t saturated = 0;

  // Units share their weights over the positions of an image or a sequence: a unit is a channel, on the first axis of
  // an image and on the last of other values.
  int64_t unit_of(int64_t element) const {
    if (shape.empty()) return 0;
    return shape.size() >= 3 ? element / (elements / shape.front()) : element % shape.back();
  }
  int64_t units() const { return shape.empty() ? 1 : shape.size() >= 3 ? shape.front() : shape.back(); }

  void look_at(const float* v, int64_t rows) {
    values.add(v, rows * elements);
    const double low = what->low, high = what->high, margin = kSaturatedShare * (high - low);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t i = 0; i < elements; ++i, ++v) {
        if (*v != 0) alive[static_cast<size_t>(unit_of(i))] = 1;
        if (high > low) saturated += *v < low + margin || *v > high - margin;
      }
  }
};

std::vector<Layer> layers_of(const CompiledModel& compiled) {
  const gradc_entry_info& step = compiled.program().train_step;
  const auto index_of = [&](const std::string& name) -> std::optional<size_t> {
    for (int32_t i = 0; i < step.output_count; ++i)
      if (name == step.outputs[i].name) return static_cast<size_t>(i);
    return std::nullopt;
  };
  std::vector<Layer> layers;
  for (const frontend::LayerValue& what : compiled.values()) {
    if (what.output.empty()) continue;
    const std::optional<size_t> value = index_of(what.output);
    GRADC_CHECK(value, "the step has no output '{}'", what.output);
    const gradc_output& output = step.outputs[*value];
    Layer layer;
    layer.what = &what;
    layer.value = *value;
    layer.gradient = index_of("gradient." + what.name);
    layer.shape.assign(output.shape, output.shape + output.rank);
    layer.elements = runtime::element_count(output.rank, output.shape);
    layer.alive.resize(static_cast<size_t>(layer.units()));
    layers.push_back(std::move(layer));
  }
  return layers;
}

void require_layers(const CompiledModel& compiled, const std::vector<std::string>& patterns) {
  std::vector<std::string> names;
  for (const frontend::LayerValue& v : compiled.values()) names.push_back(v.name);
  if (names.empty())
    throw RunError(kExitUsage,
                   "stats: the model file calls no layer, and no function of one tensor, in a model");
  for (const std::string& pattern : patterns) {
    if (std::any_of(names.begin(), names.end(),
                    [&](const std::string& name) { return frontend::matches(pattern, name); }))
      continue;
    const std::string near = nearest_name(pattern, names);
    throw RunError(kExitUsage, fmt::format("stats: --layers {} matches no layer; {}", pattern,
                                           near.empty() ? fmt::format("there are {}", fmt::join(names, ", "))
                                                        : fmt::format("did you mean '{}'?", near)));
  }
}

class Stats {
 public:
  Stats(const StatsOptions& options, const CompiledModel& compiled)
      : options_(options),
        experiment_(compiled.experiment()),
        session_(compiled.program(), options.model.threads),
        layers_(layers_of(compiled)) {
    report_.seed = static_cast<uint64_t>(options.seed.value_or(experiment_.train.seed));
    report_.file = compiled.program().name;
    report_.weights = options.weights;
  }

  StatsReport run() {
    runtime::Dataset data = runtime::load_dataset(experiment_.data);
    session_.initialize(report_.seed);
    if (options_.weights.empty()) {
      runtime::fit_preparation(data, experiment_.data);
    } else {
      runtime::load_checkpoint(session_, options_.weights);
      runtime::restore_preparation(data, experiment_.data, session_.data_arrays, options_.weights);
    }
    runtime::BatchReader reader(data.split("train"), session_.program().train_step, experiment_.data.batch,
                                experiment_.data.drop_last);
    reader.begin_epoch(report_.seed, 0, true);
    report_.batches = std::min(options_.batches, reader.batches());
    const uint8_t* block = session_.parameters();
    start_.assign(block, block + session_.program().parameter_bytes);
    runtime::Sums sums;
    for (int64_t i = 0; i < report_.batches; ++i) {
      const int64_t rows = reader.rows(i);
      sums.add(step(reader, i));
      report_.examples += rows;
      for (Layer& l : layers_) {
        l.look_at(output(l.value), rows);
        if (l.gradient) l.gradients.add(gradient(l), rows * l.elements);
      }
    }
    report_.loss = sums.loss();
    for (int64_t i = 0; i < report_.batches; ++i) {
      const int64_t rows = reader.rows(i);
      if (report_.batches > 1) step(reader, i);
      for (Layer& l : layers_) {
        l.values.count_bins(output(l.value), rows * l.elements);
        if (!l.gradient) continue;
        l.gradients.count_bins(gradient(l), rows * l.elements);
      }
    }
    finish();
    return std::move(report_);
  }

 private:
  // Runs one batch; its updates are undone.
  runtime::Sums step(runtime::BatchReader& reader, int64_t index) {
    runtime::StepScalars scalars;
    scalars.total = std::max<int64_t>(report_.batches, 1);
    scalars.micro_step = index;
    runtime::StepResult result = session_.accumulates()
                                     ? session_.gradients(reader, index, 1, scalars, report_.seed)
                                     : session_.step(reader, index, scalars, report_.seed);
    std::copy(start_.begin(), start_.end(), session_.parameters());
    if (!result.finite) result.sums.lose();
    return std::move(result.sums);
  }

  float* output(size_t index) {
    return const_cast<float*>(static_cast<const float*>(session_.step_output(index)));
  }

  // The gradient of the batch's mean loss.
  const float* gradient(const Layer& l) { return output(*l.gradient); }

  void finish() {
    for (const Layer& l : layers_) {
      LayerStats s;
      s.name = l.what->name;
      s.callee = l.what->callee;
      s.location = l.what->location;
      s.shape = l.shape;
      s.value = l.values.summary();
      if (l.gradient) s.gradient = l.gradients.summary();
      s.dead = static_cast<double>(std::count(l.alive.begin(), l.alive.end(), 0)) /
               static_cast<double>(l.alive.size());
      if (l.what->high > l.what->low)
        s.saturated = static_cast<double>(l.saturated) / static_cast<double>(s.value.count);
      report_.layers.push_back(std::move(s));
    }
  }

  const StatsOptions& options_;
  const Experiment& experiment_;
  runtime::Session session_;
  std::vector<Layer> layers_;
  std::vector<uint8_t> start_;  // parameters, states and slots
  StatsReport report_;
};

int run_stats(const StatsOptions& options) {
  if (!options.output.empty()) {
    if (!options.output.ends_with(".svg"))
      throw RunError(kExitUsage, fmt::format("stats: --output {}: expected NAME.svg", options.output));
    runtime::check_output_path(options.output, "page");
  }
  if (options.model.mem_limit > 0)
    throw RunError(
        kExitUsage,
        "stats: --mem-limit is for training; values of layers are kept whole (--layers takes some)");
  CompileRequest request = compile_request(options.model);
  request.layer_values = true;
  request.layers = options.layers;
  const CompiledModel compiled(request);
  if (!compiled.complete()) throw RunError(kExitUsage, "stats: --stop-after leaves nothing to run");
  require_layers(compiled, options.layers);
  const StatsReport report = Stats(options, compiled).run();
  if (!options.output.empty()) {
    runtime::OutputFile file(options.output, "page");
    file.write(render_stats_svg(report));
    file.commit();
  }
  fmt::print("{}", options.model.json ? render_stats_json(report) : render_stats(report));
  if (!options.output.empty() && !options.model.json) fmt::print("page written to {}\n", options.output);
  return kExitOk;
}

}  // namespace

Command add_stats(CLI::App& app) {
  const auto o = std::make_shared<StatsOptions>();
  CLI::App* c = app.add_subcommand(
      "stats",
      "values of each layer and their gradients on training batches: mean, standard deviation, histogram,\n"
      "dead units (exactly 0 for every example: a ReLU that lets nothing through) and saturated values "
      "(within\n"
      "2.5 % of an end of the function's range, |tanh| > 0.95, where its slope is below a tenth)");
  add_model_options(c, o->model);
  c->add_option("--weights,--init-from", o->weights,
                "look at these parameters (safetensors) instead of the initialisers'")
      ->type_name("FILE");
  c->add_option("--batches", o->batches, "training batches to look at, or all that there are")
      ->check(from_to(1, kMany))
      ->capture_default_str()
      ->type_name("N");
  add_list(c, "--layers", o->layers, "only layers whose names match, where * is any text (repeatable)")
      ->type_name("PATTERN");
  c->add_option("--seed", o->seed, "of initial values, order and random layers (default: the file's)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  c->add_option("--output,-o", o->output, "write a page with charts, for any browser")->type_name("PAGE.svg");
  add_thread_option(c, o->model.threads);
  add_code_options(c, o->model);
  return {c, [o] { return run_stats(*o); }, &o->model.json};
}

}  // namespace gradc::cli
