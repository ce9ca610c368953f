// The checker of plans against the elements that kernels' threads touch, enumerated: it passes no kernel
// whose threads touch one element, and proves the updates that a weight gradient's kernel makes between two
// tiles.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>
#include <random>
#include <set>

#include "ir/loop/check_plan.h"

namespace gradc::loop::check_plan_races_test {
namespace {

std::string errors_of(const std::string& text) {
  const ParseResult parsed = parse(text);
  EXPECT_EQ(parsed.error, "") << text;
  EXPECT_EQ(verify(parsed.program), std::vector<std::string>()) << text;
  std::string all;
  for (const std::string& e : check_plan(parsed.program, {.batch = 64})) all += e + "\n";
  return all;
}

bool finds_a_race(const std::string& errors) {
  return errors.find("one thread in call 0 ") != std::string::npos;
}

// Whether two threads touch an element, for some numbers of them and of panels. `touched` gives what the
// thread of units [first, end) does.
template <class F>
bool threads_race(int64_t units, const F& touched) {
  for (const int64_t panels : {1, 2})
    for (int64_t cut = 1; cut < units; ++cut) {
      std::set<int64_t> before, after;
      for (int64_t first = 0; first < cut; ++first) before.merge(touched(first, cut, panels));
      for (int64_t end = cut + 1; end <= units; ++end) after.merge(touched(cut, end, panels));
      for (const int64_t element : before)
        if (after.count(element)) return true;
    }
  return false;
}

// A weight gradient's kernel that updates the tile before this one, two vectors to a row of it, in a table of
// twelve rows, and the last columns, which are no whole vector, in a loop of their own.
struct Tiles {
  int64_t length = 20;           // of a row
  int64_t stride = 4;            // of a tile's second vector
  int64_t last = 16, lanes = 4;  // the first of the last columns; how many there are
  int64_t last_length = 20;      // of a row, where the last columns are updated
  static constexpr int64_t kRows = 12, kElements = 320, kUnit = 8;

  std::string text() const {
    return fmt::format(R"(program "f" panel 32 vector 4 arena 0 {{
  allocation 0 "@w" f32 {0} parameter 0

  kernel "k0_update" (read_write w: f32 align 64) {{
    for v = lo to min(hi, 16) step 8 {{
      for o = 0 to {1} step 4 {{
        if o > 0 {{
          for e = panels * 2 to 8 step 1 {{
            w[(((o - 4) + (e / 2)) * {2}) + (v + ((e % 2) * {3}))] = w[(((o - 4) + (e / 2)) * {2}) + (v + ((e % 2) * {3})); 4] + 1:f32x4
          }}
        }}
      }}
    }}
    if hi == 20 {{
      for o_1 = 0 to {1} step 2 {{
        w[(o_1 * {5}) + {4}] = w[(o_1 * {5}) + {4}; 8 if ramp(0:i32, 1, 8) < {6}:i32x8] + 1:f32x8 where ramp(0:i32, 1, 8) < {6}:i32x8
        w[((o_1 + 1) * {5}) + {4}] = w[((o_1 + 1) * {5}) + {4}; 8 if ramp(0:i32, 1, 8) < {6}:i32x8] + 1:f32x8 where ramp(0:i32, 1, 8) < {6}:i32x8
      }}
    }}
  }}

  call 0 (0) over 20 unit {7}
}}
)",
                       kElements, kRows, length, stride, last, last_length, lanes, kUnit);
  }

  // What the thread of units [first, end) of three touches.
  std::set<int64_t> touched(int64_t first, int64_t end, int64_t panels) const {
    std::set<int64_t> all;
    for (int64_t v = first * kUnit; v < std::min<int64_t>(end * kUnit, 16); v += kUnit)
      for (int64_t o = 4; o < kRows; o += 4)
        for (int64_t e = panels * 2; e < 8; ++e)
          for (int64_t lane = 0; lane < 4; ++lane)
            all.insert((o - 4 + e / 2) * length + v + e % 2 * stride + lane);
    for (int64_t o = 0; o < (end == 3 ? kRows : 0); ++o)
      for (int64_t lane = 0; lane < lanes; ++lane) all.insert(o * last_length + last + lane);
    return all;
  }

  bool races() const {
    return threads_race(3, [&](auto... part) { return touched(part...); });
  }
};

