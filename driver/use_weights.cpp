// `gradc eval`, `gradc predict` and `gradc check`: the commands that do not train. Knows no operator.
#include <fmt/format.h>

#include "driver/check.h"
#include "driver/options.h"
#include "runtime/checkpoint.h"
#include "runtime/files.h"
#include "runtime/predict.h"
#include "runtime/prepare.h"
#include "runtime/session.h"
#include "standalone/options.h"
#include "support/check.h"

namespace gradc::driver {

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
      : compiled(compile_request(options.model)) {
    if (stopped(compiled, options.model)) return;
    session.emplace(compiled.program(), options.model.threads);
    runtime::load_checkpoint(*session, options.weights);
    const runtime::DataRecord record = runtime::read_experiment(compiled.program().experiment_json).data;
    if (with_data) {
      data = runtime::load_dataset(record);
      runtime::restore_preparation(data, record, session->data_arrays, options.weights);
    } else {
      preparation = runtime::restored_preparation(record, session->data_arrays, options.weights);
    }
  }
  CompiledModel compiled;
  std::optional<runtime::Session> session;
  runtime::Dataset data;
  std::shared_ptr<const runtime::Preparation> preparation;  // of examples from elsewhere
};

}  // namespace

int run_eval(const EvalOptions& options) {
  Loaded loaded(options);
  if (!loaded.session) return kExitOk;
  runtime::run_eval(*loaded.session, runtime::split_to_use(loaded.data, options.split), options.model.json);
  return kExitOk;
}

int run_predict(const PredictOptions& options) {
  if (!options.run.output.empty()) runtime::check_output_path(options.run.output, "predictions");
  runtime::PredictOptions run = options.run;
  run.inputs = standalone::input_files(options.inputs);
  run.json = options.eval.model.json;
  Loaded loaded(options.eval, run.inputs.empty());
  if (!loaded.session) return kExitOk;
  run.preparation = loaded.preparation;
  if (run.inputs.empty()) run.split = &runtime::split_to_use(loaded.data, options.eval.split);
  runtime::run_predict(*loaded.session, run);
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
