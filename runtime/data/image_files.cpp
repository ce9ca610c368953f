// Decodes images and fits them to their size on several threads. Executables link this file only when their model reads
// a folder (gradc_source_folder, a weak reference in dataset.cpp).
#include "runtime/data/image_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <mutex>
#include <thread>

#include "runtime/data/image_decode.h"
#include "runtime/data/image_ops.h"
#include "runtime/data/source_options.h"
#include "runtime/files.h"
#include "runtime/memory.h"
#include "runtime/threads.h"

namespace gradc::runtime {
namespace {

using sources::fail;
using sources::Options;
using sources::suggestion;
using sources::whole;

constexpr uint64_t kMostFileBytes = uint64_t{1} << 30;

class PixelSink : public RowSink {
 public:
  void begin(int64_t height, int64_t width) override { pixels = {height, width, {}}; }
  void row(const uint8_t* rgb) override { pixels.rgb.insert(pixels.rgb.end(), rgb, rgb + 3 * pixels.width); }
  Pixels pixels;
};

// Crops and halves an image row by row, so that only some rows are in memory.
class Fitter : public RowSink {
 public:
  Fitter(int64_t height, int64_t width) : height_(height), width_(width) {}

  void begin(int64_t height, int64_t width) override {
    Image size;
    size.height = height;
    size.width = width;
    box_ = middle_box(size, height_, width_);
    int64_t h = box_.height, w = box_.width;
    for (; h >= 2 * height_ && w >= 2 * width_; h /= 2, w /= 2) levels_.emplace_back(h, w);
    reduced_ = Image(3, h, w);
    row_.resize(static_cast<size_t>(3 * box_.width));
  }
  void row(const uint8_t* rgb) override {
    const int64_t y = y_++ - box_.top;
    if (y < 0 || y >= box_.height) return;
    for (int64_t c = 0; c < 3; ++c)
      for (int64_t x = 0; x < box_.width; ++x)
        row_[static_cast<size_t>(c * box_.width + x)] = rgb[(box_.left + x) * 3 + c];
    push(0, row_);
  }

  std::vector<uint8_t> bytes(int64_t channels) {
    Image image = std::move(reduced_);
    if (image.height != height_ || image.width != width_)
      image = resized_crop(image, {0, 0, image.height, image.width}, height_, width_);
    if (channels == 1) {
      Image one(1, height_, width_);
      for (int64_t i = 0; i < height_ * width_; ++i) one.values[static_cast<size_t>(i)] = grey(image, i);
      image = std::move(one);
    }
    std::vector<uint8_t> bytes;
    bytes.reserve(image.values.size());
    for (const float v : image.values)
      bytes.push_back(static_cast<uint8_t>(std::clamp(v + 0.5f, 0.0f, 255.0f)));
    return bytes;
  }

 private:
  // A level of halving: two rows of this size become one of half the size.
  struct Level {
    int64_t height, width, seen = 0;
    std::vector<float> upper, half;
    Level(int64_t h, int64_t w)
        : height(h), width(w), upper(static_cast<size_t>(3 * w)), half(static_cast<size_t>(3 * (w / 2))) {}
  };

  void push(size_t at, const std::vector<float>& row) {
    if (at == levels_.size()) {
      for (int64_t c = 0; c < 3; ++c)
        std::copy_n(row.begin() + c * reduced_.width, reduced_.width, reduced_.row(c, out_));
      ++out_;
      return;
    }
    Level& level = levels_[at];
    const int64_t y = level.seen++;
    if (y % 2 == 0) {
      level.upper = row;  // the last of an odd number of rows is dropped
      return;
    }
    const int64_t half = level.width / 2;
    for (int64_t c = 0; c < 3; ++c) {
      const float *upper = level.upper.data() + c * level.width, *lower = row.data() + c * level.width;
      float* out = level.half.data() + c * half;
      for (int64_t x = 0; x < half; ++x)
        out[x] = (upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1]) / 4;
    }
    push(at + 1, level.half);
  }

  int64_t height_, width_, y_ = 0, out_ = 0;
  Box box_;
  std::vector<Level> levels_;
  std::vector<float> row_;
  Image reduced_;
};

struct ImageFile {
  std::string path;
  int32_t label = 0;
};

bool is_image_name(const std::filesystem::path& path) {
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return ending == ".png" || ending == ".jpg" || ending == ".jpeg";
}

// A folder's entries in order of names, without hidden ones.
std::vector<std::filesystem::path> entries(const std::string& folder) {
  std::error_code error;
  std::vector<std::filesystem::path> result;
  for (auto it = std::filesystem::directory_iterator(folder, error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error))
    if (it->path().filename().string().front() != '.') result.push_back(it->path());
  if (error)
    fail(fmt::format("{}: {}; expected a folder with one folder of images for each class", folder,
                     error.message()));
  std::sort(result.begin(), result.end());
  return result;
}

std::vector<std::string> class_names(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : entries(folder))
    if (std::filesystem::is_directory(entry)) names.push_back(entry.filename().string());
  if (names.empty())
    fail(fmt::format("{}: there is no folder in it; expected one for each class, with its images", folder));
  return names;
}

