// `gradc check`: its options; calls check_model() or bisect_passes() and prints the report. Knows no operator.
#include <fmt/format.h>

#include "cli/check/check.h"
#include "cli/command.h"

namespace gradc::cli {

namespace {

struct CheckOptions {
  ModelOptions model;
  std::optional<int64_t> seed, batch;
  std::string break_gradient;
  bool bisect_passes = false;
  std::string break_pass;
};

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

}  // namespace

Command add_check(CLI::App& app) {
  const auto o = std::make_shared<CheckOptions>();
  CLI::App* c = app.add_subcommand(
      "check", "compare native code with the double-precision interpreter and with central differences");
  add_model_options(c, o->model);
  c->add_option("--seed", o->seed, "of every random number (default: 1)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  c->add_option("--batch", o->batch, "compile for batches of this size (default: the file's)")
      ->check(from_to(1, 1 << 20))
      ->type_name("N");
  c->add_option("--break-gradient", o->break_gradient,
                "first make this operator's gradient wrong by 1 %: the check must fail")
      ->type_name("OP");
  c->add_flag("--bisect-passes", o->bisect_passes,
              "find the pass whose result is the first that disagrees with the interpreter");
  c->add_option(
       "--break-pass", o->break_pass,
       "first make the result of this pass, or of code_generation, wrong: --bisect-passes must name it")
      ->type_name("PASS");
  add_code_options(c, o->model);
  return {c, [o] { return run_check(*o); }, &o->model.json};
}

}  // namespace gradc::cli