TEST(CheckPlan, ProvesUpdatesOfTilesApartWhereTheyAre) {
  EXPECT_FALSE(Tiles{}.races());
  EXPECT_EQ(errors_of(Tiles{}.text()), "");
  // The last columns begin one too early, which is another thread's, or end in the next row; tiles reach into
  // the last columns; rows are not as long everywhere.
  for (const Tiles& wrong :
       {Tiles{.last = 15}, Tiles{.lanes = 5}, Tiles{.stride = 5}, Tiles{.last_length = 21}}) {
    EXPECT_TRUE(wrong.races());
    EXPECT_TRUE(finds_a_race(errors_of(wrong.text()))) << wrong.text();
  }
}

TEST(CheckPlan, AgreesWithTheElementsThatTilesTouch) {
  int sound = 0, racy = 0;
  for (const int64_t length : {19, 20})
    for (const int64_t last_length : {length, length + 1})
      for (const int64_t stride : {3, 4, 5})
        for (const int64_t last : {15, 16, 17})
          for (const int64_t lanes : {3, 4, 5}) {
            const Tiles tiles{length, stride, last, lanes, last_length};
            const bool wrong = tiles.races();
            const bool proves = !finds_a_race(errors_of(tiles.text()));
            (wrong ? racy : sound) += 1;
            EXPECT_TRUE(wrong ? !proves : proves || last_length != length) << tiles.text();
          }
  EXPECT_GT(sound, 5);
  EXPECT_GT(racy, 50);
}

// Loops that store to a random sum of counters, a quotient and a remainder.
struct Loops {
  int64_t constant, unit, outer, quotient, remainder, inner;  // of the sum
  int64_t by, step, outer_end, begin, end, inner_end, lanes, on;
  bool last_unit, from_panels, late;

  std::string text(int k, int64_t units) const {
    const std::string index = fmt::format(
        "(((((v{0} * {1}) + (o{0} * {2})) + ((e{0} / {3}) * {4})) + ((e{0} % {3}) * {5})) + (n{0} * {6})) + "
        "{7}",
        k, unit, outer, by, quotient, remainder, inner, constant);
    const std::string value = lanes == 1 ? "1:f32" : fmt::format("1:f32x{}", lanes);
    const std::string mask =
        on == lanes ? "" : fmt::format(" where ramp(0:i32, 1, {0}) < {1}:i32x{0}", lanes, on);
    return fmt::format(R"(
    if {0} {{
      for v{1} = {2} step 1 {{
        for o{1} = 0 to {3} step {4} {{
          if o{1} >= {5} {{
            for e{1} = {6}{7} to {8} step 1 {{
              for n{1} = 0 to {9} step 1 {{
                w[{10}] = {11}{12}
              }}
            }}
          }}
        }}
      }}
    }})",
                       last_unit ? fmt::format("hi == {}", units) : "true", k,
                       last_unit ? fmt::format("{} to {}", units - 1, units) : "lo to hi", outer_end, step,
                       late ? step : 0, from_panels ? "panels * " : "", begin, end, inner_end, index, value,
                       mask);
  }

  void touch(std::set<int64_t>& all, int64_t units, int64_t first, int64_t last, int64_t panels) const {
    if (last_unit && last != units) return;
    for (int64_t v = last_unit ? units - 1 : first; v < last; ++v)
      for (int64_t o = late ? step : 0; o < outer_end; o += step)
        for (int64_t e = from_panels ? begin * panels : begin; e < end; ++e)
          for (int64_t n = 0; n < inner_end; ++n)
            for (int64_t lane = 0; lane < on; ++lane)
              all.insert(constant + v * unit + o * outer + e / by * quotient + e % by * remainder +
                         n * inner + lane);
  }
};

class RandomLoops {
 public:
  explicit RandomLoops(unsigned seed) : random_(seed) {}
  int64_t from(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }

