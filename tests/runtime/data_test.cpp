// IDX files, sources, splits, order and batches.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>

#include "runtime/data/batches.h"
#include "runtime/data/dataset.h"
#include "runtime/data/idx.h"
#include "runtime/data/synthetic_digits.h"
#include "runtime/sha256.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "tests/runtime/fake_program.h"
#include "tests/runtime/helpers.h"

namespace gradc::runtime::data_test {
namespace {

using test::Bytes;
using test::expect_error;
using test::gzip;
using test::idx_bytes;
using test::TemporaryFolder;
using test::write_bytes;

Bytes counting(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(i * 7);
  return bytes;
}

TEST(Idx, ReadsPlainAndCompressed) {
  TemporaryFolder folder;
  const Bytes file = idx_bytes(8, {3, 2, 4}, counting(24));
  write_bytes(folder / "plain", file);
  write_bytes(folder / "packed", gzip(file));
  for (const char* name : {"plain", "packed"}) {
    const IdxArray array = read_idx(folder / name);
    EXPECT_EQ(array.shape, (std::vector<int64_t>{3, 2, 4}));
    EXPECT_EQ(array.bytes, counting(24));
  }
}

TEST(Idx, TurnsBigEndianNumbers) {
  const Bytes file = idx_bytes(0x0C, {2}, {0, 0, 1, 2, 0xFF, 0xFF, 0xFF, 0xFE});
  const IdxArray array = parse_idx("x", file.data(), file.size());
  int32_t values[2];
  std::memcpy(values, array.bytes.data(), 8);
  EXPECT_EQ(values[0], 258);
  EXPECT_EQ(values[1], -2);
}

TEST(Idx, SaysWhatIsWrong) {
  TemporaryFolder folder;
  const auto fails = [&](const Bytes& bytes, const std::vector<std::string>& pieces) {
    for (const bool packed : {false, true}) {
      write_bytes(folder / "file", packed ? gzip(bytes) : bytes);
      std::vector<std::string> all = pieces;
      all.push_back(folder / "file");
      expect_error(kExitDataError, all, [&] { read_idx(folder / "file"); });
    }
  };
  const Bytes good = idx_bytes(8, {3, 2, 4}, counting(24));
  fails({}, {"ends after 0 bytes", "truncated"});
  fails(Bytes(good.begin(), good.begin() + 9), {"ends after 9 bytes", "16 bytes of the IDX header"});
  fails(Bytes(good.begin(), good.end() - 5), {"promises [3, 2, 4]", "24 bytes", "only 19"});
  Bytes longer = good;
  longer.push_back(1);
  fails(longer, {"promises [3, 2, 4]", "there are more"});
  fails(idx_bytes(8, {4, 2, 4}, counting(24)), {"promises [4, 2, 4]", "only 24"});
  fails(idx_bytes(8, {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}, {}), {"more than 64 GiB"});
  fails(idx_bytes(8, {60000, 28, 28}, counting(24)), {"47040000 bytes", "only 24"});
  fails(idx_bytes(8, {0, 28, 28}, {}), {"empty array"});
  fails(idx_bytes(7, {3}, counting(3)), {"type 0x07", "unknown"});
  fails(idx_bytes(8, {}, counting(3)), {"rank 0"});
  fails({1, 2, 3, 4, 5}, {"not an IDX file", "0x01020304"});
  fails({'<', 'h', 't', 'm'}, {"web page"});
  fails({'P', 'K', 3, 4}, {"zip archive"});
}

// The array grows with the data that are there.
TEST(Idx, TakesNoMemoryForWhatAHeaderClaims) {
  const auto peak = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;  // KiB
  };
  TemporaryFolder folder;
  write_bytes(folder / "file", gzip(idx_bytes(8, {256, 1024, 1024}, counting(24))));
  const auto before = peak();
  expect_error(kExitDataError, {"promises [256, 1024, 1024]", "268435456 bytes", "only 24 are there"},
               [&] { read_idx(folder / "file"); });
  EXPECT_LT(peak() - before, 64 << 10);
}

TEST(Idx, SaysWhatIsWrongWithTheFile) {
  TemporaryFolder folder;
  expect_error(kExitDataError, {"none", "No such file", "path"}, [&] { read_idx(folder / "none"); });
  expect_error(kExitDataError, {"not a regular file"}, [&] { read_idx(folder.path()); });
  Bytes noise(5000);
  test::Noise random(1);
  for (auto& byte : noise) byte = static_cast<uint8_t>(random(256));
  Bytes packed = gzip(idx_bytes(8, {5000}, noise));
  write_bytes(folder / "cut", Bytes(packed.begin(), packed.end() - 2000));
  expect_error(kExitDataError, {"too early", "truncated"}, [&] { read_idx(folder / "cut"); });
  write_bytes(folder / "cut",
              Bytes(packed.begin(), packed.end() - 4));  // the data are whole, their check is not
  expect_error(kExitDataError, {"truncated"}, [&] { read_idx(folder / "cut"); });
  packed[packed.size() - 6] ^= 1;  // the checksum
  write_bytes(folder / "bad", packed);
  expect_error(kExitDataError, {"damaged"}, [&] { read_idx(folder / "bad"); });
}

TEST(Idx, SurvivesDamage) {
  const Bytes good = idx_bytes(8, {3, 2, 4}, counting(24)), packed = gzip(good);
  TemporaryFolder folder;
  test::Noise noise(42);
  int refused = 0;
  for (int round = 0; round < 4000; ++round) {
    const bool whole = round % 4 != 0;  // every fourth through a file and zlib
    const Bytes bytes = test::damaged(whole ? good : round % 8 ? packed : good, noise);
    try {
      IdxArray array;
      if (whole) {
        array = parse_idx("fuzz", bytes.data(), bytes.size());
      } else {
        write_bytes(folder / "fuzz", bytes);
        array = read_idx(folder / "fuzz");
      }
      uint64_t expected = static_cast<uint64_t>(idx_element_bytes(array.type));
      for (int64_t extent : array.shape) expected *= static_cast<uint64_t>(extent);
      ASSERT_EQ(array.bytes.size(), expected);
    } catch (const RunError& error) {
      ++refused;
      ASSERT_EQ(error.exit_code, kExitDataError);
    }
  }
  EXPECT_GT(refused, 2000);
  EXPECT_LT(refused, 4000);
}

TEST(SyntheticDigits, AreTheSameEverywhere) {
  const DigitImages a = make_synthetic_digits(1, 0, 300), b = make_synthetic_digits(1, 0, 200);
  EXPECT_TRUE(std::equal(b.images.begin(), b.images.end(), a.images.begin()));
  EXPECT_TRUE(std::equal(b.labels.begin(), b.labels.end(), a.labels.begin()));
  Sha256 hash;
  hash.add(b.images.data(), b.images.size());
  hash.add(b.labels.data(), b.labels.size() * 4);
  // Pinned: who changes the drawings changes every number measured on them.
  EXPECT_EQ(hash.hex(), "e275db065f403abb8a4aa99bde52f9e651371114b41a685e4c89d4aad3d0f43b");
  EXPECT_NE(make_synthetic_digits(2, 0, 10).images, make_synthetic_digits(1, 0, 10).images);
  EXPECT_NE(make_synthetic_digits(1, 1, 10).images, make_synthetic_digits(1, 0, 10).images);
}

TEST(SyntheticDigits, LookLikeDigits) {
  const DigitImages digits = make_synthetic_digits(3, 0, 2000);
  std::vector<int> classes(10);
  for (int32_t label : digits.labels) ++classes.at(static_cast<size_t>(label));
  for (int count : classes) EXPECT_NEAR(count, 200, 60);
  double ink = 0, border = 0;
  for (size_t i = 0; i < 2000; ++i) {
    const uint8_t* image = digits.images.data() + i * kDigitPixels;
    EXPECT_GT(*std::max_element(image, image + kDigitPixels), 60);
    for (int pixel = 0; pixel < kDigitPixels; ++pixel) {
      ink += image[pixel];
      const int x = pixel % 28, y = pixel / 28;
      if (x == 0 || y == 0 || x == 27 || y == 27) border += image[pixel];
    }
  }
  const double mean = ink / (2000.0 * kDigitPixels), edge = border / (2000.0 * 108);
  EXPECT_GT(mean, 15);
  EXPECT_LT(mean, 60);
  EXPECT_LT(edge, mean / 2);  // the ink is in the middle
}

void write_mnist(const TemporaryFolder& folder, uint32_t train, uint32_t test, bool packed = false) {
  const auto put = [&](const std::string& name, const Bytes& bytes) {
    write_bytes(folder / (packed ? name + ".gz" : name), packed ? gzip(bytes) : bytes);
  };
  for (const auto& [prefix, count] : {std::pair{"train", train}, std::pair{"t10k", test}}) {
    Bytes labels(count);
    for (uint32_t i = 0; i < count; ++i) labels[i] = static_cast<uint8_t>(i % 10);
    put(std::string(prefix) + "-images-idx3-ubyte", idx_bytes(8, {count, 28, 28}, counting(count * 784)));
    put(std::string(prefix) + "-labels-idx1-ubyte", idx_bytes(8, {count}, labels));
  }
}

DataRecord mnist_record(const std::string& path) {
  return {.name = "digits", .source = "mnist", .options = {{"path", path}}, .batch = 8};
}

TEST(Dataset, ReadsMnist) {
  for (const bool packed : {false, true}) {
    TemporaryFolder folder;
    write_mnist(folder, 30, 20, packed);
    const Dataset data = load_dataset(mnist_record(folder.path()));
    EXPECT_EQ(data.split("train").count, 30);
    EXPECT_EQ(data.split("test").count, 20);
    const Field& image = data.split("train").table->fields[0];
    EXPECT_EQ(image.shape, (std::vector<int64_t>{1, 28, 28}));
    std::vector<float> values(784 * 2);
    const int64_t rows[] = {29, 3};
    image.gather(rows, 2, values.data());
    for (size_t i = 0; i < 784; ++i) {
      EXPECT_EQ(values[i], static_cast<float>(counting(30 * 784)[29 * 784 + i]) / 255.0f);
      EXPECT_EQ(values[784 + i], static_cast<float>(counting(30 * 784)[3 * 784 + i]) / 255.0f);
    }
  }
}

TEST(Dataset, MnistErrors) {
  TemporaryFolder folder;
  expect_error(kExitDataError, {"nowhere", "no such folder", "synthetic_digits"},
               [&] { load_dataset(mnist_record(folder / "nowhere")); });
  expect_error(kExitDataError, {"neither train-images-idx3-ubyte nor train-images-idx3-ubyte.gz"},
               [&] { load_dataset(mnist_record(folder.path())); });
  write_mnist(folder, 30, 20);
  const std::string labels = folder / "train-labels-idx1-ubyte";
  expect_error(kExitDataError, {"not a folder"}, [&] { load_dataset(mnist_record(labels)); });
  write_bytes(labels, idx_bytes(8, {29}, Bytes(29)));
  expect_error(kExitDataError, {"30 images", "29 labels", "equally many"},
               [&] { load_dataset(mnist_record(folder.path())); });
  Bytes wrong(30);
  wrong[17] = 10;
  write_bytes(labels, idx_bytes(8, {30}, wrong));
  expect_error(kExitDataError, {labels, "label 10 of example 17", "0 to 9"},
               [&] { load_dataset(mnist_record(folder.path())); });
  write_bytes(labels, idx_bytes(8, {30, 1}, Bytes(30)));
  expect_error(kExitDataError, {labels, "[30, 1]", "rank 1"},
               [&] { load_dataset(mnist_record(folder.path())); });
  write_bytes(labels, idx_bytes(8, {30}, Bytes(30)));
  write_bytes(folder / "train-images-idx3-ubyte", idx_bytes(8, {30, 14, 14}, Bytes(30 * 196)));
  expect_error(kExitDataError, {"[1, 14, 14]", "[1, 28, 28]", "idx"},
               [&] { load_dataset(mnist_record(folder.path())); });
  std::filesystem::remove(folder / "t10k-labels-idx1-ubyte");
  write_mnist(folder, 30, 20);
  std::filesystem::remove(folder / "t10k-labels-idx1-ubyte");
  expect_error(kExitDataError, {"t10k-labels-idx1-ubyte.gz is there"},
               [&] { load_dataset(mnist_record(folder.path())); });
}

TEST(Dataset, RealMnist) {
  const std::string path = std::string(GRADC_SOURCE_DIR) + "/../shared/data/mnist";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no real MNIST files beside the source folder";
  const Dataset data = load_dataset(mnist_record(path));
  EXPECT_EQ(data.split("train").count, 60000);
  EXPECT_EQ(data.split("test").count, 10000);
  const auto& labels = data.split("test").table->fields[1].integers;
  EXPECT_EQ(std::vector<int32_t>(labels.begin(), labels.begin() + 5), (std::vector<int32_t>{7, 2, 1, 0, 4}));
}

TEST(Dataset, ReadsGeneralIdx) {
  TemporaryFolder folder;
  write_bytes(folder / "i", idx_bytes(8, {6, 3, 5, 5}, counting(450)));
  write_bytes(folder / "l", idx_bytes(8, {6}, {0, 1, 2, 3, 2, 1}));
  DataRecord record{.name = "d",
                    .source = "idx",
                    .options = {{"images", folder / "i"}, {"labels", folder / "l"}, {"classes", int64_t{4}}},
                    .batch = 2};
  const Dataset data = load_dataset(record);
  EXPECT_EQ(data.split("train").table->fields[0].shape, (std::vector<int64_t>{3, 5, 5}));
  EXPECT_EQ(data.find("test"), nullptr);
  record.options["classes"] = int64_t{3};
  expect_error(kExitDataError, {"label 3 of example 3"}, [&] { load_dataset(record); });
  record.options["test_images"] = folder / "i";
  expect_error(kExitDataError, {"test_images and test_labels"}, [&] { load_dataset(record); });
  // Floats as they are.
  Bytes floats;
  for (const uint32_t bits : {0x3F800000u, 0xC0200000u})  // 1.0, -2.5
    for (int shift = 24; shift >= 0; shift -= 8) floats.push_back(static_cast<uint8_t>(bits >> shift));
  write_bytes(folder / "i", idx_bytes(0x0D, {2, 1}, floats));
  write_bytes(folder / "l", idx_bytes(8, {2}, {0, 1}));
  record.options = {{"images", folder / "i"}, {"labels", folder / "l"}};
  const Dataset flat = load_dataset(record);
  EXPECT_EQ(flat.split("train").table->fields[0].floats, (std::vector<float>{1.0f, -2.5f}));
}

TEST(Dataset, CutsSplitsFromTheEnd) {
  DataRecord record{.name = "d",
                    .source = "synthetic_digits",
                    .options = {{"train", int64_t{50}}, {"test", int64_t{5}}},
                    .batch = 8};
  record.splits = {{"val", 10, "train"}, {"held", 4, "train"}};
  const Dataset data = load_dataset(record);
  EXPECT_EQ(data.split("train").count, 36);
  EXPECT_EQ(data.split("val").first, 40);
  EXPECT_EQ(data.split("val").count, 10);
  EXPECT_EQ(data.split("held").first, 36);
  expect_error(kExitDataError, {"no split `vall`", "train, test, val, held", "did you mean `val`"},
               [&] { data.split("vall"); });
  record.splits = {{"val", 50, "train"}};
  expect_error(kExitDataError, {"val = 50 of train", "50 examples", "1 to 49"},
               [&] { load_dataset(record); });
  record.splits = {{"val", 0, "train"}};
  expect_error(kExitDataError, {"val = 0"}, [&] { load_dataset(record); });
  record.splits = {{"test", 5, "train"}};
  expect_error(kExitDataError, {"already a split `test`"}, [&] { load_dataset(record); });
  record.splits = {{"val", 5, "trian"}};
  expect_error(kExitDataError, {"did you mean `train`"}, [&] { load_dataset(record); });
}

TEST(Dataset, OptionErrors) {
  DataRecord record{
      .name = "d", .source = "synthetic_digits", .options = {{"trian", int64_t{50}}}, .batch = 8};
  expect_error(kExitDataError, {"no option `trian`", "did you mean `train`"}, [&] { load_dataset(record); });
  record.options = {{"train", std::string("many")}};
  expect_error(kExitDataError, {"`train`", "integer from 1"}, [&] { load_dataset(record); });
  record.options = {{"train", int64_t{0}}};
  expect_error(kExitDataError, {"`train`", "integer from 1"}, [&] { load_dataset(record); });
  record.source = "synthetic_digit";
  expect_error(kExitDataError, {"unknown source", "did you mean `synthetic_digits`"},
               [&] { load_dataset(record); });
  record = {.name = "d", .source = "mnist", .batch = 8};
  expect_error(kExitDataError, {"`path` is missing"}, [&] { load_dataset(record); });
}

TEST(Order, IsAPermutationByKey) {
  const auto order = keyed_permutation(1000, 3, 0);
  auto sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (int64_t i = 0; i < 1000; ++i) ASSERT_EQ(sorted[static_cast<size_t>(i)], i);
  EXPECT_EQ(order, keyed_permutation(1000, 3, 0));
  EXPECT_NE(order, keyed_permutation(1000, 3, 1));
  EXPECT_NE(order, keyed_permutation(1000, 4, 0));
  EXPECT_NE(order, keyed_permutation(1000, 3ull << 32, 0));
  EXPECT_TRUE(keyed_permutation(0, 1, 1).empty());
  EXPECT_EQ(keyed_permutation(1, 1, 1), std::vector<int64_t>{0});
}

TEST(Order, IsEven) {
  // Each of 5 things at each of 5 places equally often: chi-squared with 16 degrees of freedom stays
  // below 39.25 (p = 0.001).
  constexpr int kRounds = 5000;
  int counts[5][5] = {};
  for (uint64_t epoch = 0; epoch < kRounds; ++epoch) {
    const auto order = keyed_permutation(5, 9, epoch);
    for (size_t place = 0; place < 5; ++place) ++counts[place][order[place]];
  }
  double chi2 = 0;
  for (const auto& row : counts)
    for (int count : row) chi2 += (count - kRounds / 5.0) * (count - kRounds / 5.0) / (kRounds / 5.0);
  EXPECT_LT(chi2, 39.25);
}

TEST(Batches, CoverEveryExampleOnce) {
  TemporaryFolder folder;
  Bytes labels(50), images(50);
  std::iota(labels.begin(), labels.end(), uint8_t{0});
  for (size_t i = 0; i < 50; ++i) images[i] = static_cast<uint8_t>(5 * i);
  write_bytes(folder / "i", idx_bytes(8, {50, 1, 1}, images));
  write_bytes(folder / "l", idx_bytes(8, {50}, labels));
  DataRecord record{.name = "d",
                    .source = "idx",
                    .options = {{"images", folder / "i"}, {"labels", folder / "l"}, {"classes", int64_t{50}}},
                    .batch = 8};
  record.splits = {{"val", 7, "train"}};
  const Dataset data = load_dataset(record);
  const int64_t shape[] = {1, 1, 1};
  const gradc_input inputs[] = {{"label", GRADC_I32, 0, nullptr}, {"d.image", GRADC_F32, 3, shape}};
  const gradc_entry_info entry{nullptr, 0, 2, inputs, 0, nullptr, 1};
  for (const bool drop : {false, true})
    for (const int threads : {1, 3}) {
      BatchReader reader(data.split("train"), entry, 8, drop);
      EXPECT_EQ(reader.batches(), drop ? 5 : 6);
      EXPECT_EQ(reader.examples(), drop ? 40 : 43);
      for (int epoch = 0; epoch < 3; ++epoch) {
        if (epoch > 0) reader.shuffle(1, static_cast<uint64_t>(epoch));
        std::vector<int> seen;
        for (int64_t index = 0; index < reader.batches(); ++index) {
          for (int thread = 0; thread < threads; ++thread) reader.assemble(index, thread, threads);
          const Batch batch = reader.batch(index);
          EXPECT_EQ(batch.rows, index == 5 ? 3 : 8);
          for (int64_t row = 0; row < batch.rows; ++row) {
            const int32_t label = static_cast<const int32_t*>(batch.inputs[0])[row];
            EXPECT_EQ(static_cast<const float*>(batch.inputs[1])[row],
                      static_cast<float>(5 * label) / 255.0f);
            seen.push_back(label);
          }
        }
        const bool ascending = std::is_sorted(seen.begin(), seen.end());
        EXPECT_EQ(ascending, epoch == 0);
        std::sort(seen.begin(), seen.end());
        EXPECT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
        EXPECT_EQ(seen.size(), drop ? 40u : 43u);
        EXPECT_LT(seen.back(), 43);  // none of val
      }
    }
}

TEST(Batches, RefuseWhatDoesNotFit) {
  const Dataset data = load_dataset(
      {.name = "d", .source = "synthetic_digits", .options = {{"train", int64_t{20}}}, .batch = 8});
  const int64_t wrong[] = {3, 28, 28}, flat[] = {28, 28};
  const auto entry_with = [](const gradc_input& input) {
    return gradc_entry_info{nullptr, 0, 1, &input, 0, nullptr, 1};
  };
  const gradc_input large{"d.image", GRADC_F32, 3, wrong}, typed{"label", GRADC_F32, 0, nullptr},
      unknown{"d.weight", GRADC_F32, 0, nullptr}, fits{"image", GRADC_F32, 2, flat};
  const auto read = [&](const gradc_input& input, bool drop = false) {
    BatchReader(data.split("train"), entry_with(input), 32, drop);
  };
  expect_error(kExitDataError, {"d.image", "f32[3, 28, 28]", "f32[1, 28, 28]"}, [&] { read(large); });
  expect_error(kExitDataError, {"label", "f32", "i32"}, [&] { read(typed); });
  expect_error(kExitDataError, {"d.weight", "image, label"}, [&] { read(unknown); });
  read(fits);
  expect_error(kExitDataError, {"train has 20 examples", "one batch of 32", "nothing is left"},
               [&] { read(fits, true); });
}

TEST(Experiment, Reads) {
  const Experiment experiment = read_experiment(
      R"({"data":{"name":"c","source":"mnist","options":{"path":"p","n":3,"x":0.5,"b":true,"shape":[3,32,32]},
      "batch":128,"drop_last":true,"splits":[{"name":"val","count":5000,"from":"train"}]},"train":{"epochs":9,"seed":-4}})");
  EXPECT_EQ(std::get<std::string>(experiment.data.options.at("path")), "p");
  EXPECT_EQ(std::get<int64_t>(experiment.data.options.at("n")), 3);
  EXPECT_EQ(std::get<double>(experiment.data.options.at("x")), 0.5);
  EXPECT_EQ(std::get<bool>(experiment.data.options.at("b")), true);
  EXPECT_EQ(std::get<std::vector<int64_t>>(experiment.data.options.at("shape")),
            (std::vector<int64_t>{3, 32, 32}));
  EXPECT_EQ(experiment.data.batch, 128);
  EXPECT_TRUE(experiment.data.drop_last);
  EXPECT_EQ(experiment.data.splits.at(0).count, 5000);
  EXPECT_EQ(experiment.train.epochs, 9);
  EXPECT_EQ(experiment.train.seed, -4);
  for (
      const char* wrong :
      {"", "{}", "[1]", R"({"data":{"name":1}})",
       R"({"data":{"name":"a","source":"b","options":{"o":{"p":1}},"batch":1},"train":{"epochs":1,"seed":1}})",
       R"({"data":{"name":"a","source":"b","options":{"o":[1.5]},"batch":1},"train":{"epochs":1,"seed":1}})",
       R"({"data":{"name":"a","source":"b","options":{"o":[1,true]},"batch":1},"train":{"epochs":1,"seed":1}})"})
    EXPECT_THROW(read_experiment(wrong), InternalError) << wrong;
}

}  // namespace
}  // namespace gradc::runtime::data_test
