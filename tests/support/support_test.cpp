// Places in files, Philox against the published vectors, checks, the table of environment variables.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "support/check.h"
#include "support/environment.h"
#include "support/philox.h"
#include "support/source.h"

namespace gradc::support_test {
namespace {

TEST(Source, lines_and_columns) {
  SourceManager sources;
  const uint32_t file = sources.add("a.nn", "ab\r\n\nlast");
  EXPECT_EQ(file, 1u);
  EXPECT_EQ(sources.line(file, 1), "ab");
  EXPECT_EQ(sources.line(file, 2), "");
  EXPECT_EQ(sources.line(file, 3), "last");
  EXPECT_EQ(sources.line(file, 4), "");
  EXPECT_EQ(sources.line(file, 0), "");
  EXPECT_EQ(sources.line_column(file, 0).line, 1u);
  EXPECT_EQ(sources.line_column(file, 4).line, 2u);
  EXPECT_EQ(sources.line_column(file, 7).line, 3u);
  EXPECT_EQ(sources.line_column(file, 7).column, 3u);
  EXPECT_EQ(join({1, 4, 6}, {1, 0, 5}), (Span{1, 0, 6}));
  EXPECT_EQ(join({1, 4, 6}, {2, 0, 5}), (Span{1, 4, 6}));
  EXPECT_EQ(join({}, {2, 0, 5}), (Span{2, 0, 5}));
}

// The known-answer vectors of the authors' Random123 distribution for philox4x32, 10 rounds.
TEST(Philox, known_answers) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, 0, 0), (PhiloxWords{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox4x32_10({ones, ones, ones, ones}, ones, ones),
            (PhiloxWords{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0),
            (PhiloxWords{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, a_word_depends_on_its_whole_place) {
  // The definition, written out once more.
  const auto expected = [](uint64_t seed, uint64_t step, uint32_t stream, uint64_t row, uint64_t element) {
    const PhiloxWords counter = {static_cast<uint32_t>(row / 32 * 8 + row % 8),
                                 static_cast<uint32_t>(element), stream, static_cast<uint32_t>(step >> 32)};
    const uint32_t key0 = static_cast<uint32_t>(seed) ^ static_cast<uint32_t>(seed >> 32) * 0x9E3779B9u;
    return philox4x32_10(counter, key0, static_cast<uint32_t>(step))[row / 8 % 4];
  };
  std::set<uint32_t> words;
  size_t places = 0;
  for (uint64_t seed : {0ull, 1ull, 1ull << 32})
    for (uint64_t step : {0ull, 1ull, 1ull << 32})
      for (uint32_t stream : {0u, 1u})
        for (uint64_t row : {0ull, 7ull, 8ull, 31ull, 32ull, 1000ull})
          for (uint64_t element : {0ull, 1ull, 783ull}) {
            const uint32_t word = random_word(seed, step, stream, row, element);
            EXPECT_EQ(word, expected(seed, step, stream, row, element));
            words.insert(word);
            ++places;
          }
  EXPECT_EQ(words.size(), places);
}

TEST(Philox, uniform_and_bernoulli) {
  EXPECT_EQ(uniform_from_word(0), 0.0);
  EXPECT_EQ(uniform_from_word(0xffffffff), 1.0 - 0x1p-24);
  EXPECT_FALSE(bernoulli_from_word(0, 0.0));
  EXPECT_TRUE(bernoulli_from_word(0xffffffff, 1.0));
  EXPECT_TRUE(bernoulli_from_word(0x7fffffff, 0.5));
  EXPECT_FALSE(bernoulli_from_word(0x80000000, 0.5));
}

TEST(Check, names_the_place_and_the_invariant) {
  const int extent = 0;
  GRADC_CHECK(extent == 0, "holds");
  try {
    GRADC_CHECK(extent > 0, "extent {} of {}", extent, "x");
    FAIL() << "the check did not throw";
  } catch (const InternalError& e) {
    const std::string what = e.what();
    EXPECT_EQ(what.rfind("support_test.cpp:", 0), 0u) << what;
    EXPECT_NE(what.find("extent > 0: extent 0 of x"), std::string::npos) << what;
  }
}

TEST(Environment, only_what_the_table_lists) {
  std::set<std::string> names;
  for (const EnvironmentVariable& v : environment_variables()) {
    EXPECT_TRUE(names.insert(v.name).second) << v.name;
    EXPECT_FALSE(v.doc.empty()) << v.name;
    EXPECT_EQ(v.doc.find('\n'), std::string::npos) << v.name;
  }
  for (const char* name : {"GRADC_THREADS", "OMP_NUM_THREADS", "NO_COLOR", "GRADC_UPDATE_GOLDENS"})
    EXPECT_TRUE(names.count(name)) << name;
  setenv("GRADC_THREADS", "3", 1);
  EXPECT_STREQ(environment("GRADC_THREADS"), "3");
  unsetenv("GRADC_THREADS");
  EXPECT_EQ(environment("GRADC_THREADS"), nullptr);
  EXPECT_THROW(environment("SHELL"), InternalError);
}

}  // namespace
}  // namespace gradc::support_test
