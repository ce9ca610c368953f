// `gradc eval`, `gradc predict`, `gradc sample` and `gradc check`: the commands that do not train. Knows no
// operator.
#include <fmt/format.h>

#include <algorithm>

#include "cli/check/check.h"
#include "cli/not_finite.h"
#include "cli/options.h"
#include "ir/tensor/op_def.h"
#include "runtime/execution/checkpoint.h"
#include "runtime/execution/ensemble.h"
#include "runtime/files.h"
#include "runtime/execution/predict.h"
#include "runtime/data/prepare.h"
#include "runtime/execution/session.h"
#include "standalone/options.h"
#include "support/check.h"

namespace gradc::cli {

namespace {

// Says so where --stop-after left nothing to run.
bool stopped(const CompiledModel& compiled, const ModelOptions& options) {
  if (compiled.complete()) return false;
  fmt::print(stderr, "gradc: stopped after {}; nothing was run\n", options.stop_after);
  return true;
}

// A compiled model with trained parameters and its data.
struct Loaded {
  explicit Loaded(const EvalOptions& options, bool with_data = true)
      : request(request_of(options)), compiled(request) {
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
    const DataRecord& record = compiled.experiment().data;
    if (with_data) {
      data = runtime::load_dataset(record);
      runtime::restore_preparation(data, record, session->data_arrays, options.weights.front(),
                                   options.views());
    } else {
      preparation = runtime::restored_preparation(record, session->data_arrays, options.weights.front(),
                                                  options.views());
    }
  }
  static CompileRequest request_of(const EvalOptions& options) {
    for (const std::string& file : options.weights) runtime::check_input_path(file, "weights file");
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
    const Experiment& experiment = compiled.experiment();
    return {options.weights,  options.raw,   options.samples, static_cast<uint64_t>(experiment.train.seed),
            options.ten_crop, options.scales};
  }
  const CompileRequest request;
  CompiledModel compiled;
  std::optional<runtime::Session> session;
  runtime::Dataset data;
  std::shared_ptr<const runtime::Preparation> preparation;  // of examples from elsewhere
};

}  // namespace

int run_eval(const EvalOptions& options) {
  Loaded loaded(options);
  if (!loaded.session) return kExitOk;
  const runtime::Split& split = runtime::split_to_use(loaded.data, options.split);
  if (const runtime::EnsembleOptions members = loaded.ensemble(options);
      members.members() > 1 || options.views()) {
    runtime::run_ensemble_eval(*loaded.session, split, members, options.model.json);
  } else {
    try {
      runtime::run_eval(*loaded.session, split, options.model.json);
    } catch (const runtime::NotFiniteError& error) {
      return report_not_finite(loaded.request, *loaded.session, error, options.model.json);
    }
  }
  return kExitOk;
}

int run_predict(const PredictOptions& options) {
  runtime::PredictOptions run = options.run;
  if (!run.output.empty()) runtime::check_output_path(run.output, "predictions");
  if (!run.spread.empty()) {
    if (run.output.empty() ||
        (options.eval.weights.size() < 2 && options.eval.samples < 2 && !options.eval.views()))
      throw RunError(kExitUsage,
                     "predict: --spread needs --output, and several --weights, --samples or crops to spread");
    if (!run.spread.ends_with(".npy"))
      throw RunError(kExitUsage, fmt::format("predict: --spread {}: expected NAME.npy", run.spread));
    runtime::check_output_path(run.spread, "spread of predictions");
  }
  run.inputs = standalone::input_files(options.inputs);
  run.json = options.eval.model.json;
  Loaded loaded(options.eval, run.inputs.empty());
  if (!loaded.session) return kExitOk;
  run.ensemble = loaded.ensemble(options.eval);
  run.preparation = loaded.preparation;
  if (run.inputs.empty()) run.split = &runtime::split_to_use(loaded.data, options.eval.split);
  runtime::run_predict(*loaded.session, run);
  return kExitOk;
}

int run_sample(const SampleOptions& options) {
  runtime::SampleOptions run = options.run;
  run.json = options.eval.model.json;
  Loaded loaded(options.eval, /*with_data=*/false);
  if (!loaded.session) return kExitOk;
  runtime::run_sample(*loaded.session, run);
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
  request.compile = compile_request(options.model, options.batch.value_or(0));
  request.compile.passes.verify = true;
  if (!options.model.stop_after.empty())
    throw RunError(kExitUsage, "check: --stop-after leaves nothing to check");
  request.seed = static_cast<uint64_t>(options.seed.value_or(1));
  request.break_gradient = options.break_gradient;
  if (!options.break_pass.empty() && !options.bisect_passes)
    throw RunError(kExitUsage, "check: --break-pass tests --bisect-passes, which is missing");
  if (options.bisect_passes) {
    if (!options.break_gradient.empty())
      throw RunError(
          kExitUsage,
          "check: --break-gradient makes the reference wrong too; --break-pass is for --bisect-passes");
    const BisectReport report = bisect_passes(request, options.break_pass);
    fmt::print("{}", options.model.json ? render_bisect_json(report) : render_bisect(report));
    return report.culprit() ? kExitCheckFailed : kExitOk;
  }
  const CheckReport report = check_model(request);
  fmt::print("{}", options.model.json ? render_check_json(report) : render_check(report));
  return report.pass() ? kExitOk : kExitCheckFailed;
}

}  // namespace gradc::cli
