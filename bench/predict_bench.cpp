// Predictions of one example and of several, in the process that asks for them, as an application that embeds gradc does.
// Knows the public headers alone.
#include <benchmark/benchmark.h>

#include <map>
#include <string>
#include <vector>

#include "gradc/gradc.hpp"

namespace {

// A network of bench/workloads, and the shape of an example.
struct Network {
  const char* name;
  std::vector<int64_t> shape;
};

void predict(benchmark::State& state, const Network& network) {
  static std::map<std::string, gradc::Model> models;
  const std::string file = std::string(GRADC_SOURCE_DIR) + "/bench/workloads/" + network.name + ".nn";
  const auto model = models.try_emplace(file, gradc::Model::from_file(file)).first;
  gradc::Session session(model->second, static_cast<int>(state.range(1)));
  session.initialize(1);
  std::vector<int64_t> shape = network.shape;
  shape.insert(shape.begin(), state.range(0));
  size_t elements = 1;
  for (const int64_t extent : shape) elements *= static_cast<size_t>(extent);
  std::vector<float> x(elements);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 37 % 101) / 101;
  for (auto _ : state)
    benchmark::DoNotOptimize(session.predict<float>({gradc::View(x.data(), shape)}).data());
}

const Network networks[] = {{"mlp", {784}}, {"lenet", {1, 28, 28}}, {"resnet20", {3, 32, 32}}};

const int registered = [] {
  for (const Network& network : networks)
    benchmark::RegisterBenchmark((std::string("predict/") + network.name).c_str(), predict, network)
        ->ArgNames({"rows", "threads"})
        ->ArgsProduct({{1, 8, 32, 33, 128}, {1, 2}})
        ->Unit(benchmark::kMicrosecond)
        ->UseRealTime();
  return 0;
}();

}  // namespace

BENCHMARK_MAIN();