std::vector<ImageFile> image_files(const std::string& folder, const std::vector<std::string>& classes) {
  std::vector<ImageFile> files;
  for (const std::string& name : class_names(folder)) {
    const auto at = std::find(classes.begin(), classes.end(), name);
    if (at == classes.end())
      fail(fmt::format("{}/{}: training has no such class{}", folder, name, suggestion(name, classes)));
    const size_t before = files.size();
    for (const auto& entry : entries(folder + "/" + name))
      if (is_image_name(entry)) files.push_back({entry.string(), static_cast<int32_t>(at - classes.begin())});
    if (files.size() == before)
      fail(fmt::format("{}/{}: no .png, .jpg or .jpeg file is in it", folder, name));
  }
  return files;
}

Table read_images(const std::vector<ImageFile>& files, int64_t channels, int64_t height, int64_t width) {
  const auto each = static_cast<size_t>(channels * height * width);
  if (files.size() > available_memory() / each)
    fail(fmt::format("{} images of {} bytes do not fit the memory; choose a smaller `height` and `width`",
                     files.size(), each));
  Table table;
  table.rows = static_cast<int64_t>(files.size());
  Field image{.name = "image", .shape = {channels, height, width}}, label{.name = "label"};
  image.bytes.resize(files.size() * each);
  for (const ImageFile& file : files) label.integers.push_back(file.label);
  std::atomic<size_t> next = 0;
  std::mutex mutex;
  size_t failed = files.size();  // the first file that cannot be read
  std::exception_ptr error;
  const auto work = [&] {
    for (size_t i = next++; i < files.size(); i = next++) {
      try {
        Fitter fitter(height, width);
        decode_image(files[i].path, read_file(files[i].path, "image", kMostFileBytes), fitter);
        const std::vector<uint8_t> pixels = fitter.bytes(channels);
        std::copy(pixels.begin(), pixels.end(), image.bytes.begin() + static_cast<ptrdiff_t>(i * each));
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < failed) {
          failed = i;
          error = std::current_exception();
        }
        next = files.size();
      }
    }
  };
  std::vector<std::thread> threads;
  try {
    for (int i = 1; i < std::min(choose_thread_count(0), 8); ++i) threads.emplace_back(work);
  } catch (const std::system_error&) {
    // This thread and those that started do the work.
  }
  work();
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
  table.fields.push_back(std::move(image));
  table.fields.push_back(std::move(label));
  return table;
}

}  // namespace

Pixels decode_image(const std::string& path, const std::vector<uint8_t>& bytes) {
  PixelSink sink;
  decode_image(path, bytes, sink);
  return std::move(sink.pixels);
}

std::vector<uint8_t> fitted(const Pixels& pixels, int64_t channels, int64_t height, int64_t width) {
  Fitter fitter(height, width);
  fitter.begin(pixels.height, pixels.width);
  for (int64_t y = 0; y < pixels.height; ++y) fitter.row(pixels.rgb.data() + y * pixels.width * 3);
  return fitter.bytes(channels);
}

std::vector<Split> read_image_folder(const DataRecord& record) {
  constexpr int64_t kMostSide = 1 << 14;
  Options options(record);
  const std::string path = options.text("path"), test = options.optional_text("test");
  const int64_t channels = options.integer("channels", 3, 1, 3),
                height = options.integer("height", 32, 1, kMostSide),
                width = options.integer("width", 32, 1, kMostSide);
  const int64_t classes = options.integer("classes", 10, 1, INT32_MAX);
  options.refuse_others();
  if (channels == 2)
    fail(fmt::format("data {} = folder(...): images have 1 or 3 channels, not 2", record.name));
  const std::vector<std::string> names = class_names(path);
  if (static_cast<int64_t>(names.size()) != classes)
    fail(fmt::format("{}: {} folders of classes are in it, and the model file says `classes={}`", path,
                     names.size(), classes));
  std::vector<Split> splits;
  splits.push_back(whole("train", read_images(image_files(path, names), channels, height, width)));
  if (!test.empty())
    splits.push_back(whole("test", read_images(image_files(test, names), channels, height, width)));
  return splits;
}

}  // namespace gradc::runtime

extern "C" void gradc_source_folder(const void* record, void* splits) {
  using namespace gradc::runtime;
  *static_cast<std::vector<Split>*>(splits) =
      read_image_folder(*static_cast<const gradc::DataRecord*>(record));
}
