// The source `random`: the distribution of its numbers, what they depend on, and what its record must say.
#include "runtime/data/random_data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "runtime/data/dataset.h"
#include "runtime/sha256.h"
#include "support/data_limits.h"
#include "support/diagnostic.h"
#include "tests/runtime/helpers.h"

namespace gradc::runtime::random_data_test {
namespace {

using test::expect_error;

TEST(NormalFromWord, InvertsTheDistributionFunction) {
  // The distribution function of the result is the word's place between 0 and 1, to float's precision: in
  // the middle, in the tails, where the two meet (|p - 1/2| = 0.425), and at both ends.
  std::vector<uint32_t> words = {0, 1, 2, 1000, 1u << 31, (1u << 31) - 1, UINT32_MAX - 1, UINT32_MAX};
  const auto meeting = static_cast<uint32_t>(0.075 * 0x1p32);
  for (uint32_t i = 0; i < 4; ++i) words.insert(words.end(), {meeting - 2 + i, ~meeting - 2 + i});
  for (uint32_t i = 0; i < 20000; ++i) words.push_back(i * 214748u + 77u);
  for (const uint32_t word : words) {
    const double p = (word + 0.5) * 0x1p-32, x = normal_from_word(word);
    const double lower = 0.5 * std::erfc(-x / std::sqrt(2.0)), upper = 0.5 * std::erfc(x / std::sqrt(2.0));
    // d p = density(x) d x, and x is rounded to float.
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
    const double tolerance = density * (std::fabs(x) * 0x1p-24 * 1.01 + 1e-12) + 1e-15;
    ASSERT_NEAR(p < 0.5 ? lower : upper, p < 0.5 ? p : 1 - p, tolerance) << word << " " << x;
    ASSERT_EQ(normal_from_word(~word), -normal_from_word(word)) << word;
  }
  std::sort(words.begin(), words.end());
  for (size_t i = 1; i < words.size(); ++i)
    ASSERT_GE(normal_from_word(words[i]), normal_from_word(words[i - 1])) << words[i];
}

// Sums of powers of the values.
struct Moments {
  double count = 0, mean = 0, variance = 0, third = 0, fourth = 0;
};

Moments moments(const std::vector<float>& values) {
  Moments m;
  m.count = static_cast<double>(values.size());
  for (const float v : values) m.mean += v / m.count;
  for (const float v : values) {
    const double d = v - m.mean;
    m.variance += d * d / m.count;
    m.third += d * d * d / m.count;
    m.fourth += d * d * d * d / m.count;
  }
  return m;
}

TEST(RandomExamples, AreStandardNormalAndUniform) {
  constexpr int64_t kCount = 4000, kElements = 75, kClasses = 7;
  for (const uint64_t seed : {uint64_t{1}, uint64_t{2}, uint64_t{1} << 40}) {
    const RandomExamples data = make_random_examples(seed, 0, kCount, kElements, kClasses);
    const Moments m = moments(data.images);
    // Five standard deviations of each estimate from n independent numbers: sqrt(1, 2, 6, 96 / n).
    const double unit = 5 / std::sqrt(m.count);
    EXPECT_NEAR(m.mean, 0, unit);
    EXPECT_NEAR(m.variance, 1, unit * std::sqrt(2));
    EXPECT_NEAR(m.third, 0, unit * std::sqrt(15));
    EXPECT_NEAR(m.fourth, 3, unit * std::sqrt(96));
    // Neighbours, and the same element of neighbouring examples, do not depend on each other.
    double along = 0, across = 0;
    for (size_t i = 0; i + kElements < data.images.size(); ++i) {
      along += data.images[i] * data.images[i + 1];
      across += data.images[i] * data.images[i + kElements];
    }
    EXPECT_NEAR(along / m.count, 0, unit);
    EXPECT_NEAR(across / m.count, 0, unit);
    std::vector<double> classes(kClasses);
    for (const int32_t label : data.labels) ++classes.at(static_cast<size_t>(label));
    double chi2 = 0;
    for (const double count : classes)
      chi2 += (count - kCount / 7.0) * (count - kCount / 7.0) / (kCount / 7.0);
    EXPECT_LT(chi2, 22.46);  // 6 degrees of freedom, p = 0.001
  }
}

TEST(RandomExamples, DependOnSeedPartAndPlaceAlone) {
  const RandomExamples few = make_random_examples(1, 0, 20, 11, 10);
  const RandomExamples many = make_random_examples(1, 0, 50, 11, 10);
  EXPECT_TRUE(std::equal(few.images.begin(), few.images.end(), many.images.begin()));
  EXPECT_TRUE(std::equal(few.labels.begin(), few.labels.end(), many.labels.begin()));
  EXPECT_EQ(many.images, make_random_examples(1, 0, 50, 11, 10).images);
  // Images do not depend on the classes, nor labels on the shape.
  EXPECT_EQ(few.images, make_random_examples(1, 0, 20, 11, 3).images);
  EXPECT_EQ(few.labels, make_random_examples(1, 0, 20, 5, 10).labels);
  // Other seeds, in both halves of the number, and the other part have no image in common with these.
  for (const RandomExamples& other :
       {make_random_examples(2, 0, 50, 11, 10), make_random_examples((uint64_t{1} << 32) + 1, 0, 50, 11, 10),
        make_random_examples(1, 1, 50, 11, 10)}) {
    EXPECT_NE(other.labels, many.labels);
    for (size_t a = 0; a < 50; ++a)
      for (size_t b = 0; b < 50; ++b) ASSERT_NE(other.images[a * 11], many.images[b * 11]) << a << " " << b;
  }
  EXPECT_EQ(make_random_examples(1, 0, 20, 5, 1).labels, std::vector<int32_t>(20, 0));
}

TEST(RandomExamples, AreTheSameBitsEverywhere) {
  const RandomExamples data = make_random_examples(1, 0, 300, 784, 10);
  Sha256 hash;
  hash.add(data.images.data(), data.images.size() * 4);
  hash.add(data.labels.data(), data.labels.size() * 4);
  // Pinned: who changes the numbers changes every figure measured on them.
  EXPECT_EQ(hash.hex(), "56fbd18a7843180ad23200af51923fbe3c8c2bf3128e34d67d9f86a536619cf6");
}

DataRecord random_record(std::map<std::string, RecordValue> options) {
  return {.name = "d", .source = "random", .options = std::move(options), .batch = 8};
}

std::vector<int64_t> extents(std::initializer_list<int64_t> list) { return list; }

TEST(RandomSource, FillsBothParts) {
  for (const auto& shape : {extents({5}), extents({2, 3}), extents({3, 4, 5}), extents({2, 3, 1, 2})}) {
    DataRecord record = random_record({{"shape", shape},
                                       {"classes", int64_t{3}},
                                       {"train", int64_t{20}},
                                       {"test", int64_t{7}},
                                       {"seed", int64_t{-5}}});
    record.splits = {{"val", 5, "train"}};
    const Dataset data = load_dataset(record);
    EXPECT_EQ(data.split("train").count, 15);
    EXPECT_EQ(data.split("val").count, 5);
    EXPECT_EQ(data.split("test").count, 7);
    for (const uint32_t part : {0u, 1u}) {
      const Table& table = *data.split(part == 0 ? "train" : "test").table;
      ASSERT_EQ(table.fields.size(), 2u);
      const Field& image = table.fields[0];
      EXPECT_EQ(image.name, "image");
      EXPECT_EQ(image.shape, shape);
      EXPECT_EQ(image.dtype(), GRADC_F32);
      EXPECT_EQ(table.fields[1].name, "label");
      EXPECT_EQ(table.fields[1].dtype(), GRADC_I32);
      const RandomExamples expected =
          make_random_examples(static_cast<uint64_t>(-5), part, table.rows, image.elements(), 3);
      EXPECT_EQ(image.floats, expected.images);
      EXPECT_EQ(table.fields[1].integers, expected.labels);
    }
  }
}

TEST(RandomSource, HasDefaults) {
  const Dataset data = load_dataset(random_record({}));
  EXPECT_EQ(data.split("train").count, 1024);
  EXPECT_EQ(data.split("test").count, 256);
  const Table& table = *data.split("train").table;
  EXPECT_EQ(table.fields[0].shape, extents({1, 28, 28}));
  EXPECT_EQ(*std::max_element(table.fields[1].integers.begin(), table.fields[1].integers.end()), 9);
}

TEST(RandomSource, SaysWhatIsWrong) {
  const auto fails = [](std::map<std::string, RecordValue> options, const std::vector<std::string>& pieces) {
    expect_error(kExitDataError, pieces, [&] { load_dataset(random_record(std::move(options))); });
  };
  for (const auto& shape : {extents({}), extents({1, 2, 3, 4, 5}), extents({3, 0, 2}), extents({-1})})
    fails({{"shape", shape}}, {"random", "`shape` must be a list of 1 to 4 integers of at least 1"});
  fails({{"shape", int64_t{784}}}, {"`shape` must be a list of 1 to 4 integers"});
  fails({{"classes", int64_t{0}}}, {"`classes`", "integer from 1 to 2147483647"});
  fails({{"train", int64_t{0}}}, {"`train`", "integer from 1"});
  fails({{"test", std::string("few")}}, {"`test`", "integer from 1"});
  fails({{"shap", extents({1})}}, {"no option `shap`", "did you mean `shape`"});
  fails({{"shape", extents({1 << 20, 1 << 20})}}, {"one example", "[1048576, 1048576]", "8 GiB", "smaller"});
  fails({{"shape", extents({INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX})}}, {"one example", "8 GiB"});
  fails({{"shape", extents({1023})}, {"train", int64_t{2'097'153}}},
        {"2097153 examples of 4096 bytes in `train`", "8 GiB", "at most 2097152 fit"});
  fails({{"test", INT64_MAX}}, {"in `test`", "8 GiB"});
}

TEST(RandomSource, ExampleBytes) {
  EXPECT_EQ(random_example_bytes({1}), 8);
  EXPECT_EQ(random_example_bytes({3, 32, 32}), 12292);
  EXPECT_EQ(random_example_bytes({1 << 16, (1 << 15) - 1}), (int64_t{1} << 33) - (1 << 18) + 4);
  EXPECT_EQ(random_example_bytes({1 << 16, 1 << 15}), std::nullopt);
}

}  // namespace
}  // namespace gradc::runtime::random_data_test
