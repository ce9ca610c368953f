// Entries: threads and partitions, barriers, the guard, memory spaces, the floating-point mode, shared and
// aliasing kernels.
#include <gtest/gtest.h>
#include <xmmintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <thread>

#include "harness.h"
#include "ir/loop/interpret.h"

namespace gradc::testing::entry_test {
namespace {

using loop::Access;
using loop::Buffer;
using loop::Builder;
using loop::Expr;
using loop::Kernel;
using loop::Program;
using loop::Scalar;
using loop::Space;
using loop::Type;

const Type f32{Scalar::f32, 1};

// y[i] += 1 for i in the part; y[-1 - ...] untouched.
Kernel increment(Scalar s = Scalar::f32) {
  Kernel k = loop::make_kernel("increment");
  Builder b(k);
  const Buffer y = b.buffer("y", s, Access::read_write, bytes(s));
  b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1,
         [&](Expr i) { b.store(y, i, loop::load(y, i) + loop::constant({s, 1}, 1)); });
  return k;
}

TEST(Entry, EveryElementIsDoneOnceForAnyThreadCount) {
  for (const auto& [extent, unit] :
       {std::pair{100, 1}, {100, 7}, {3, 1}, {1, 1}, {0, 1}, {64, 64}, {65, 64}, {1, 5}}) {
    const Program p = one_call(increment(), extent, unit);
    const codegen::Jit jit({&p}, native());
    for (const int threads : {1, 2, 3, 5, 16, 200}) {
      std::vector<float> y(static_cast<size_t>(extent) + 1);
      Arguments a;
      a.outputs = {y.data()};
      gradc_step_args* args = a.get();
      for (int t = 0; t < threads; ++t) {
        const std::vector<float> before(y.begin(), y.end());  // the entry writes y
        jit.entry("run")(args, t, threads);
        const int64_t units = (extent + unit - 1) / unit;
        for (int64_t i = 0; i < extent; ++i) {
          const bool mine =
              extent == 1 ? t == 0 : i >= units * t / threads * unit && i < units * (t + 1) / threads * unit;
          EXPECT_EQ(y[static_cast<size_t>(i)] - before[static_cast<size_t>(i)], mine ? 1.0f : 0.0f)
              << extent << '/' << unit << ", thread " << t << " of " << threads;
        }
      }
      EXPECT_EQ(y[static_cast<size_t>(extent)], 0.0f);
    }
  }
}

TEST(Entry, PanelsFollowTheRows) {
  Program p = one_call(increment(), 1);
  p.calls[0].partition = {loop::Partition::Extent::panels, 1, 1};
  p.panel = 32;
  const codegen::Jit jit({&p}, native());
  for (const int64_t rows : {1, 31, 32, 33, 320}) {
    std::vector<float> y(20);
    Arguments a;
    a.outputs = {y.data()};
    a.args.rows = rows;
    for (int t = 0; t < 3; ++t) jit.entry("run")(a.get(), t, 3);
    for (int64_t i = 0; i < 20; ++i)
      EXPECT_EQ(y[static_cast<size_t>(i)], i < (rows + 31) / 32 ? 1.0f : 0.0f) << rows;
  }
}

// Seven rows an example: the kernel counts them, and threads share their panels.
TEST(Entry, PanelsOfRowsOfExamples) {
  Kernel k = loop::make_kernel("count");
  Builder b(k);
  k.rows = 7;
  const Buffer y = b.buffer("y", Scalar::f32, Access::read_write);
  const auto& p = b.predefined();
  b.loop("i", loop::ref(p.lo), loop::ref(p.hi), 1, [&](Expr i) {
    const Expr counts = loop::ref(p.rows) * loop::index(10000) + loop::ref(p.panels) * loop::index(100);
    b.store(y, i, loop::load(y, i) + loop::cast(Scalar::f32, counts + loop::ref(p.row_offset)));
  });
  Program program = one_call(std::move(k), 1);
  program.calls[0].partition = {loop::Partition::Extent::panels, 1, 1, 7};
  program.panel = 32;
  const codegen::Jit jit({&program}, native());
  for (const int64_t rows : {1, 5, 9, 33}) {
    std::vector<float> y_values(20);
    Arguments a;
    a.outputs = {y_values.data()};
    a.args.rows = rows;
    a.args.row_offset = 2;
    for (int t = 0; t < 3; ++t) jit.entry("run")(a.get(), t, 3);
    const int64_t panels = (7 * rows + 31) / 32;
    for (int64_t i = 0; i < 20; ++i)
      EXPECT_EQ(y_values[static_cast<size_t>(i)],
                i < panels ? static_cast<float>(7 * rows * 10000 + panels * 100 + 14) : 0.0f)
          << rows;
  }
}

TEST(Entry, PanelsAreCutIntoParts) {
  constexpr int64_t parts = 5;
  Program p = one_call(increment(), 1);
  p.calls[0].partition = {loop::Partition::Extent::panels, parts, 1};
  p.panel = 32;
  const codegen::Jit jit({&p}, native());
  for (const int64_t rows : {1, 32, 33, 96}) {
    std::vector<float> y(20);
    Arguments a;
    a.outputs = {y.data()};
    a.args.rows = rows;
    for (int t = 0; t < 3; ++t) jit.entry("run")(a.get(), t, 3);
    for (int64_t i = 0; i < 20; ++i)
      EXPECT_EQ(y[static_cast<size_t>(i)], i < (rows + 31) / 32 * parts ? 1.0f : 0.0f) << rows;
  }
}

// Each thread finds its own scratch memory after the arena.
TEST(Entry, ThreadsHaveScratchMemory) {
  Kernel k = loop::make_kernel("mark");
  Builder b(k);
  const Buffer own = b.buffer("own", Scalar::f32, Access::write);
  b.loop("i", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), 1,
         [&](Expr i) { b.store(own, loop::index(0), loop::cast(Scalar::f32, i + loop::index(1))); });
  Program p;
  p.name = "run";
  p.arena_bytes = 64;
  p.scratch_bytes = 128;
  p.allocations = {{"own", Scalar::f32, 16, Space::scratch, 64}};
  p.kernels.push_back(std::move(k));
  loop::Call call;
  call.buffers = {0};
  call.partition.extent = 3;
  p.calls.push_back(call);
  const codegen::Jit jit({&p}, native());
  Arguments a;
  a.arena.resize(64 + 3 * 128);
  for (int t = 0; t < 3; ++t) jit.entry("run")(a.get(), t, 3);
  const auto* floats = reinterpret_cast<const float*>(a.arena.data());
  for (int t = 0; t < 3; ++t) EXPECT_EQ(floats[(64 + t * 128 + 64) / 4], static_cast<float>(t + 1));
}

