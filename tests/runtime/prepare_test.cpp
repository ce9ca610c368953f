// Normalisation and preparation: what is fitted, to what, what is kept, and what a program reads.
#include "runtime/data/prepare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

#include "runtime/data/batches.h"
#include "runtime/data/random_data.h"
#include "runtime/data/source_options.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "tests/runtime/helpers.h"

namespace gradc::runtime::prepare_test {
namespace {

using test::method;

using test::expect_error;

// Correlated examples of this shape, all elements of other means and deviations; the last element never
// changes.
std::vector<std::vector<float>> examples_of(int64_t elements, int64_t count) {
  const RandomExamples random = make_random_examples(1, 0, count, elements, 2);
  std::vector<std::vector<float>> result;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    std::vector<float> x(random.images.begin() + static_cast<std::ptrdiff_t>(i) * elements,
                         random.images.begin() + static_cast<std::ptrdiff_t>(i + 1) * elements);
    for (size_t k = 1; k < x.size(); ++k) x[k] = 3 + 0.5f * x[k - 1] + static_cast<float>(k) * x[k];
    x.back() = 0.1f;
    result.push_back(std::move(x));
  }
  return result;
}

struct Fitted {
  Normalization normalization;
  std::vector<std::vector<double>> out;
};

Fitted fit(DataMethod record, const std::vector<int64_t>& shape,
           const std::vector<std::vector<float>>& examples) {
  Fitted f{Normalization(std::move(record)), {}};
  f.normalization.fit(shape, static_cast<int64_t>(examples.size()), [&](int64_t i, double* out) {
    std::copy(examples[static_cast<size_t>(i)].begin(), examples[static_cast<size_t>(i)].end(), out);
  });
  size_t size = 1;
  for (const int64_t extent : f.normalization.shape_of(shape)) size *= static_cast<size_t>(extent);
  for (const auto& x : examples) {
    std::vector<float> y(size);
    f.normalization.apply(x.data(), shape, y.data());
    f.out.emplace_back(y.begin(), y.end());
  }
  return f;
}

// Mean and deviation over elements begin..end of all examples.
std::pair<double, double> moments(const std::vector<std::vector<double>>& out, size_t begin, size_t end) {
  double sum = 0, squares = 0;
  const double n = static_cast<double>(out.size() * (end - begin));
  for (const auto& x : out)
    for (size_t k = begin; k < end; ++k) sum += x[k];
  for (const auto& x : out)
    for (size_t k = begin; k < end; ++k) squares += std::pow(x[k] - sum / n, 2);
  return {sum / n, std::sqrt(squares / n)};
}

TEST(Normalization, HasZeroMeanAndUnitDeviation) {
  const auto examples = examples_of(12, 300);
  const std::vector<int64_t> shape = {2, 2, 3};
  for (const auto& [name, groups] : {std::pair("channel", size_t{2}), {"pixel", 12}, {"value", 1}}) {
    SCOPED_TRACE(name);
    const Fitted f = fit(method(name, {{"std", true}}), shape, examples);
    const size_t each = 12 / groups;
    for (size_t g = 0; g < groups; ++g) {
      const auto [mean, std] = moments(f.out, g * each, (g + 1) * each);
      const bool constant = g * each == 11;
      EXPECT_NEAR(mean, 0, 1e-5);
      EXPECT_NEAR(std, constant ? 0 : 1, 1e-5);
    }
    // Only subtracted.
    const Fitted centred = fit(method(name, {{"std", false}}), shape, examples);
    EXPECT_EQ(centred.normalization.arrays().count("std"), 0u);
    const auto [mean, std] = moments(centred.out, 0, each);
    EXPECT_NEAR(mean, 0, 1e-5);
    for (size_t k = 0; k < 12; ++k)
      EXPECT_NEAR(centred.out[7][k],
                  examples[7][k] - centred.normalization.arrays().at("mean").values[k / each], 1e-6);
  }
  EXPECT_EQ(fit(method("channel", {{"std", true}}), shape, examples).normalization.arrays().at("mean").shape,
            std::vector<int64_t>{2});
  EXPECT_EQ(fit(method("pixel", {{"std", true}}), shape, examples).normalization.arrays().at("mean").shape,
            shape);
  EXPECT_EQ(fit(method("value", {{"std", true}}), shape, examples).normalization.arrays().at("mean").shape,
            std::vector<int64_t>{});
}

TEST(Normalization, MeanImageIsThePixelMean) {
  const auto examples = examples_of(12, 50);
  EXPECT_EQ(fit(method("mean_image"), {2, 2, 3}, examples).out,
            fit(method("pixel", {{"std", false}}), {2, 2, 3}, examples).out);
}

TEST(Normalization, ConstantsBecomeZero) {
  const std::vector<std::vector<float>> constant(1000, std::vector<float>(4, 0.1f));
  for (const char* name : {"channel", "pixel", "value"})
    for (const auto& x : fit(method(name, {{"std", true}}), {4}, constant).out)
      for (const double v : x) ASSERT_NEAR(v, 0, 1e-6) << name;
}

TEST(Normalization, MinMaxReachesItsBounds) {
  const auto examples = examples_of(12, 80);
  const Fitted f = fit(method("min_max", {{"low", -1.0}, {"high", 3.0}}), {3, 2, 2}, examples);
  for (size_t channel = 0; channel < 3; ++channel) {
    double low = 100, high = -100;
    for (const auto& x : f.out)
      for (size_t k = 4 * channel; k < 4 * channel + 4; ++k) {
        low = std::min(low, x[k]);
        high = std::max(high, x[k]);
      }
    EXPECT_NEAR(low, -1, 1e-6);
    EXPECT_NEAR(high, 3, 1e-5);
  }
}

// Seconds since 1970: 60 of them are less than the distance of two floats, 128.
std::vector<double> unix_times(size_t count) {
  std::vector<double> times;
  for (size_t i = 0; i < count; ++i) times.push_back(1.7e9 + static_cast<double>((i * 37) % 61));
  return times;
}

TEST(Normalization, LargeOffsetsLoseNothing) {
  const std::vector<double> times =
      unix_times(610);  // 0..60 ten times each: mean 30, variance (61^2 - 1) / 12
  const double mean = 1.7e9 + 30, std = std::sqrt((61.0 * 61 - 1) / 12);
  const auto read = [&](int64_t i, double* out) { *out = times[static_cast<size_t>(i)]; };
  const auto fitted = [&](const DataMethod& record) {
    Normalization n(record);
    n.fit({1}, 610, read, true);
    return n;
  };
  const auto value = [&](const Normalization& n, size_t i) {
    float out = 0;
    n.apply(&times[i], {1}, &out);
    return static_cast<double>(out);
  };
  struct Case {
    DataMethod record;
    double offset, scale;
  };
  // The rounding of the result alone: half a unit in the last place of a float up to 2, doubled for the
  // factor's.
  const double tolerance = 2.4e-7;
  for (const Case& c : {Case{method("channel", {{"std", true}}), mean, 1 / std},
                        {method("pixel", {{"std", true}}), mean, 1 / std},
                        {method("value", {{"std", true}}), mean, 1 / std},
                        {method("min_max", {{"low", 0.0}, {"high", 1.0}}), 1.7e9, 1 / 60.0},
                        {method("pca", {{"components", int64_t{1}}}), mean, 1},
                        {method("whiten", {{"components", int64_t{1}}, {"eps", 0.0}}), mean, 1 / std},
                        {method("mean_image"), mean, 1}}) {
    SCOPED_TRACE(c.record.name);
    const Normalization n = fitted(c.record);
    Normalization restored(c.record);
    restored.set(n.arrays());
    for (size_t i = 0; i < times.size(); ++i) {
      const double right = (times[i] - c.offset) * c.scale;
      ASSERT_NEAR(value(n, i), right, tolerance * std::max(1.0, std::fabs(right)));
      ASSERT_EQ(value(n, i), value(restored, i));
    }
  }
  // A constant is one, however large; and floats keep their arrays as floats.
  Normalization constant(method("channel", {{"std", true}}));
  constant.fit({1}, 5, [&](int64_t, double* out) { *out = times[1]; }, true);
  EXPECT_EQ(value(constant, 1), 0);
  const Fitted floats = fit(method("channel", {{"std", true}}), {12}, examples_of(12, 300));
  for (const auto& [name, array] : floats.normalization.arrays()) EXPECT_TRUE(array.are_floats()) << name;
}

// Floats too: their own rounding is no reason to round the mean as well.
TEST(Normalization, FloatsWithALargeMeanAreCentred) {
  std::vector<std::vector<float>> examples;
  for (int i = 0; i < 100; ++i)
    examples.push_back({1e7f + static_cast<float>(i % 10)});  // floats hold whole numbers
  const Fitted f =
      fit(method("channel", {{"std", true}}), {1}, examples);  // whose mean, 1e7 + 4.5, they do not
  const auto [mean, std] = moments(f.out, 0, 1);
  EXPECT_NEAR(mean, 0, 1e-6);  // was -.17
  EXPECT_NEAR(std, 1, 1e-6);
}

TEST(Normalization, PrincipalComponentsAreUncorrelated) {
  constexpr int64_t kElements = 12, kKept = 5;
  const auto examples = examples_of(kElements, 400);
  for (const bool whiten : {false, true}) {
    const double eps = 0.25;
    const Fitted f = fit(whiten ? method("whiten", {{"components", kKept}, {"eps", eps}})
                                : method("pca", {{"components", kKept}}),
                         {3, 2, 2}, examples);
    const auto& rows = f.normalization.arrays().at("components");
    EXPECT_EQ(rows.shape, (std::vector<int64_t>{kKept, kElements}));
    const auto n = static_cast<double>(examples.size());
    std::vector<double> variances;
    for (size_t a = 0; a < kKept; ++a)
      for (size_t b = 0; b <= a; ++b) {
        double dot = 0, covariance = 0;
        for (size_t k = 0; k < kElements; ++k)
          dot += static_cast<double>(rows.values[a * kElements + k]) * rows.values[b * kElements + k];
        EXPECT_NEAR(dot, a == b ? 1 : 0, 1e-6);
        for (const auto& x : f.out) covariance += x[a] * x[b] / n;
        if (a == b)
          variances.push_back(covariance);
        else
          EXPECT_NEAR(covariance, 0, 2e-4);
      }
    // The eigenvalue: the variance of the data along the component, from the definition.
    std::vector<double> eigenvalues;
    for (size_t a = 0; a < kKept; ++a) {
      double mean = 0, squares = 0;
      std::vector<double> along;
      for (const auto& x : examples) {
        double sum = 0;
        for (size_t k = 0; k < kElements; ++k)
          sum += static_cast<double>(rows.values[a * kElements + k]) * x[k];
        along.push_back(sum);
        mean += sum / n;
      }
      for (const double v : along) squares += (v - mean) * (v - mean) / n;
      eigenvalues.push_back(squares);
      EXPECT_NEAR(variances[a], whiten ? squares / (squares + eps) : squares, 1e-3 * (whiten ? 1 : squares));
      if (a > 0) {
        EXPECT_LT(eigenvalues[a], eigenvalues[a - 1]);
      }
      size_t largest = 0;
      for (size_t k = 1; k < kElements; ++k)
        if (std::fabs(rows.values[a * kElements + k]) > std::fabs(rows.values[a * kElements + largest]))
          largest = k;
      EXPECT_GT(rows.values[a * kElements + largest], 0);
    }
  }
}

TEST(Normalization, AllComponentsKeepDistances) {
  const auto examples = examples_of(6, 40);
  const Fitted f = fit(method("pca", {{"components", int64_t{6}}}), {6}, examples);
  double before = 0, after = 0;
  for (size_t k = 0; k < 6; ++k) {
    before += std::pow(static_cast<double>(examples[3][k]) - examples[8][k], 2);
    after += std::pow(f.out[3][k] - f.out[8][k], 2);
  }
  EXPECT_NEAR(after, before, 1e-4 * before);
}

TEST(Normalization, ColoursHaveTheirComponents) {
  // Colours along (1, 1, 0) / sqrt(2) with variance 2, and along (0, 0, 1) with variance 1/4.
  const float a = 1;
  const std::vector<std::vector<float>> images = {{a, -a, a, -a, 0.5f, -0.5f}, {a, -a, a, -a, -0.5f, 0.5f}};
  const Colours c = fit_colours(
      2, 2, [&](int64_t i, float* out) { std::copy_n(images[static_cast<size_t>(i)].data(), 6, out); });
  EXPECT_NEAR(c.values[0], 2, 1e-12);
  EXPECT_NEAR(c.values[1], 0.25, 1e-12);
  EXPECT_NEAR(c.values[2], 0, 1e-12);
  EXPECT_NEAR(c.vectors[0][0], std::sqrt(0.5), 1e-12);
  EXPECT_NEAR(c.vectors[1][0], std::sqrt(0.5), 1e-12);
  EXPECT_NEAR(c.vectors[2][1], 1, 1e-12);
}

// --- Preparation

DataRecord record_of(std::vector<DataMethod> normalize, std::vector<DataMethod> augment = {}) {
  DataRecord record{.name = "d",
                    .source = "random",
                    .options = {{"train", int64_t{40}},
                                {"test", int64_t{10}},
                                {"shape", std::vector<int64_t>{3, 6, 6}},
                                {"classes", int64_t{4}}},
                    .batch = 8};
  record.splits = {{.name = "val", .count = 10, .from = "train"}};
  record.normalize = std::move(normalize);
  record.augment = std::move(augment);
  return record;
}

const std::vector<DataMethod> kAugment = {
    method("random_crop", {{"pad", int64_t{2}}, {"size", std::vector<int64_t>{5, 4}}}),
    method("mixup", {{"alpha", 0.5}, {"p", 1.0}, {"classes", int64_t{4}}}), method("noise", {{"std", 0.1}})};

Dataset fitted(const DataRecord& record) {
  Dataset data = load_dataset(record);
  fit_preparation(data, record);
  return data;
}

TEST(Preparation, FittingShowsItsProgress) {
  std::FILE* log = std::tmpfile();
  ASSERT_NE(log, nullptr);
  {
    const DataRecord record = record_of({method("pca", {{"components", int64_t{2}}})}, {});
    Dataset data;
    Table table;
    table.rows = 400;
    Field image{.name = "image", .shape = {600}};
    image.floats.resize(400 * 600);
    for (size_t i = 0; i < image.floats.size(); ++i) image.floats[i] = static_cast<float>(i * 7919 % 1000);
    table.fields.push_back(std::move(image));
    data.splits.push_back({"train", std::make_shared<const Table>(std::move(table)), 0, 400});
    Progress progress(log, ProgressMode::bar);
    fit_preparation(data, record, &progress);
  }
  std::string text(static_cast<size_t>(std::ftell(log)), '\0');
  std::rewind(log);
  ASSERT_EQ(std::fread(text.data(), 1, text.size(), log), text.size());
  std::fclose(log);
  EXPECT_NE(text.find("fitting pca of image"), std::string::npos) << text;
  EXPECT_NE(text.find("now its eigenvectors"), std::string::npos) << text;
}

// Everything a reader of this split hands over in one round, inputs image and label.
std::vector<float> read_all(const Split& split, const std::vector<int64_t>& image, bool mixed, bool training,
                            int threads = 1) {
  const int64_t classes[] = {4};
  const gradc_input inputs[] = {
      {"d.image", GRADC_F32, static_cast<int32_t>(image.size()), image.data()},
      {"d.label", mixed ? GRADC_F32 : GRADC_I32, mixed ? 1 : 0, mixed ? classes : nullptr}};
  const gradc_entry_info entry{nullptr, 0, 2, inputs, 0, nullptr, 1};
  BatchReader reader(split, entry, 8);
  if (training) reader.begin_epoch(3, 1, true);
  std::vector<float> all;
  for (int64_t index = 0; index < reader.batches(); ++index) {
    for (int thread = 0; thread < threads; ++thread) reader.assemble(index, thread, threads);
    const Batch batch = reader.batch(index);
    for (int i = 0; i < 2; ++i) {
      const auto* values = static_cast<const float*>(batch.inputs[i]);
      const int64_t count = batch.rows * (i == 0  ? element_count(inputs[0].rank, inputs[0].shape)
                                          : mixed ? 4
                                                  : 1);
      all.insert(all.end(), values, values + count);
    }
  }
  return all;
}

TEST(Preparation, IsFittedToTheTrainingSplitAlone) {
  const DataRecord record = record_of({method("channel", {{"std", true}})});
  const Dataset data = fitted(record);
  const Split& train = data.split("train");
  ASSERT_EQ(train.count, 30);
  const std::vector<float>& values = train.table->fields[0].floats;
  const DataArrays arrays = data_arrays_of(data.split("val"));
  for (size_t c = 0; c < 3; ++c) {
    double sum = 0;
    for (size_t row = 0; row < 30; ++row)
      for (size_t k = 0; k < 36; ++k) sum += values[row * 108 + c * 36 + k];
    EXPECT_NEAR(arrays.at("data.image.channel.mean").values[c], sum / (30 * 36), 1e-6);
  }
  EXPECT_EQ(arrays.size(), 2u);
}

TEST(Preparation, WorksForEveryThreadCount) {
  const Dataset data = fitted(record_of({method("channel", {{"std", true}})}, kAugment));
  const std::vector<int64_t> shape = {3, 5, 4};
  const auto one = read_all(data.split("train"), shape, true, true);
  for (const int threads : {2, 3, 8})
    EXPECT_EQ(read_all(data.split("train"), shape, true, true, threads), one);
  EXPECT_NE(read_all(data.split("train"), shape, true, false), one);
}

TEST(Preparation, AugmentsForTrainingOnly) {
  const DataRecord record = record_of({}, kAugment);
  const Dataset data = fitted(record);
  const auto all = read_all(data.split("test"), {3, 5, 4}, true, false);
  const Table& table = *data.split("test").table;
  size_t at = 0;
  for (size_t begin = 0; begin < 10; begin += 8) {
    const size_t rows = std::min<size_t>(8, 10 - begin);
    for (size_t row = begin; row < begin + rows; ++row)
      for (size_t c = 0; c < 3; ++c)
        for (size_t y = 0; y < 5; ++y)
          for (size_t x = 0; x < 4; ++x)
            ASSERT_EQ(all[at++], table.fields[0].floats[row * 108 + c * 36 + y * 6 + (x + 1)]);
    for (size_t row = begin; row < begin + rows; ++row)
      for (int32_t k = 0; k < 4; ++k) ASSERT_EQ(all[at++], table.fields[1].integers[row] == k ? 1.0f : 0.0f);
  }
  EXPECT_EQ(at, all.size());
}

TEST(Preparation, MixedLabelsAreProbabilities) {
  const Dataset data = fitted(record_of({}, kAugment));
  const int64_t classes[] = {4};
  const gradc_input label{"label", GRADC_F32, 1, classes};
  const gradc_entry_info entry{nullptr, 0, 1, &label, 0, nullptr, 1};
  BatchReader reader(data.split("train"), entry, 30);
  reader.begin_epoch(1, 0, false);
  reader.assemble(0, 0, 1);
  const auto* values = static_cast<const float*>(reader.batch(0).inputs[0]);
  int mixed = 0;
  for (int row = 0; row < 30; ++row) {
    float sum = 0, most = 0;
    for (int k = 0; k < 4; ++k) {
      EXPECT_GE(values[row * 4 + k], 0);
      sum += values[row * 4 + k];
      most = std::max(most, values[row * 4 + k]);
    }
    EXPECT_NEAR(sum, 1, 1e-6);
    mixed += most < 0.999f;
  }
  EXPECT_GT(mixed, 5);
}

TEST(Preparation, ChainsMethodsInOrder) {
  const DataRecord record = record_of(
      {method("channel", {{"std", true}}), method("pca", {{"components", int64_t{7}}})}, {kAugment[0]});
  const Dataset data = fitted(record);
  const auto all = read_all(data.split("train"), {7}, false, false);
  EXPECT_EQ(all.size(), 30u * 8);
  EXPECT_EQ(data_arrays_of(data.split("train")).at("data.image.pca.components").shape,
            (std::vector<int64_t>{7, 60}));
  EXPECT_EQ(data_arrays_of(data.split("train")).at("data.image.channel.mean").shape, std::vector<int64_t>{3});
}

TEST(Preparation, ComesBackFromItsArrays) {
  const DataRecord record = record_of(
      {method("channel", {{"std", true}}), method("whiten", {{"components", int64_t{5}}, {"eps", 1e-5}})},
      {kAugment[0]});
  const Dataset data = fitted(record);
  Dataset other = load_dataset(record);
  restore_preparation(other, record, data_arrays_of(data.split("train")), "w");
  EXPECT_EQ(read_all(other.split("test"), {5}, false, false),
            read_all(data.split("test"), {5}, false, false));
}

TEST(Preparation, RefusesOtherArrays) {
  const DataRecord record = record_of({method("channel", {{"std", true}})});
  DataArrays arrays = data_arrays_of(fitted(record).split("train"));
  const auto fails = [&](const DataRecord& r, const DataArrays& a, const std::vector<std::string>& pieces) {
    Dataset data = load_dataset(r);
    expect_error(kExitDataError, pieces, [&] {
      restore_preparation(data, r, a, "w.safetensors");
      read_all(data.split("test"), {3, 6, 6}, false, false);
    });
  };
  fails(record, {},
        {"w.safetensors", "data.image.channel.mean is missing", "data.image.channel.std is missing"});
  fails(record_of({}), arrays, {"data.image.channel.mean is there", "no such normalization"});
  fails(record_of({method("channel", {{"std", false}})}), arrays, {"data.image.channel.std is there"});
  DataArrays wrong = arrays;
  wrong["data.image.channel.std"] = {{1}, {1}};
  fails(record, wrong, {"shapes of data.image.channel.* do not fit"});
  wrong["data.image.channel.mean"] = {{1}, {1}};
  fails(record, wrong, {"mean has the shape [1]", "[3, 6, 6]", "needs [3]"});
  const DataRecord pca = record_of({method("pca", {{"components", int64_t{2}}})});
  fails(pca,
        {{"data.image.pca.mean", {{4}, std::vector<double>(4)}},
         {"data.image.pca.components", {{8}, std::vector<double>(8)}}},
        {"shapes of data.image.pca.* do not fit"});
}

TEST(Preparation, MustBeFittedBeforeItIsUsed) {
  const Dataset data = load_dataset(record_of({method("channel", {{"std", true}})}));
  EXPECT_THROW(read_all(data.split("train"), {3, 6, 6}, false, false), InternalError);
}

// Through the whole way: fitted, evaluated, augmented, and with the numbers out of a weights file.
TEST(Preparation, DoublesAreNormalisedBeforeTheyBecomeFloats) {
  const std::vector<double> times = unix_times(610);
  Field field{.name = "t", .shape = {1}};
  field.doubles = times;
  Table table;
  table.rows = 610;
  table.fields = {field};
  DataRecord record{.name = "d", .source = "csv", .batch = 8};
  record.normalize = {method("channel", {{"std", true}}, "t"),
                      method("min_max", {{"low", 0.0}, {"high", 1.0}}, "t")};
  const Dataset data = make_dataset(record, {sources::whole("train", std::move(table))});
  const Split& train = data.split("train");
  const auto values = [&](const Preparation& p, const EpochKey* key) {
    std::vector<int64_t> rows(610);
    std::iota(rows.begin(), rows.end(), int64_t{0});
    std::vector<float> out(610);
    p.gather(train, train.table->fields[0], rows.data(), 610, key, out.data());
    return out;
  };
  Preparation p(record);
  p.fit(train);
  EXPECT_FALSE(p.arrays().at("data.t.channel.mean").are_floats());
  const std::vector<float> out = values(p, nullptr);
  for (size_t i = 0; i < 610; ++i) ASSERT_NEAR(out[i], (times[i] - 1.7e9) / 60, 1e-6);
  Preparation restored(record);
  restored.restore(p.arrays(), "w");
  EXPECT_EQ(values(restored, nullptr), out);

  record.augment = {method("noise", {{"std", 1.0}}, "t")};
  Preparation noisy(record);
  noisy.fit(train);
  const EpochKey key{1, 0};
  const std::vector<float> augmented = values(noisy, &key);
  double squares = 0;
  for (size_t i = 0; i < 610; ++i) {
    const double moved = (augmented[i] - out[i]) * 60;
    ASSERT_LT(std::fabs(moved), 6);
    squares += moved * moved / 610;
  }
  EXPECT_NEAR(squares, 1, 0.2);  // the deviation of a variance over 610 is .06
  EXPECT_FALSE(p.reads_doubles("t", 3));
  EXPECT_FALSE(p.reads_doubles("u", 1));
}

}  // namespace
}  // namespace gradc::runtime::prepare_test
