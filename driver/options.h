// What the command line said, as plain records; knows nothing of how it is parsed or obeyed.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "driver/compile.h"

namespace gradc::driver {

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
  bool strict_math = false;  // convolutions by their definition, no Winograd
};

struct TrainOptions {
  ModelOptions model;
  std::optional<int64_t> steps, epochs, seed;
  bool shuffle = true;
  std::string init_from, resume, save, checkpoints;
  bool save_state = false;
  int64_t log_every = 0;  // steps; 0: about once a second on a terminal, each epoch elsewhere
  std::optional<double> lr_factor;
};

struct EvalOptions {
  ModelOptions model;
  std::vector<std::string> weights;  // safetensors; several: an ensemble
  int64_t samples = 1;  // predictions of each, with random layers drawing anew (Monte-Carlo dropout)
  std::string split;    // empty: test, else val, else train
  bool raw = false;     // the parameters themselves where the model has averages of them
};

struct PredictOptions {
  EvalOptions eval;
  std::vector<std::string> inputs;  // [name=]file.npy; empty: a split of the data
  std::string output;               // name.npy or name.csv; empty: stdout
  std::string spread;               // name.npy: the standard deviation over an ensemble's predictions
  std::optional<int64_t> rows;      // the first so many
};

struct DumpOptions {
  ModelOptions model;
  std::string stage = "ir";
  std::string function;  // one function or program alone
};

struct CheckOptions {
  ModelOptions model;
  std::optional<int64_t> seed, batch;
  std::string break_gradient;
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

struct AverageOptions {
  std::vector<std::string> weights;
  std::string output;
};

struct PlanOptions {
  ModelOptions model;
  std::optional<int64_t> batch;
};

// The compiler's request for these options. Throws RunError (exit 2) for a --set without '='.
CompileRequest compile_request(const ModelOptions& options);

// The commands; each returns an exit code.
int run_train(const TrainOptions& options);
int run_eval(const EvalOptions& options);
int run_predict(const PredictOptions& options);
int run_dump(const DumpOptions& options);
int run_check(const CheckOptions& options);
int run_bench(const BenchOptions& options);
int run_plan(const PlanOptions& options);
int run_average(const AverageOptions& options);
int run_passes(bool json);
int run_cache(const CacheOptions& options);

}  // namespace gradc::driver