constexpr int64_t kParts = 2, kPartFloats = 16;  // of each panel

// Two calls of one segment, over the parts of panels: the first writes values that the second adds, from two
// allocations that are local to the segment, by way of scratch memory.
Program local_program(int64_t panels) {
  const auto place = [](Expr part) { return part * loop::index(kPartFloats); };
  const auto by_parts = [](Builder& b, auto body) {
    b.loop("part", loop::ref(b.predefined().lo), loop::ref(b.predefined().hi), 1, body);
  };
  Kernel make = loop::make_kernel("make"), add = loop::make_kernel("add");
  Builder m(make), a(add);
  const Buffer x = m.buffer("x", Scalar::f32, Access::write, 64),
               y = m.buffer("y", Scalar::f32, Access::write, 64);
  by_parts(m, [&](Expr part) {
    m.store(x, place(part) + loop::index(kPartFloats - 1), loop::cast(Scalar::f32, part));
    m.store(y, place(part), loop::constant(f32, 0.5));
  });
  const Buffer from_x = a.buffer("x", Scalar::f32, Access::read, 64),
               from_y = a.buffer("y", Scalar::f32, Access::read, 64),
               own = a.buffer("own", Scalar::f32, Access::read_write, 64),
               out = a.buffer("out", Scalar::f32, Access::write);
  by_parts(a, [&](Expr part) {
    a.store(own, loop::index(0), loop::load(from_y, place(part)));
    a.store(out, part,
            loop::load(from_x, place(part) + loop::index(kPartFloats - 1)) + loop::load(own, loop::index(0)));
  });
  Program p;
  p.name = "run";
  p.panels = panels;
  p.arena_bytes = 64;
  p.local_bytes = 320;
  p.scratch_bytes = 64;
  const int64_t floats = panels * kParts * kPartFloats;
  p.allocations = {{"x", Scalar::f32, floats, Space::local, 192},
                   {"y", Scalar::f32, floats, Space::local, 0},
                   {"own", Scalar::f32, 16, Space::scratch, 0},
                   {"out", Scalar::f32, panels * kParts, Space::output, 0}};
  p.kernels.push_back(std::move(make));
  p.kernels.push_back(std::move(add));
  loop::Call call;
  call.partition = {loop::Partition::Extent::panels, kParts, 1};
  call.buffers = {0, 1};
  p.calls.push_back(call);
  call.kernel = 1;
  call.buffers = {0, 1, 2, 3};
  p.calls.push_back(call);
  p.segments = {{0, 2, {{1, 1}, {2, 2}}}};
  EXPECT_EQ(loop::verify(p), std::vector<std::string>());
  return p;
}

