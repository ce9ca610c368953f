// Bounds of sums of unknowns: never sharper than what enumeration finds, and sharp enough where proofs of
// plans need it.
#include "ir/loop/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>

namespace gradc::testing::linear_test {
namespace {

using loop::Atoms;
using loop::Linear;

int64_t value(const Linear& sum, const std::vector<int64_t>& at) {
  int64_t v = sum.constant;
  for (const auto& [atom, c] : sum.terms) v += c * at[static_cast<size_t>(atom)];
  return v;
}

// Random atoms with ranges, requirements, choices and facts; every value that they allow is enumerated.
TEST(Linear, IsNeverBoundedTooSharply) {
  std::mt19937 random(5);
  const auto in = [&](int low, int high) {
    return static_cast<int64_t>(std::uniform_int_distribution<int>(low, high)(random));
  };
  int bounded = 0, proven = 0;
  for (int round = 0; round < 3000; ++round) {
    Atoms atoms;
    const auto count = static_cast<size_t>(in(2, 5));
    const auto sum_of = [&](size_t newest, int terms) {
      Linear sum = Linear::of(in(-6, 6));
      for (int i = 0; i < terms; ++i)
        sum = sum + Linear::atom(static_cast<int>(in(0, static_cast<int>(newest))), in(-4, 4));
      return sum;
    };
    std::vector<Linear> required, facts;
    std::vector<std::pair<Linear, Linear>> choices;
    for (size_t i = 0; i < count; ++i) {
      const int64_t low = in(-3, 2);
      const int atom = atoms.add(low, low + in(0, 5));
      if (i > 0 && in(0, 1)) {
        required.push_back(sum_of(i, 3));
        atoms.require(required.back());
      }
      if (i > 0 && in(0, 3) == 0) {
        const Linear own = Linear::atom(atom, in(0, 1) ? 1 : -1);
        choices.emplace_back(sum_of(i - 1, 2) + own, sum_of(i - 1, 2) + own);
        atoms.require_one(atom, choices.back().first, choices.back().second);
      }
    }
    for (int64_t i = in(0, 2); i > 0; --i) facts.push_back(loop::tightened(sum_of(count - 1, 3)));
    std::erase_if(facts, [](const Linear& f) { return f.is_constant(); });
    const Linear sum = sum_of(count - 1, 4);

    std::vector<std::vector<int64_t>> possible;
    std::vector<int64_t> at(count);
    const std::function<void(size_t)> each = [&](size_t i) {
      if (i < count) {
        const int atom = static_cast<int>(i);
        for (at[i] = atoms.low(atom); at[i] <= atoms.high(atom); ++at[i]) each(i + 1);
        return;
      }
      const auto holds = [&](const Linear& g) { return value(g, at) >= 0; };
      if (std::all_of(required.begin(), required.end(), holds) &&
          std::all_of(facts.begin(), facts.end(), holds) &&
          std::all_of(choices.begin(), choices.end(),
                      [&](const auto& c) { return holds(c.first) || holds(c.second); }))
        possible.push_back(at);
    };
    each(0);
    if (possible.empty()) continue;
    int64_t least = INT64_MAX, greatest = INT64_MIN;
    for (const auto& p : possible) {
      least = std::min(least, value(sum, p));
      greatest = std::max(greatest, value(sum, p));
    }
    ASSERT_LE(atoms.least(sum, facts), least) << round;
    ASSERT_GE(atoms.greatest(sum, facts), greatest) << round;
    ASSERT_LE(atoms.least_by_cases(sum, facts), least) << round;
    ASSERT_LE(atoms.least(sum, atoms.with_ranges(sum, facts)), least) << round;
    for (const Linear& f : atoms.with_ranges(sum, facts))
      for (const auto& p : possible) ASSERT_GE(value(f, p), 0) << round;
    ASSERT_FALSE(atoms.proves(sum - (least + 1), facts)) << round;
    bounded += atoms.least(sum, facts) == least;
    proven += atoms.proves(sum - least, facts);
  }
  EXPECT_GT(bounded, 1000);
  EXPECT_GE(proven, bounded);
}

// What a convolution's window needs: positions inside an image, from bounds that are quotients of maxima.
TEST(Linear, ProvesThatWindowsStayInside) {
  for (const int64_t stride : {1, 2, 3})
    for (const int64_t dilation : {1, 2}) {
      const int64_t window = 3, padding = 2, in = 9,
                    out = (in + 2 * padding - dilation * (window - 1) - 1) / stride + 1;
      Atoms a;
      const Linear o = Linear::atom(a.add(0, out - 1));
      const auto quotient = [&](const Linear& x, int64_t high) {
        const Linear q = Linear::atom(a.add(0, high));
        a.require(x - q * dilation);
        a.require(q * dilation - x + (dilation - 1));
        return q;
      };
      const auto at_least_0 = [&](const Linear& x) {
        const int atom = a.add(0, 100);
        a.require(Linear::atom(atom) - x);
        a.require_one(atom, x - Linear::atom(atom), Linear::atom(atom, -1));
        return Linear::atom(atom);
      };
      const Linear begin = quotient(at_least_0(o * -stride + (padding + dilation - 1)), 100);
      const Linear end = quotient(at_least_0(o * -stride + (in - 1 + padding + dilation)), 100);
      const Linear k = begin + Linear::atom(a.add(0, window - 1));
      a.require(end - k - 1);
      a.require(k * -1 + (window - 1));
      const Linear at = o * stride + k * dilation - padding;
      EXPECT_TRUE(a.proves(at)) << stride << " " << dilation;
      EXPECT_TRUE(a.proves(at * -1 + (in - 1))) << stride << " " << dilation;
      EXPECT_FALSE(a.proves(at * -1 + (in - 2))) << stride << " " << dilation;
      EXPECT_FALSE(a.proves(at - 1)) << stride << " " << dilation;
    }
}

TEST(Linear, DoesNotOverflow) {
  Atoms a;
  const int x = a.add(-loop::kUnbounded, loop::kUnbounded), y = a.add(0, int64_t{1} << 40);
  a.require(Linear::atom(y, 3) - Linear::atom(x, int64_t{1} << 30));
  EXPECT_EQ(a.least(Linear::atom(x)), -loop::kUnbounded);
  EXPECT_TRUE(a.proves(Linear::atom(y, int64_t{3} << 32) - Linear::atom(x, int64_t{1} << 62)));
  EXPECT_FALSE(a.proves(Linear::atom(y, int64_t{1} << 32) - Linear::atom(x, int64_t{1} << 62)));
  EXPECT_THROW(Linear::atom(x, int64_t{1} << 62) * 4, loop::TooLarge);
}

}  // namespace
}  // namespace gradc::testing::linear_test
