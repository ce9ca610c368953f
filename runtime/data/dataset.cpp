// Loads the sources into tables and cuts splits; the file formats are in files of their own.
#include "runtime/data/dataset.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <new>
#include <optional>

#include "runtime/data/file_sources.h"
#include "runtime/data/idx.h"
#include "runtime/data/prepare.h"
#include "runtime/data/random_data.h"
#include "runtime/data/source_options.h"
#include "runtime/data/synthetic_digits.h"
#include "runtime/data/text.h"
#include "runtime/memory.h"
#include "support/data_limits.h"
#include "support/philox.h"
#include "support/shape_text.h"

// The source `folder` needs libpng and libjpeg, most of which a small executable should not carry without need: the
// linker takes it (runtime/data/image_files.cpp) only where code refers to this function.
extern "C" [[gnu::weak]] void gradc_source_folder(const void* record, void* splits);

namespace gradc::runtime {
namespace {

// The random stream of the order of examples, far above those that model files use.
constexpr uint32_t kShuffleStream = 0xFFFF0001u;
constexpr uint32_t kBootstrapStream = 0xFFFF0002u;

using sources::fail;
using sources::Options;
using sources::whole;

Field image_field(const std::string& path, IdxArray array) {
  Field field{.name = "image", .shape = {array.shape.begin() + 1, array.shape.end()}};
  if (field.shape.size() == 2) field.shape.insert(field.shape.begin(), 1);
  switch (array.type) {
    case IdxArray::Type::u8: field.bytes = std::move(array.bytes); break;
    case IdxArray::Type::f32:
      field.floats.resize(array.bytes.size() / sizeof(float));
      std::memcpy(field.floats.data(), array.bytes.data(), array.bytes.size());
      break;
    default:
      fail(fmt::format("{}: images of {}; expected unsigned bytes or 32-bit floats", path,
                       idx_type_name(array.type)));
  }
  return field;
}

Field label_field(const std::string& path, const IdxArray& array, int64_t classes) {
  if (array.shape.size() != 1)
    fail(
        fmt::format("{}: labels of shape {}; expected one number an example, rank 1: is it the images' file?",
                    path, shape_text(array.shape)));
  Field field{.name = "label", .origin = path};
  field.integers.resize(static_cast<size_t>(array.examples()));
  if (array.type == IdxArray::Type::u8) {
    std::copy(array.bytes.begin(), array.bytes.end(), field.integers.begin());
  } else if (array.type == IdxArray::Type::i32) {
    std::memcpy(field.integers.data(), array.bytes.data(), array.bytes.size());
  } else {
    fail(fmt::format("{}: labels of {}; expected unsigned bytes or 32-bit integers", path,
                     idx_type_name(array.type)));
  }
  for (size_t i = 0; i < field.integers.size(); ++i)
    if (field.integers[i] < 0 || field.integers[i] >= classes)
      fail(
          fmt::format("{}: label {} of example {} is out of range; expected 0 to {}; check the file, or the "
                      "number of classes",
                      path, field.integers[i], i, classes - 1));
  return field;
}

Table read_pair(const std::string& images_path, const std::string& labels_path, int64_t classes) {
  IdxArray images = read_idx(images_path);
  const IdxArray labels = read_idx(labels_path);
  if (images.examples() != labels.examples())
    fail(fmt::format(
        "{} has {} images, but {} has {} labels; expected equally many: do the files belong together?",
        images_path, images.examples(), labels_path, labels.examples()));
  Table table;
  table.rows = images.examples();
  table.fields.push_back(label_field(labels_path, labels, classes));
  table.fields.insert(table.fields.begin(), image_field(images_path, std::move(images)));
  return table;
}

// The plain file if there is one, else the gzip file.
std::string find_file(const std::string& folder, const std::string& name) {
  struct stat status{};
  for (const char* ending : {"", ".gz"})
    if (const std::string path = folder + "/" + name + ending; stat(path.c_str(), &status) == 0) return path;
  const bool exists = stat(folder.c_str(), &status) == 0;
  fail(
      fmt::format("{}: {}; expected a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, "
                  "t10k-images-idx3-ubyte and "
                  "t10k-labels-idx1-ubyte, each plain or .gz; check the path, or use synthetic_digits(), "
                  "which needs no files",
                  folder,
                  !exists                    ? "there is no such folder"
                  : !S_ISDIR(status.st_mode) ? "it is not a folder"
                                             : fmt::format("neither {0} nor {0}.gz is there", name)));
}

std::vector<Split> read_mnist(const DataRecord& record) {
  Options options(record);
  const std::string folder = options.text("path");
  options.refuse_others();
  std::vector<Split> splits;
  const std::array<std::array<const char*, 2>, 2> files = {{{"train", "train"}, {"test", "t10k"}}};
  for (const auto& [split, prefix] : files) {
    const std::string images = find_file(folder, fmt::format("{}-images-idx3-ubyte", prefix));
    Table table = read_pair(images, find_file(folder, fmt::format("{}-labels-idx1-ubyte", prefix)), 10);
    if (table.fields[0].shape != std::vector<int64_t>{1, 28, 28})
      fail(fmt::format("{}: images of shape {}; expected [1, 28, 28]; for other sizes use the source idx",
                       images, shape_text(table.fields[0].shape)));
    splits.push_back(whole(split, std::move(table)));
  }
  return splits;
}

std::vector<Split> read_idx_files(const DataRecord& record) {
  Options options(record);
  const std::string images = options.text("images"), labels = options.text("labels");
  const std::string test_images = options.optional_text("test_images"),
                    test_labels = options.optional_text("test_labels");
  const int64_t classes = options.integer("classes", 10, 1, INT32_MAX);
  options.refuse_others();
  if (test_images.empty() != test_labels.empty())
    fail(fmt::format("data {} = idx(...): test_images and test_labels belong together; one is missing",
                     record.name));
  std::vector<Split> splits;
  splits.push_back(whole("train", read_pair(images, labels, classes)));
  if (!test_images.empty()) {
    splits.push_back(whole("test", read_pair(test_images, test_labels, classes)));
    const auto& train_shape = splits[0].table->fields[0].shape;
    const auto& test_shape = splits[1].table->fields[0].shape;
    if (train_shape != test_shape)
      fail(fmt::format("{} has images of shape {}, but {} of {}; expected the same", images,
                       shape_text(train_shape), test_images, shape_text(test_shape)));
  }
  return splits;
}

std::vector<Split> draw_digits(const DataRecord& record) {
  constexpr int64_t kMost = 1'000'000;
  Options options(record);
  const int64_t counts[] = {options.integer("train", 10'000, 1, kMost),
                            options.integer("test", 2'000, 1, kMost)};
  const auto seed = static_cast<uint64_t>(options.integer("seed", 1, INT64_MIN, INT64_MAX));
  options.refuse_others();
  std::vector<Split> splits;
  for (uint32_t split : {0u, 1u}) {
    DigitImages digits = make_synthetic_digits(seed, split, counts[split]);
    Table table;
    table.rows = counts[split];
    table.fields.push_back(
        {.name = "image", .shape = {1, kDigitSide, kDigitSide}, .bytes = std::move(digits.images)});
    table.fields.push_back({.name = "label", .integers = std::move(digits.labels)});
    splits.push_back(whole(split == 0 ? "train" : "test", std::move(table)));
  }
  return splits;
}

double gib(uint64_t bytes) { return static_cast<double>(bytes) / (uint64_t{1} << 30); }

std::vector<Split> make_random(const DataRecord& record) {
  constexpr std::array<const char*, 2> kNames = {"train", "test"};
  Options options(record);
  const std::vector<int64_t> shape = options.extents("shape", {1, 28, 28}, kMaxRandomRank);
  const int64_t classes = options.integer("classes", 10, 1, INT32_MAX);
  const std::array<int64_t, 2> counts = {options.integer("train", 1'024, 1, INT64_MAX),
                                         options.integer("test", 256, 1, INT64_MAX)};
  const auto seed = static_cast<uint64_t>(options.integer("seed", 1, INT64_MIN, INT64_MAX));
  options.refuse_others();
  const std::optional<int64_t> each = random_example_bytes(shape);
  if (!each)
    fail(
        fmt::format("data {} = random(...): one example of shape {} takes more than the {} GiB that a split "
                    "may have; choose a smaller shape",
                    record.name, shape_text(shape), kMaxRandomBytes >> 30));
  uint64_t bytes = 0;
  for (size_t split = 0; split < kNames.size(); ++split) {
    if (counts[split] > kMaxRandomBytes / *each)
      fail(fmt::format(
          "data {} = random(...): {} examples of {} bytes in `{}` are more than the {} GiB that "
          "a split may have; at most {} fit",
          record.name, counts[split], *each, kNames[split], kMaxRandomBytes >> 30, kMaxRandomBytes / *each));
    bytes += static_cast<uint64_t>(counts[split] * *each);
  }
  if (const uint64_t available = available_memory(); bytes > available)
    fail(
        fmt::format("data {} = random(...): its examples take {:.2f} GiB, and {:.2f} GiB of memory are "
                    "available; ask for fewer, or for a smaller shape",
                    record.name, gib(bytes), gib(available)));
  std::vector<Split> splits;
  for (size_t split = 0; split < kNames.size(); ++split) {
    RandomExamples examples =
        make_random_examples(seed, static_cast<uint32_t>(split), counts[split], *each / 4 - 1, classes);
    Table table;
    table.rows = counts[split];
    table.fields.push_back({.name = "image", .shape = shape, .floats = std::move(examples.images)});
    table.fields.push_back({.name = "label", .integers = std::move(examples.labels)});
    splits.push_back(whole(kNames[split], std::move(table)));
  }
  return splits;
}

std::vector<Split> no_arrays(const DataRecord& record) {
  fail(
      fmt::format("data {} = arrays(...): the examples are those of the program that embeds gradc "
                  "(docs/embed.md), and none were given; to read files, use npy or csv",
                  record.name));
}

std::vector<Split> read_folder(const DataRecord& record) {
  if (!gradc_source_folder)
    fail(fmt::format("data {} = folder(...): this program was linked without the feature that reads images",
                     record.name));
  std::vector<Split> splits;
  gradc_source_folder(&record, &splits);
  return splits;
}

struct SourceEntry {
  const char* name;
  std::vector<Split> (*read)(const DataRecord&);
};
constexpr SourceEntry kSources[] = {{"mnist", read_mnist},   {"synthetic_digits", draw_digits},
                                    {"idx", read_idx_files}, {"cifar10", read_cifar10},
                                    {"npy", read_npy_files}, {"csv", read_csv_files},
                                    {"arrays", no_arrays},   {"random", make_random},
                                    {"text", read_text},     {"folder", read_folder}};

// The message for memory that ran out while the record's files were read.
std::string out_of_memory_text(const DataRecord& record) {
  std::vector<std::string> files;
  for (const auto& [name, value] : record.options)
    if (const auto* text = std::get_if<std::string>(&value);
        text && !text->empty() && name != "separator" && name != "header")
      files.push_back(*text);
  for (const DataField& field : record.fields)
    for (const std::string& file : {field.train, field.test})
      if (!file.empty()) files.push_back(file);
  return fmt::format("data {} = {}(...): there is no memory to read {}; {} MB are available", record.name,
                     record.source, files.empty() ? "it" : fmt::format("{}", fmt::join(files, ", ")),
                     available_memory() / 1000000);
}

// How many of `size` examples a split takes; 0 where it cannot.
int64_t taken(const DataSplit& wanted, int64_t size) {
  int64_t count = wanted.count;
  if (wanted.folds > 0) count = size < wanted.folds ? 0 : (size - wanted.fold) / wanted.folds + 1;
  if (wanted.fraction > 0) count = std::llround(wanted.fraction * static_cast<double>(size));
  return count < 1 || count >= size ? 0 : count;
}

// "5000 of train", "fold 1 of 5 of train".
std::string split_text(const DataSplit& wanted) {
  if (wanted.folds > 0) return fmt::format("fold {} of {} of {}", wanted.fold, wanted.folds, wanted.from);
  if (wanted.fraction > 0) return fmt::format("{} of {}", wanted.fraction, wanted.from);
  return fmt::format("{} of {}", wanted.count, wanted.from);
}

// Takes the new split's examples out of `from`.
Split cut(Split& from, const DataSplit& wanted, int64_t count) {
  Split result{wanted.name, from.table, from.first + from.count - count, count};
  if (wanted.folds == 0) {
    if (from.rows)
      result.rows = std::make_shared<const std::vector<int64_t>>(from.rows->end() - count, from.rows->end());
    from.count -= count;
    return result;
  }
  std::vector<int64_t> in, out;
  for (int64_t i = 0; i < from.count; ++i)
    (i % wanted.folds == wanted.fold - 1 ? in : out).push_back(from.row(i));
  from.count = static_cast<int64_t>(out.size());
  from.rows = std::make_shared<const std::vector<int64_t>>(std::move(out));
  result.rows = std::make_shared<const std::vector<int64_t>>(std::move(in));
  return result;
}

// As many examples, drawn with replacement (Breiman 1996, "Bagging predictors").
void bootstrap(Split& train, uint64_t seed) {
  std::vector<int64_t> rows(static_cast<size_t>(train.count));
  for (int64_t i = 0; i < train.count; ++i) {
    const PhiloxWords words =
        philox4x32_10({static_cast<uint32_t>(i), static_cast<uint32_t>(i >> 32), kBootstrapStream, 0},
                      static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    const uint64_t random = uint64_t{words[1]} << 32 | words[0];
    rows[static_cast<size_t>(i)] = train.row(static_cast<int64_t>(
        static_cast<unsigned __int128>(random) * static_cast<uint64_t>(train.count) >> 64));
  }
  train.rows = std::make_shared<const std::vector<int64_t>>(std::move(rows));
}

// Sorts rows by score, stably.
void sort_by_score(Split& train, const DataRecord& record) {
  const Field* scores = nullptr;
  for (const Field& field : train.table->fields)
    if (field.name == record.curriculum) scores = &field;
  if (!scores)
    fail(fmt::format("data {}: there is no field `{}` to order by", record.name, record.curriculum));
  const auto score = [&](int64_t row) {
    const auto at = static_cast<size_t>(row);
    if (!scores->doubles.empty()) return scores->doubles[at];
    if (const float* floats = scores->float_values()) return static_cast<double>(floats[at]);
    const int32_t* integers = scores->integer_values();
    return integers ? static_cast<double>(integers[at]) : static_cast<double>(scores->byte_values()[at]);
  };
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < train.count; ++i) {
    rows.push_back(train.row(i));
    if (std::isnan(score(rows.back())))
      fail(
          fmt::format("data {}: the score `{}` of example {} is not a number; a curriculum needs one of each",
                      record.name, record.curriculum, rows.back()));
  }
  std::stable_sort(rows.begin(), rows.end(), [&](int64_t a, int64_t b) { return score(a) < score(b); });
  train.easy_first = std::make_shared<const std::vector<int64_t>>(std::move(rows));
  train.curriculum_epochs = record.curriculum_epochs;
}

}  // namespace

int64_t Field::elements() const {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  return count;
}

void Field::gather(const int64_t* rows, int64_t count, void* out) const {
  const auto size = static_cast<size_t>(elements());
  if (const uint8_t* values = byte_values()) {
    // A table, because a division an element costs more than the load.
    static const std::array<float, 256> scaled = [] {
      std::array<float, 256> table{};
      for (int i = 0; i < 256; ++i) table[static_cast<size_t>(i)] = static_cast<float>(i) / 255.0f;
      return table;
    }();
    auto* to = static_cast<float*>(out);
    for (int64_t i = 0; i < count; ++i, to += size) {
      const uint8_t* from = values + static_cast<size_t>(rows[i]) * size;
      for (size_t k = 0; k < size; ++k) to[k] = scaled[from[k]];
    }
    return;
  }
  if (!doubles.empty()) {
    auto* to = static_cast<float*>(out);
    for (int64_t i = 0; i < count; ++i, to += size) {
      const double* from = doubles.data() + static_cast<size_t>(rows[i]) * size;
      for (size_t k = 0; k < size; ++k) to[k] = static_cast<float>(from[k]);
    }
    return;
  }
  const uint8_t* base = integer_values() ? reinterpret_cast<const uint8_t*>(integer_values())
                                         : reinterpret_cast<const uint8_t*>(float_values());
  auto* to = static_cast<uint8_t*>(out);
  for (int64_t i = 0; i < count; ++i)
    std::memcpy(to + static_cast<size_t>(i) * size * 4, base + static_cast<size_t>(rows[i]) * size * 4,
                size * 4);
}

const Split* Dataset::find(const std::string& name) const {
  for (const Split& split : splits)
    if (split.name == name) return &split;
  return nullptr;
}

const Split& Dataset::split(const std::string& name) const {
  if (const Split* split = find(name)) return *split;
  std::vector<std::string> names;
  for (const Split& split : splits) names.push_back(split.name);
  fail(fmt::format("the data have no split `{}`; there are {}{}", name, fmt::join(names, ", "),
                   sources::suggestion(name, names)));
}

Dataset load_dataset(const DataRecord& record) {
  std::vector<Split> splits;
  std::vector<std::string> names;
  for (const SourceEntry& source : kSources) {
    names.push_back(source.name);
    if (record.source != source.name) continue;
    try {
      splits = source.read(record);
    } catch (const std::bad_alloc&) {
      throw RunError(kExitRunFailed, out_of_memory_text(record));
    }
  }
  if (splits.empty())
    fail(fmt::format("data {}: unknown source `{}`; there are {}{}", record.name, record.source,
                     fmt::join(names, ", "), sources::suggestion(record.source, names)));
  for (const DataSplit& wanted : record.splits)
    for (const Split& split : splits)
      if (split.name == wanted.name)
        fail(fmt::format("data {}: there is already a split `{}`", record.name, wanted.name));
  return make_dataset(record, std::move(splits));
}

Dataset make_dataset(const DataRecord& record, std::vector<Split> splits) {
  Dataset result{std::move(splits)};
  for (const DataSplit& wanted : record.splits) {
    if (result.find(wanted.name)) continue;
    Split& from = const_cast<Split&>(result.split(wanted.from));
    const int64_t count = taken(wanted, from.count);
    if (count == 0)
      fail(fmt::format("data {}: split {} = {}: {} has {} examples; expected a split of 1 to {}", record.name,
                       wanted.name, split_text(wanted), wanted.from, from.count, from.count - 1));
    result.splits.push_back(cut(from, wanted, count));
  }
  Split& train = const_cast<Split&>(result.split("train"));
  if (record.bootstrap) bootstrap(train, static_cast<uint64_t>(*record.bootstrap));
  if (!record.curriculum.empty()) sort_by_score(train, record);
  if (!record.normalize.empty() || !record.augment.empty()) {
    const auto unfitted =
        std::make_shared<const Preparation>(record);  // throws when used, until a fitted one replaces it
    for (Split& split : result.splits) split.preparation = unfitted;
  }
  return result;
}

std::vector<int64_t> epoch_order(const Split& split, uint64_t seed, uint64_t epoch, bool shuffled) {
  const auto count = static_cast<size_t>(split.count);
  const bool easy = split.easy_first && epoch < static_cast<uint64_t>(split.curriculum_epochs);
  size_t taken = count;
  if (easy) {
    const double share = static_cast<double>(epoch + 1) / static_cast<double>(split.curriculum_epochs + 1);
    taken = std::clamp<size_t>(static_cast<size_t>(std::ceil(share * static_cast<double>(count))), 1, count);
  }
  std::vector<int64_t> rows;
  rows.reserve(count);
  for (uint64_t round = 0; rows.size() < count; ++round) {
    std::vector<int64_t> order;  // rounds beyond the first have keys far from those of other epochs
    if (shuffled) order = keyed_permutation(static_cast<int64_t>(taken), seed, epoch ^ round << 40);
    for (size_t i = 0; i < taken && rows.size() < count; ++i) {
      const int64_t position = shuffled ? order[i] : static_cast<int64_t>(i);
      rows.push_back(easy ? (*split.easy_first)[static_cast<size_t>(position)] : split.row(position));
    }
  }
  return rows;
}

std::vector<int64_t> keyed_permutation(int64_t count, uint64_t seed, uint64_t epoch) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) order[static_cast<size_t>(i)] = i;
  const uint32_t key =
      static_cast<uint32_t>(seed) ^ static_cast<uint32_t>(seed >> 32) * 0x9E3779B9u;  // as support/philox.h
  // Fisher and Yates, from the end; 64 random bits scaled to 0..i (the bias is below 2^-30).
  for (int64_t i = count - 1; i > 0; --i) {
    const auto position = static_cast<uint64_t>(i);
    const PhiloxWords words =
        philox4x32_10({static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32), kShuffleStream,
                       static_cast<uint32_t>(epoch >> 32)},
                      key, static_cast<uint32_t>(epoch));
    const uint64_t random = uint64_t{words[1]} << 32 | words[0];
    const auto other = static_cast<size_t>(static_cast<unsigned __int128>(random) * (position + 1) >> 64);
    std::swap(order[static_cast<size_t>(i)], order[other]);
  }
  return order;
}

}  // namespace gradc::runtime