// In as much memory as working_bytes says, whether threads take whole panels or share calls, and for
// part batches too.
TEST(Entry, SegmentsHaveLocalMemory) {
  for (const int64_t panels : {1, 2, 3, 4, 5, 8, 10, 21}) {
    const Program p = local_program(panels);
    const codegen::Jit jit({&p}, native());
    for (const int threads : {1, 2, 3, 4, 7, 22})
      for (int64_t full = 1; full <= panels; ++full) {
        const int64_t parts = full * kParts;
        const auto expect = [&](const std::vector<float>& out) {
          for (int64_t i = 0; i < panels * kParts; ++i)
            EXPECT_EQ(out[static_cast<size_t>(i)], i < parts ? static_cast<float>(i) + 0.5f : -1.0f)
                << i << " of " << panels << " panels, " << full << " in the batch, " << threads << " threads";
        };
        constexpr size_t kBehind = 128;
        Arguments a;
        a.arena.resize(static_cast<size_t>(working_bytes(p, threads)) + kBehind);
        std::vector<float> out(static_cast<size_t>(panels * kParts), -1.0f);
        a.outputs = {out.data()};
        a.args.rows = 32 * full;
        std::vector<int> writers(a.arena.size());
        for (int t = 0; t < threads; ++t) {
          std::fill(a.arena.begin(), a.arena.end(), 0xff);
          jit.entry("run")(a.get(), t, threads);
          for (size_t i = 0; i < a.arena.size(); ++i) writers[i] += a.arena[i] != 0xff;
        }
        expect(out);
        EXPECT_LE(*std::max_element(writers.begin(), writers.end()), 1) << "two threads share memory";
        EXPECT_EQ(std::count(writers.end() - kBehind, writers.end(), 0), static_cast<ptrdiff_t>(kBehind));

        std::fill(out.begin(), out.end(), -1.0f);
        const gradc_step_args* args = a.get();
        loop::interpret(
            p, {args->arena, args->parameters, args->inputs, args->outputs, args->scalars, args->rows},
            {.threads = threads});
        expect(out);
      }
  }
}

