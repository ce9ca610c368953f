// What the command line said, as plain records; knows nothing of how it is parsed or obeyed.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "compiler/compile.h"
#include "runtime/execution/predict.h"
#include "runtime/execution/sample.h"
#include "runtime/training/train.h"

namespace gradc::cli {

using namespace compiler;

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

struct TrainOptions {
  ModelOptions model;
  runtime::TrainOptions run;
};

struct EvalOptions {
  ModelOptions model;
  std::vector<std::string> weights;  // safetensors; several: an ensemble
  int64_t samples = 1;          // predictions of each, with random layers drawing anew (Monte-Carlo dropout)
  std::string split;            // empty: test, else val, else train
  bool raw = false;             // the parameters themselves where the model has averages of them
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

struct DumpOptions {
  ModelOptions model;
  std::string stage = "ir";
  std::string function;  // one function or program alone
  std::string after;     // a pass: what is there after it, instead of a stage
  std::string diff;      // a pass: what it changes
  std::string format = "text";
  std::string color = "auto";
  std::string output;  // empty: stdout
};

struct OptOptions {
  std::string file;                 // "-": standard input
  std::vector<std::string> passes;  // in order
  std::string output;               // empty: stdout
  std::string target = "native";
  int64_t batch = 32;
  bool locations = false, json = false;
};

struct CheckOptions {
  ModelOptions model;
  std::optional<int64_t> seed, batch;
  std::string break_gradient;
  bool bisect_passes = false;
  std::string break_pass;
};

struct ReduceOptions {
  std::string file;                  // a model file or IR
  std::vector<std::string> command;  // exit code 0: still interesting
  bool check = false, crash = false;
  std::string error;              // a code
  std::vector<std::string> with;  // further arguments of the gradc command that these three run
  std::string output;             // empty: beside the file
  double seconds = 60;            // for one run of the command
  bool json = false;
};

struct BenchOptions {
  ModelOptions model;
  double seconds = 2;  // of measuring, and half as long again for the kernels
  int64_t steps = 0;   // measured; 0: as many as the seconds allow
  std::string trace;   // Chrome trace of some steps
  bool ablate = false;
  bool all = false;  // every kernel, in full
};

struct CacheOptions {
  bool clear = false;
  bool json = false;
};

struct LsuvOptions {
  ModelOptions model;
  std::string save;                 // safetensors
  std::vector<std::string> except;  // patterns of parameters that stay as they are
  std::optional<int64_t> seed, rows;
};

struct StatsOptions {
  ModelOptions model;
  std::string weights;              // safetensors; empty: the initialisers
  std::vector<std::string> layers;  // patterns; empty: all
  int64_t batches = 10;
  std::optional<int64_t> seed;
  std::string output;  // *.svg
};

// `gradc recipe`; docs/recipe.md says what the steps do with these.
struct RecipeOptions {
  ModelOptions model;
  std::string steps = "1-6";
  std::string folder;  // empty: the model's name and ".recipe"
  std::optional<uint64_t> seed;
  std::string objective;  // "accuracy", "min error"; empty: the first accuracy, else the loss
  bool keep_going = false;
  bool schedule = false;  // the file's, in searches
  int64_t overfit_batches = 10, overfit_epochs = 200;
  double overfit_accuracy = 1;
  std::vector<double> rates = {1e-1, 1e-2, 1e-3, 1e-4};
  int64_t rate_updates = 100;
  std::vector<double> lr_range;  // two: low and high; empty: from step 3
  std::vector<double> decays = {1e-4, 1e-5, 0};
  int64_t trials = 12, refine_trials = 6;
  int64_t epochs = 3, refine_epochs = 15;
  int64_t grid = 0;    // rates of a grid; 0: at random
  int64_t rounds = 1;  // of step 7
};

struct OpsOptions {
  std::string name;  // empty: everything, a line each
  bool json = false;
};

struct ExplainOptions {
  std::string code;  // of an error
  bool list = false, json = false;
  std::string color = "auto";
};

struct AverageOptions {
  std::vector<std::string> weights;
  std::string output;
};

struct PlanOptions {
  ModelOptions model;
  std::optional<int64_t> batch;
};

struct CompileOptions {
  ModelOptions model;  // `target` is not used
  std::string output;
  std::string emit = "exe";
  std::vector<std::string> targets;  // empty: every level of this machine's architecture
  std::string cpu;
  std::string weights;  // to embed
  bool infer = false;   // without training
  bool fully_static = false;
  bool strip = false;
};

// The compiler's request for these options, for batches of `batch` examples (0: the file's). Says on stderr
// what --mem-limit took. Throws RunError (exit 2) for a --set without '=' or a limit out of reach.
CompileRequest compile_request(const ModelOptions& options, int64_t batch = 0);

// The commands; each returns an exit code.
int run_compile(const CompileOptions& options);
int run_train(const TrainOptions& options);
int run_eval(const EvalOptions& options);
int run_predict(const PredictOptions& options);
int run_sample(const SampleOptions& options);
int run_dump(const DumpOptions& options);
int run_opt(const OptOptions& options);
int run_check(const CheckOptions& options);
int run_reduce(const ReduceOptions& options);
int run_bench(const BenchOptions& options);
int run_plan(const PlanOptions& options);
int run_lsuv(const LsuvOptions& options);
int run_stats(const StatsOptions& options);
int run_recipe(const RecipeOptions& options);
int run_ops(const OpsOptions& options);
int run_explain(const ExplainOptions& options);
int run_average(const AverageOptions& options);
int run_passes(bool json);
int run_cache(const CacheOptions& options);

}  // namespace gradc::cli
