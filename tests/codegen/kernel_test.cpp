// Kernels run natively: memory, control flow, and expressions against a second evaluation, on every target
// that runs here.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "harness.h"
#include "reference.h"
#include "support/philox.h"
#include "tests/loop/samples.h"

namespace gradc::testing::kernel_test {
namespace {

using loop::Access;
using loop::BinaryOp;
using loop::Buffer;
using loop::Builder;
using loop::CompareOp;
using loop::Expr;
using loop::Kernel;
using loop::Scalar;
using loop::Type;
using loop::UnaryOp;

const Type f32{Scalar::f32, 1};

std::vector<float> counting(size_t n) {
  std::vector<float> v(n);
  std::iota(v.begin(), v.end(), 1.0f);
  return v;
}

// Runs a kernel that has inputs and outputs only, over [0, extent).
void run(const codegen::Target& target, Kernel k, int64_t extent, std::vector<const void*> inputs,
         std::vector<void*> outputs, int64_t rows = 1) {
  const loop::Program p = one_call(std::move(k), extent);
  ASSERT_EQ(loop::verify(p), std::vector<std::string>{});
  const codegen::Jit jit({&p}, target);
  Arguments a;
  a.inputs = std::move(inputs);
  a.outputs = std::move(outputs);
  a.args.rows = rows;
  ASSERT_EQ(jit.entry("run")(a.get(), 0, 1), 0);
}

// Floats that end right before a page that may not be touched.
struct GuardedFloats {
  GuardedFloats(size_t n, float value) : page(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
    base = mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(static_cast<char*>(base) + page, page, PROT_NONE);
    data = reinterpret_cast<float*>(static_cast<char*>(base) + page) - n;
    std::fill_n(data, n, value);
  }
  GuardedFloats(const GuardedFloats&) = delete;
  ~GuardedFloats() { munmap(base, 2 * page); }
  size_t page;
  void* base;
  float* data;
};

class OnTargets : public ::testing::TestWithParam<codegen::Target> {};
INSTANTIATE_TEST_SUITE_P(All, OnTargets, ::testing::ValuesIn(runnable_targets()), [](const auto& info) {
  std::string s = info.param.name;
  for (char& c : s)
    if (c == '-') c = '_';
  return s;
});

TEST_P(OnTargets, MaskedAccessesTouchNothingElse) {
  for (const int lanes : {1, 3, 4, 8, 16, 32}) {
    for (int live = 0; live <= lanes; ++live) {
      Kernel k = loop::make_kernel("masked");
      Builder b(k);
      const Buffer x = b.buffer("x", Scalar::f32, Access::read),
                   y = b.buffer("y", Scalar::f32, Access::write),
                   z = b.buffer("z", Scalar::f32, Access::write);
      const Expr mask = loop::compare(CompareOp::lt, loop::ramp(loop::ref(k.predefined.lo), 1, lanes),
                                      loop::ref(k.predefined.rows) - loop::index(1));
      const Expr v = b.let("v", loop::load(x, loop::index(0), lanes, mask));
      b.store(y, loop::index(0), v + loop::constant(f32, 1), mask);
      b.store(z, loop::index(0), v);
      // The mask ends where memory does: a stray access would end the test.
      GuardedFloats in(static_cast<size_t>(live), 5.0f), out(static_cast<size_t>(live), -7.0f);
      std::vector<float> all(static_cast<size_t>(lanes), -7.0f);
      run(GetParam(), std::move(k), 1, {in.data}, {out.data, all.data()}, live + 1);
      for (int i = 0; i < lanes; ++i) {
        if (i < live) {
          EXPECT_EQ(out.data[i], 6.0f) << lanes << " lanes, " << live << " live";
        }
        EXPECT_EQ(all[static_cast<size_t>(i)], i < live ? 5.0f : 0.0f);
      }
    }
  }
}

TEST_P(OnTargets, GathersAndScatters) {
  for (const Scalar index_type : {Scalar::i32, Scalar::i64}) {
    Kernel k = loop::make_kernel("reverse");
    Builder b(k);
    const Buffer x = b.buffer("x", Scalar::f32, Access::read), y = b.buffer("y", Scalar::f32, Access::write);
    const Expr up = loop::cast(index_type, loop::ramp(loop::ref(k.predefined.lo), 1, 16));
    const Expr down =
        loop::cast(index_type, loop::ramp(loop::index(15) + loop::ref(k.predefined.lo), -1, 16));
    const Expr even = loop::compare(
        CompareOp::eq, loop::binary(BinaryOp::bit_and, up, loop::constant_int({index_type, 16}, 1)),
        loop::constant_int({index_type, 16}, 0));
    b.store(y, up, loop::gather(x, down));
    b.store(y, up + loop::constant_int({index_type, 16}, 16), loop::gather(x, down, even), even);
    const auto in = counting(16);
    std::vector<float> out(32, -1.0f);
    run(GetParam(), std::move(k), 1, {in.data()}, {out.data()});
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(out[i], in[15 - i]);
      EXPECT_EQ(out[16 + i], i % 2 == 0 ? in[15 - i] : -1.0f);
    }
  }
}

TEST_P(OnTargets, BooleansAreBytes) {
  for (const int lanes : {1, 16}) {
    Kernel k = loop::make_kernel("booleans");
    Builder b(k);
    const Buffer x = b.buffer("x", Scalar::i8, Access::read, 1),
                 y = b.buffer("y", Scalar::i8, Access::write, 1),
                 z = b.buffer("z", Scalar::f32, Access::write);
    b.loop("i", loop::index(0), loop::index(16 / lanes), 1, [&](Expr i) {
      const Expr at = i * loop::index(lanes);
      const Expr v = b.let("v", loop::load(x, at, lanes));
      b.store(y, at, loop::unary(UnaryOp::logical_not, v));
      b.store(z, at, loop::cast(Scalar::f32, v));
    });
    std::vector<uint8_t> in(16), out(16, 99);
    std::vector<float> real(16);
    for (size_t i = 0; i < 16; ++i) in[i] = static_cast<uint8_t>(i % 3 * 100);
    run(GetParam(), std::move(k), 1, {in.data()}, {out.data(), real.data()});
    for (size_t i = 0; i < 16; ++i) {
      EXPECT_EQ(out[i], in[i] == 0);
      EXPECT_EQ(real[i], in[i] != 0);
    }
  }
}

TEST_P(OnTargets, LoopsAndBranches) {
  Kernel k = loop::make_kernel("control");
  Builder b(k);
  const Buffer y = b.buffer("y", Scalar::i64, Access::write, 8);
  const Expr rows = loop::ref(k.predefined.rows);
  const auto sum = b.declare("sum", loop::index(0));
  const auto turns = b.declare("turns", loop::index(0));
  const auto count = [&](Expr i) {
    b.assign(sum, loop::ref(sum) + i);
    b.assign(turns, loop::ref(turns) + loop::index(1));
  };
  b.loop("none", rows, rows - loop::index(1), 1, count);
  b.loop("also_none", loop::index(4), loop::index(4), 1, count);
  b.loop("steps", loop::index(1), rows, 3, count);                 // 1 4 7 ... < 20: 1 4 7 10 13 16 19
  b.loop("flat", loop::index(0), loop::index(7), 2, count, true);  // 0 2 4 6
  b.loop(
      "outer", loop::index(0), loop::index(3), 1,
      [&](Expr i) { b.loop("inner", i, i * loop::index(2), 1, count, true); }, true);  // i=1: 1; i=2: 2 3
  b.if_else(
      loop::compare(CompareOp::gt, rows, loop::index(10)),
      [&] { b.assign(sum, loop::ref(sum) + loop::index(1000)); }, [&] { b.assign(sum, loop::index(-1)); });
  b.if_then(loop::compare(CompareOp::lt, rows, loop::index(10)), [&] { b.assign(sum, loop::index(-2)); });
  b.store(y, loop::index(0), loop::ref(sum));
  b.store(y, loop::index(1), loop::ref(turns));
  std::vector<int64_t> out(2);
  run(GetParam(), std::move(k), 1, {}, {out.data()}, 20);
  EXPECT_EQ(out[0], 70 + 12 + 6 + 1000);
  EXPECT_EQ(out[1], 7 + 4 + 3);
}

TEST_P(OnTargets, AVariableDeclaredInALoopStartsAnew) {
  Kernel k = loop::make_kernel("k");
  Builder b(k);
  const Buffer y = b.buffer("y", Scalar::f32, Access::write);
  b.loop("i", loop::index(0), loop::index(3), 1, [&](Expr i) {
    const auto acc = b.declare("acc", loop::constant(f32, 0));
    b.loop("j", loop::index(0), i + loop::index(1), 1,
           [&](Expr) { b.assign(acc, loop::ref(acc) + loop::constant(f32, 1)); });
    b.store(y, i, loop::ref(acc));
  });
  std::vector<float> out(3);
  run(GetParam(), std::move(k), 1, {}, {out.data()});
  EXPECT_EQ(out, (std::vector<float>{1, 2, 3}));
}

TEST_P(OnTargets, MinimumAndMaximumKeepNaN) {
  const float n = std::nanf("");
  const std::vector<float> x = {1, 2, n, n, -INFINITY, INFINITY, n, -1}, y = {2, 1, 1, n, n, n, INFINITY, -2};
  for (const int lanes : {1, 8}) {
    for (const bool constant : {false, true}) {
      Kernel k = loop::make_kernel("k");
      Builder b(k);
      const Buffer xb = b.buffer("x", Scalar::f32, Access::read),
                   yb = b.buffer("y", Scalar::f32, Access::read),
                   low = b.buffer("low", Scalar::f32, Access::write),
                   high = b.buffer("high", Scalar::f32, Access::write);
      b.loop("i", loop::index(0), loop::index(8 / lanes), 1, [&](Expr i) {
        const Expr at = i * loop::index(lanes), u = loop::load(xb, at, lanes),
                   v = constant ? loop::constant(f32, 0.5) : loop::load(yb, at, lanes);
        b.store(low, at, loop::binary(BinaryOp::min, u, v));
        b.store(high, at, loop::binary(BinaryOp::max, v, u));
      });
      std::vector<float> a(8), c(8);
      run(GetParam(), std::move(k), 1, {x.data(), y.data()}, {a.data(), c.data()});
      for (size_t i = 0; i < 8; ++i) {
        const float other = constant ? 0.5f : y[i];
        if (std::isnan(x[i]) || std::isnan(other)) {
          EXPECT_TRUE(std::isnan(a[i]) && std::isnan(c[i])) << x[i] << ' ' << other;
        } else {
          EXPECT_EQ(a[i], std::min(x[i], other));
          EXPECT_EQ(c[i], std::max(x[i], other));
        }
      }
    }
  }
}

TEST_P(OnTargets, ReduceIsTheDocumentedTree) {
  for (const int lanes : {2, 4, 8, 16, 32}) {
    std::vector<float> x(static_cast<size_t>(lanes));
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = std::sin(static_cast<float>(i) * 1.7f) * std::pow(10.0f, static_cast<float>(i % 7));
    std::vector<float> tree = x;
    for (size_t n = tree.size() / 2; n >= 1; n /= 2)
      for (size_t i = 0; i < n; ++i) tree[i] = tree[i] + tree[i + n];
    const auto y = map<float, float>(GetParam(), Scalar::f32, Scalar::f32, lanes, x, [&](Expr e) {
      return loop::broadcast(loop::reduce(BinaryOp::add, e), lanes);
    });
    EXPECT_EQ(y[0], tree[0]) << lanes;
    const auto most = map<float, float>(GetParam(), Scalar::f32, Scalar::f32, lanes, x, [&](Expr e) {
      return loop::broadcast(loop::reduce(BinaryOp::max, e), lanes);
    });
    EXPECT_EQ(most[0], *std::max_element(x.begin(), x.end()));
  }
}

TEST_P(OnTargets, PhiloxIsSupportsPhilox) {
  std::mt19937 rng(3);
  for (const int lanes : {1, 4, 8, 16, 32}) {
    std::vector<uint32_t> counters(64), keys(5);
    for (auto& c : counters) c = static_cast<uint32_t>(rng());
    for (auto& key : keys) key = static_cast<uint32_t>(rng());
    for (int word = 0; word < 4; ++word) {
      Kernel k = loop::make_kernel("philox");
      Builder b(k);
      const Buffer c = b.buffer("c", Scalar::i32, Access::read),
                   key = b.buffer("key", Scalar::i32, Access::read),
                   y = b.buffer("y", Scalar::i32, Access::write);
      std::vector<Expr> s;
      for (int i = 0; i < 5; ++i) s.push_back(b.let("s", loop::load(key, loop::index(i))));
      b.loop("i", loop::index(0), loop::index(64 / lanes), 1, [&](Expr i) {
        const Expr at = i * loop::index(lanes);
        b.store(y, at, loop::philox(word, loop::load(c, at, lanes), s[0], s[1], s[2], s[3], s[4]));
      });
      std::vector<uint32_t> out(64);
      run(GetParam(), std::move(k), 1, {counters.data(), keys.data()}, {out.data()});
      for (size_t i = 0; i < 64; ++i)
        EXPECT_EQ(out[i], philox4x32_10({counters[i], keys[0], keys[1], keys[2]}, keys[3],
                                        keys[4])[static_cast<size_t>(word)]);
    }
  }
}

TEST_P(OnTargets, ZipInterleavesAndTransposes) {
  for (const int lanes : {2, 4, 8, 16}) {
    Kernel k = loop::make_kernel("transpose");
    Builder b(k);
    const Buffer x = b.buffer("x", Scalar::f32, Access::read), y = b.buffer("y", Scalar::f32, Access::write);
    std::vector<Expr> rows;
    for (int i = 0; i < lanes; ++i)
      rows.push_back(b.let("row", loop::load(x, loop::index(i * lanes), lanes)));
    const size_t half = rows.size() / 2;
    for (int round = 1; round < lanes; round *= 2) {
      std::vector<Expr> next;
      for (size_t i = 0; i < half; ++i)
        for (const bool upper : {false, true})
          next.push_back(b.let("z", loop::zip(upper, rows[i], rows[i + half])));
      rows = std::move(next);
    }
    for (int i = 0; i < lanes; ++i) b.store(y, loop::index(i * lanes), rows[static_cast<size_t>(i)]);
    const auto n = static_cast<size_t>(lanes);
    std::vector<float> in(n * n), out(n * n);
    std::iota(in.begin(), in.end(), 0.0f);
    run(GetParam(), std::move(k), 1, {in.data()}, {out.data()});
    for (size_t i = 0; i < n; ++i)
      for (size_t j = 0; j < n; ++j) EXPECT_EQ(out[i * n + j], in[j * n + i]) << lanes;
  }
}

TEST_P(OnTargets, ConcatPutsOneVectorBehindTheOther) {
  for (const int lanes : {1, 2, 4, 8}) {
    Kernel k = loop::make_kernel("concat");
    Builder b(k);
    const Buffer x = b.buffer("x", Scalar::f32, Access::read), y = b.buffer("y", Scalar::f32, Access::write);
    const Expr low = b.let("low", loop::load(x, loop::index(lanes), lanes));
    b.store(y, loop::index(0), loop::concat(low, loop::load(x, loop::index(0), lanes)));
    const auto n = static_cast<size_t>(lanes);
    std::vector<float> in(2 * n), out(2 * n);
    std::iota(in.begin(), in.end(), 0.0f);
    run(GetParam(), std::move(k), 1, {in.data()}, {out.data()});
    for (size_t i = 0; i < 2 * n; ++i) EXPECT_EQ(out[i], in[(i + n) % (2 * n)]) << lanes;
  }
}

// Words of 8 counters two by two, as the random numbers of a panel are made.
TEST_P(OnTargets, WordsOfPhiloxOneBehindTheOther) {
  Kernel k = loop::make_kernel("k");
  Builder b(k);
  const Buffer y = b.buffer("y", Scalar::i32, Access::write);
  const auto number = [](int64_t v) { return loop::constant_int({Scalar::i32, 1}, v); };
  const auto word = [&](int w) {
    return loop::philox(w, loop::ramp(number(40), 1, 8), number(3), number(4), number(5), number(6),
                        number(7));
  };
  for (int half = 0; half < 2; ++half)
    b.store(y, loop::index(16 * half), loop::concat(word(2 * half), word(2 * half + 1)));
  std::vector<uint32_t> out(32);
  run(GetParam(), std::move(k), 1, {}, {out.data()});
  for (uint32_t i = 0; i < 32; ++i) EXPECT_EQ(out[i], philox4x32_10({40 + i % 8, 3, 4, 5}, 6, 7)[i / 8]) << i;
}

TEST_P(OnTargets, FloatsToIntegersSaturate) {
  const std::vector<float> x = {0.9f, -0.9f, 1e10f, -1e10f, NAN, INFINITY, -INFINITY, 2147483520.0f};
  for (const int lanes : {1, 8}) {
    const auto y = map<float, int32_t>(GetParam(), Scalar::f32, Scalar::i32, lanes, x,
                                       [](Expr e) { return loop::cast(Scalar::i32, e); });
    EXPECT_EQ(y, (std::vector<int32_t>{0, 0, INT32_MAX, INT32_MIN, 0, INT32_MAX, INT32_MIN, 2147483520}));
  }
}

TEST_P(OnTargets, PredefinedVariables) {
  Kernel k = loop::make_kernel("k");
  Builder b(k);
  const Buffer y = b.buffer("y", Scalar::i64, Access::write, 8);
  const auto& p = k.predefined;
  int64_t at = 0;
  for (const auto& v : {p.lo, p.hi, p.rows, p.panels, p.row_offset})
    b.store(y, loop::index(at++), loop::ref(v));
  for (const auto& v : {p.seed_lo, p.seed_hi, p.step_lo, p.step_hi})
    b.store(y, loop::index(at++), loop::cast(Scalar::i64, loop::ref(v)));
  loop::Program program = one_call(std::move(k), 9, 4);
  program.panel = 32;
  const codegen::Jit jit({&program}, GetParam());
  std::vector<int64_t> out(9);
  Arguments a;
  a.outputs = {out.data()};
  a.args.rows = 65;
  a.args.row_offset = 1000;
  a.args.seed = 0x1234567800000007;
  a.args.micro_step = 0x0000000500000006;
  jit.entry("run")(a.get(), 1, 2);  // units of 4: [0,4) [4,8) [8,9); thread 1 of 2 has the last two
  EXPECT_EQ(out, (std::vector<int64_t>{4, 9, 65, 3, 1000, 7, 0x12345678, 6, 5}));
}

// Expressions of every exact kind, drawn at random, equal the reference bit by bit.
TEST_P(OnTargets, RandomExpressions) {
  const std::vector<float> reals = {1.5f,  -2.25f, 3.0f, 0.0f,  1e20f, -7.5f, 0.125f, 100.0f,
                                    -3.5f, 2.5f,   8.0f, -0.5f, 1.0f,  9.0f,  -11.0f, 0.75f};
  const std::vector<int64_t> wholes = {3, -4, 0, 17, 1LL << 40, -1, 9, 2};
  int compared = 0;
  for (uint32_t seed = 0; seed < 80; ++seed) {
    Kernel k = loop::make_kernel("random");
    Builder b(k);
    const Buffer x = b.buffer("x", Scalar::f32, Access::read),
                 n = b.buffer("n", Scalar::i64, Access::read, 8),
                 y = b.buffer("y", Scalar::f32, Access::write),
                 m = b.buffer("m", Scalar::i64, Access::write, 8);
    RandomExpr random(seed, {loop::load(x, loop::index(2)), loop::load(x, loop::index(0), 8),
                             loop::load(x, loop::index(8), 8), loop::load(n, loop::index(1)),
                             loop::load(n, loop::index(0), 8)});
    const Expr real = random.make({Scalar::f32, 8}, 4), whole = random.make({Scalar::i64, 8}, 4);
    b.store(y, loop::index(0), real);
    b.store(m, loop::index(0), whole);
    Reference reference;
    reference.fused = GetParam().vector_width > 4;
    reference.read = [&](const Buffer& buffer, int64_t i) {
      return buffer == x ? Lane{static_cast<double>(reals[static_cast<size_t>(i)]), 0}
                         : Lane{0, wholes[static_cast<size_t>(i)]};
    };
    std::vector<float> out(8);
    std::vector<int64_t> out_whole(8);
    const std::string text = loop::print(k);
    run(GetParam(), std::move(k), 1, {reals.data(), wholes.data()}, {out.data(), out_whole.data()});
    const auto check = [&](const Expr& e, const auto& got) {
      Lanes want;
      try {
        want = reference(e);
      } catch (const std::logic_error&) {
        return;  // a transcendental function in it: tested elsewhere
      }
      ++compared;
      for (size_t i = 0; i < 8; ++i) {
        if (!e->type.is_float()) {
          EXPECT_EQ(static_cast<int64_t>(got[i]), want[i].integer) << "seed " << seed << '\n' << text;
        } else if (std::isnan(want[i].real)) {
          EXPECT_TRUE(std::isnan(static_cast<double>(got[i]))) << "seed " << seed << '\n' << text;
        } else if (std::fabs(want[i].real) < 0x1p-126) {
          EXPECT_LE(std::fabs(static_cast<double>(got[i])), 0x1p-126) << "seed " << seed << '\n' << text;
        } else {
          EXPECT_EQ(static_cast<double>(got[i]), want[i].real) << "seed " << seed << '\n' << text;
        }
      }
    };
    check(real, out);
    check(whole, out_whole);
  }
  EXPECT_GT(compared, 60);
}

// Functions that kernels share are those that are in each of them otherwise: the same bits.
TEST(Once, SharedFunctionsGiveTheSameBits) {
  Kernel k = loop::make_kernel("draw");
  Builder b(k);
  const Buffer y = b.buffer("y", Scalar::f32, Access::write);
  b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 16, [&](Expr i) {
    const Expr lanes = loop::cast(Scalar::i32, loop::ramp(i, 1, 16));
    const auto word = [](int64_t v) { return loop::constant_int({Scalar::i32, 1}, v); };
    const Expr bits = loop::philox(0, lanes, word(1), word(2), word(3), word(4), word(5));
    const Expr u =
        loop::cast(Scalar::f32, loop::binary(BinaryOp::shift_right, bits, loop::broadcast(word(8), 16))) *
            loop::constant({Scalar::f32, 16}, 0x1p-24) +
        loop::constant({Scalar::f32, 16}, 0x1p-24);
    b.store(y, i, loop::unary(UnaryOp::log, u) + loop::unary(UnaryOp::cos, u));
  });
  loop::Program often = one_call(std::move(k), 64, 16);
  loop::Program once = often;
  once.once = true;
  const loop::ParseResult back = loop::parse(loop::print(once));
  ASSERT_EQ(back.error, "");
  EXPECT_TRUE(back.program.once);
  EXPECT_EQ(codegen::emit_llvm({&often}, native()).find("shared."), std::string::npos);
  EXPECT_NE(codegen::emit_llvm({&once}, native()).find("shared.philox0"), std::string::npos);
  std::vector<float> a(64), c(64);
  for (const auto& [program, out] : {std::pair(&often, &a), std::pair(&once, &c)}) {
    const codegen::Jit jit({program}, native());
    Arguments arguments;
    arguments.outputs = {out->data()};
    ASSERT_EQ(jit.entry("run")(arguments.get(), 0, 1), 0);
  }
  EXPECT_EQ(std::memcmp(a.data(), c.data(), 64 * sizeof(float)), 0);
  EXPECT_NE(a[0], a[1]);
}

}  // namespace
}  // namespace gradc::testing::kernel_test