TEST(Entry, ReadsEverySpace) {
  Kernel k = loop::make_kernel("sum");
  Builder b(k);
  const Buffer arena = b.buffer("a", Scalar::f32, Access::read),
               parameter = b.buffer("p", Scalar::f32, Access::read),
               input = b.buffer("i", Scalar::f32, Access::read),
               scalars = b.buffer("s", Scalar::f64, Access::read, 8),
               output = b.buffer("o", Scalar::f32, Access::write);
  b.store(output, loop::index(0),
          loop::load(arena, loop::index(0)) + loop::load(parameter, loop::index(0)) +
              loop::load(input, loop::index(0)) +
              loop::cast(Scalar::f32, loop::load(scalars, loop::index(GRADC_SCALAR_TOTAL))));
  Program p = one_call(std::move(k), 1);
  p.arena_bytes = 128;
  p.allocations = {{"a", Scalar::f32, 1, Space::arena, 64},
                   {"p", Scalar::f32, 1, Space::parameter, 8},
                   {"i", Scalar::f32, 1, Space::input, 1},
                   {"s", Scalar::f64, 4, Space::scalars, 0},
                   {"o", Scalar::f32, 1, Space::output, 2}};
  const codegen::Jit jit({&p}, native());
  float in = 4, out = 0, unused = 0;
  Arguments a;
  a.arena.resize(128);
  a.parameters.resize(64);
  reinterpret_cast<float*>(a.arena.data())[16] = 1;
  reinterpret_cast<float*>(a.parameters.data())[2] = 2;
  a.inputs = {nullptr, &in};
  a.outputs = {nullptr, &unused, &out};
  a.scalars[GRADC_SCALAR_TOTAL] = 8;
  EXPECT_EQ(jit.entry("run")(a.get(), 0, 1), 0);
  EXPECT_EQ(out, 15.0f);
}

// A barrier that counts arrivals, for any number of threads.
struct Team {
  explicit Team(int threads) : threads(threads) {}
  int threads;
  std::atomic<int> waiting{0}, generation{0}, passed{0};
  static void wait(void* p) {
    auto& t = *static_cast<Team*>(p);
    t.passed.fetch_add(1);
    const int g = t.generation.load();
    if (t.waiting.fetch_add(1) + 1 == t.threads) {
      t.waiting = 0;
      t.generation.fetch_add(1);
    } else {
      while (t.generation.load() == g) std::this_thread::yield();
    }
  }
};

// First call: x[i] = i; second: y[i] = x[n-1-i], which other threads wrote.
Program two_stages(int64_t n) {
  Program p;
  p.name = "run";
  p.arena_bytes = n * 4;
  {
    Kernel k = loop::make_kernel("fill");
    Builder b(k);
    const Buffer x = b.buffer("x", Scalar::f32, Access::write);
    b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1,
           [&](Expr i) { b.store(x, i, loop::cast(Scalar::f32, i)); });
    p.kernels.push_back(std::move(k));
  }
  {
    Kernel k = loop::make_kernel("reverse");
    Builder b(k);
    const Buffer x = b.buffer("x", Scalar::f32, Access::read), y = b.buffer("y", Scalar::f32, Access::write);
    b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1,
           [&](Expr i) { b.store(y, i, loop::load(x, loop::index(n - 1) - i)); });
    p.kernels.push_back(std::move(k));
  }
  p.allocations = {{"x", Scalar::f32, n, Space::arena, 0}, {"y", Scalar::f32, n, Space::output, 0}};
  p.calls = {{0, {0}, {loop::Partition::Extent::fixed, n, 1}, false, false},
             {1, {0, 1}, {loop::Partition::Extent::fixed, n, 1}, true, false}};
  return p;
}

TEST(Entry, ThreadsMeetAtBarriers) {
  constexpr int64_t n = 1000;
  const Program p = two_stages(n);
  const codegen::Jit jit({&p}, native());
  for (const int threads : {1, 2, 4}) {
    for (int round = 0; round < 20; ++round) {
      std::vector<float> y(n);
      Arguments a;
      a.arena.resize(n * 4);
      a.outputs = {y.data()};
      Team team(threads);
      gradc_step_args* args = a.get();
      args->barrier = threads > 1 ? &Team::wait : nullptr;
      args->team = &team;
      std::vector<std::thread> pool;
      for (int t = 0; t < threads; ++t)
        pool.emplace_back([&, t] { EXPECT_EQ(jit.entry("run")(args, t, threads), 0); });
      for (auto& t : pool) t.join();
      for (int64_t i = 0; i < n; ++i) ASSERT_EQ(y[static_cast<size_t>(i)], static_cast<float>(n - 1 - i));
      EXPECT_EQ(team.passed, threads > 1 ? threads : 0);
    }
  }
}

