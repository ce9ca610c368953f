// The sources cifar10, npy and csv, folds and shares: what is read, and what is refused and how.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "runtime/data/batches.h"
#include "runtime/data/csv.h"
#include "runtime/data/dataset.h"
#include "runtime/data/npy.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "tests/runtime/helpers.h"

namespace gradc::runtime::file_sources_test {
namespace {

using test::Bytes;
using test::expect_error;
using test::TemporaryFolder;
using test::write_bytes;

void write_text(const std::string& path, const std::string& text) {
  write_bytes(path, Bytes(text.begin(), text.end()));
}

// `count` examples with labels from `first`, pixels counting up.
Bytes cifar_bytes(size_t count, size_t first = 0) {
  Bytes bytes;
  for (size_t i = 0; i < count; ++i) {
    bytes.push_back(static_cast<uint8_t>((first + i) % 10));
    for (size_t k = 0; k < 3072; ++k) bytes.push_back(static_cast<uint8_t>(first + i + k));
  }
  return bytes;
}

DataRecord cifar_record(const std::string& path) {
  return {.name = "c", .source = "cifar10", .options = {{"path", path}}, .batch = 4};
}

TEST(Cifar10, ReadsTheFilesThatAreThere) {
  TemporaryFolder folder;
  write_bytes(folder / "data_batch_2.bin", cifar_bytes(3));
  write_bytes(folder / "data_batch_5.bin", cifar_bytes(2, 3));
  Dataset data = load_dataset(cifar_record(folder.path()));
  EXPECT_EQ(data.split("train").count, 5);
  EXPECT_EQ(data.find("test"), nullptr);
  const Table& table = *data.split("train").table;
  EXPECT_EQ(table.fields[0].shape, (std::vector<int64_t>{3, 32, 32}));
  EXPECT_EQ(table.fields[1].integers, (std::vector<int32_t>{0, 1, 2, 3, 4}));
  std::vector<float> values(3072);
  const int64_t row = 4;
  table.fields[0].gather(&row, 1, values.data());
  for (size_t k = 0; k < 3072; ++k) ASSERT_EQ(values[k], static_cast<float>((4 + k) % 256) / 255.0f);
  write_bytes(folder / "test_batch.bin", cifar_bytes(7));
  EXPECT_EQ(load_dataset(cifar_record(folder.path())).split("test").count, 7);
}

TEST(Cifar10, SaysWhatIsWrong) {
  TemporaryFolder folder;
  expect_error(kExitDataError, {"nowhere", "no such folder", "data_batch_1.bin", "check the path"},
               [&] { load_dataset(cifar_record(folder / "nowhere")); });
  expect_error(kExitDataError, {"no file data_batch_1.bin to data_batch_5.bin is there"},
               [&] { load_dataset(cifar_record(folder.path())); });
  const std::string path = folder / "data_batch_1.bin";
  Bytes bytes = cifar_bytes(3);
  write_bytes(path, Bytes(bytes.begin(), bytes.end() - 1));
  expect_error(kExitDataError, {path, "9218 bytes", "multiple of 3073", "truncated"},
               [&] { load_dataset(cifar_record(folder.path())); });
  write_bytes(path, {});
  expect_error(kExitDataError, {path, "0 bytes"}, [&] { load_dataset(cifar_record(folder.path())); });
  bytes[3073] = 10;
  write_bytes(path, bytes);
  expect_error(kExitDataError, {path, "label 10 of example 1", "0 to 9", "CIFAR-100"},
               [&] { load_dataset(cifar_record(folder.path())); });
}

TEST(Cifar10, RealImages) {
  const std::string path = std::string(GRADC_SOURCE_DIR) + "/../shared/data/cifar10";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no real CIFAR-10 files beside the source folder";
  const Dataset data = load_dataset(cifar_record(path));
  EXPECT_GE(data.split("train").count, 10000);
  int counts[10] = {};
  for (const int32_t label : data.split("train").table->fields[1].integers) ++counts[label];
  for (const int count : counts) EXPECT_NEAR(count, 1000, 100);
}

template <class T>
void write_array(const std::string& path, const std::string& dtype, const std::vector<int64_t>& shape,
                 const std::vector<T>& values) {
  const std::string header = npy_header(dtype, shape);
  Bytes bytes(header.begin(), header.end());
  const auto* raw = reinterpret_cast<const uint8_t*>(values.data());
  bytes.insert(bytes.end(), raw, raw + values.size() * sizeof(T));
  write_bytes(path, bytes);
}

DataRecord npy_record(const TemporaryFolder& folder) {
  DataRecord record{.name = "d", .source = "npy", .options = {{"classes", int64_t{3}}}, .batch = 2};
  record.fields = {{.name = "image", .is_float = true, .shape = {2, 2}, .train = folder / "x.npy"},
                   {.name = "label", .is_float = false, .shape = {}, .train = folder / "y.npy"}};
  return record;
}

TEST(NpySource, ReadsNumbersOfAllKinds) {
  TemporaryFolder folder;
  const std::vector<float> floats = {0, 0.5f, -1, 2, 3, 4, 5, 6};
  write_array<int64_t>(folder / "y.npy", "<i8", {2}, {2, 0});
  const auto image = [&] {
    const Dataset data = load_dataset(npy_record(folder));
    EXPECT_EQ(data.split("train").table->fields[1].integers, (std::vector<int32_t>{2, 0}));
    std::vector<float> values(8);
    const int64_t rows[] = {0, 1};
    data.split("train").table->fields[0].gather(rows, 2, values.data());
    return values;
  };
  write_array<float>(folder / "x.npy", "<f4", {2, 2, 2}, floats);
  EXPECT_EQ(image(), floats);
  write_array<double>(folder / "x.npy", "<f8", {2, 2, 2}, {floats.begin(), floats.end()});
  EXPECT_EQ(image(), floats);
  write_array<int32_t>(folder / "y.npy", "<i4", {2}, {2, 0});
  write_array<uint8_t>(folder / "x.npy", "|u1", {2, 2, 2}, {0, 51, 102, 255, 0, 0, 0, 0});
  EXPECT_EQ(image()[1], 51 / 255.0f);
  write_array<uint8_t>(folder / "y.npy", "|u1", {2}, {2, 0});
  EXPECT_EQ(image()[3], 1.0f);
}

// float64 that floats do not hold is kept for what normalises it, and refused where a float cannot come near.
TEST(NpySource, KeepsDoublesForNormalisation) {
  TemporaryFolder folder;
  write_array<double>(folder / "x.npy", "<f8", {2, 2, 2}, {1.7e9 + 1, 0, 0, 0, 1.7e9 + 2, 0, 0, 0});
  write_array<int32_t>(folder / "y.npy", "<i4", {2}, {2, 0});
  DataRecord record = npy_record(folder);
  EXPECT_TRUE(load_dataset(record).split("train").table->fields[0].doubles.empty());
  record.normalize = {{.field = "image", .name = "pixel", .options = {{"std", true}}}};
  const Dataset exact = load_dataset(record);
  EXPECT_EQ(exact.split("train").table->fields[0].doubles[4], 1.7e9 + 2);
  write_array<double>(folder / "x.npy", "<f8", {2, 2, 2}, {1, 0, 0, 0, 2, 0, 0, 0.5});
  EXPECT_TRUE(load_dataset(record).split("train").table->fields[0].doubles.empty());
  write_array<double>(folder / "x.npy", "<f8", {2, 2, 2}, {1, 0, 0, 0, 1e300, 0, 0, 0});
  expect_error(kExitDataError, {"x.npy: at number 4: 1e+300 is beyond the range of f32"},
               [&] { load_dataset(record); });
  write_array<float>(folder / "x.npy", "<f2", {2, 2, 2}, std::vector<float>(4));
  expect_error(kExitDataError, {"x.npy", "dtype '<f2'", "'<f8' (float64)", "'<i8' (int64)", "'|b1' (bool)"},
               [&] { load_dataset(record); });
}

TEST(NpySource, ReadsTheTestPart) {
  TemporaryFolder folder;
  write_array<float>(folder / "x.npy", "<f4", {1, 2, 2}, {1, 2, 3, 4});
  write_array<int32_t>(folder / "y.npy", "<i4", {1}, {1});
  write_array<float>(folder / "tx.npy", "<f4", {2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
  write_array<int32_t>(folder / "ty.npy", "<i4", {2}, {1, 2});
  DataRecord record = npy_record(folder);
  record.fields[0].test = folder / "tx.npy";
  record.fields[1].test = folder / "ty.npy";
  EXPECT_EQ(load_dataset(record).split("test").count, 2);
}

TEST(NpySource, SaysWhatIsWrong) {
  TemporaryFolder folder;
  const auto fails = [&](const std::vector<std::string>& pieces) {
    expect_error(kExitDataError, pieces, [&] { load_dataset(npy_record(folder)); });
  };
  const std::vector<float> floats(8);
  const auto restore = [&] {
    write_array<float>(folder / "x.npy", "<f4", {2, 2, 2}, floats);
    write_array<int32_t>(folder / "y.npy", "<i4", {2}, {2, 0});
  };
  fails({"x.npy", "No such file"});
  restore();
  write_array<float>(folder / "x.npy", "<f4", {4, 2}, floats);
  fails({"x.npy", "shape [4, 2]", "examples x [2, 2]"});
  write_array<float>(folder / "x.npy", "<f4", {0, 2, 2}, {});
  fails({"x.npy", "no examples"});
  restore();
  write_array<int32_t>(folder / "y.npy", "<i4", {3}, {2, 0, 1});
  fails({"y.npy", "3 examples", "other fields have 2", "belong together"});
  write_array<int32_t>(folder / "y.npy", "<i4", {2}, {2, 3});
  fails({"y.npy", "label 3 of example 1", "0 to 2", "classes"});
  write_array<int64_t>(folder / "y.npy", "<i8", {2}, {0, int64_t{1} << 40});
  fails({"y.npy", "1099511627776 at number 1", "i32"});
  write_array<float>(folder / "y.npy", "<f4", {2}, {0, 1});
  fails({"y.npy", "'<f4'", "`label` is i32", "astype"});
  restore();
  write_array<int32_t>(folder / "x.npy", "<i4", {2, 2, 2}, std::vector<int32_t>(8));
  fails({"x.npy", "'<i4'", "`image` is f32", "'|u1'"});
  write_bytes(folder / "x.npy", {1, 2, 3});
  fails({"x.npy", "magic bytes"});
}

CsvNumbers parse(const std::string& text, const std::vector<CsvColumn>& columns, CsvOptions options = {}) {
  return parse_csv("the-file", text, options, columns);
}

TEST(Csv, ReadsColumns) {
  const std::string text = "a, b ,\"c,d\"\r\n1,2.5,x\r\n\r\n-3e2,\"4\",\"y \"\"z\"\"\n w\"\r\n+5,.5,z";
  const CsvNumbers numbers = parse(text, {{"b"}, {"", 0}});
  EXPECT_EQ(numbers.rows, 3);
  EXPECT_EQ(numbers.values, (std::vector<double>{2.5, 1, 4, -300, 0.5, 5}));
  EXPECT_EQ(numbers.lines, (std::vector<int64_t>{2, 4, 6}));
  EXPECT_EQ(parse("\xEF\xBB\xBF"
                  "a\n7\n",
                  {{"a"}})
                .values,
            std::vector<double>{7});
  EXPECT_EQ(parse("7;8\n9;10\n", {{"", 1}}, {';', CsvHeader::absent}).values, (std::vector<double>{8, 10}));
}

TEST(Csv, SaysWhatIsWrong) {
  const auto fails = [](const std::string& text, const std::vector<std::string>& pieces,
                        const std::vector<CsvColumn>& columns = {{"a"}}) {
    std::vector<std::string> all = {"the-file"};
    all.insert(all.end(), pieces.begin(), pieces.end());
    expect_error(kExitDataError, all, [&] { parse(text, columns); });
  };
  fails("", {"no column `a`", "names none"});
  fails("a,b\n", {"no examples", "after the one that names"});
  fails("height,b\n1,2\n", {"no column `heigth`", "did you mean `height`"}, {{"heigth"}});
  fails("a,b\n1,2\n", {"no column 2", "it has 2", "separator"}, {{"", 2}});
  fails("a,a\n1,2\n", {"names `a` twice"});
  fails("a,b\n1,2\n1,2,3\n", {":3:", "3 columns", "expected 2"});
  fails("a,b\n1,2\n,2\n", {":3:", "`a`", "nothing is there"});
  fails("a,b\n1,2\nred,2\n", {":3:", "`red` is no finite number"});
  fails("a,b\n1 2,2\n", {"`1 2`"});
  fails("a,b\nnan,2\n", {"`nan`"});
  fails("a,b\n1e999,2\n", {"`1e999`"});
  fails("a,b\n\"1,2\n", {"never closed", "truncated"});
  fails("a,b\n\"1\"x,2\n", {"goes on after its closing quote"});
  fails(std::string("a,b\n1,\0\n", 8), {"byte 6 is 0", "no text file"});
}

TEST(Csv, TakesEveryLineEnd) {
  for (const char* end : {"\n", "\r\n", "\r"}) {
    std::string written;
    for (const char c : std::string("a,b\n1,2\n\n\"3\",\"4\"\n5,x\n"))
      written += c == '\n' ? end : std::string(1, c);
    const CsvNumbers numbers = parse(written, {{"a"}});
    EXPECT_EQ(numbers.values, (std::vector<double>{1, 3, 5}));
    EXPECT_EQ(numbers.lines, (std::vector<int64_t>{2, 4, 5}));
  }
}

TEST(Csv, NumbersTooSmallForADoubleAreZero) {
  EXPECT_EQ(parse("a\n1e-400\n-1e-400\n1e-310\n", {{"a"}}).values, (std::vector<double>{0, 0, 1e-310}));
}

// A file without names, whose first example was lost without a word.
TEST(Csv, TheFirstLineIsNotLost) {
  const std::vector<CsvColumn> numbers = {{"", 0}, {"", 2}};
  const auto doubtful = [&](const std::string& text, const std::vector<std::string>& pieces) {
    expect_error(kExitDataError, pieces, [&] { parse(text, numbers); });
  };
  doubtful("1,2,0\n3,4,1\n",
           {"the-file:1:", "column 0 of the first line is the number 1", "`header=false`", "`header=true`"});
  doubtful("id,year,2020\n3,4,1\n", {"column 2 of the first line is the number 2020"});
  doubtful("?,2,0\n3,4,1\n", {"column 2 of the first line is the number 0"});
  EXPECT_EQ(parse("h,w,kind\n1,2,0\n", numbers).values, (std::vector<double>{1, 0}));
  EXPECT_EQ(parse("1,2,0\n3,4,1\n", numbers, {',', CsvHeader::absent}).values,
            (std::vector<double>{1, 0, 3, 1}));
  EXPECT_EQ(parse("0,1,2\n3,4,1\n", numbers, {',', CsvHeader::present}).values, (std::vector<double>{3, 1}));
  EXPECT_EQ(parse("7,1,2\n3,4,1\n", {{"7"}}).values, std::vector<double>{3});  // by name there are names
  expect_error(kExitDataError, {"the-file:1:", "`h` is no finite number", "leave `header=false` out"},
               [&] { parse("h,w,kind\n1,2,0\n", numbers, {',', CsvHeader::absent}); });
}

TEST(Csv, SaysWhatIsWrongWithOtherText) {
  expect_error(kExitDataError, {"the-file", "UTF-16", "iconv"}, [] {
    parse(std::string("\xFF\xFE"
                      "a\0",
                      4),
          {{"a"}});
  });
  // Of very many names only the first are listed.
  std::string names;
  for (int i = 0; i < 100000; ++i) names += "c" + std::to_string(i) + ",";
  try {
    parse(names + "\n", {{"d7"}});
    FAIL();
  } catch (const RunError& error) {
    const std::string what = error.what();
    EXPECT_LT(what.size(), 600u);
    EXPECT_NE(what.find("and 99951 more"), std::string::npos) << what;
    EXPECT_NE(what.find("did you mean `c7`?"), std::string::npos) << what;
  }
}

// Cells that are not chosen take neither time nor memory beyond the file's own: a line of separators had 32
// bytes for each.
TEST(Csv, ManyColumnsTakeNoMemory) {
  const std::string line(64 << 20, ',');
  const auto peak = test::peak_memory([&] {
    expect_error(kExitDataError, {"the-file:2:", "67108865 columns", "expected 2"},
                 [&] { parse("a,b\n" + line, {{"a"}}); });
    expect_error(kExitDataError, {"the-file", "no column `a`", "and 67108815 more"},
                 [&] { parse(line, {{"a"}}); });
  });
  if (!peak) GTEST_SKIP() << "the peak of memory cannot be measured here";
  EXPECT_LT(*peak, int64_t{3} * (64 << 20));  // the text in the test's own hands, twice
}

TEST(Csv, SurvivesDamage) {
  const std::string text = "a,b,c\n1,2,3\n4,5,6\n\"7\",8,9\n";
  const Bytes good(text.begin(), text.end());
  test::Noise noise(3);
  int refused = 0;
  for (int round = 0; round < 5000; ++round) {
    const Bytes bytes = test::damaged(good, noise);
    try {
      const CsvNumbers numbers = parse({bytes.begin(), bytes.end()}, {{"a"}, {"", 1}});
      ASSERT_EQ(numbers.values.size(), static_cast<size_t>(numbers.rows) * 2);
      ASSERT_EQ(numbers.lines.size(), static_cast<size_t>(numbers.rows));
    } catch (const RunError& error) {
      ++refused;
      ASSERT_EQ(error.exit_code, kExitDataError);
    }
  }
  EXPECT_GT(refused, 1000);
  EXPECT_LT(refused, 5000);
}

DataRecord csv_record(const std::string& path) {
  DataRecord record{
      .name = "d", .source = "csv", .options = {{"path", path}, {"classes", int64_t{3}}}, .batch = 2};
  record.fields = {{.name = "x", .is_float = true, .shape = {2}, .columns = {"h", "w"}},
                   {.name = "label", .is_float = false, .numbers = {2}}};
  return record;
}

TEST(CsvSource, FillsFields) {
  TemporaryFolder folder;
  write_text(folder / "t.csv", "h,w,kind,note\n1,2,0,a\n3,4,2,b\n");
  DataRecord record = csv_record(folder / "t.csv");
  record.options["test"] = folder / "t.csv";
  const Dataset data = load_dataset(record);
  const Table& table = *data.split("test").table;
  EXPECT_EQ(table.rows, 2);
  EXPECT_EQ(table.fields[0].floats, (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(table.fields[1].integers, (std::vector<int32_t>{0, 2}));
}

// Nothing said, as the model file leaves it; and what an executable's --data says.
TEST(CsvSource, HeaderIsSaidInSeveralWays) {
  TemporaryFolder folder;
  write_text(folder / "t.csv", "1,2\n3,4\n");
  DataRecord record{.name = "d", .source = "csv", .options = {{"path", folder / "t.csv"}}, .batch = 2};
  record.fields = {{.name = "x", .is_float = true, .shape = {2}, .numbers = {0, 1}}};
  record.options["header"] = std::string("automatic");
  expect_error(kExitDataError, {"t.csv:1:", "`header=false`"}, [&] { load_dataset(record); });
  for (const auto& [said, rows] : {std::pair("header=false", 2), {"header=true", 1}}) {
    DataRecord given = record;
    override_options(given, {said});
    EXPECT_EQ(load_dataset(given).split("train").count, rows) << said;
    given.options["header"] = rows == 1;
    EXPECT_EQ(load_dataset(given).split("train").count, rows) << said;
  }
  override_options(record, {"header=yes"});
  expect_error(kExitDataError, {"`header` is true or false, not `yes`"}, [&] { load_dataset(record); });
}

TEST(CsvSource, KeepsDoublesForNormalisation) {
  TemporaryFolder folder;
  write_text(folder / "t.csv", "t,u\n1700000001,0.5\n1700000002,1.5\n");
  DataRecord record{.name = "d", .source = "csv", .options = {{"path", folder / "t.csv"}}, .batch = 2};
  record.fields = {{.name = "t", .is_float = true, .columns = {"t"}},
                   {.name = "u", .is_float = true, .columns = {"u"}}};
  EXPECT_EQ(load_dataset(record).split("train").table->fields[0].floats,
            (std::vector<float>{1.7e9f, 1.7e9f}));
  record.normalize = {{.field = "t", .name = "channel", .options = {{"std", true}}},
                      {.field = "u", .name = "channel", .options = {{"std", true}}}};
  const Dataset data = load_dataset(record);
  const Table& table = *data.split("train").table;
  EXPECT_EQ(table.fields[0].doubles, (std::vector<double>{1700000001, 1700000002}));
  EXPECT_EQ(table.fields[1].floats, (std::vector<float>{0.5f, 1.5f}));  // which floats hold
}

TEST(CsvSource, SaysWhatIsWrong) {
  TemporaryFolder folder;
  const std::string path = folder / "t.csv";
  const auto fails = [&](const std::string& text, const std::vector<std::string>& pieces) {
    write_text(path, text);
    expect_error(kExitDataError, pieces, [&] { load_dataset(csv_record(path)); });
  };
  fails("h,w,kind\n1,2,3\n", {path, "label 3 in line 2", "0 to 2"});
  fails("h,w,kind\n1,2,0.5\n", {":2:", "0.5 is no whole number", "`label`"});
  fails("h,w,kind\n1,1e99,1\n", {":2:", "1e+99", "f32"});
  expect_error(kExitDataError, {"none.csv", "No such file"},
               [&] { load_dataset(csv_record(folder / "none.csv")); });
}

Dataset digits(std::vector<DataSplit> splits) {
  DataRecord record{.name = "d",
                    .source = "synthetic_digits",
                    .options = {{"train", int64_t{53}}, {"test", int64_t{5}}},
                    .batch = 8};
  record.splits = std::move(splits);
  return load_dataset(record);
}

std::vector<int64_t> rows_of(const Split& split) {
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < split.count; ++i) rows.push_back(split.row(i));
  return rows;
}

TEST(Splits, FoldsCoverEveryExampleOnce) {
  std::vector<int> seen(53);
  for (int64_t fold = 1; fold <= 5; ++fold) {
    const Dataset data = digits({{.name = "val", .from = "train", .fold = fold, .folds = 5}});
    const std::vector<int64_t> val = rows_of(data.split("val")), train = rows_of(data.split("train"));
    EXPECT_EQ(val.size(), fold <= 3 ? 11u : 10u);
    EXPECT_EQ(val.size() + train.size(), 53u);
    for (const int64_t row : val) {
      EXPECT_EQ(row % 5, fold - 1);
      ++seen[static_cast<size_t>(row)];
      EXPECT_EQ(std::count(train.begin(), train.end(), row), 0);
    }
  }
  EXPECT_EQ(seen, std::vector<int>(53, 1));
}

TEST(Splits, SharesAndSplitsOfSplits) {
  const Dataset data = digits({{.name = "val", .from = "train", .fold = 2, .folds = 5},
                               {.name = "held", .from = "train", .fraction = 0.25},
                               {.name = "more", .count = 3, .from = "held"}});
  EXPECT_EQ(data.split("val").count, 11);
  const std::vector<int64_t> train = rows_of(data.split("train")), held = rows_of(data.split("held")),
                             more = rows_of(data.split("more"));
  EXPECT_EQ(train.size(), 31u);  // 42 less a quarter
  EXPECT_EQ(held.size(), 8u);
  EXPECT_EQ(more, (std::vector<int64_t>{49, 50, 52}));
  EXPECT_LT(train.back(), held.front());
  EXPECT_LT(held.back(), more.front());
}

TEST(Splits, SayWhatIsWrong) {
  expect_error(kExitDataError, {"val = fold 1 of 60 of train", "53 examples"},
               [] { digits({{.name = "val", .from = "train", .fold = 1, .folds = 60}}); });
  expect_error(kExitDataError, {"val = 0.001 of train", "53 examples"},
               [] { digits({{.name = "val", .from = "train", .fraction = 0.001}}); });
}

TEST(Splits, BatchesFollowThem) {
  const Dataset data = digits({{.name = "val", .from = "train", .fold = 2, .folds = 5}});
  const gradc_input input{"label", GRADC_I32, 0, nullptr};
  const gradc_entry_info entry{nullptr, 0, 1, &input, 0, nullptr, 1};
  BatchReader reader(data.split("val"), entry, 16);
  reader.assemble(0, 0, 1);
  const auto& labels = data.split("train").table->fields[1].integers;
  const auto* got = static_cast<const int32_t*>(reader.batch(0).inputs[0]);
  for (size_t i = 0; i < 11; ++i) EXPECT_EQ(got[i], labels[1 + 5 * i]);
}

// --- Order: curriculum and bootstrap

DataRecord scored(TemporaryFolder& folder, const std::vector<double>& scores) {
  std::string text = "score\n";
  for (const double score : scores) text += std::to_string(score) + "\n";
  write_text(folder / "s.csv", text);
  DataRecord record{.name = "d", .source = "csv", .options = {{"path", folder / "s.csv"}}, .batch = 2};
  record.fields = {{.name = "score", .is_float = true, .columns = {"score"}}};
  return record;
}

TEST(Curriculum, BeginsWithTheEasiest) {
  TemporaryFolder folder;
  std::vector<double> scores;
  for (int i = 0; i < 40; ++i) scores.push_back((i * 17) % 40);  // every number once
  DataRecord record = scored(folder, scores);
  record.curriculum = "score";
  record.curriculum_epochs = 3;
  const Split train = load_dataset(record).split("train");
  for (uint64_t epoch = 0; epoch < 6; ++epoch) {
    const std::vector<int64_t> order = epoch_order(train, 1, epoch, true);
    ASSERT_EQ(order.size(), 40u);
    const int taken = epoch < 3 ? 10 * (static_cast<int>(epoch) + 1) : 40;
    std::vector<int> counts(40);
    for (const int64_t row : order) ++counts[static_cast<size_t>(scores[static_cast<size_t>(row)])];
    for (int score = 0; score < 40; ++score) {
      EXPECT_GE(counts[static_cast<size_t>(score)], score < taken ? 40 / taken : 0) << epoch << " " << score;
      EXPECT_LE(counts[static_cast<size_t>(score)], score < taken ? (39 / taken) + 1 : 0)
          << epoch << " " << score;
    }
    EXPECT_EQ(epoch_order(train, 1, epoch, true), order);
    EXPECT_NE(epoch_order(train, 2, epoch, true), order);
    // A round's order is another one than the first's.
    if (epoch == 0) {
      EXPECT_NE(std::vector<int64_t>(order.begin(), order.begin() + 10),
                std::vector<int64_t>(order.begin() + 10, order.begin() + 20));
    }
  }
  const std::vector<int64_t> plain = epoch_order(train, 1, 0, false);
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(scores[static_cast<size_t>(plain[i])], static_cast<double>(i));
}

TEST(Curriculum, IsOfTheTrainingPartAndNeedsNumbers) {
  TemporaryFolder folder;
  DataRecord record = scored(folder, {3, 1, 2, 0});
  record.splits = {{.name = "val", .count = 1, .from = "train"}};
  record.curriculum = "score";
  record.curriculum_epochs = 1;
  const Dataset data = load_dataset(record);
  EXPECT_EQ(*data.split("train").easy_first, (std::vector<int64_t>{1, 2, 0}));
  EXPECT_EQ(data.split("val").easy_first, nullptr);
  record.curriculum = "scores";
  expect_error(kExitDataError, {"no field `scores`"}, [&] { load_dataset(record); });
  const float nan[] = {1, NAN};
  write_array<float>(folder / "s.npy", "<f4", {2}, {nan, nan + 2});
  DataRecord numbers{.name = "d", .source = "npy", .batch = 2};
  numbers.fields = {{.name = "score", .is_float = true, .train = folder / "s.npy"}};
  numbers.curriculum = "score";
  numbers.curriculum_epochs = 1;
  expect_error(kExitDataError, {"`score` of example 1 is not a number"}, [&] { load_dataset(numbers); });
}

TEST(Bootstrap, DrawsWithReplacement) {
  DataRecord record{
      .name = "d", .source = "synthetic_digits", .options = {{"train", int64_t{2000}}}, .batch = 8};
  record.splits = {{.name = "val", .count = 500, .from = "train"}};
  const auto rows = [&](int64_t seed) {
    record.bootstrap = seed;
    return rows_of(load_dataset(record).split("train"));
  };
  std::vector<int64_t> first = rows(1);
  EXPECT_EQ(first.size(), 1500u);
  EXPECT_EQ(rows(1), first);
  EXPECT_NE(rows(2), first);
  EXPECT_EQ(rows_of(load_dataset(record).split("val")).front(), 1500);
  std::sort(first.begin(), first.end());
  EXPECT_GE(first.front(), 0);
  EXPECT_LT(first.back(), 1500);
  const auto different = std::unique(first.begin(), first.end()) - first.begin();
  EXPECT_NEAR(static_cast<double>(different), 1500 * (1 - std::exp(-1.0)), 40);
}

}  // namespace
}  // namespace gradc::runtime::file_sources_test
