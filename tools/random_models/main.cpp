// The command random_models: tries random models by number, reduces those that fail, and prints the commands that
// repeat them. docs/random_models.md lists the comparisons.
#include <fmt/format.h>

#include <chrono>
#include <fstream>
#include <iterator>

#include "cli/reduce/reduce.h"
#include "standalone/options.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "tools/random_models/generate.h"
#include "tools/random_models/process.h"

namespace gradc::random_models {

namespace {

struct Options {
  uint64_t seed = 1;
  uint64_t first = 0, count = 200, shard = 0, shards = 1;
  std::optional<uint64_t> model;
  std::string file, only, break_pass, break_gradient;
  uint64_t link_every = 25;
  double seconds = 60, reduce_seconds = 120;
  bool every = false, unmended = false, print = false, no_reduce = false, times = false, list = false;
};

std::string command_of(const Options& o, uint64_t number, const std::string& comparison) {
  return fmt::format("random_models --seed {} --model {}{}", o.seed, number,
                     comparison == "generate" ? "" : " --only " + comparison);
}

Trial trial_of(const Options& o, uint64_t number, const std::string& text, const std::string& only) {
  Trial trial{text, number, only};
  trial.every = o.every;
  trial.unmended = o.unmended;
  trial.break_pass = o.break_pass;
  trial.break_gradient = o.break_gradient;
  return trial;
}

bool links(const Options& o, uint64_t number) { return o.link_every > 0 && number % o.link_every == 0; }

std::string indented(const std::string& text) {
  std::string result = "    ";
  for (const char c : text) {
    result += c;
    if (c == '\n') result += "    ";
  }
  return result.substr(0, result.find_last_not_of(" \n") + 1);
}

// The smallest text that shows the same kind of finding in the same comparison.
void reduce(const Options& o, const Outcome& outcome, uint64_t number) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(o.reduce_seconds);
  const cli::Interesting interesting = [&](const std::string& text) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    const Outcome again = try_text(trial_of(o, number, text, outcome.comparison), o.seconds);
    return !again.invalid && again.finding && again.finding->kind == outcome.finding->kind;
  };
  const cli::Reduction reduced = cli::reduce_model(outcome.text, interesting, [](const std::string&) {});
  fmt::print("  the smallest model found that shows it ({} tries):\n{}\n", reduced.tries,
             indented(reduced.text));
  fmt::print("  written to a file, it is tried with: random_models --file FILE --model {} --only {}\n",
             number, outcome.comparison);
}

void report(const Options& o, const Outcome& outcome, uint64_t number) {
  fmt::print("\nFAIL: model {} of seed {}: {}: {}\n", number, o.seed, outcome.comparison,
             outcome.finding->what);
  for (const Comparison& c : comparisons(number))
    if (c.name == outcome.comparison) fmt::print("  {}: {}\n", c.name, c.doc);
  fmt::print("  repeated by: {}\n", command_of(o, number, outcome.comparison));
  if (outcome.text.empty()) return;
  fmt::print("  the model:\n{}\n", indented(outcome.text));
  if (!o.no_reduce) reduce(o, outcome, number);
  std::fflush(stdout);
}

int run_file(const Options& o) {
  std::ifstream in(o.file, std::ios::binary);
  if (!in) throw RunError(kExitUsage, fmt::format("random_models: cannot read '{}'", o.file));
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const Outcome outcome = try_text(trial_of(o, o.model.value_or(0), text, o.only), o.seconds);
  if (outcome.invalid) throw RunError(kExitModelError, "random_models: the model file has errors");
  if (outcome.finding)
    fmt::print("FAIL: {}: {}\n", outcome.comparison, outcome.finding->what);
  else
    fmt::print("PASS\n");
  return outcome.finding ? kExitCheckFailed : kExitOk;
}

