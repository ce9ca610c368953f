// Reads CIFAR-10, .npy and .csv files into tables.
#include "runtime/data/file_sources.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cmath>

#include "runtime/data/csv.h"
#include "runtime/data/npy_field.h"
#include "runtime/data/prepare.h"
#include "runtime/data/source_options.h"
#include "runtime/files.h"
#include "support/shape_text.h"

namespace gradc::runtime {
namespace {

using sources::fail;
using sources::Options;
using sources::whole;

constexpr size_t kCifarImage = size_t{3} * 32 * 32, kCifarRecord = kCifarImage + 1;
constexpr int kCifarFiles = 5;

bool exists(const std::string& path) {
  struct stat status{};
  return stat(path.c_str(), &status) == 0;
}

// Appends a batch file's examples.
void append_cifar(const std::string& path, Field& image, Field& label) {
  const std::vector<uint8_t> bytes = read_file(path, "data file");
  if (bytes.empty() || bytes.size() % kCifarRecord != 0)
    fail(fmt::format(
        "{}: it has {} bytes; expected a multiple of {}, a label and 3 x 32 x 32 pixels an example: "
        "it is truncated, or not CIFAR-10's binary version (cifar-10-binary.tar.gz)",
        path, bytes.size(), kCifarRecord));
  const size_t count = bytes.size() / kCifarRecord;
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* record = bytes.data() + i * kCifarRecord;
    if (record[0] > 9)
      fail(
          fmt::format("{}: label {} of example {} is out of range; expected 0 to 9: is it another file, or "
                      "CIFAR-100, which has two labels an example?",
                      path, record[0], i));
    label.integers.push_back(record[0]);
    image.bytes.insert(image.bytes.end(), record + 1, record + kCifarRecord);
  }
}

Table cifar_table(const std::vector<std::string>& paths) {
  Field image{.name = "image", .shape = {3, 32, 32}}, label{.name = "label"};
  for (const std::string& path : paths) append_cifar(path, image, label);
  Table table;
  table.rows = static_cast<int64_t>(label.integers.size());
  table.fields = {std::move(image), std::move(label)};
  return table;
}

// One field of one .npy file; `rows` is the number of examples so far, 0: not known.
Field read_field(const DataField& wanted, const Preparation& preparation, const std::string& path,
                 int64_t& rows, int64_t classes) {
  NpyArray array = read_npy(path);
  const std::vector<int64_t> shape(array.shape.begin() + (array.shape.empty() ? 0 : 1), array.shape.end());
  if (array.shape.empty() || shape != wanted.shape)
    fail(fmt::format("{}: an array of shape {}; the field `{}` needs examples x {}", path,
                     shape_text(array.shape), wanted.name, shape_text(wanted.shape)));
  const int64_t examples = array.shape[0];
  if (rows != 0 && examples != 0 && rows != examples)
    fail(fmt::format(
        "{}: {} examples, but the other fields have {}; expected equally many: do the files belong "
        "together?",
        path, examples, rows));
  Field field = npy_field(path, std::move(array), wanted.name, wanted.is_float,
                          fmt::format("the field `{}` is {}", wanted.name, wanted.is_float ? "f32" : "i32"),
                          preparation.reads_doubles(wanted.name, shape.size()));
  rows = examples;
  sources::check_classes(path, field, rows, classes,
                         [](size_t i) { return fmt::format("of example {}", i); });
  return field;
}

// The option is a truth value in model files, text by default and in an executable's --data.
CsvHeader header_of(const DataRecord& record, Options& options) {
  const auto written = record.options.find("header");
  if (written != record.options.end() && std::holds_alternative<bool>(written->second))
    return options.flag("header", true) ? CsvHeader::present : CsvHeader::absent;
  const std::string text = options.optional_text("header");
  if (text.empty() || text == "automatic") return CsvHeader::automatic;
  if (text != "true" && text != "false")
    fail(
        fmt::format("data {} = csv(...): the option `header` is true or false, not `{}`", record.name, text));
  return text == "true" ? CsvHeader::present : CsvHeader::absent;
}

Table read_csv_table(const DataRecord& record, const std::string& path, const CsvOptions& options,
                     int64_t classes) {
  std::vector<CsvColumn> columns;  // of all fields
  for (const DataField& field : record.fields) {
    for (const std::string& name : field.columns) columns.push_back({name});
    for (const int64_t number : field.numbers) columns.push_back({"", number});
  }
  const CsvNumbers numbers = read_csv(path, options, columns);
  const Preparation preparation(record);
  Table table;
  table.rows = numbers.rows;
  const auto lines = std::make_shared<const std::vector<int64_t>>(numbers.lines.begin(), numbers.lines.end());
  size_t first = 0;
  for (const DataField& wanted : record.fields) {
    Field field{.name = wanted.name, .shape = wanted.shape, .origin = path};
    const size_t count = wanted.columns.size() + wanted.numbers.size();
    std::vector<double> values;
    for (size_t row = 0; row < numbers.lines.size(); ++row)
      for (size_t i = 0; i < count; ++i) {
        const double value = numbers.values[row * columns.size() + first + i];
        if (wanted.is_float) {
          values.push_back(value);
          continue;
        }
        if (value != std::floor(value) || value < INT32_MIN || value > INT32_MAX)
          fail(fmt::format("{}:{}: {} is no whole number within i32, which the field `{}` needs", path,
                           numbers.lines[row], value, wanted.name));
        field.integers.push_back(static_cast<int32_t>(value));
      }
    if (wanted.is_float)
      sources::keep_values(field, std::move(values),
                           preparation.reads_doubles(wanted.name, wanted.shape.size()),
                           [&](size_t i) { return fmt::format("{}:{}", path, numbers.lines[i / count]); });
    sources::check_classes(path, field, table.rows, classes,
                           [&](size_t i) { return fmt::format("in line {}", numbers.lines[i]); });
    if (!wanted.is_float) field.lines = lines;
    first += count;
    table.fields.push_back(std::move(field));
  }
  return table;
}

}  // namespace

