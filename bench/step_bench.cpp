// A whole training step of each example, as the tool measures it: `gradc train` for some steps, its seconds
// divided by them. Knows the tool's JSON, nothing of its inside.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

namespace {

// Runs the tool; its last JSON object, or the reason why there is none.
nlohmann::json train(const std::string& arguments, std::string& error) {
  const std::string command = std::string(GRADC_TOOL) + " train " + arguments + " --json 2>&1";
  std::FILE* pipe = popen(command.c_str(), "r");
  if (!pipe) {
    error = "cannot start the tool";
    return {};
  }
  std::string text, last;
  char block[4096];
  while (const size_t n = std::fread(block, 1, sizeof block, pipe)) text.append(block, n);
  const int status = pclose(pipe);
  const size_t end = text.find_last_not_of('\n');
  const size_t begin = end == std::string::npos ? 0 : text.rfind('\n', end);
  last = text.substr(begin == std::string::npos ? 0 : begin + 1);
  if (status != 0) {
    error = last;
    return {};
  }
  return nlohmann::json::parse(last);
}

void step(benchmark::State& state, const std::string& model, int steps) {
  std::string error;
  for (auto _ : state) {
    const nlohmann::json end =
        train(std::string(GRADC_SOURCE_DIR) + "/examples/" + model + " --steps " + std::to_string(steps) +
                  " --threads " + std::to_string(state.range(0)),
              error);
    if (!error.empty()) {
      state.SkipWithError(error.c_str());
      return;
    }
    state.SetIterationTime(end.at("seconds").get<double>() / end.at("steps").get<double>());
  }
}

BENCHMARK_CAPTURE(step, synthetic, "synthetic.nn", 400)
    ->Arg(1)
    ->Arg(2)
    ->UseManualTime()
    ->Iterations(5)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(step, mlp, "mlp.nn --set 'data=../shared/data/mnist'", 400)
    ->Arg(1)
    ->Arg(2)
    ->UseManualTime()
    ->Iterations(5)
    ->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(step, softmax, "softmax.nn --set 'data=../shared/data/mnist'", 400)
    ->Arg(1)
    ->Arg(2)
    ->UseManualTime()
    ->Iterations(5)
    ->Unit(benchmark::kMicrosecond);

}  // namespace

BENCHMARK_MAIN();
