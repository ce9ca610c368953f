// The command-line options that the tool and compiled executables share; knows no model files.
#pragma once
#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "runtime/execution/predict.h"
#include "runtime/execution/sample.h"
#include "runtime/training/train.h"

namespace gradc::standalone {

inline constexpr int64_t kMany = std::numeric_limits<int64_t>::max() / 4;

// An option given any number of times, one value each time.
CLI::Option* add_list(CLI::App* app, const std::string& name, std::vector<std::string>& values,
                      const std::string& doc);

// Checks of an option's text before CLI11 converts it: CLI11 accepts hexadecimal and octal numbers, wraps sizes and
// rounds values out of range. A number is written in decimal. The messages name the bounds. A whole
// number; `high` kMany: no upper bound in messages.
CLI::Validator from_to(int64_t low, int64_t high);
// A finite number; `high` infinity: no upper bound.
CLI::Validator number_from_to(double low, double high);
// A size as 500MB, 1.5GiB or 1kB (k, M, G, T; with i: powers of 1024), which becomes its bytes.
CLI::Validator size_in_bytes();

void add_thread_option(CLI::App* app, int& threads);

// Everything of `train` that does not concern the compiler.
void add_train_options(CLI::App* app, runtime::TrainOptions& options);

// The split of the data that `eval` and `predict` take.
void add_split_option(CLI::App* app, std::string& split);

// The inputs and outputs of `predict`, except the option that names the examples' files.
void add_predict_options(CLI::App* app, runtime::PredictOptions& options);

// Several views of each image, for `eval` and `predict`.
void add_view_options(CLI::App* app, bool& ten_crop, std::vector<int64_t>& scales);

// The options of `sample`, except the file of its parameters.
void add_sample_options(CLI::App* app, runtime::SampleOptions& options);
inline constexpr const char* kSampleDoc = "text that a model of characters makes, going on from a prompt";

// [NAME=]FILE.npy, as given, to files by input name ("": the only input).
std::map<std::string, std::string> input_files(const std::vector<std::string>& given);

// Environment variables and exit codes, for the end of --help.
std::string footer(const std::string& program, const std::vector<std::string>& variables = {});

// Parses; returns an exit code when the process is to end (help, or an error, which was reported).
// The commands' footers must have been set.
std::optional<int> parse(CLI::App& app, int argc, char** argv);

// Runs a process: turns what `run` throws into a message on stderr and an exit code, and fails when results could not
// be written to stdout.
int run_process(const char* program, const std::function<int()>& run);

}  // namespace gradc::standalone
