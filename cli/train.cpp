// `gradc train`: compiles, loads the data, trains, and explains values that are not finite. Knows no operator.
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/not_finite.h"
#include "compiler/memory.h"
#include "runtime/data/prepare.h"
#include "runtime/files.h"
#include "runtime/training/train.h"

namespace gradc::cli {

namespace {

struct TrainOptions {
  ModelOptions model;
  runtime::TrainOptions run;
};

int run_train(const TrainOptions& options) {
  if (!options.run.save.empty()) runtime::check_output_path(options.run.save, "weights file");
  CompileRequest request = compile_request(options.model);
  request.training_first = true;
  // Check before compiling what needs the model file's rules.
  request.loaded = [&](const LoadedModel& model) {
    runtime::check_train_options(options.run, model.model.experiment.train);
  };
  const CompiledModel compiled(request);
  if (!compiled.complete()) {
    fmt::print(stderr, "gradc: stopped after {}; nothing was run\n", options.model.stop_after);
    return kExitOk;
  }
  const Experiment& experiment = compiled.experiment();
  runtime::Dataset data = runtime::load_dataset(experiment.data);
  {
    runtime::Progress progress(stderr, options.run.shown_progress(options.model.json));
    runtime::fit_preparation(data, experiment.data, &progress);
  }
  runtime::Session session(compiled.program(), options.model.threads);

  runtime::TrainOptions run = options.run;
  run.json = options.model.json;
  if (options.model.mem_limit > 0) {
    const MemoryPlan plan = memory_plan(compiled.lowered(), session.batch(), options.model.threads);
    run.undo = plan.peak() + plan.parameters <= static_cast<int64_t>(options.model.mem_limit);
  }
  try {
    const runtime::TrainResult result = runtime::train(session, data, experiment, run);
    if (result.interrupted) return result.exit_code;
    return result.not_finite ? report_not_finite(request, session, *result.not_finite, run.json) : kExitOk;
  } catch (const runtime::NotFiniteError& error) {
    return report_not_finite(request, session, error, run.json);
  }
}

}  // namespace

Command add_train(CLI::App& app) {
  const auto o = std::make_shared<TrainOptions>();
  CLI::App* c = app.add_subcommand("train", "train a model; prints its loss and accuracy");
  add_model_options(c, o->model);
  standalone::add_train_options(c, o->run);
  add_thread_option(c, o->model.threads);
  add_code_options(c, o->model);
  return {c, [o] { return run_train(*o); }, &o->model.json};
}

}  // namespace gradc::cli
