// Two small loop IR programs, compiled like any other and timed on a team of threads: the limits of arithmetic and of
// memory. Knows nothing of models.
#include "cli/machine_limits.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "runtime/memory.h"
#include "runtime/threads.h"

namespace gradc::cli {

namespace {

constexpr int64_t kRounds = 200000;
constexpr int64_t kTriadElements = int64_t{16} << 20;  // an array of 64 MiB

// Enough independent chains to hide the latency of a multiply-add (4 or 5 cycles, two a cycle), few enough
// that all stay in registers.
int chains(const codegen::Target& target) { return std::min(target.registers - 4, 24); }

loop::Program fma_program(const codegen::Target& target, int threads) {
  loop::Program p;
  p.name = "fma_limit";
  p.vector_width = target.vector_width;
  p.arena_bytes = 64 * (threads + 1);
  p.allocations = {{"factors", loop::Scalar::f32, 16, loop::Space::arena, 0},
                   {"sums", loop::Scalar::f32, 16 * threads, loop::Space::arena, 64}};
  loop::Kernel k = loop::make_kernel("fma");
  loop::Builder b(k);
  const loop::Buffer in = b.buffer("factors", loop::Scalar::f32, loop::Access::read, 64);
  const loop::Buffer out = b.buffer("sums", loop::Scalar::f32, loop::Access::write, 64);
  const int width = target.vector_width;
  b.loop("t", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), 1, [&](loop::Expr t) {
    const loop::Expr factor = b.let("factor", loop::broadcast(loop::load(in, loop::index(0)), width));
    const loop::Expr term = b.let("term", loop::broadcast(loop::load(in, loop::index(1)), width));
    std::vector<loop::Variable> acc;
    for (int i = 0; i < chains(target); ++i)
      acc.push_back(b.declare(
          "acc", loop::constant({loop::Scalar::f32, static_cast<uint16_t>(width)}, 0.001 * (i + 1))));
    b.loop("round", loop::index(0), loop::index(kRounds), 1, [&](loop::Expr) {
      for (const loop::Variable& v : acc) b.assign(v, loop::fma(loop::ref(v), factor, term));
    });
    loop::Expr sum = loop::ref(acc[0]);
    for (size_t i = 1; i < acc.size(); ++i) sum = sum + loop::ref(acc[i]);
    b.store(out, t * loop::index(16), loop::reduce(loop::BinaryOp::add, sum));
  });
  p.kernels.push_back(std::move(k));
  p.calls.push_back({0, {0, 1}, {loop::Partition::Extent::fixed, threads, 1}});
  return p;
}

loop::Program triad_program(const codegen::Target& target) {
  loop::Program p;
  p.name = "triad_limit";
  p.vector_width = target.vector_width;
  constexpr int64_t kBytes = kTriadElements * 4;
  p.arena_bytes = 3 * kBytes;
  for (int64_t i = 0; i < 3; ++i)
    p.allocations.push_back({std::string(1, static_cast<char>('a' + i)), loop::Scalar::f32, kTriadElements,
                             loop::Space::arena, i * kBytes});
  loop::Kernel k = loop::make_kernel("triad");
  loop::Builder b(k);
  const loop::Buffer a = b.buffer("a", loop::Scalar::f32, loop::Access::write, 64);
  const loop::Buffer x = b.buffer("b", loop::Scalar::f32, loop::Access::read, 64);
  const loop::Buffer y = b.buffer("c", loop::Scalar::f32, loop::Access::read, 64);
  const int width = target.vector_width;
  const loop::Expr s = loop::constant({loop::Scalar::f32, static_cast<uint16_t>(width)}, 0.5);
  b.loop("i", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), 4 * width, [&](loop::Expr i) {
    for (int j = 0; j < 4; ++j) {
      const loop::Expr at = i + loop::index(j * width);
      b.store(a, at, loop::fma(loop::load(y, at, width), s, loop::load(x, at, width)));
    }
  });
  p.kernels.push_back(std::move(k));
  p.calls.push_back({0, {0, 1, 2}, {loop::Partition::Extent::fixed, kTriadElements, 4096}});
  return p;
}

// Seconds of the fastest of several runs.
double quickest(int runs, const std::function<void()>& body) {
  double best = 1e30;
  for (int i = 0; i < runs; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

}  // namespace

MachineLimits measure_machine(const codegen::Target& target, int threads) {
  const loop::Program fma = fma_program(target, threads), triad = triad_program(target);
  codegen::CodegenOptions options;
  options.debug_info = false;
  const codegen::Jit jit({&fma, &triad}, target, options);
  runtime::AlignedBlock arena(static_cast<uint64_t>(triad.arena_bytes), "the bandwidth measurement");
  runtime::Team team(threads);
  gradc_step_args args{};
  args.arena = arena.data();
  args.rows = 1;
  const double scalars[GRADC_SCALAR_COUNT] = {};
  args.scalars = scalars;
  args.barrier = runtime::Team::barrier_of;
  args.team = &team;
  auto* factors = reinterpret_cast<float*>(arena.data());
  factors[0] = 0.5F;
  factors[1] = 0.25F;
  const auto run = [&](const char* name) {
    const gradc_entry entry = jit.entry(name);
    team.run([&](int t, int n) { entry(&args, t, n); });
  };
  MachineLimits limits;
  const double multiply_adds =
      static_cast<double>(kRounds) * chains(target) * target.vector_width * static_cast<double>(threads);
  limits.gflops = 2e-9 * multiply_adds / quickest(12, [&] { run("fma_limit"); });
  run("triad_limit");  // faults the pages in
  limits.gb_per_s = 12e-9 * static_cast<double>(kTriadElements) / quickest(5, [&] { run("triad_limit"); });
  return limits;
}

}  // namespace gradc::cli
