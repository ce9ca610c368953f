// `gradc eval`, `gradc predict`, `gradc sample` and `gradc average`: commands that use trained weights. Knows no
// operator.
#include <fmt/format.h>

#include <algorithm>

#include "cli/check/check.h"
#include "cli/command.h"
#include "cli/not_finite.h"
#include "ir/tensor/op_def.h"
#include "runtime/data/prepare.h"
#include "runtime/execution/checkpoint.h"
#include "runtime/execution/ensemble.h"
#include "runtime/execution/predict.h"
#include "runtime/execution/session.h"
#include "runtime/files.h"
#include "standalone/options.h"
#include "support/check.h"

namespace gradc::cli {

namespace {

struct EvalOptions {
  ModelOptions model;
  std::vector<std::string> weights;  // safetensors; several: an ensemble
  int64_t samples = 1;          // predictions of each, with random layers drawing again (Monte-Carlo dropout)
  std::string split;            // empty: test, else val, else train
  bool raw = false;             // use the parameters, even where the model has averages of them
  bool ten_crop = false;        // the mean over ten crops of each image
  std::vector<int64_t> scales;  // and over several sizes of it
  bool views() const { return ten_crop || !scales.empty(); }
};

struct PredictOptions {
  EvalOptions eval;
  runtime::PredictOptions run;
  std::vector<std::string> inputs;  // [name=]file.npy; empty: a split of the data
};

struct SampleOptions {
  EvalOptions eval;  // one file of weights, one sample
  runtime::SampleOptions run;
};

struct AverageOptions {
  std::vector<std::string> weights;
  std::string output;
};

void add_eval_options(CLI::App* app, EvalOptions& o) {
  add_model_options(app, o.model);
  add_code_options(app, o.model);
  add_thread_option(app, o.model.threads);
  add_list(
      app, "--weights,--init-from", o.weights,
      "parameters, as gradc train --save or PyTorch's safetensors wrote them (repeatable: the mean of the "
      "models' predictions)")
      ->required()
      ->type_name("FILE");
  app->add_option("--samples", o.samples,
                  "predict so many times with dropout and noise layers drawing as in training, and take the "
                  "mean (Monte-Carlo dropout)")
      ->check(from_to(1, 1000000))
      ->type_name("N");
  standalone::add_view_options(app, o.ten_crop, o.scales);
  app->add_flag("--raw", o.raw, "where the model has `ema`: the parameters themselves, not their averages");
  standalone::add_split_option(app, o.split);
}

// Reports that --stop-after left nothing to run.
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

}  // namespace

Command add_eval(CLI::App& app) {
  const auto o = std::make_shared<EvalOptions>();
  CLI::App* c = app.add_subcommand("eval", "loss and metrics of trained parameters");
  add_eval_options(c, *o);
  return {c, [o] { return run_eval(*o); }, &o->model.json};
}

Command add_predict(CLI::App& app) {
  const auto o = std::make_shared<PredictOptions>();
  CLI::App* c = app.add_subcommand("predict", "what the model says of each example, one line an example");
  add_eval_options(c, o->eval);
  standalone::add_predict_options(c, o->run);
  c->add_option("--spread", o->run.spread,
                "with several --weights or --samples: write the standard deviation of the predictions here")
      ->type_name("NAME.npy");
  add_list(c, "--input", o->inputs,
           "examples from a NumPy file instead of the data (repeatable, with the input's name)")
      ->type_name("[NAME=]FILE.npy");
  return {c, [o] { return run_predict(*o); }, &o->eval.model.json};
}

Command add_sample(CLI::App& app) {
  const auto o = std::make_shared<SampleOptions>();
  CLI::App* c = app.add_subcommand("sample", standalone::kSampleDoc);
  add_model_options(c, o->eval.model);
  add_list(c, "--weights,--init-from", o->eval.weights,
           "parameters, as gradc train --save wrote them, with the vocabulary")
      ->required()
      ->expected(1)
      ->type_name("FILE");
  standalone::add_sample_options(c, o->run);
  c->add_flag("--raw", o->eval.raw,
              "where the model has `ema`: the parameters themselves, not their averages");
  add_code_options(c, o->eval.model);
  add_thread_option(c, o->eval.model.threads);
  return {c, [o] { return run_sample(*o); }, &o->eval.model.json};
}

Command add_average(CLI::App& app) {
  const auto o = std::make_shared<AverageOptions>();
  CLI::App* c = app.add_subcommand("average", "the mean of several files of weights");
  c->add_option("WEIGHTS", o->weights, "files that gradc train or PyTorch wrote")
      ->required()
      ->type_name("A.safetensors B.safetensors ...");
  c->add_option("--output,-o", o->output, "where the mean goes")->required()->type_name("W.safetensors");
  return {c, [o] { return run_average(*o); }};
}

}  // namespace gradc::cli
