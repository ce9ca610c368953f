// Parses the command line with CLI11 and calls the command it names; knows nothing of what commands do.
#include "cli/command_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>

#include "cli/options.h"
#include "include/gradc/version.h"
#include "standalone/options.h"
#include "support/environment.h"

namespace gradc::cli {

namespace {

using standalone::add_list;
using standalone::add_thread_option;
using standalone::from_to;
using standalone::kMany;
using standalone::number_from_to;

void add_model_options(CLI::App* app, ModelOptions& o) {
  app->add_option("FILE", o.file, "the model file (*.nn)")->required()->type_name("");
  add_list(app, "--set", o.settings, "give one of the file's `set` names another value (repeatable)")
      ->type_name("NAME=VALUE");
  app->add_flag("--json", o.json, "results on stdout as JSON, one object a line");
}

void add_pass_options(CLI::App* app, ModelOptions& o) {
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
  app->add_option("--mem-limit", o.mem_limit,
                  "memory for parameters, state and working values at most, as 100MB or 2GiB: backward "
                  "computes again what is too large to keep, or batches are taken in pieces; `gradc plan` "
                  "says what is needed")
      ->transform(standalone::size_in_bytes())
      ->type_name("SIZE");
  app->add_flag("--locations", o.locations, "print the .nn place of every operation with the IR");
}

void add_code_options(CLI::App* app, ModelOptions& o) {
  app->add_option("--target", o.target,
                  "compile for this processor: native, x86-64-v2, x86-64-v3, x86-64-v4, aarch64")
      ->type_name("NAME");
  add_pass_options(app, o);
}

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

}  // namespace

namespace {

bool color_on(int file) {
  const char* none = environment("NO_COLOR");
  return isatty(file) && !(none && *none);
}

void add_color_option(CLI::App* app, std::string& color) {
  app->add_option("--color", color, "auto (on a terminal, unless NO_COLOR is set), always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str()
      ->type_name("WHEN");
}

CLI::App* add_recipe_command(CLI::App& app, RecipeOptions& o) {
  CLI::App* c = app.add_subcommand(
      "recipe",
      "find learning rate and weight decay of a new model, step by step, and compare every run on one page:\n"
      "1 initial loss, 2 overfit a few batches, 3 learning rates, 4 coarse search, 5 refined search, 6 look "
      "at\n"
      "the curves, 7 refine again. Finished trials are kept in the folder and not run again.");
  add_model_options(c, o.model);
  c->add_option("--steps", o.steps, "the steps to make, as 1-4 or 3,5")
      ->capture_default_str()
      ->type_name("LIST");
  c->add_option("--out,-o", o.folder, "the folder of trials and the page (default: MODEL.recipe)")
      ->type_name("DIR");
  c->add_option("--seed", o.seed, "of every random number (default: the file's)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  c->add_option(
       "--objective", o.objective,
       "what is searched for on the part val: loss, a metric's name, or as 'min error' (default: the\n"
       "first accuracy, else the loss)")
      ->type_name("NAME");
  c->add_flag("--keep-going", o.keep_going, "search although step 1, 2 or 3 failed");
  c->add_flag("--schedule", o.schedule, "search with the file's schedule, not with constant rates");
  c->add_option("--overfit-batches", o.overfit_batches, "steps 1 and 2: batches")
      ->check(from_to(1, kMany))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--overfit-epochs", o.overfit_epochs, "step 2: rounds through them at most")
      ->check(from_to(1, kMany))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--overfit-accuracy", o.overfit_accuracy, "step 2: the share that must be right")
      ->check(number_from_to(0, 1))
      ->capture_default_str()
      ->type_name("X");
  c->add_option("--rates", o.rates,
                "step 3: learning rates, beside the file's (default: 0.1,0.01,0.001,0.0001)")
      ->delimiter(',')
      ->check(number_from_to(-HUGE_VAL, HUGE_VAL))
      ->type_name("X,X,...");
  c->add_option("--rate-updates", o.rate_updates, "step 3: updates with each")
      ->check(from_to(10, kMany))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--lr-range", o.lr_range, "step 4: rates between these (default: around those of step 3)")
      ->delimiter(',')
      ->check(number_from_to(-HUGE_VAL, HUGE_VAL))
      ->type_name("LOW,HIGH");
  c->add_option("--weight-decay", o.decays, "step 4: one of these (default: 0.0001,1e-05,0)")
      ->delimiter(',')
      ->check(number_from_to(-HUGE_VAL, HUGE_VAL))
      ->type_name("X,X,...");
  c->add_option("--trials", o.trials, "step 4: trials, at random on a logarithmic scale")
      ->check(from_to(1, 100000))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--epochs", o.epochs, "step 4: epochs of a trial")
      ->check(from_to(1, kMany))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--refine-trials", o.refine_trials, "steps 5 and 7: trials around the best one")
      ->check(from_to(1, 100000))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--refine-epochs", o.refine_epochs, "steps 5 and 7: epochs of a trial")
      ->check(from_to(1, kMany))
      ->capture_default_str()
      ->type_name("N");
  c->add_option("--grid", o.grid,
                "instead of random trials: so many rates at equal distances, each with every weight decay")
      ->check(from_to(1, 1000))
      ->type_name("N");
  c->add_option("--rounds", o.rounds, "step 7: times to refine again, each in half the range of the last")
      ->check(from_to(1, 100))
      ->capture_default_str()
      ->type_name("N");
  add_thread_option(c, o.model.threads);
  add_code_options(c, o.model);
  return c;
}

}  // namespace

bool use_color() { return color_on(STDERR_FILENO); }

bool use_color(const std::string& when) {
  return when == "always" || (when == "auto" && color_on(STDOUT_FILENO));
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
  CLI::App* train_command = app.add_subcommand("train", "train a model; prints its loss and accuracy");
  add_model_options(train_command, train.model);
  standalone::add_train_options(train_command, train.run);
  add_thread_option(train_command, train.model.threads);
  add_code_options(train_command, train.model);

  EvalOptions eval;
  CLI::App* eval_command = app.add_subcommand("eval", "loss and metrics of trained parameters");
  add_eval_options(eval_command, eval);

  PredictOptions predict;
  CLI::App* predict_command =
      app.add_subcommand("predict", "what the model says of each example, one line an example");
  add_eval_options(predict_command, predict.eval);
  standalone::add_predict_options(predict_command, predict.run);
  predict_command
      ->add_option(
          "--spread", predict.run.spread,
          "with several --weights or --samples: write the standard deviation of the predictions here")
      ->type_name("NAME.npy");
  add_list(predict_command, "--input", predict.inputs,
           "examples from a NumPy file instead of the data (repeatable, with the input's name)")
      ->type_name("[NAME=]FILE.npy");

  SampleOptions sample;
  CLI::App* sample_command = app.add_subcommand("sample", standalone::kSampleDoc);
  add_model_options(sample_command, sample.eval.model);
  add_list(sample_command, "--weights,--init-from", sample.eval.weights,
           "parameters, as gradc train --save wrote them, with the vocabulary")
      ->required()
      ->expected(1)
      ->type_name("FILE");
  standalone::add_sample_options(sample_command, sample.run);
  sample_command->add_flag("--raw", sample.eval.raw,
                           "where the model has `ema`: the parameters themselves, not their averages");
  add_code_options(sample_command, sample.eval.model);
  add_thread_option(sample_command, sample.eval.model.threads);

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
  dump_command->add_option("--after", dump.after, "instead of a stage: what is there after this pass")
      ->type_name("PASS");
  dump_command->add_option("--diff", dump.diff, "what this pass changes, as a diff")->type_name("PASS");
  dump_command
      ->add_option("--format", dump.format,
                   "text; json (with every operation as data); dot (a graph for Graphviz); html (one page "
                   "with source, every stage and pass, assembly and memory, to click through)")
      ->capture_default_str()
      ->type_name("FORMAT");
  add_color_option(dump_command, dump.color);
  dump_command->add_option("--output,-o", dump.output, "the file to write (default: stdout)")
      ->type_name("FILE");
  add_code_options(dump_command, dump.model);

  OptOptions opt;
  CLI::App* opt_command = app.add_subcommand(
      "opt", "run passes on IR as text: reads tensor IR, writes what the passes make of it");
  opt_command->add_option("FILE", opt.file, "tensor IR, as gradc dump prints it; - for standard input")
      ->required()
      ->type_name("");
  opt_command
      ->add_option("--pass,--passes", opt.passes,
                   "the passes in order, by commas or repeated (none: read, verify and print)")
      ->delimiter(',')
      ->type_name("PASS");
  opt_command->add_option("--output,-o", opt.output, "the file to write (default: stdout)")
      ->type_name("FILE");
  opt_command->add_option("--batch", opt.batch, "examples a batch, for the passes that make loop IR")
      ->check(from_to(1, 1 << 20))
      ->capture_default_str()
      ->type_name("N");
  opt_command->add_option("--target", opt.target, "the processor, for those passes")->type_name("NAME");
  opt_command->add_flag("--locations", opt.locations, "print the .nn place of every operation");
  opt_command->add_flag("--json", opt.json, "the result as one JSON object with every operation as data");

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
  check_command->add_flag("--bisect-passes", check.bisect_passes,
                          "find the pass whose result is the first that disagrees with the interpreter");
  check_command
      ->add_option(
          "--break-pass", check.break_pass,
          "first make the result of this pass, or of code_generation, wrong: --bisect-passes must name it")
      ->type_name("PASS");
  add_code_options(check_command, check.model);

  ReduceOptions reduce;
  CLI::App* reduce_command = app.add_subcommand(
      "reduce", "make a model file or IR that shows a fault smaller, as long as it still shows it");
  reduce_command->add_option("FILE", reduce.file, "a model file or tensor IR; it is left as it is")
      ->required()
      ->type_name("");
  reduce_command
      ->add_option(
          "COMMAND", reduce.command,
          "behind --: what is run on each candidate; {} is the candidate's file (else it comes last), "
          "exit code 0 means that it still shows the fault")
      ->type_name("");
  reduce_command->add_flag("--check", reduce.check, "instead of a command: gradc check fails");
  reduce_command->add_flag("--crash", reduce.crash,
                           "instead: compiling ends with an internal error or a signal");
  reduce_command->add_option("--error", reduce.error, "instead: the file has this error, for example E0203")
      ->type_name("CODE");
  add_list(reduce_command, "--with", reduce.with,
           "a further argument of the gradc command that --check, --crash or --error runs, as "
           "--with=--target=x86-64-v2 (repeatable)")
      ->type_name("ARGUMENT");
  reduce_command
      ->add_option("--output,-o", reduce.output, "the file to write (default: NAME.reduced.nn or .ir)")
      ->type_name("FILE");
  reduce_command
      ->add_option("--timeout", reduce.seconds, "seconds one run may take; longer is not interesting")
      ->check(number_from_to(0.01, 86400))
      ->capture_default_str()
      ->type_name("S");
  reduce_command->add_flag("--json", reduce.json, "the result as one JSON object");

  CompileOptions compile;
  CLI::App* compile_command = app.add_subcommand(
      "compile",
      "make a program or a library of its own, which trains, evaluates and predicts without gradc");
  add_model_options(compile_command, compile.model);
  compile_command->add_option("--output,-o", compile.output, "the file to write (default: the model's name)")
      ->type_name("FILE");
  compile_command
      ->add_option("--emit", compile.emit,
                   "exe, obj, lib (static, or shared if FILE ends in .so), header (C), c-api (lib and "
                   "header), llvm, asm")
      ->capture_default_str()
      ->type_name("KIND");
  compile_command
      ->add_option(
          "--target", compile.targets,
          "native, x86-64-v2, x86-64-v3, x86-64-v4, aarch64; several by commas, of which the best one is "
          "chosen at start (default: every one of this machine's architecture)")
      ->delimiter(',')
      ->type_name("NAMES");
  compile_command
      ->add_option("--cpu", compile.cpu,
                   "this processor alone, by LLVM's name, for example znver4, neoverse-n1")
      ->type_name("NAME");
  compile_command->add_option("--weights", compile.weights, "embed these trained parameters (safetensors)")
      ->type_name("FILE");
  compile_command->add_flag("--infer", compile.infer, "leave training out");
  compile_command->add_flag("--static", compile.fully_static, "need not even the C library where it runs");
  compile_command->add_flag("--strip", compile.strip,
                            "without symbols, line numbers, the model file's text and this machine's paths");
  add_pass_options(compile_command, compile.model);

  BenchOptions bench;
  CLI::App* bench_command = app.add_subcommand(
      "bench",
      "time a training step on one made-up batch, kernel by kernel, against what the machine can do");
  add_model_options(bench_command, bench.model);
  bench_command->add_option("--seconds", bench.seconds, "how long to measure")
      ->check(number_from_to(0.01, 3600))
      ->capture_default_str()
      ->type_name("S");
  bench_command->add_option("--steps", bench.steps, "measure so many steps instead")
      ->check(from_to(1, kMany))
      ->type_name("N");
  bench_command->add_option("--trace", bench.trace, "write ten steps as a Chrome trace")
      ->type_name("OUT.json");
  bench_command->add_flag("--ablate", bench.ablate, "then leave each optional pass out and compare");
  bench_command->add_flag("--all", bench.all, "show every kernel with all it computes");
  add_thread_option(bench_command, bench.model.threads);
  add_code_options(bench_command, bench.model);

  PlanOptions plan;
  CLI::App* plan_command =
      app.add_subcommand("plan", "a model's memory, arithmetic and traffic, exactly, before anything runs");
  add_model_options(plan_command, plan.model);
  plan_command->add_option("--batch", plan.batch, "plan for batches of this size (default: the file's)")
      ->check(from_to(1, 65536))
      ->type_name("N");
  add_thread_option(plan_command, plan.model.threads);
  add_code_options(plan_command, plan.model);

  LsuvOptions lsuv;
  CLI::App* lsuv_command = app.add_subcommand(
      "lsuv", "first values from the data: scale each layer so that its products vary by 1 on one batch");
  add_model_options(lsuv_command, lsuv.model);
  lsuv_command->add_option("--save", lsuv.save, "write the parameters here, for gradc train --init-from")
      ->required()
      ->type_name("W.safetensors");
  add_list(lsuv_command, "--except", lsuv.except,
           "leave the parameters as they are whose names match, such as a small last layer (repeatable)")
      ->type_name("PATTERN");
  lsuv_command->add_option("--seed", lsuv.seed, "of the values that are scaled (default: the file's)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  lsuv_command->add_option("--rows", lsuv.rows, "examples in the batch (default: the file's batch)")
      ->check(from_to(2, 65536))
      ->type_name("N");
  add_thread_option(lsuv_command, lsuv.model.threads);
  add_code_options(lsuv_command, lsuv.model);

  StatsOptions stats;
  CLI::App* stats_command = app.add_subcommand(
      "stats",
      "values of each layer and their gradients on training batches: mean, standard deviation, histogram,\n"
      "dead units (exactly 0 for every example: a ReLU that lets nothing through) and saturated values "
      "(within\n"
      "2.5 % of an end of the function's range, |tanh| > 0.95, where its slope is below a tenth)");
  add_model_options(stats_command, stats.model);
  stats_command
      ->add_option("--weights,--init-from", stats.weights,
                   "look at these parameters (safetensors) instead of the initialisers'")
      ->type_name("FILE");
  stats_command->add_option("--batches", stats.batches, "training batches to look at, or all that there are")
      ->check(from_to(1, kMany))
      ->capture_default_str()
      ->type_name("N");
  add_list(stats_command, "--layers", stats.layers,
           "only layers whose names match, where * is any text (repeatable)")
      ->type_name("PATTERN");
  stats_command
      ->add_option("--seed", stats.seed, "of first values, order and random layers (default: the file's)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  stats_command->add_option("--output,-o", stats.output, "write a page with charts, for any browser")
      ->type_name("PAGE.svg");
  add_thread_option(stats_command, stats.model.threads);
  add_code_options(stats_command, stats.model);

  RecipeOptions recipe;
  CLI::App* recipe_command = add_recipe_command(app, recipe);

  OpsOptions ops;
  CLI::App* ops_command = app.add_subcommand(
      "ops",
      "list the layers, losses, optimizers, schedules and functions a model file can use, or explain one");
  ops_command->add_option("NAME", ops.name, "one of them, with formula, defaults, source and an example")
      ->type_name("");
  ops_command->add_flag("--json", ops.json, "as JSON, one object a line");

  ExplainOptions explain;
  CLI::App* explain_command =
      app.add_subcommand("explain", "what an error code means, with an example and how to mend it");
  explain_command->add_option("CODE", explain.code, "as the message has it, for example E0203")
      ->type_name("");
  explain_command->add_flag("--list", explain.list, "every code, a line each");
  explain_command->add_flag("--json", explain.json, "as JSON, one object a line");
  add_color_option(explain_command, explain.color);

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

  app.footer(standalone::footer("gradc"));  // after the commands were made, which would inherit it

  if (const std::optional<int> code = standalone::parse(app, argc, argv)) return *code;
  const bool json = (*train_command && train.model.json) || (*eval_command && eval.model.json) ||
                    (*dump_command && dump.model.json) || (*predict_command && predict.eval.model.json) ||
                    (*check_command && check.model.json) || (*bench_command && bench.model.json) ||
                    (*plan_command && plan.model.json) || (*compile_command && compile.model.json) ||
                    (*lsuv_command && lsuv.model.json) || (*stats_command && stats.model.json) ||
                    (*sample_command && sample.eval.model.json) || (*recipe_command && recipe.model.json);
  try {
    if (*compile_command) return run_compile(compile);
    if (*train_command) return run_train(train);
    if (*eval_command) return run_eval(eval);
    if (*predict_command) return run_predict(predict);
    if (*sample_command) return run_sample(sample);
    if (*dump_command) return run_dump(dump);
    if (*opt_command) return run_opt(opt);
    if (*check_command) return run_check(check);
    if (*reduce_command) return run_reduce(reduce);
    if (*bench_command) return run_bench(bench);
    if (*plan_command) return run_plan(plan);
    if (*lsuv_command) return run_lsuv(lsuv);
    if (*stats_command) return run_stats(stats);
    if (*recipe_command) return run_recipe(recipe);
    if (*ops_command) return run_ops(ops);
    if (*explain_command) return run_explain(explain);
    if (*average_command) return run_average(average);
    if (*passes_command) return run_passes(passes_json);
    return run_cache(cache);
  } catch (const ModelError& error) {
    if (!json) throw;
    fmt::print("{}", error.json);
    return kExitModelError;
  }
}

}  // namespace gradc::cli