int run_numbers(const Options& o) {
  const uint64_t first = o.model.value_or(o.first), count = o.model ? 1 : o.count;
  fmt::print("random models of seed {}, numbers {} to {}{}\n", o.seed, first, first + count - 1,
             o.shards > 1 ? fmt::format(", every {}th from {} on", o.shards, first + o.shard) : "");
  std::fflush(stdout);
  uint64_t tried = 0, failed = 0;
  std::map<std::string, double> seconds;
  std::map<std::string, uint64_t> known;
  for (uint64_t number = first + o.shard; number < first + count; number += o.shards) {
    Trial trial = trial_of(o, number, "", o.only);
    trial.links = links(o, number);
    const Outcome outcome = try_number(o.seed, trial, o.seconds);
    ++tried;
    for (const std::string& name : outcome.known) ++known[name];
    for (const auto& [comparison, s] : outcome.seconds) seconds[comparison] += s;
    if (tried % 25 == 0) {
      fmt::print("{} models tried\n", tried);
      std::fflush(stdout);
    }
    if (o.print) fmt::print("# model {}\n{}\n", number, outcome.text);
    if (outcome.finding) {
      ++failed;
      report(o, outcome, number);
    } else if (outcome.invalid) {
      throw InternalError(fmt::format("model {} of seed {} does not compile", number, o.seed));
    }
  }
  for (const auto& [name, times] : known) fmt::print("known, {} times: {}\n", times, name);
  if (o.times)
    for (const auto& [comparison, s] : seconds)
      fmt::print("{:>12}: {:.2f} s a model\n", comparison, s / static_cast<double>(tried));
  fmt::print("{}: {} of {} models\n", failed ? "FAIL" : "PASS", failed ? failed : tried, tried);
  return failed ? kExitCheckFailed : kExitOk;
}

int run(int argc, char** argv) {
  Options o;
  CLI::App app(
      "random_models: makes random models, and compares for each native code with the interpreter and "
      "central differences, threads, targets, passes, memory limits, text and executables",
      "random_models");
  app.add_option("--seed", o.seed, "of all random choices")->capture_default_str();
  app.add_option("--first", o.first, "the first model's number")->capture_default_str();
  app.add_option("--count", o.count, "how many")->capture_default_str();
  app.add_option("--shard", o.shard, "of several runs that share the numbers, this one's from 0");
  app.add_option("--shards", o.shards, "how many runs share them")->check(CLI::PositiveNumber);
  app.add_option("--model", o.model, "one model alone; with --file: the number that decides the variants");
  app.add_option("--file", o.file, "a model file instead of a random one");
  app.add_option("--only", o.only, "one comparison alone (--list names them)");
  app.add_option("--link-every", o.link_every, "link an executable of every such model; 0: of none")
      ->capture_default_str();
  app.add_option("--timeout", o.seconds, "seconds of processor time for one model")->capture_default_str();
  app.add_option("--reduce-timeout", o.reduce_seconds, "seconds for making one smaller")
      ->capture_default_str();
  app.add_flag("--every", o.every, "every comparison for every model, not only those whose turn it is");
  app.add_flag("--unmended", o.unmended, "known faults that are not yet mended are findings too");
  app.add_flag("--no-reduce", o.no_reduce, "leave models that fail as they are");
  app.add_option("--break-pass", o.break_pass,
                 "first make what this pass leaves wrong by 1 %: models must fail");
  app.add_option("--break-gradient", o.break_gradient,
                 "first make this operator's gradient wrong by 1 %: `check` must fail");
  app.add_flag("--print", o.print, "print every model");
  app.add_flag("--times", o.times, "print the time of each comparison at the end");
  app.add_flag("--list", o.list, "print the comparisons that --model's number meets");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (o.list) {
    for (const Comparison& c : comparisons(o.model.value_or(0))) fmt::print("{:12}  {}\n", c.name, c.doc);
    return kExitOk;
  }
  return o.file.empty() ? run_numbers(o) : run_file(o);
}

}  // namespace

}  // namespace gradc::random_models

int main(int argc, char** argv) {
  return gradc::standalone::run_process("random_models",
                                        [&] { return gradc::random_models::run(argc, argv); });
}
