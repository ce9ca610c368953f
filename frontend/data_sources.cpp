// The table of data sources.
#include "frontend/data_sources.h"

#include "support/data_limits.h"

namespace gradc::frontend {

namespace {

int64_t integer(const DataRecord& record, const char* option) {
  return std::get<int64_t>(record.options.at(option));
}

std::vector<DataField> image_and_label(Shape image, int64_t classes) {
  return {{.name = "image", .shape = std::move(image)},
          {.name = "label", .is_float = false, .count = classes}};
}

std::vector<DataField> digits(const DataRecord&) { return image_and_label({1, 28, 28}, 10); }

std::vector<DataField> sized_images(const DataRecord& r) {
  return image_and_label({integer(r, "channels"), integer(r, "height"), integer(r, "width")},
                         integer(r, "classes"));
}

}  // namespace

const std::vector<SourceKind>& source_kinds() {
  using Kind = SourceOption::Kind;
  static const std::vector<SourceKind> table = {
      {"mnist",
       "MNIST's four IDX files, plain or .gz, in one folder: image f32[1, 28, 28] in 0..1, label i32; splits "
       "train and test.",
       {{"path", Kind::text, true, {}, 0, "the folder"}},
       false,
       digits},
      {"synthetic_digits",
       "Digits drawn by code, without any file: image f32[1, 28, 28] in 0..1, label i32; splits train and "
       "test.",
       {{"train", Kind::integer, false, int64_t{10000}, 1, "examples to train on"},
        {"test", Kind::integer, false, int64_t{2000}, 1, "examples to test on"},
        {"seed", Kind::integer, false, int64_t{1}, 0, "of the drawings"}},
       false,
       digits},
      {"idx",
       "Any two IDX files of images and labels: image f32[channels, height, width], label i32; split train, "
       "and test when given.",
       {{"images", Kind::text, true, {}, 0, "the file of images to train on"},
        {"labels", Kind::text, true, {}, 0, "the file of labels to train on"},
        {"test_images", Kind::text, false, std::string(), 0, "the file of images to test on"},
        {"test_labels", Kind::text, false, std::string(), 0, "the file of labels to test on"},
        {"classes", Kind::integer, false, int64_t{10}, 1, "labels run from 0 to classes - 1", INT32_MAX},
        {"channels", Kind::integer, false, int64_t{1}, 1, "of an image"},
        {"height", Kind::integer, false, int64_t{28}, 1, "of an image"},
        {"width", Kind::integer, false, int64_t{28}, 1, "of an image"}},
       false,
       sized_images},
      {"cifar10",
       "CIFAR-10's binary files in one folder, data_batch_1.bin to data_batch_5.bin, as many as are there, "
       "and "
       "test_batch.bin: image f32[3, 32, 32] in 0..1, label i32; splits train, and test when there.",
       {{"path", Kind::text, true, {}, 0, "the folder"}},
       false,
       [](const DataRecord&) { return image_and_label({3, 32, 32}, 10); }},
      {"npy",
       "NumPy's .npy files, one for each declared field; splits train, and test when given.",
       {{"classes", Kind::integer, false, int64_t{0}, 1, "labels run from 0 to classes - 1", INT32_MAX}},
       true},
      {"csv",
       "A text file of columns, a line an example; split train, and test when given.",
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
       "label i32, in order of the folders' names; split train, and test when given.",
       {{"path", Kind::text, true, {}, 0, "the folder of the classes to train on"},
        {"test", Kind::text, false, std::string(), 0, "the same to test on"},
        {"height", Kind::integer, false, int64_t{32}, 1, "of an image, to which all are resized", 1 << 14},
        {"width", Kind::integer, false, int64_t{32}, 1, "of an image", 1 << 14},
        {"channels", Kind::integer, false, int64_t{3}, 1, "3: red, green, blue; 1: grey", 3},
        {"classes", Kind::integer, false, int64_t{10}, 1, "how many folders there are", INT32_MAX}},
       false,
       sized_images},
      {"text",
       "Text as windows of characters, each with the characters that follow: tokens i32[length], next "
       "i32[length], numbers from 0 (any other character) to vocabulary - 1. A UTF-8 file, or without one "
       "sentences that code makes by a small grammar; splits train, and test when given or made.",
       {{"path", Kind::text, false, std::string(), 0, "the file to train on; none: text made by code"},
        {"test", Kind::text, false, std::string(), 0, "the file to test on"},
        {"length", Kind::integer, false, int64_t{64}, 1, "characters in a window", 1 << 20},
        {"stride", Kind::integer, false, int64_t{0}, 0,
         "from one window's beginning to the next; 0: the length"},
        {"vocabulary", Kind::integer, false, int64_t{96}, 2, "numbers of characters, 0 for those too rare",
         1 << 20},
        {"characters", Kind::integer, false, int64_t{200000}, 1, "of text made by code, to train on",
         1 << 28},
        {"seed", Kind::integer, false, int64_t{1}, INT64_MIN, "of text made by code"}},
       false,
       [](const DataRecord& r) {
         const DataField window = {.name = "tokens",
                                   .is_float = false,
                                   .shape = {integer(r, "length")},
                                   .count = integer(r, "vocabulary")};
         DataField next = window;
         next.name = "next";
         return std::vector<DataField>{next, window};
       }},
      {"random",
       "Random numbers of any shape, for benchmarks and experiments: image f32[shape], standard normal, "
       "label "
       "i32, uniform; splits train and test.",
       {{"shape", Kind::integers, false, std::vector<int64_t>{1, 28, 28}, 1, "of an image", INT64_MAX,
         kMaxRandomRank},
        {"classes", Kind::integer, false, int64_t{10}, 1, "labels run from 0 to classes - 1", INT32_MAX},
        {"train", Kind::integer, false, int64_t{1024}, 1, "examples to train on"},
        {"test", Kind::integer, false, int64_t{256}, 1, "examples to test on"},
        {"seed", Kind::integer, false, int64_t{1}, INT64_MIN, "of the numbers"}},
       false,
       [](const DataRecord& r) {
         return image_and_label(std::get<std::vector<int64_t>>(r.options.at("shape")), integer(r, "classes"));
       }},
  };
  return table;
}

int64_t count_of(const DataRecord& record, const std::string& field) {
  for (const DataField& f : record.fields)
    if (f.name == field) return f.count;
  return 0;
}

}  // namespace gradc::frontend
