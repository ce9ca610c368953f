// Parses the command line with CLI11 and calls the command it names; knows nothing of what commands do.
#include "cli/command_line.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/command.h"
#include "include/gradc/version.h"

namespace gradc::cli {

namespace {

// The commands, in the order of --help.
constexpr Command (*kCommands[])(CLI::App&) = {add_train,   add_eval,    add_predict, add_sample,  add_dump,
                                               add_opt,     add_check,   add_reduce,  add_compile, add_bench,
                                               add_plan,    add_lsuv,    add_stats,   add_recipe,  add_ops,
                                               add_explain, add_average, add_passes,  add_machine, add_cache};

}  // namespace

int run_command_line(int argc, char** argv) {
  CLI::App app(
      "gradc: compiles a neural network, its loss, its optimizer and its data, written in one small file, "
      "into one native\n"
      "training step, and runs it.",
      "gradc");
  app.set_version_flag("--version,-V", std::string("gradc ") + GRADC_VERSION);
  app.require_subcommand(1);

  std::vector<Command> commands;
  for (const auto add : kCommands) commands.push_back(add(app));
  app.footer(standalone::footer("gradc"));  // after the commands are added, which would inherit it

  if (const std::optional<int> code = standalone::parse(app, argc, argv)) return *code;
  const Command& chosen =
      *std::find_if(commands.begin(), commands.end(), [](const Command& c) { return c.app->parsed(); });
  try {
    return chosen.run();
  } catch (const ModelError& error) {
    if (!chosen.json || !*chosen.json) throw;
    fmt::print("{}", error.json);
    return kExitModelError;
  }
}

}  // namespace gradc::cli
