// Options that several commands share, and the compile request made from them.
#include "cli/command.h"

#include <fmt/format.h>
#include <unistd.h>

#include "cli/cache.h"
#include "compiler/memory.h"
#include "support/diagnostic.h"
#include "support/environment.h"

namespace gradc::cli {

namespace {

bool color_on(int file) {
  const char* none = environment("NO_COLOR");
  return isatty(file) && !(none && *none);
}

}  // namespace

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
  app->add_flag("--locations", o.locations, "print the .nn location of every operation with the IR");
}

void add_code_options(CLI::App* app, ModelOptions& o) {
  app->add_option("--target", o.target,
                  "compile for this processor: native, x86-64-v2, x86-64-v3, x86-64-v4, aarch64")
      ->type_name("NAME");
  add_pass_options(app, o);
}

void add_color_option(CLI::App* app, std::string& color) {
  app->add_option("--color", color, "auto (on a terminal, unless NO_COLOR is set), always or never")
      ->check(CLI::IsMember({"auto", "always", "never"}))
      ->capture_default_str()
      ->type_name("WHEN");
}

bool use_color() { return color_on(STDERR_FILENO); }

bool use_color(const std::string& when) {
  return when == "always" || (when == "auto" && color_on(STDOUT_FILENO));
}

CompileRequest compile_request(const ModelOptions& options, int64_t batch) {
  CompileRequest request;
  request.batch = batch;
  request.file = options.file;
  request.target = options.target;
  request.color = use_color();
  request.debug_info = environment_switch("GRADC_DEBUG_INFO");
  if (cache_is_on()) request.object_cache = default_cache_folder();
  for (const std::string& setting : options.settings) {
    const size_t equals = setting.find('=');
    if (equals == 0 || equals == std::string::npos)
      throw RunError(kExitUsage,
                     fmt::format("--set {}: expected name=value, for example --set width=32", setting));
    request.settings[setting.substr(0, equals)] = setting.substr(equals + 1);
  }
  request.passes.print_after = options.print_after;
  request.passes.disable = options.disable_pass;
  request.passes.stop_after = options.stop_after;
  request.passes.verify = environment_switch("GRADC_VERIFY")
                              .value_or(!options.print_after.empty() || !options.stop_after.empty());
  // It rejects plans that it cannot prove, sound or not: only for tests of passes.
  request.passes.prove_plans =
      environment_switch("GRADC_PROVE_PLANS").value_or(environment_switch("GRADC_VERIFY").value_or(false));
  request.passes.print_locations = options.locations;
  request.passes.strict_math = options.strict_math;
  request.passes.print = [](const std::string& text) { fmt::print(stderr, "{}", text); };
  if (options.mem_limit > 0) {
    const std::string how = fit_memory(request, options.threads, static_cast<int64_t>(options.mem_limit));
    if (!how.empty()) fmt::print(stderr, "gradc: memory: {}\n", how);
  }
  return request;
}

}  // namespace gradc::cli
