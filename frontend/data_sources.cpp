// The table of data sources.
#include "frontend/data_sources.h"

#include "support/data_limits.h"

namespace gradc::frontend {

const std::vector<SourceKind>& source_kinds() {
  using Kind = SourceOption::Kind;
  static const std::vector<SourceKind> table = {
      {"mnist",
       "MNIST's four IDX files, plain or .gz, in one folder: image f32[1, 28, 28] in 0..1, label i32; parts "
       "train and test.",
       {{"path", Kind::text, true, {}, 0, "the folder"}}},
      {"synthetic_digits",
       "Digits drawn by code, without any file: image f32[1, 28, 28] in 0..1, label i32; parts train and "
       "test.",
       {{"train", Kind::integer, false, int64_t{10000}, 1, "examples to train on"},
        {"test", Kind::integer, false, int64_t{2000}, 1, "examples to test on"},
        {"seed", Kind::integer, false, int64_t{1}, 0, "of the drawings"}}},
      {"idx",
       "Any two IDX files of images and labels: image f32[channels, height, width], label i32; part train, "
       "and test when given.",
       {{"images", Kind::text, true, {}, 0, "the file of images to train on"},
        {"labels", Kind::text, true, {}, 0, "the file of labels to train on"},
        {"test_images", Kind::text, false, std::string(), 0, "the file of images to test on"},
        {"test_labels", Kind::text, false, std::string(), 0, "the file of labels to test on"},
        {"classes", Kind::integer, false, int64_t{10}, 1, "labels run from 0 to classes - 1", INT32_MAX},
        {"channels", Kind::integer, false, int64_t{1}, 1, "of an image"},
        {"height", Kind::integer, false, int64_t{28}, 1, "of an image"},
        {"width", Kind::integer, false, int64_t{28}, 1, "of an image"}}},
      {"cifar10",
       "CIFAR-10's binary files in one folder, data_batch_1.bin to data_batch_5.bin, as many as are there, "
       "and "
       "test_batch.bin: image f32[3, 32, 32] in 0..1, label i32; parts train, and test when there.",
       {{"path", Kind::text, true, {}, 0, "the folder"}}},
      {"npy",
       "NumPy's .npy files, one for each declared field; parts train, and test when given.",
       {{"classes", Kind::integer, false, int64_t{0}, 1, "labels run from 0 to classes - 1", INT32_MAX}},
       true},
      {"csv",
       "A text file of columns, a line an example; part train, and test when given.",
       {{"path", Kind::text, true, {}, 0, "the file to train on"},
        {"test", Kind::text, false, std::string(), 0, "the file to test on"},
        {"separator", Kind::text, false, std::string(","), 0, "the character between two columns"},
        {"header", Kind::boolean, false, std::string("automatic"), 0,
         "whether the first line names the columns; nothing said: where a column is chosen by name, or where "
         "no "
         "chosen column of it is a number"},
        {"classes", Kind::integer, false, int64_t{0}, 1, "labels run from 0 to classes - 1", INT32_MAX}},
       true},
      {"arrays",
       "Arrays of the program that embeds gradc, one for each declared field; no files are read.",
       {{"classes", Kind::integer, false, int64_t{0}, 1, "labels run from 0 to classes - 1", INT32_MAX}},
       true},
      {"folder",
       "A folder with a folder of .png and .jpg files for each class: image f32[channels, height, width] in "
       "0..1, "
       "label i32, in order of the folders' names; part train, and test when given.",
       {{"path", Kind::text, true, {}, 0, "the folder of the classes to train on"},
        {"test", Kind::text, false, std::string(), 0, "the same to test on"},
        {"height", Kind::integer, false, int64_t{32}, 1, "of an image, to which all are resized", 1 << 14},
        {"width", Kind::integer, false, int64_t{32}, 1, "of an image", 1 << 14},
        {"channels", Kind::integer, false, int64_t{3}, 1, "3: red, green, blue; 1: grey", 3},
        {"classes", Kind::integer, false, int64_t{10}, 1, "how many folders there are", INT32_MAX}}},
      {"text",
       "Text as windows of characters, each with the characters that follow: tokens i32[length], next "
       "i32[length], numbers from 0 (any other character) to vocabulary - 1. A UTF-8 file, or without one "
       "sentences that code makes by a small grammar; parts train, and test when given or made.",
       {{"path", Kind::text, false, std::string(), 0, "the file to train on; none: text made by code"},
        {"test", Kind::text, false, std::string(), 0, "the file to test on"},
        {"length", Kind::integer, false, int64_t{64}, 1, "characters in a window", 1 << 20},
        {"stride", Kind::integer, false, int64_t{0}, 0,
         "from one window's beginning to the next; 0: the length"},
        {"vocabulary", Kind::integer, false, int64_t{96}, 2, "numbers of characters, 0 for those too rare",
         1 << 20},
        {"characters", Kind::integer, false, int64_t{200000}, 1, "of text made by code, to train on",
         1 << 28},
        {"seed", Kind::integer, false, int64_t{1}, INT64_MIN, "of text made by code"}}},
      {"random",
       "Random numbers of any shape, for benchmarks and experiments: image f32[shape], standard normal, "
       "label "
       "i32, uniform; parts train and test.",
       {{"shape", Kind::integers, false, std::vector<int64_t>{1, 28, 28}, 1, "of an image", INT64_MAX,
         kMaxRandomRank},
        {"classes", Kind::integer, false, int64_t{10}, 1, "labels run from 0 to classes - 1", INT32_MAX},
        {"train", Kind::integer, false, int64_t{1024}, 1, "examples to train on"},
        {"test", Kind::integer, false, int64_t{256}, 1, "examples to test on"},
        {"seed", Kind::integer, false, int64_t{1}, INT64_MIN, "of the numbers"}}},
  };
  return table;
}

std::map<std::string, Type> fields_of(const DataRecord& record) {
  if (!record.fields.empty()) {
    std::map<std::string, Type> fields;
    for (const DataField& f : record.fields)
      fields[f.name] = Type{f.is_float ? DType::f32 : DType::i32, true, f.shape};
    return fields;
  }
  const auto extent = [&](const char* name, int64_t otherwise) {
    const auto it = record.options.find(name);
    return it != record.options.end() && std::holds_alternative<int64_t>(it->second)
               ? std::get<int64_t>(it->second)
               : otherwise;
  };
  if (record.source == "text") {
    const Type window{DType::i32, true, {extent("length", 64)}};
    return {{"tokens", window}, {"next", window}};
  }
  Shape image = {extent("channels", 1), extent("height", 28), extent("width", 28)};
  if (record.source == "cifar10") image = {3, 32, 32};
  if (const auto shape = record.options.find("shape"); shape != record.options.end())
    image = std::get<std::vector<int64_t>>(shape->second);
  return {{"image", Type{DType::f32, true, std::move(image)}}, {"label", Type{DType::i32, true, {}}}};
}

int64_t classes_of(const DataRecord& record) {
  if (const auto classes = record.options.find("classes"); classes != record.options.end())
    return std::get<int64_t>(classes->second);
  return 10;  // mnist, cifar10, synthetic_digits
}

int64_t count_of(const DataRecord& record, const std::string& field) {
  if (record.source == "text") return std::get<int64_t>(record.options.at("vocabulary"));
  if (field != "label") return 0;
  for (const DataField& f : record.fields)
    if (f.name == field && (f.is_float || !f.shape.empty())) return 0;
  return classes_of(record);
}

}  // namespace gradc::frontend