TEST(Entry, TheGuardStopsWhatFollows) {
  Program p = one_call(increment(), 1);
  p.calls.push_back(p.calls[0]);
  p.calls[1].guard_before = true;
  p.allocations.push_back({"loss", Scalar::f32, 1, Space::input, 0});
  p.guard = 1;
  const codegen::Jit jit({&p}, native());
  const auto mode = _mm_getcsr();
  for (const float loss : {1.0f, INFINITY, -INFINITY, NAN, 3.4e38f}) {
    float y = 0;
    Arguments a;
    a.inputs = {&loss};
    a.outputs = {&y};
    EXPECT_EQ(jit.entry("run")(a.get(), 0, 1), std::isfinite(loss) ? 0 : 1);
    EXPECT_EQ(y, std::isfinite(loss) ? 2.0f : 1.0f);
    EXPECT_EQ(_mm_getcsr() & 0xFFC0, mode & 0xFFC0);
  }
  // A guard brings its own barrier.
  Team team(2);
  float y[2] = {}, loss = 1;
  Arguments a;
  a.inputs = {&loss};
  a.outputs = {y};
  gradc_step_args* args = a.get();
  args->barrier = &Team::wait;
  args->team = &team;
  std::thread other([&] { jit.entry("run")(args, 1, 2); });
  jit.entry("run")(args, 0, 2);
  other.join();
  EXPECT_EQ(team.passed, 2);
}

TEST(Entry, DenormalsAreZeroInsideOnly) {
  Kernel k = loop::make_kernel("k");
  Builder b(k);
  const Buffer x = b.buffer("x", Scalar::f32, Access::read), y = b.buffer("y", Scalar::f32, Access::write);
  b.store(y, loop::index(0),
          loop::load(x, loop::index(0)) * loop::constant(f32, 0.5));  // the result would be denormal
  b.store(y, loop::index(1),
          loop::load(x, loop::index(1)) * loop::constant(f32, 16777216));  // the operand is
  const Program p = one_call(std::move(k), 1);
  const codegen::Jit jit({&p}, native());
  const std::vector<float> in = {0x1p-126f, 0x1p-130f};
  std::vector<float> out = {9, 9};
  Arguments a;
  a.inputs = {in.data()};
  a.outputs = {out.data()};
  const unsigned before = _mm_getcsr();
  jit.entry("run")(a.get(), 0, 1);
  EXPECT_EQ(_mm_getcsr() & 0xFFC0, before & 0xFFC0);
  EXPECT_EQ(out, (std::vector<float>{0, 0}));
  volatile float tiny = in[0];
  EXPECT_NE(tiny * 0.5f, 0.0f);
}

// y[i] = x[i] + y[i-1]: a wrong noalias would let the load of x move past the store that it must see.
TEST(Entry, OneAllocationMayBeTwoBuffers) {
  Kernel k = loop::make_kernel("running");
  Builder b(k);
  const Buffer x = b.buffer("x", Scalar::f32, Access::read), y = b.buffer("y", Scalar::f32, Access::write);
  b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1,
         [&](Expr i) { b.store(y, i + loop::index(1), loop::load(x, i) + loop::load(x, loop::index(0))); });
  Program p;
  p.name = "run";
  p.arena_bytes = 1024;
  p.kernels.push_back(std::move(k));
  p.allocations = {{"v", Scalar::f32, 9, Space::arena, 0},
                   {"w", Scalar::f32, 9, Space::arena, 512},
                   {"shifted", Scalar::f32, 8, Space::arena, 4}};
  const loop::Partition eight{loop::Partition::Extent::fixed, 8, 8};
  p.calls = {
      {0, {0, 0}, eight, false, false}, {0, {0, 1}, eight, false, false}, {0, {2, 0}, eight, false, false}};
  const std::string text = codegen::emit_llvm({&p}, native(), {false, true});
  size_t kernels = 0;
  for (size_t at = text.find("define internal"); at != std::string::npos;
       at = text.find("define internal", at + 1))
    ++kernels;
  EXPECT_EQ(kernels, 2u) << "one for calls whose buffers overlap, one for the others";
  p.calls.pop_back();
  const codegen::Jit jit({&p}, native());
  Arguments a;
  a.arena.resize(1024);
  auto* v = reinterpret_cast<float*>(a.arena.data());
  v[0] = 1;
  jit.entry("run")(a.get(), 0, 1);
  for (int i = 0; i <= 8; ++i) EXPECT_EQ(v[i], static_cast<float>(i + 1));
}

