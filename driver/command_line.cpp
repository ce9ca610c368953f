// Parses the command line with CLI11 and calls the command it names; knows nothing of what commands do.
#include "driver/command_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <limits>

#include "driver/options.h"
#include "support/environment.h"

namespace gradc::driver {

namespace {

constexpr int64_t kMany = std::numeric_limits<int64_t>::max() / 4;

// An option given any number of times, one value each time.
CLI::Option* add_list(CLI::App* app, const std::string& name, std::vector<std::string>& values,
                      const std::string& doc) {
  return app->add_option(name, values, doc)->allow_extra_args(false);
}

// CLI11's range check with a message that names the option's bounds in whole numbers.
CLI::Validator from_to(int64_t low, int64_t high) {
  return CLI::Validator(
      [=](std::string& text) -> std::string {
        int64_t value = 0;
        if (!CLI::detail::lexical_cast(text, value)) return fmt::format("'{}' is not a whole number", text);
        if (value < low || value > high)
          return high >= kMany ? fmt::format("{} is less than {}", value, low)
                               : fmt::format("{} is not in {}..{}", value, low, high);
        return "";
      },
      "");
}

void add_model_options(CLI::App* app, ModelOptions& o) {
  app->add_option("FILE", o.file, "the model file (*.nn)")->required()->type_name("");
  add_list(app, "--set", o.settings, "give one of the file's `set` names another value (repeatable)")
      ->type_name("NAME=VALUE");
  app->add_flag("--json", o.json, "results on stdout as JSON, one object a line");
}

void add_code_options(CLI::App* app, ModelOptions& o) {
  app->add_option("--target", o.target, "compile for this processor: native, x86-64-v2, x86-64-v3, x86-64-v4")
      ->type_name("NAME");
  add_list(app, "--print-after", o.print_after,
           "print the IR after a pass, or after 'all', on stderr (repeatable)")
      ->type_name("PASS");
  add_list(app, "--disable-pass", o.disable_pass, "leave a pass out (repeatable; see gradc passes)")
      ->type_name("PASS");
  app->add_option("--stop-after", o.stop_after, "end the pipeline after this pass")->type_name("PASS");
  app->add_flag("--strict-math", o.strict_math,
                "convolutions by their definition alone, without Winograd's transforms: slower, and exact to "
                "the rounding of "
                "one sum");
  app->add_flag("--locations", o.locations, "print the .nn place of every operation with the IR");
}

void add_thread_option(CLI::App* app, ModelOptions& o) {
  app->add_option("--threads", o.threads,
                  "threads to use; never changes a result (default: the processors there are)")
      ->check(from_to(1, 1024))
      ->type_name("N");
}

void add_eval_options(CLI::App* app, EvalOptions& o) {
  add_model_options(app, o.model);
  add_code_options(app, o.model);
  add_thread_option(app, o.model);
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
  app->add_flag("--raw", o.raw, "where the model has `ema`: the parameters themselves, not their averages");
  app->add_option("--split", o.split, "which part of the data (default: test, else val, else train)")
      ->type_name("NAME");
}

// The name that was probably meant, as "; did you mean 'X'?", or nothing.
std::string suggestion(const std::string& name, const std::vector<std::string>& candidates) {
  const std::string nearest = nearest_name(name, candidates);
  return nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest);
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

// What is wrong with the command line, in one sentence.
std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  const auto chosen = app.get_subcommands();
  const CLI::App& command = chosen.empty() ? app : *chosen.front();
  const std::string who = chosen.empty() ? "gradc" : "gradc " + command.get_name();
  if (dynamic_cast<const CLI::ExtrasError*>(&error)) {
    for (const std::string& extra : app.remaining(true)) {
      if (extra.rfind("-", 0) != 0 || extra == "-")
        return fmt::format("{}: one argument too many: '{}'", who, extra);
      const std::string name = extra.substr(0, extra.find('='));
      return fmt::format("{}: there is no option '{}'{}", who, name, suggestion(name, option_names(command)));
    }
  }
  return fmt::format("{}: {}", who, error.what());
}

std::string footer() {
  std::string text = "\nEnvironment:\n";
  for (const EnvironmentVariable& v : environment_variables())
    text += fmt::format("  {:<26}{}\n", v.name, v.doc);
  text +=
      "\nExit codes: 0 ok, 1 the run failed, 2 wrong command line, 3 the model file has errors, 4 the data "
      "has, 5 a check failed or the\n"
      "loss was not finite, 70 internal error, 130 interrupted.\n"
      "Results go to stdout, messages to stderr. `gradc COMMAND --help` lists a command's options.";
  return text;
}

}  // namespace

