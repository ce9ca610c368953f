// A command of the tool, and the options that several of them share. A command is one file with its
// options, its `add_NAME`, and a row in command_line.cpp.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "compiler/compile.h"
#include "standalone/options.h"

namespace gradc::cli {

using namespace compiler;
using standalone::add_list;
using standalone::add_thread_option;
using standalone::from_to;
using standalone::kMany;
using standalone::number_from_to;

// A subcommand; `run` owns its options.
struct Command {
  CLI::App* app = nullptr;
  std::function<int()> run;  // returns an exit code
  const bool* json =
      nullptr;  // of commands that compile a model: whether its errors are to be JSON on stdout
};

// Options of every command that takes a model file.
struct ModelOptions {
  std::string file;
  std::vector<std::string> settings;  // name=value
  std::string target = "native";
  int threads = 0;  // 0: GRADC_THREADS, OMP_NUM_THREADS or the processors
  bool json = false;
  std::vector<std::string> print_after, disable_pass;
  std::string stop_after;
  bool locations = false;
  uint64_t mem_limit = 0;    // bytes of a session at most; 0: no limit
  bool strict_math = false;  // convolutions by their definition, no Winograd
};

// FILE, --set and --json.
void add_model_options(CLI::App* app, ModelOptions& o);
// Options of the pass pipeline, and with them --target.
void add_pass_options(CLI::App* app, ModelOptions& o);
void add_code_options(CLI::App* app, ModelOptions& o);
void add_color_option(CLI::App* app, std::string& color);

// The compiler's request for these options, for batches of `batch` examples (0: the file's). Reports on stderr what
// --mem-limit changed. Throws RunError (exit 2) for a --set without '=' or a limit out of reach.
CompileRequest compile_request(const ModelOptions& options, int64_t batch = 0);

// Whether text on stderr may have colour.
bool use_color();
// Whether text on stdout may have colour; `when` is "always", "never" or "auto" (a terminal, and no
// NO_COLOR).
bool use_color(const std::string& when);

// Adds a command to the tool. The order of the table in command_line.cpp is that of --help.
Command add_train(CLI::App& app);
Command add_eval(CLI::App& app);
Command add_predict(CLI::App& app);
Command add_sample(CLI::App& app);
Command add_dump(CLI::App& app);
Command add_opt(CLI::App& app);
Command add_check(CLI::App& app);
Command add_reduce(CLI::App& app);
Command add_compile(CLI::App& app);
Command add_bench(CLI::App& app);
Command add_plan(CLI::App& app);
Command add_lsuv(CLI::App& app);
Command add_stats(CLI::App& app);
Command add_recipe(CLI::App& app);
Command add_ops(CLI::App& app);
Command add_explain(CLI::App& app);
Command add_average(CLI::App& app);
Command add_passes(CLI::App& app);
Command add_machine(CLI::App& app);
Command add_cache(CLI::App& app);

}  // namespace gradc::cli
