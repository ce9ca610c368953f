// `gradc train`: compiles, loads the data, trains, and explains a loss that is not finite. Knows no operator.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "compiler/experiment.h"
#include "compiler/not_finite.h"
#include "driver/options.h"
#include "runtime/files.h"
#include "runtime/prepare.h"
#include "runtime/report.h"
#include "runtime/train.h"

namespace gradc::driver {

namespace {

nlohmann::ordered_json json_of(const runtime::ValueRange& range) {
  return {{"name", range.name}, {"low", range.low},     {"high", range.high},  {"elements", range.elements},
          {"nan", range.nan},   {"above", range.above}, {"below", range.below}};
}

// {"event":"not_finite", ...}, with the fields of runtime::NotFiniteReport.
nlohmann::ordered_json json_of(const runtime::NotFiniteReport& report) {
  nlohmann::ordered_json operands = nlohmann::ordered_json::array();
  for (const runtime::ValueRange& operand : report.operands) operands.push_back(json_of(operand));
  return {{"event", "not_finite"},
          {"step", report.step},
          {"epoch", report.epoch},
          {"batch", report.batch},
          {"operation", report.operation},
          {"name", report.name},
          {"type", report.type},
          {"file", report.file},
          {"line", report.line},
          {"column", report.column},
          {"result", json_of(report.result)},
          {"operands", operands},
          {"notes", report.notes},
          {"helps", report.helps}};
}

}  // namespace

int run_train(const TrainOptions& options) {
  if (!options.run.save.empty()) runtime::check_output_path(options.run.save, "weights file");
  CompileRequest request = compile_request(options.model);
  request.training_first = true;
  // Before the work: what only the model file's rules can tell.
  request.loaded = [&](const LoadedModel& model) {
    const std::string record = experiment_json(model.model.experiment, {});
    runtime::check_train_options(options.run, runtime::read_experiment(record.c_str()).train);
  };
  const CompiledModel compiled(request);
  if (!compiled.complete()) {
    fmt::print(stderr, "gradc: stopped after {}; nothing was run\n", options.model.stop_after);
    return kExitOk;
  }
  const runtime::Experiment experiment = runtime::read_experiment(compiled.program().experiment_json);
  runtime::Dataset data = runtime::load_dataset(experiment.data);
  {
    runtime::Progress progress(stderr, options.run.shown_progress(options.model.json));
    runtime::fit_preparation(data, experiment.data, &progress);
  }
  runtime::Session session(compiled.program(), options.model.threads);

  runtime::TrainOptions run = options.run;
  run.json = options.model.json;
  try {
    const runtime::TrainResult result = runtime::train(session, data, experiment, run);
    return result.interrupted ? result.exit_code : kExitOk;
  } catch (const runtime::NonFiniteLoss& error) {
    const runtime::NotFiniteReport why = explain_not_finite(request, session, error);
    if (options.model.json) runtime::write_event(stdout, json_of(why));
    fmt::print(stderr, "gradc: {}\n", why.text);
    return kExitCheckFailed;
  }
}

}  // namespace gradc::driver
