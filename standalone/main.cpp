// The command line of a compiled model: trains, evaluates and predicts without a compiler.
#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "capi/bundle.h"
#include "runtime/data/prepare.h"
#include "runtime/execution/checkpoint.h"
#include "runtime/execution/report.h"
#include "runtime/files.h"
#include "standalone/features.h"
#include "standalone/options.h"
#include "support/check.h"
#include "support/diagnostic.h"

extern "C" const gradc_image gradc_standalone_image;  // written by the compiler

#pragma weak gradc_feature_view_options
#pragma weak gradc_feature_view_eval
#pragma weak gradc_feature_sample

namespace gradc::standalone {
namespace {

struct Options {
  std::vector<std::string> data;  // a path, or NAME=VALUE
  std::vector<std::string> inputs;
  std::string weights, split;
  int threads = 0;
  bool json = false, source = false;
  runtime::TrainOptions train;
  runtime::PredictOptions predict;
  ViewOptions views;
  std::string program;                       // the executable's name, as it was called
  std::vector<std::string> train_arguments;  // of `train`, but for --data
};

bool has_weights(const gradc_image& bundle) { return bundle.weight_bytes != 0; }

std::vector<uint8_t> embedded_weights(const gradc_image& bundle) {
  return {bundle.weights, bundle.weights + bundle.weight_bytes};
}

// Quotes a word for a shell.
std::string shell_word(const std::string& text) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%";
  if (!text.empty() && text.find_first_not_of(plain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

// The arguments after `train`, without --data and its values.
std::vector<std::string> train_arguments(int argc, char** argv) {
  std::vector<std::string> arguments;
  for (int i = 2; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--data")
      ++i;
    else if (argument.rfind("--data=", 0) != 0)
      arguments.push_back(argument);
  }
  return arguments;
}

class Executable {
 public:
  Executable(const gradc_image& bundle, const Options& options)
      : bundle_(bundle),
        options_(options),
        program_(capi::program_for_this_processor(bundle)),
        experiment_(read_experiment(program_.experiment_json)) {
    override_options(experiment_.data, options.data);
  }

  int train() {
    if (!options_.train.save.empty()) runtime::check_output_path(options_.train.save, "weights file");
    runtime::check_train_options(options_.train, experiment_.train);
    runtime::Session session(program_, options_.threads);
    session.require_training();
    runtime::Dataset data = runtime::load_dataset(experiment_.data);
    {
      runtime::Progress progress(stderr, options_.train.shown_progress(options_.json));
      runtime::fit_preparation(data, experiment_.data, &progress);
    }
    runtime::TrainOptions run = options_.train;
    run.json = options_.json;
    try {
      const runtime::TrainResult result = runtime::train(session, data, experiment_, run);
      if (result.interrupted) return result.exit_code;
      if (result.not_finite) not_finite(*result.not_finite);
      return kExitOk;
    } catch (const runtime::NotFiniteError& error) {
      not_finite(error);
    }
  }

  int eval() {
    const auto session = with_weights();
    runtime::Dataset data = runtime::load_dataset(experiment_.data);
    runtime::restore_preparation(data, experiment_.data, session->data_arrays, weights_name(),
                                 options_.views.any());
    const runtime::Split& split = runtime::split_to_use(data, options_.split);
    if (options_.views.any())
      gradc_feature_view_eval(session.get(), &split, &options_.views, options_.json);
    else
      runtime::run_eval(*session, split, options_.json);
    return kExitOk;
  }

  int sample(SampleCommand& command) {
    command.run(*with_weights(), options_.json);
    return kExitOk;
  }

  int predict() {
    runtime::PredictOptions run = options_.predict;
    if (!run.output.empty()) runtime::check_output_path(run.output, "predictions");
    run.inputs = input_files(options_.inputs);
    run.json = options_.json;
    run.ensemble.ten_crop = options_.views.ten_crop;
    run.ensemble.scales = options_.views.scales;
    const auto session = with_weights();
    runtime::Dataset data;
    if (run.inputs.empty()) {
      data = runtime::load_dataset(experiment_.data);
      runtime::restore_preparation(data, experiment_.data, session->data_arrays, weights_name(),
                                   options_.views.any());
      run.split = &runtime::split_to_use(data, options_.split);
    } else {
      run.preparation = runtime::restored_preparation(experiment_.data, session->data_arrays, weights_name(),
                                                      options_.views.any());
    }
    runtime::run_predict(*session, run);
    return kExitOk;
  }

  int info() const {
    if (options_.source) {
      if (!program_.source)
        throw RunError(kExitRunFailed, fmt::format("{}: the model file's text is not in this program: it was "
                                                   "compiled with `gradc compile --strip`",
                                                   program_.name));
      runtime::write_line(stdout, program_.source);
      return kExitOk;
    }
    std::vector<std::string> targets;
    for (int32_t i = 0; i < bundle_.program_count; ++i) targets.emplace_back(bundle_.programs[i]->target);
    int64_t parameters = 0;
    for (int32_t i = 0; i < program_.symbol_count; ++i) {
      const gradc_symbol& s = program_.symbols[i];
      if (s.kind == GRADC_PARAMETER) parameters += runtime::element_count(s.rank, s.shape);
    }
    std::vector<std::string> inputs, outputs, metrics;
    for (int32_t i = 0; i < program_.predict.input_count; ++i) {
      const gradc_input& in = program_.predict.inputs[i];
      inputs.push_back(fmt::format("{}: {}", in.name, runtime::type_text(in.dtype, in.rank, in.shape)));
    }
    for (int32_t i = 0; i < program_.predict.output_count; ++i) {
      const gradc_output& out = program_.predict.outputs[i];
      outputs.push_back(runtime::type_text(out.dtype, out.rank, out.shape));
    }
    for (int32_t i = 0; i < program_.eval.output_count; ++i)
      if (program_.eval.outputs[i].role == GRADC_RESULT) metrics.emplace_back(program_.eval.outputs[i].name);
    if (options_.json) {
      runtime::write_event(stdout, {{"event", "info"},
                                    {"model", program_.name},
                                    {"gradc_version", program_.gradc_version},
                                    {"targets", targets},
                                    {"target", program_.target},
                                    {"trains", program_.train_step.run != nullptr},
                                    {"embedded_weights", has_weights(bundle_)},
                                    {"parameters", parameters},
                                    {"batch", program_.batch},
                                    {"inputs", inputs},
                                    {"predict", outputs},
                                    {"metrics", metrics},
                                    {"data", experiment_.data.source},
                                    {"epochs", experiment_.train.epochs}});
      return kExitOk;
    }
    const auto line = [](const char* what, const std::string& value) {
      runtime::write_line(stdout, fmt::format("{:<12}{}", what, value));
    };
    line("model", fmt::format("{} (gradc {})", program_.name, program_.gradc_version));
    line("does",
         fmt::format("{}; {}", program_.train_step.run ? "train, eval, predict" : "eval, predict",
                     has_weights(bundle_) ? "trained parameters are embedded" : "no parameters embedded"));
    line("targets", fmt::format("{}; here {}", fmt::join(targets, ", "), program_.target));
    line("parameters", fmt::format("{}", parameters));
    line("batch", fmt::format("{}", program_.batch));
    line("input", fmt::format("{}", fmt::join(inputs, ", ")));
    line("predict", outputs.empty() ? "nothing" : fmt::format("{}", fmt::join(outputs, ", ")));
    line("reports", fmt::format("{}", fmt::join(metrics, ", ")));
    line("data", fmt::format("{}, {} epochs", experiment_.data.source, experiment_.train.epochs));
    return kExitOk;
  }

 private:
  [[noreturn]] void not_finite(const runtime::NotFiniteError& error) const {
    const std::string help = how_to_explain();
    const runtime::NotFiniteReport known = runtime::unexplained(error);
    if (options_.json)
      runtime::write_event(stdout, {{"event", "not_finite"},
                                    {"value", runtime::name_of(known.value)},
                                    {"split", known.split},
                                    {"step", known.step},
                                    {"epoch", known.epoch},
                                    {"batch", known.batch},
                                    {"helps", {help}}});
    throw RunError(kExitCheckFailed, fmt::format("{}\n  = help: {}", error.what(), help));
  }

  // An executable has no compiler to replay a step with, so it names the command with which the tool explains the same
  // run.
  std::string how_to_explain() const {
    const std::string file = program_.name;
    std::string command = fmt::format("gradc train {} --target {}", shell_word(file), program_.target);
    for (const auto& [name, value] : experiment_.settings)
      command += " --set " + shell_word(fmt::format("{}={}", name, value));
    for (const std::string& argument : options_.train_arguments) command += " " + shell_word(argument);
    std::string text =
        "this program holds no compiler that could replay the step; gradc names the operation and its line "
        "when it repeats the run";
    if (program_.source)
      text += fmt::format(":\n    {} info --source > {}\n    {}", shell_word(options_.program),
                          shell_word(file), command);
    else
      text += fmt::format(
          " of the model file, which `--strip` left out of this program, with the same --set options:\n    "
          "{}",
          command);
    if (!options_.data.empty())
      text +=
          fmt::format("\n  with the data read from where --data says: {}", fmt::join(options_.data, ", "));
    return text;
  }

  std::string weights_name() const {
    return options_.weights.empty() ? "the embedded weights" : options_.weights;
  }

  std::unique_ptr<runtime::Session> with_weights() {
    auto session = std::make_unique<runtime::Session>(program_, options_.threads);
    if (!options_.weights.empty()) {
      runtime::load_checkpoint(*session, options_.weights);
    } else {
      runtime::load_checkpoint(*session, weights_name(), embedded_weights(bundle_));
    }
    return session;
  }

  const gradc_image& bundle_;
  const Options& options_;
  const gradc_program& program_;
  Experiment experiment_;
};

int run(const gradc_image& bundle, const std::string& name, int argc, char** argv) {
  const gradc_program& any = *bundle.programs[0];
  CLI::App app(
      fmt::format("{}, compiled by gradc {}: a neural network that trains, evaluates and predicts by itself.",
                  any.name, any.gradc_version),
      name);
  app.set_version_flag("--version,-V", fmt::format("{} (gradc {})", any.name, any.gradc_version));
  app.require_subcommand(1);
  Options o;
  const auto common = [&](CLI::App* command) {
    command->add_flag("--json", o.json, "results on stdout as JSON, one object a line");
  };
  const auto data = [&](CLI::App* command) {
    add_list(
        command, "--data", o.data,
        "where the data are, instead of what the model file says: a path, or NAME=VALUE for an option of "
        "the data source (repeatable)")
        ->type_name("PATH");
    add_thread_option(command, o.threads);
    common(command);
  };
  const auto weights = [&](CLI::App* command) {
    CLI::Option* option = command->add_option(
        "--weights", o.weights,
        has_weights(bundle) ? "other parameters than the embedded ones" : "trained parameters (safetensors)");
    option->type_name("FILE");
    if (!has_weights(bundle)) option->required();
  };
  CLI::App* train = nullptr;
  if (any.train_step.run) {
    train = app.add_subcommand("train", "train the model; prints its loss and accuracy");
    add_train_options(train, o.train);
    data(train);
  }
  CLI::App* eval = app.add_subcommand("eval", "loss and metrics of trained parameters");
  weights(eval);
  add_split_option(eval, o.split);
  data(eval);
  CLI::App* predict =
      app.add_subcommand("predict", "what the model says of each example, one line an example");
  predict->add_option("INPUT", o.inputs, "examples from NumPy files instead of the data: [NAME=]FILE.npy")
      ->type_name("");
  add_predict_options(predict, o.predict);
  weights(predict);
  add_split_option(predict, o.split);
  data(predict);
  std::unique_ptr<SampleCommand> sample;
  CLI::App* sample_command = nullptr;
  if (gradc_feature_sample) {
    sample_command = app.add_subcommand("sample", kSampleDoc);
    sample.reset(gradc_feature_sample(sample_command));
    weights(sample_command);
    add_thread_option(sample_command, o.threads);
    common(sample_command);
  }
  if (gradc_feature_view_options)
    for (CLI::App* command : {eval, predict}) gradc_feature_view_options(command, &o.views);
  CLI::App* info = app.add_subcommand("info", "what the model is: inputs, parameters, targets");
  info->add_flag("--source", o.source, "print the model file it was compiled from");
  common(info);
  app.footer(footer(name, {"GRADC_THREADS", "OMP_NUM_THREADS"}));
  if (const std::optional<int> code = parse(app, argc, argv)) return *code;
  o.program = argc > 0 ? argv[0] : name;
  o.train_arguments = train_arguments(argc, argv);
  Executable executable(bundle, o);
  if (train && *train) return executable.train();
  if (*eval) return executable.eval();
  if (*predict) return executable.predict();
  if (sample_command && *sample_command) return executable.sample(*sample);
  return executable.info();
}

}  // namespace
}  // namespace gradc::standalone

int main(int argc, char** argv) {
  const std::string name = argc > 0 ? std::filesystem::path(argv[0]).filename().string() : "model";
  return gradc::standalone::run_process(
      name.c_str(), [&] { return gradc::standalone::run(gradc_standalone_image, name, argc, argv); });
}
