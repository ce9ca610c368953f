// Decodes images on several threads. Executables link this file only when their model reads a folder
// (gradc_source_folder, which dataset.cpp asks for weakly).
#include "runtime/image_files.h"

#include <fmt/format.h>
#include <png.h>
#include <setjmp.h>
#include <stdio.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <mutex>
#include <thread>

#include <jpeglib.h>  // needs stdio.h before it

#include "runtime/files.h"
#include "runtime/image_ops.h"
#include "runtime/memory.h"
#include "runtime/source_options.h"
#include "runtime/threads.h"

namespace gradc::runtime {
namespace {

using sources::fail;
using sources::Options;
using sources::suggestion;
using sources::whole;

constexpr int64_t kMostPixels = int64_t{1} << 26;
constexpr uint64_t kMostFileBytes = uint64_t{1} << 30;

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  fail(fmt::format("{}: {}; expected a whole PNG or JPEG image", path, why));
}

void check_size(const std::string& path, int64_t height, int64_t width) {
  if (height < 1 || width < 1 || height > kMostPixels / width)
    refuse(path,
           fmt::format("an image of {} x {} pixels, beyond the limit of {}", height, width, kMostPixels));
}

Pixels decode_png(const std::string& path, const std::vector<uint8_t>& bytes) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_memory(&image, bytes.data(), bytes.size())) refuse(path, image.message);
  struct Free {
    png_image* image;
    ~Free() { png_image_free(image); }
  } const free{&image};
  check_size(path, image.height, image.width);
  image.format = PNG_FORMAT_RGB;
  Pixels result{image.height, image.width, {}};
  result.rgb.resize(PNG_IMAGE_SIZE(image));
  const png_color black{0, 0, 0};
  if (!png_image_finish_read(&image, &black, result.rgb.data(), 0, nullptr)) refuse(path, image.message);
  if (PNG_IMAGE_FAILED(image)) refuse(path, image.message);
  return result;
}

struct JpegErrors {
  jpeg_error_mgr manager;
  jmp_buf back;
  char message[JMSG_LENGTH_MAX];
};

// libjpeg returns from errors by a jump: nothing that must be destroyed may live in here.
bool read_jpeg(jpeg_decompress_struct& jpeg, JpegErrors& errors, const std::vector<uint8_t>& bytes,
               Pixels& result, bool& too_large) {
  if (setjmp(errors.back)) return false;
  jpeg_mem_src(&jpeg, bytes.data(), bytes.size());
  jpeg_read_header(&jpeg, TRUE);
  too_large = int64_t{jpeg.image_height} > kMostPixels / std::max<int64_t>(jpeg.image_width, 1);
  if (too_large) return false;
  jpeg.out_color_space = JCS_RGB;
  jpeg_start_decompress(&jpeg);
  result.height = jpeg.output_height;
  result.width = jpeg.output_width;
  const size_t row = static_cast<size_t>(jpeg.output_width) * 3;
  result.rgb.resize(row * jpeg.output_height);
  while (jpeg.output_scanline < jpeg.output_height) {
    JSAMPROW at = result.rgb.data() + row * jpeg.output_scanline;
    jpeg_read_scanlines(&jpeg, &at, 1);
  }
  jpeg_finish_decompress(&jpeg);
  return true;
}

Pixels decode_jpeg(const std::string& path, const std::vector<uint8_t>& bytes) {
  JpegErrors errors{};
  jpeg_decompress_struct jpeg{};
  jpeg.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = [](j_common_ptr info) {
    auto* own = reinterpret_cast<JpegErrors*>(info->err);  // its first member
    info->err->format_message(info, own->message);
    longjmp(own->back, 1);
  };
  // A file that is cut short is only warned of, and the rest made grey.
  errors.manager.emit_message = [](j_common_ptr info, int level) {
    if (level >= 0 || info->err->num_warnings++ > 0) return;
    info->err->format_message(info, reinterpret_cast<JpegErrors*>(info->err)->message);
  };
  Pixels result;
  jpeg_create_decompress(&jpeg);
  struct Destroy {
    jpeg_decompress_struct* jpeg;
    ~Destroy() { jpeg_destroy_decompress(jpeg); }
  } const destroy{&jpeg};
  bool too_large = false;
  const bool whole = read_jpeg(jpeg, errors, bytes, result, too_large);
  if (too_large) check_size(path, jpeg.image_height, jpeg.image_width);
  if (!whole || errors.manager.num_warnings > 0) refuse(path, errors.message);
  return result;
}

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

// What is in a folder, in order of names, without what is hidden.
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
        const std::vector<uint8_t> pixels =
            fitted(decode_image(files[i].path, read_file(files[i].path, "image", kMostFileBytes)), channels,
                   height, width);
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
    // This thread does it with those that there are.
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
  static constexpr uint8_t kPng[] = {0x89, 'P', 'N', 'G'}, kJpeg[] = {0xFF, 0xD8, 0xFF};
  const auto begins = [&](const auto& with) {
    return bytes.size() >= std::size(with) && std::equal(std::begin(with), std::end(with), bytes.begin());
  };
  if (begins(kPng)) return decode_png(path, bytes);
  if (begins(kJpeg)) return decode_jpeg(path, bytes);
  refuse(path, bytes.empty() ? "the file is empty" : "the file begins as neither");
}

std::vector<uint8_t> fitted(const Pixels& pixels, int64_t channels, int64_t height, int64_t width) {
  Image image(3, pixels.height, pixels.width);
  for (int64_t c = 0; c < 3; ++c)
    for (int64_t i = 0; i < pixels.height * pixels.width; ++i)
      image.values[static_cast<size_t>(c * pixels.height * pixels.width + i)] =
          pixels.rgb[static_cast<size_t>(i * 3 + c)];
  image = crop(image, middle_box(image, height, width));
  while (image.height >= 2 * height && image.width >= 2 * width) {
    Image half(3, image.height / 2, image.width / 2);
    for (int64_t c = 0; c < 3; ++c)
      for (int64_t y = 0; y < half.height; ++y) {
        const float *upper = image.row(c, 2 * y), *lower = image.row(c, 2 * y + 1);
        float* out = half.row(c, y);
        for (int64_t x = 0; x < half.width; ++x)
          out[x] = (upper[2 * x] + upper[2 * x + 1] + lower[2 * x] + lower[2 * x + 1]) / 4;
      }
    image = std::move(half);
  }
  if (image.height != height || image.width != width)
    image = resized_crop(image, {0, 0, image.height, image.width}, height, width);
  if (channels == 1) {
    Image one(1, height, width);
    for (int64_t i = 0; i < height * width; ++i) one.values[static_cast<size_t>(i)] = grey(image, i);
    image = std::move(one);
  }
  std::vector<uint8_t> bytes;
  bytes.reserve(image.values.size());
  for (const float v : image.values)
    bytes.push_back(static_cast<uint8_t>(std::clamp(v + 0.5f, 0.0f, 255.0f)));
  return bytes;
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
  *static_cast<std::vector<Split>*>(splits) = read_image_folder(*static_cast<const DataRecord*>(record));
}
