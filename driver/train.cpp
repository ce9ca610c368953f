// `gradc train`: compiles, loads the data, trains, and explains a loss that is not finite. Knows no operator.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "driver/batch.h"
#include "driver/explain.h"
#include "driver/options.h"
#include "runtime/files.h"
#include "runtime/prepare.h"
#include "runtime/train.h"

namespace gradc::driver {

namespace {

// Replays the step that failed; the session still holds the parameters it started from.
NotFinite explain(const CompileRequest& request, const runtime::Session& session,
                  const runtime::NonFiniteLoss& error) {
  const gradc_program& program = session.program();
  CallRequest step;
  std::vector<const void*> inputs;
  for (const std::vector<uint8_t>& bytes : error.inputs) inputs.push_back(bytes.data());
  step.inputs = batch_of(program.train_step, inputs.data(), error.rows);
  step.rows = error.rows;
  step.seed = error.seed;
  step.micro_step = error.micro_step;
  Tensors symbols;
  for (int32_t i = 0; i < program.symbol_count; ++i) {
    const gradc_symbol& s = program.symbols[i];
    const Type type{static_cast<DType>(s.dtype), false, Shape(s.shape, s.shape + s.rank)};
    interpreter::Tensor value = interpreter::make_tensor(type, 1);
    from_memory(session.data(s), type.dtype, type.elements(), value.data.data());
    symbols[s.name] = std::move(value);
  }
  return explain_not_finite(request, step, symbols);
}

}  // namespace

int run_train(const TrainOptions& options) {
  if (!options.run.save.empty()) runtime::check_output_path(options.run.save, "weights file");
  CompileRequest request = compile_request(options.model);
  request.training_first = true;
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
    return result.interrupted ? kExitInterrupted : kExitOk;
  } catch (const runtime::NonFiniteLoss& error) {
    const NotFinite why = explain(request, session, error);
    if (options.model.json)
      fmt::print("{}\n", nlohmann::ordered_json{{"event", "not_finite"},
                                                {"step", error.scalars.step + 1},
                                                {"epoch", error.scalars.epoch + 1},
                                                {"operation", why.operation},
                                                {"name", why.name},
                                                {"place", why.place}}
                             .dump());
    fmt::print(stderr, "gradc: {}\n{}", error.what(), why.text);
    return kExitCheckFailed;
  }
}

}  // namespace gradc::driver