TEST(Entry, EqualKernelsOfProgramsAreOneFunction) {
  Program a = one_call(increment(), 4), b = one_call(increment(), 8), c = one_call(increment(Scalar::f64), 8);
  a.name = "train_step";
  b.name = "eval";
  b.kernels[0].name = "other_name";
  c.name = "predict";
  const std::string text = codegen::emit_llvm({&a, &b, &c}, native());
  size_t kernels = 0;
  for (size_t at = text.find("define internal"); at != std::string::npos;
       at = text.find("define internal", at + 1))
    ++kernels;
  EXPECT_EQ(kernels, 2u);
  const codegen::Jit jit({&a, &b, &c}, native());
  EXPECT_NE(jit.entry("train_step"), nullptr);
  EXPECT_NE(jit.entry("eval"), nullptr);
  EXPECT_EQ(jit.entry("init"), nullptr);
  std::vector<float> y(8);
  Arguments args;
  args.outputs = {y.data()};
  jit.entry("eval")(args.get(), 0, 1);
  jit.entry("train_step")(args.get(), 0, 1);
  EXPECT_EQ(y, (std::vector<float>{2, 2, 2, 2, 1, 1, 1, 1}));
}

// Enough kernels that they are compiled in several groups, whose objects call each other.
TEST(Entry, ManyKernels) {
  constexpr int kernels = 40;
  Program p;
  p.name = "run";
  for (int n = 0; n < kernels; ++n) {
    Kernel k = loop::make_kernel("add");
    Builder b(k);
    const Buffer y = b.buffer("y", Scalar::f32, Access::read_write);
    b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1, [&](Expr i) {
      b.store(y, i, loop::load(y, i) * loop::constant(f32, 2) + loop::constant(f32, n % 20));
    });
    p.kernels.push_back(std::move(k));
    p.calls.push_back({n, {0}, {loop::Partition::Extent::fixed, 1, 1}, false, false});
  }
  p.allocations = {{"y", Scalar::f32, 1, Space::output, 0}};
  Program q = p;
  q.name = "again";
  const codegen::Jit jit({&p, &q}, native());
  for (const char* name : {"run", "again"}) {
    float y = 0, want = 0;
    Arguments a;
    a.outputs = {&y};
    EXPECT_EQ(jit.entry(name)(a.get(), 0, 1), 0);
    for (int n = 0; n < kernels; ++n) want = want * 2 + static_cast<float>(n % 20);
    EXPECT_EQ(y, want);
  }
  const std::string text = codegen::emit_llvm({&p, &q}, native());
  size_t functions = 0;
  for (size_t at = text.find("define internal"); at != std::string::npos;
       at = text.find("define internal", at + 1))
    ++functions;
  EXPECT_EQ(functions, 20u);
}

TEST(Entry, AProgramWithoutCallsReturns) {
  Program p;
  p.name = "run";
  const codegen::Jit jit({&p}, native());
  Arguments a;
  EXPECT_EQ(jit.entry("run")(a.get(), 0, 1), 0);
  EXPECT_EQ(jit.entry("run")(a.get(), 3, 4), 0);
}

}  // namespace
}  // namespace gradc::testing::entry_test
