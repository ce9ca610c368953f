// `gradc eval`, `gradc predict` and `gradc check`: the commands that do not train. Knows no operator.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "driver/check.h"
#include "driver/options.h"
#include "ir/op_def.h"
#include "runtime/checkpoint.h"
#include "runtime/ensemble.h"
#include "runtime/files.h"
#include "runtime/predict.h"
#include "runtime/session.h"
#include "support/check.h"

namespace gradc::driver {

namespace {

using Json = nlohmann::ordered_json;

// JSON has no infinity and no NaN: such a number is null.
Json number(double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); }

// Says so where --stop-after left nothing to run.
bool stopped(const CompiledModel& compiled, const ModelOptions& options) {
  if (compiled.complete()) return false;
  fmt::print(stderr, "gradc: stopped after {}; nothing was run\n", options.stop_after);
  return true;
}

// A compiled model with trained parameters and its data.
struct Loaded {
  explicit Loaded(const EvalOptions& options, bool with_data = true) : compiled(request_of(options)) {
    if (stopped(compiled, options.model)) return;
    if (options.samples > 1 && !draws(compiled.module()))
      throw RunError(
          kExitUsage,
          fmt::format("--samples {}: nothing in this model's prediction draws random numbers, so that all "
                      "would be equal",
                      options.samples));
    session.emplace(compiled.program(), options.model.threads);
    runtime::load_checkpoint(*session, options.weights.front());
    if (options.raw) runtime::use_raw_parameters(*session);
    if (with_data)
      data = runtime::load_dataset(runtime::read_experiment(compiled.program().experiment_json).data);
  }
  static CompileRequest request_of(const EvalOptions& options) {
    CompileRequest request = compile_request(options.model);
    request.stochastic_evaluation = options.samples > 1;
    return request;
  }
  static bool draws(const Module& module) {
    const Function* predict = module.function("predict");
    return predict && std::any_of(predict->body.begin(), predict->body.end(),
                                  [](const auto& op) { return op->def->random; });
  }
  runtime::EnsembleOptions ensemble(const EvalOptions& options) const {
    const runtime::Experiment experiment = runtime::read_experiment(compiled.program().experiment_json);
    return {options.weights, options.raw, options.samples, static_cast<uint64_t>(experiment.train.seed)};
  }
  CompiledModel compiled;
  std::optional<runtime::Session> session;
  runtime::Dataset data;
};

const runtime::Split& split_of(const runtime::Dataset& data, const EvalOptions& options) {
  return options.split.empty() ? runtime::default_split(data) : data.split(options.split);
}

// A line an example on stdout, in the split's own order.
void print_predictions(runtime::Session& session, const gradc_output& output, const runtime::Split& split,
                       const PredictOptions& options, const runtime::EnsembleOptions& members) {
  const bool several = members.members() > 1;
  const runtime::Ensemble ensemble =
      several ? runtime::predict_ensemble(session, split, members) : runtime::Ensemble();
  runtime::BatchReader reader(split, session.program().predict, session.batch());
  const int64_t most = options.rows ? std::min(*options.rows, split.count) : split.count;
  const DType dtype = static_cast<DType>(output.dtype);
  const int64_t elements = runtime::element_count(output.rank, output.shape);
  std::vector<double> values(static_cast<size_t>(elements));
  int64_t row = 0;
  for (int64_t batch = 0; row < most; ++batch) {
    const auto* memory = several ? reinterpret_cast<const uint8_t*>(ensemble.mean.data() + row * elements)
                                 : static_cast<const uint8_t*>(session.predict(reader, batch));
    for (int64_t i = 0; i < reader.rows(batch) && row < most; ++i, ++row) {
      from_memory(memory + i * elements * bytes_of(dtype), dtype, elements, values.data());
      if (options.eval.model.json) {
        Json list = Json::array();
        for (const double v : values) list.push_back(number(v));
        fmt::print("{}\n", Json{{"event", "predict"}, {"row", row}, {"predict", list}}.dump());
        continue;
      }
      std::string line;
      for (const double v : values)  // the shortest text that reads back to the same number
        line += (line.empty() ? "" : " ") +
                (dtype == DType::f32 ? fmt::format("{}", static_cast<float>(v)) : fmt::format("{}", v));
      fmt::print("{}\n", line);
    }
  }
}

}  // namespace

