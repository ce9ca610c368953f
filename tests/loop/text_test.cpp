// The text form: what it looks like, that it reads back, and that no text crashes the parser.
#include <gtest/gtest.h>

#include <cmath>

#include "samples.h"

namespace gradc::loop::text_test {
namespace {

using testing::every_construct;
using testing::RandomExpr;

std::string round_trip(const std::string& text, bool locations) {
  const ParseResult r = parse(text);
  EXPECT_EQ(r.error, "") << text;
  return print(r.program, locations);
}

TEST(LoopText, EveryConstructReadsBack) {
  const Program p = every_construct();
  EXPECT_EQ(verify(p), std::vector<std::string>{});
  for (const bool locations : {false, true}) {
    const std::string text = print(p, locations);
    EXPECT_EQ(round_trip(text, locations), text);
  }
  const ParseResult again = parse(print(p, true));
  EXPECT_TRUE(verify(again.program).empty());
  EXPECT_EQ(again.program.kernels[0].locations.size(), 2u);
  EXPECT_EQ(again.program.kernels[0].name, "all \"kinds\"");
  EXPECT_EQ(again.program.allocations[5].name, p.allocations[5].name);
}

TEST(LoopText, LooksAsDocumented) {
  Program p;
  p.name = "axpy";
  Kernel k = make_kernel("axpy");
  Builder b(k);
  const Buffer x = b.buffer("x", Scalar::f32, Access::read);
  const Buffer y = b.buffer("y", Scalar::f32, Access::read_write);
  b.loop("i", ref(k.predefined.lo), ref(k.predefined.hi), 1, [&](Expr i) {
    const Expr at = b.let("start", i * index(16));
    b.store(y, at, fma(load(x, at, 16), constant({Scalar::f32, 1}, 0.5), load(y, at, 16)));
  });
  p.kernels.push_back(std::move(k));
  p.allocations = {{"input x", Scalar::f32, 64, Space::input, 0},
                   {"output y", Scalar::f32, 64, Space::output, 0}};
  p.calls = {{0, {0, {1, AccessScope::own_axis0}}, {Partition::Extent::fixed, 4, 1}, false, false, 128, 512}};
  EXPECT_EQ(print(p), R"(program "axpy" panel 32 vector 16 arena 0 {
  allocation 0 "input x" f32 64 input 0
  allocation 1 "output y" f32 64 output 0

  kernel "axpy" (read x: f32 align 4, read_write y: f32 align 4) {
    for i = lo to hi step 1 {
      let start = i * 16
      y[start] = fma(x[start; 16], 0.5:f32x16, y[start; 16])
    }
  }

  call 0 (0, 1 axis0) over 4 unit 1 flop 128 bytes 512  # axpy
}
)");
}

TEST(LoopText, RunsOfRowsAreShort) {
  Program p = every_construct();
  p.calls[3].partition.extent = 5;
  p.segments = {{2, 4, {{7, 5}}}};
  p.calls[3].buffers[1].rows = {{0, 1}, {0, 1}, {0, 1}, {0, 3}, {2, 5}};
  p.calls[3].buffers[2].rows = {{0, 2}, {1, 4}, {3, 6}, {5, 8}, {7, 8}};
  const std::string text = print(p);
  EXPECT_NE(
      text.find(
          "8 panels rows 0 to 1 by 0 for 3 0 to 3 2 to 5, 2 panel rows 0 to 2 1 to 4 by 2 for 3 7 to 8"),
      std::string::npos)
      << text;
  EXPECT_EQ(round_trip(text, false), text);
  const auto error = [&](const std::string& run) {
    std::string damaged = text;
    const std::string was = "by 0 for 3";
    return parse(damaged.replace(damaged.find(was), was.size(), run)).error;
  };
  EXPECT_NE(error("by 0 for 1").find("a run of rows has 2 to 1048576 ranges"), std::string::npos);
  EXPECT_NE(error("by -1 for 3").find("a run of rows"), std::string::npos);
  EXPECT_NE(error("by 1 for 1048576").find("runs of rows have at most 1048576 ranges in all"),
            std::string::npos);
}

// `gradc dump` prints all programs of a model one after the other.
TEST(LoopText, SeveralProgramsReadBack) {
  const std::string one = print(every_construct());
  const ParseProgramsResult both = parse_programs(one + one);
  ASSERT_EQ(both.error, "");
  ASSERT_EQ(both.programs.size(), 2u);
  EXPECT_EQ(print(both.programs[0]) + print(both.programs[1]), one + one);
  EXPECT_EQ(parse(one + one).error, "one program is expected, not several");
  EXPECT_NE(parse_programs(one + "kernel").error.find("expected the end of the text"), std::string::npos);
}

TEST(LoopText, RandomExpressionsReadBack) {
  for (uint32_t seed = 0; seed < 300; ++seed) {
    Program p;
    p.name = "p";
    Kernel k = make_kernel("k");
    Builder b(k);
    const Buffer x = b.buffer("x", Scalar::f32, Access::read);
    const Buffer y = b.buffer("y", Scalar::f32, Access::write);
    RandomExpr random(
        seed, {ref(k.predefined.lo), load(x, index(0)), load(x, index(1), 8), ref(k.predefined.seed_lo)});
    b.store(y, random.make({Scalar::i64, 1}, 5), random.make({Scalar::f32, 8}, 5),
            random.make({Scalar::i1, 8}, 3));
    p.kernels.push_back(std::move(k));
    const std::string text = print(p);
    ASSERT_EQ(verify(p), std::vector<std::string>{}) << text;
    ASSERT_EQ(round_trip(text, false), text);
  }
}

TEST(LoopText, ConstantsReadBackExactly) {
  for (const double v : {0.1, -0.0, 1e-45, 3.4028234e38, 1.0 / 3, 16777217.0}) {
    for (const Scalar s : {Scalar::f32, Scalar::f64}) {
      Program p;
      p.name = "p";
      Kernel k = make_kernel("k");
      Builder b(k);
      const Buffer y = b.buffer("y", s, Access::write, 8);
      const Expr c = constant({s, 1}, v);
      b.store(y, index(0), c);
      p.kernels.push_back(std::move(k));
      const ParseResult r = parse(print(p));
      ASSERT_EQ(r.error, "");
      const double back = r.program.kernels[0].body[0]->value->number;
      EXPECT_EQ(back, c->number);
      EXPECT_EQ(std::signbit(back), std::signbit(v));
    }
  }
}

struct Wrong {
  const char *body, *error;
};

TEST(LoopText, ErrorsNameThePlace) {
  const Wrong cases[] = {
      {"let a = b", "line 1, column 9: no variable is called `b`"},
      {"let a = lo + 1:i32", "line 1, column 12: `+` has operands of types i64 and i32"},
      {"let a = lo\nlet a = hi", "line 2, column 5: `a` already names something here"},
      {"lo = 3", "line 1, column 1: `lo` is not mutable"},
      {"y[lo] = 3", "line 1, column 9: `y` takes f32, not i64"},
      {"y[lo] = x[0; 8] where true", "line 1, column 23: the mask of a store of f32x8 is i1"},
      {"z[lo] = 3", "line 1, column 1: no buffer is called `z`"},
      {"for i = 0 to hi step 0 { }", "line 1, column 22: a step is positive"},
      {"for i = 0 to 1:i32 step 1 { }", "line 1, column 14: a loop's end is i64, not i32"},
      {"for i = 0 to 9 step 1 { }\nlet a = i", "line 2, column 9: no variable is called `i`"},
      {"if lo { }", "line 1, column 4: a condition is i1, not i64"},
      {"let a = foo(3)", "line 1, column 9: no function is called `foo`"},
      {"let a = exp(3)", "line 1, column 9: `exp` does not take i64"},
      {"let a = 99999999999999999999", "line 1, column 9: `99999999999999999999` is no i64"},
      {"let a = 5000000000:i32", "line 1, column 9: `5000000000` is no i32"},
      {"let a = broadcast(lo, 0)", "line 1, column 23: lanes are 1 to 1024"},
      {"let a = 1.5:f32x2000", "line 1, column 13: lanes are 2 to 1024"},
      {"let for = 1", "line 1, column 5: `for` is reserved"},
      {"let a = \"text", "line 1, column 9: this string has no end"},
      {"let a = (1", "line 1, column 11: expected `)`, found `}`"},
      {"let a = zip_low(1, 2)", "line 1, column 9: zip of i64 and i64"},
      {"let a = concat(1, 2:i32)", "line 1, column 9: concat of i64 and i32"},
      {"let a = philox(7, 0:i32, 0:i32, 0:i32, 0:i32, 0:i32, 0:i32)",
       "line 1, column 9: philox has words 0 to 3"},
      {"let a = ramp(lo, 4503599627370497, 8)",
       "line 1, column 9: a ramp's stride lies within 2^52, not 4503599627370497"},
      {"let a = lo at \"a.nn\":-1:2", "line 1, column 22: lines and columns are 0 to 4294967295"},
      {"let a = x[0; 8 if true]", "line 1, column 9: the mask of a load of f32x8 is i1"},
  };
  const std::string head =
      "program \"p\" panel 32 vector 16 arena 0 { kernel \"k\" (read x: f32 align 4, write y: f32 align 4) "
      "{\n";
  for (const Wrong& w : cases) {
    std::string expected = w.error;  // lines count from the body
    const ParseResult r = parse(head + w.body + "}}");
    const size_t digits = expected.find_first_of("0123456789");
    expected[digits] = static_cast<char>(expected[digits] + 1);
    EXPECT_EQ(r.error, expected) << w.body;
  }
}

TEST(LoopText, NoTextCrashesTheParser) {
  const std::string text = print(every_construct(), true);
  std::mt19937 rng(1);
  const auto pick = [&](size_t n) { return std::uniform_int_distribution<size_t>(0, n - 1)(rng); };
  for (int i = 0; i < 3000; ++i) {
    std::string s = text;
    for (size_t edits = 1 + pick(3); edits > 0; --edits) {
      const size_t at = pick(s.size());
      switch (pick(4)) {
        case 0: s.erase(at, 1 + pick(20)); break;
        case 1: s[at] = static_cast<char>(pick(256)); break;
        case 2: s.insert(at, text.substr(pick(text.size()), pick(30))); break;
        default: s.resize(at + 1); break;
      }
    }
    const ParseResult r = parse(s);
    if (r.error.empty()) {
      verify(r.program);
      print(r.program);
    }
  }
  EXPECT_NE(parse(std::string(100000, '(')).error, "");
  const std::string deep = "program \"p\" panel 1 vector 1 arena 0 { kernel \"k\" () { let a = ";
  EXPECT_NE(parse(deep + std::string(100000, '(')).error.find("nested too deeply"), std::string::npos);
  EXPECT_NE(parse("").error, "");
  EXPECT_NE(parse("\"").error, "");
  EXPECT_NE(parse("\\").error, "");
}

}  // namespace
}  // namespace gradc::loop::text_test