  Loops next(int64_t row, int64_t column, bool several) {
    Loops l{};
    l.by = from(2, 3);
    l.step = from(1, 4);
    l.outer_end = l.step * from(1, 3);
    l.from_panels = from(0, 1);
    l.begin = l.from_panels ? from(1, 2) : from(0, 2);
    l.end = from(l.from_panels ? 2 * l.begin + 1 : l.begin + 1, 8);
    l.inner_end = from(1, 4);
    l.lanes = from(0, 2) ? 4 : 1;
    l.on = l.lanes == 1 ? 1 : from(1, l.lanes);
    l.last_unit = several && from(0, 1);
    l.late = from(0, 1) && l.outer_end > l.step;
    l.unit = one_of({column, column, column * l.inner_end, row, 2 * column, row * l.outer_end});
    l.outer = one_of({row, row, 0, 2 * row, row + 1, 1, column});
    l.quotient = one_of({row, row, 0, 1, column, 2 * row});
    l.remainder = one_of({1, 2, l.lanes, 0, column, row, -1});
    l.inner = one_of({1, row, 0, l.lanes, 2, column});
    l.constant = from(0, 2) ? from(4, 4 + row) : 8;
    return l;
  }

 private:
  int64_t one_of(std::initializer_list<int64_t> of) {
    return *(of.begin() + from(0, static_cast<int64_t>(of.size()) - 1));
  }
  std::mt19937 random_;
};

TEST(CheckPlan, PassesNoLoopsWhoseThreadsTouchAnElement) {
  RandomLoops random(1);
  int sound = 0, proven = 0, racy = 0;
  for (int i = 0; i < 500; ++i) {
    const int64_t row = random.from(6, 24), units = random.from(2, 4), column = random.from(1, 5);
    std::vector<Loops> all(static_cast<size_t>(random.from(1, 2)));
    std::string body;
    for (size_t k = 0; k < all.size(); ++k) {
      all[k] = random.next(row, column, all.size() > 1);
      body += all[k].text(static_cast<int>(k), units);
    }
    const std::string text = fmt::format(R"(program "f" panel 32 vector 4 arena 0 {{
  allocation 0 "@w" f32 4000 parameter 0

  kernel "k0_loops" (write w: f32 align 4) {{{}
  }}

  call 0 (0) over {} unit 1
}}
)",
                                         body, units);
    const bool wrong = threads_race(units, [&](int64_t first, int64_t end, int64_t panels) {
      std::set<int64_t> touched;
      for (const Loops& l : all) l.touch(touched, units, first, end, panels);
      return touched;
    });
    const bool found = finds_a_race(errors_of(text));
    (wrong ? racy : sound) += 1;
    proven += !wrong && !found;
    EXPECT_TRUE(found || !wrong) << text;
  }
  EXPECT_GT(racy, 200);
  EXPECT_GT(proven * 10, sound * 8) << proven << " of " << sound;
}

// Lanes that are gathered from the pixels of their rows: the remainder of a lane's row is below the divisor, which
// follows from the quotient of that lane alone.
TEST(CheckPlan, BoundsGathersByTheLanesOwnQuotient) {
  const auto errors = [](int64_t elements) {
    return errors_of(fmt::format(R"(program "f" panel 32 vector 16 arena 0 {{
  allocation 0 "@x" f32 {} parameter 0
  allocation 1 "@y" f32 64 parameter 4096

  kernel "k0_gather" (read x: f32 align 64, read_write y: f32 align 64) {{
    for q = lo to hi step 1 {{
      for s = 0 to 2 step 1 {{
        let row = ramp((q * 32) + (s * 16), 1, 16)
        let pixel = row % 20:i64x16
        y[(q * 32) + (s * 16)] = x[pixel * 3:i64x16]
      }}
    }}
  }}

  call 0 (0, 1 panels) over panels * 1 unit 1
}}
)",
                                 elements));
  };
  EXPECT_EQ(errors(58), "");  // of pixel 19: element 57
  EXPECT_NE(errors(57).find("`@x`[0 to 57]"), std::string::npos) << errors(57);
}

}  // namespace
}  // namespace gradc::loop::check_plan_races_test