bool use_color() {
  const char* none = environment("NO_COLOR");
  return isatty(STDERR_FILENO) && !(none && *none);
}

int run_command_line(int argc, char** argv) {
  CLI::App app(
      "gradc: compiles a neural network, its loss, its optimizer and its data, written in one small file, "
      "into one native\n"
      "training step, and runs it.",
      "gradc");
  app.set_version_flag("--version,-V", std::string("gradc ") + GRADC_VERSION);
  app.require_subcommand(1);

  TrainOptions train;
  bool no_shuffle = false;
  CLI::App* train_command = app.add_subcommand("train", "train a model; prints its loss and accuracy");
  add_model_options(train_command, train.model);
  train_command
      ->add_option("--epochs", train.epochs, "rounds through the training data (default: the file's)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  train_command->add_option("--steps", train.steps, "stop after so many updates")
      ->check(from_to(0, kMany))
      ->type_name("N");
  train_command->add_option("--seed", train.seed, "of every random number (default: the file's)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  train_command->add_flag("--no-shuffle", no_shuffle, "take the training examples in their own order");
  train_command->add_option("--init-from", train.init_from, "start from these parameters")
      ->type_name("W.safetensors");
  train_command
      ->add_option("--resume", train.resume,
                   "go on with an interrupted run, bit for bit as if it had never stopped")
      ->type_name("W.safetensors");
  train_command->add_option("--save", train.save, "write the trained parameters here")
      ->type_name("W.safetensors");
  train_command->add_flag("--save-state", train.save_state,
                          "with --save: also what --resume needs (always when interrupted)");
  train_command
      ->add_option("--checkpoints", train.checkpoints,
                   "the folder for the file's `checkpoint` rule (default: MODEL.checkpoints)")
      ->type_name("DIR");
  train_command->add_option("--log-every", train.log_every, "report the loss every so many steps")
      ->check(from_to(1, kMany))
      ->type_name("N");
  train_command->add_option("--lr-factor", train.lr_factor, "multiply every learning rate by this")
      ->type_name("X");
  add_thread_option(train_command, train.model);
  add_code_options(train_command, train.model);

  EvalOptions eval;
  CLI::App* eval_command = app.add_subcommand("eval", "loss and metrics of trained parameters");
  add_eval_options(eval_command, eval);

  PredictOptions predict;
  CLI::App* predict_command =
      app.add_subcommand("predict", "what the model says of each example, one line an example");
  add_eval_options(predict_command, predict.eval);
  predict_command
      ->add_option("--output,-o", predict.output, "write NAME.npy or NAME.csv instead of lines on stdout")
      ->type_name("FILE");
  predict_command
      ->add_option(
          "--spread", predict.spread,
          "with several --weights or --samples: write the standard deviation of the predictions here")
      ->type_name("NAME.npy");
  add_list(predict_command, "--input", predict.inputs,
           "examples from a NumPy file instead of the data (repeatable, with the input's name)")
      ->type_name("[NAME=]FILE.npy");
  predict_command->add_option("--rows", predict.rows, "the first so many examples only")
      ->check(from_to(1, kMany))
      ->type_name("N");

  DumpOptions dump;
  CLI::App* dump_command = app.add_subcommand("dump", "print the model at a stage of its compilation");
  add_model_options(dump_command, dump.model);
  dump_command
      ->add_option("--stage", dump.stage,
                   "ast (syntax tree), ir (tensor IR as written), grad (with gradients and updates), opt "
                   "(optimised), loops (loop IR), "
                   "llvm, asm")
      ->capture_default_str()
      ->type_name("STAGE");
  dump_command->add_option("--function", dump.function, "one function alone, for example train_step")
      ->type_name("NAME");
  add_code_options(dump_command, dump.model);

  CheckOptions check;
  CLI::App* check_command = app.add_subcommand(
      "check", "compare native code with the double-precision interpreter and with central differences");
  add_model_options(check_command, check.model);
  check_command->add_option("--seed", check.seed, "of every random number (default: 1)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  check_command->add_option("--batch", check.batch, "compile for batches of this size (default: the file's)")
      ->check(from_to(1, 1 << 20))
      ->type_name("N");
  check_command
      ->add_option("--break-gradient", check.break_gradient,
                   "first make this operator's gradient wrong by 1 %: the check must fail")
      ->type_name("OP");
  add_code_options(check_command, check.model);

  BenchOptions bench;
  CLI::App* bench_command = app.add_subcommand(
      "bench",
      "time a training step on one made-up batch, kernel by kernel, against what the machine can do");
  add_model_options(bench_command, bench.model);
  bench_command->add_option("--seconds", bench.seconds, "how long to measure")
      ->check(CLI::Range(0.01, 3600.0))
      ->capture_default_str()
      ->type_name("S");
  bench_command->add_option("--steps", bench.steps, "measure so many steps instead")
      ->check(from_to(1, kMany))
      ->type_name("N");
  bench_command->add_option("--trace", bench.trace, "write ten steps as a Chrome trace")
      ->type_name("OUT.json");
  bench_command->add_flag("--ablate", bench.ablate, "then leave each optional pass out and compare");
  bench_command->add_flag("--all", bench.all, "show every kernel with all it computes");
  add_thread_option(bench_command, bench.model);
  add_code_options(bench_command, bench.model);

  PlanOptions plan;
  CLI::App* plan_command =
      app.add_subcommand("plan", "a model's memory, arithmetic and traffic, exactly, before anything runs");
  add_model_options(plan_command, plan.model);
  plan_command->add_option("--batch", plan.batch, "plan for batches of this size (default: the file's)")
      ->check(from_to(1, 65536))
      ->type_name("N");
  add_thread_option(plan_command, plan.model);
  add_code_options(plan_command, plan.model);

  AverageOptions average;
  CLI::App* average_command = app.add_subcommand("average", "the mean of several files of weights");
  average_command->add_option("WEIGHTS", average.weights, "files that gradc train or PyTorch wrote")
      ->required()
      ->type_name("A.safetensors B.safetensors ...");
  average_command->add_option("--output,-o", average.output, "where the mean goes")
      ->required()
      ->type_name("W.safetensors");

  bool passes_json = false;
  CLI::App* passes_command = app.add_subcommand("passes", "list the compiler's passes in their order");
  passes_command->add_flag("--json", passes_json, "as JSON, one object a line");

  CacheOptions cache;
  CLI::App* cache_command =
      app.add_subcommand("cache", "say where compiled objects are kept, how many and how large");
  cache_command->add_flag("--clear", cache.clear, "remove them");
  cache_command->add_flag("--json", cache.json, "as JSON, one object a line");

  app.footer(footer());  // after the commands were made, which would inherit it

  // CLI11 reports an unknown command only as an argument it did not expect.
  std::vector<std::string> commands;
  for (const CLI::App* command : app.get_subcommands({})) commands.push_back(command->get_name());
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word.rfind("-", 0) == 0) continue;
    if (std::find(commands.begin(), commands.end(), word) == commands.end()) {
      const bool is_file = word.size() > 3 && word.substr(word.size() - 3) == ".nn";
      fmt::print(stderr, "gradc: there is no command '{}'{}\nThe commands are: {}. See gradc --help.\n", word,
                 is_file ? fmt::format("; did you mean 'gradc train {}'?", word) : suggestion(word, commands),
                 fmt::join(commands, ", "));
      return kExitUsage;
    }
    break;
  }

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {  // --help and --version
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    if (argc <= 1) {
      fmt::print(stderr, "{}", app.help());
    } else {
      const auto chosen = app.get_subcommands();
      fmt::print(stderr, "{}\nSee gradc {}--help.\n", explain(app, error),
                 chosen.empty() ? "" : chosen.front()->get_name() + " ");
    }
    return kExitUsage;
  }
  train.shuffle = !no_shuffle;
  const bool json = (*train_command && train.model.json) || (*eval_command && eval.model.json) ||
                    (*dump_command && dump.model.json) || (*predict_command && predict.eval.model.json) ||
                    (*check_command && check.model.json) || (*bench_command && bench.model.json) ||
                    (*plan_command && plan.model.json);
  try {
    if (*train_command) return run_train(train);
    if (*eval_command) return run_eval(eval);
    if (*predict_command) return run_predict(predict);
    if (*dump_command) return run_dump(dump);
    if (*check_command) return run_check(check);
    if (*bench_command) return run_bench(bench);
    if (*plan_command) return run_plan(plan);
    if (*average_command) return run_average(average);
    if (*passes_command) return run_passes(passes_json);
    return run_cache(cache);
  } catch (const ModelError& error) {
    if (!json) throw;
    fmt::print("{}", error.json);
    return kExitModelError;
  }
}

}  // namespace gradc::driver