std::vector<Split> read_cifar10(const DataRecord& record) {
  Options options(record);
  const std::string folder = options.text("path");
  options.refuse_others();
  std::vector<std::string> train;
  for (int i = 1; i <= kCifarFiles; ++i)
    if (const std::string path = fmt::format("{}/data_batch_{}.bin", folder, i); exists(path))
      train.push_back(path);
  if (train.empty())
    fail(fmt::format(
        "{}: {}; expected a folder with data_batch_1.bin to data_batch_5.bin and test_batch.bin, or "
        "some of them, of CIFAR-10's binary version (cifar-10-binary.tar.gz); check the path",
        folder,
        exists(folder) ? "no file data_batch_1.bin to data_batch_5.bin is there"
                       : "there is no such folder"));
  std::vector<Split> splits;
  splits.push_back(whole("train", cifar_table(train)));
  if (const std::string test = folder + "/test_batch.bin"; exists(test))
    splits.push_back(whole("test", cifar_table({test})));
  return splits;
}

std::vector<Split> read_npy_files(const DataRecord& record) {
  Options options(record);
  const int64_t classes = options.integer("classes", 0, 0, INT32_MAX);
  options.refuse_others();
  GRADC_CHECK(!record.fields.empty(), "npy without fields");
  const Preparation preparation(record);
  std::vector<Split> splits;
  for (const bool test : {false, true}) {
    if (test && record.fields[0].test.empty()) break;
    Table table;
    for (const DataField& field : record.fields)
      table.fields.push_back(
          read_field(field, preparation, test ? field.test : field.train, table.rows, classes));
    splits.push_back(whole(test ? "test" : "train", std::move(table)));
  }
  return splits;
}

std::vector<Split> read_csv_files(const DataRecord& record) {
  Options options(record);
  const std::string path = options.text("path"), test = options.optional_text("test"),
                    separator = options.optional_text("separator");
  const CsvOptions format{separator.empty() ? ',' : separator[0], header_of(record, options)};
  const int64_t classes = options.integer("classes", 0, 0, INT32_MAX);
  options.refuse_others();
  GRADC_CHECK(!record.fields.empty(), "csv without fields");
  std::vector<Split> splits;
  splits.push_back(whole("train", read_csv_table(record, path, format, classes)));
  if (!test.empty()) splits.push_back(whole("test", read_csv_table(record, test, format, classes)));
  return splits;
}

}  // namespace gradc::runtime
