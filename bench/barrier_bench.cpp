// What one barrier of the team costs, and one parallel region; the schedule of a step rests on these figures.
#include <benchmark/benchmark.h>

#include "runtime/threads.h"

namespace {

constexpr int kBarriers = 1000;

// Time of one barrier, in a region that does nothing else.
void barrier(benchmark::State& state) {
  gradc::runtime::Team team(static_cast<int>(state.range(0)));
  for (auto _ : state)
    team.run([&](int, int) {
      for (int i = 0; i < kBarriers; ++i) team.barrier();
    });
  state.SetItemsProcessed(state.iterations() * kBarriers);
  state.counters["ns_per_barrier"] =
      benchmark::Counter(static_cast<double>(state.iterations()) * kBarriers * 1e-9,
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}

// Time of one empty region: waking the team and waiting for it.
void region(benchmark::State& state) {
  gradc::runtime::Team team(static_cast<int>(state.range(0)));
  int seen = 0;
  for (auto _ : state)
    team.run([&](int thread, int) {
      if (thread == 0) benchmark::DoNotOptimize(++seen);
    });
}

void threads(benchmark::internal::Benchmark* b) {
  for (int t = 1; t <= gradc::runtime::usable_processors(); t *= 2) b->Arg(t);
}

BENCHMARK(barrier)->Apply(threads)->UseRealTime();
BENCHMARK(region)->Apply(threads)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