int run_eval(const EvalOptions& options) {
  Loaded loaded(options);
  if (!loaded.session) return kExitOk;
  const runtime::Split& split = split_of(loaded.data, options);
  if (const runtime::EnsembleOptions members = loaded.ensemble(options); members.members() > 1) {
    runtime::run_ensemble_eval(*loaded.session, split, members, options.model.json);
    return kExitOk;
  }
  const runtime::EvalResult result = runtime::run_eval(*loaded.session, split, options.model.json);
  if (std::isfinite(result.loss)) return kExitOk;
  fmt::print(stderr, "gradc: the loss on `{}` is not finite\n", split.name);
  return kExitCheckFailed;
}

int run_predict(const PredictOptions& options) {
  if (!options.output.empty()) runtime::check_output_path(options.output, "predictions");
  runtime::PredictOptions run;
  for (const std::string& input : options.inputs) {
    const size_t equals = input.find('=');
    run.inputs[equals == std::string::npos ? "" : input.substr(0, equals)] =
        input.substr(equals == std::string::npos ? 0 : equals + 1);
  }
  if (!run.inputs.empty() && options.output.empty())
    throw RunError(kExitUsage,
                   "predict: --input needs --output, a file NAME.npy or NAME.csv for the predictions");
  if (!options.spread.empty()) {
    if (options.output.empty() || (options.eval.weights.size() < 2 && options.eval.samples < 2))
      throw RunError(kExitUsage,
                     "predict: --spread needs --output, and several --weights or --samples to spread");
    if (!options.spread.ends_with(".npy"))
      throw RunError(kExitUsage, fmt::format("predict: --spread {}: expected NAME.npy", options.spread));
    runtime::check_output_path(options.spread, "spread of predictions");
  }
  Loaded loaded(options.eval, run.inputs.empty());
  if (!loaded.session) return kExitOk;
  run.ensemble = loaded.ensemble(options.eval);
  run.spread = options.spread;
  runtime::Session& session = *loaded.session;
  const gradc_output& output = session.predict_output();
  if (run.inputs.empty()) run.split = &split_of(loaded.data, options.eval);
  if (!options.output.empty()) {
    run.output = options.output;
    const int64_t examples = runtime::run_predict(session, run);
    if (options.eval.model.json) {
      fmt::print("{}\n", Json{{"event", "end"}, {"examples", examples}, {"output", options.output}}.dump());
    } else {
      fmt::print("{} predictions in {}\n", examples, options.output);
    }
    return kExitOk;
  }
  print_predictions(session, output, *run.split, options, run.ensemble);
  return kExitOk;
}

int run_average(const AverageOptions& options) {
  runtime::check_output_path(options.output, "weights file");
  runtime::average_checkpoints(options.weights, options.output);
  fmt::print("the mean of {} files in {}\n", options.weights.size(), options.output);
  return kExitOk;
}

int run_check(const CheckOptions& options) {
  CheckRequest request;
  request.compile = compile_request(options.model);
  if (!options.model.stop_after.empty())
    throw RunError(kExitUsage, "check: --stop-after leaves nothing to check");
  request.compile.batch = options.batch.value_or(0);
  request.seed = static_cast<uint64_t>(options.seed.value_or(1));
  request.break_gradient = options.break_gradient;
  const CheckReport report = check_model(request);
  fmt::print("{}", options.model.json ? render_check_json(report) : render_check(report));
  return report.pass() ? kExitOk : kExitCheckFailed;
}

}  // namespace gradc::driver
