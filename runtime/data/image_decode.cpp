// The two libraries return from errors by longjmp: functions that call setjmp hold nothing that must be
// destroyed.
#include "runtime/data/image_decode.h"

#include <fmt/format.h>
#include <png.h>
#include <setjmp.h>
#include <stdio.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>

#include <jpeglib.h>  // needs stdio.h before it

#include "runtime/data/source_options.h"

namespace gradc::runtime {
namespace {

constexpr int64_t kMostPixels = int64_t{1} << 26;
constexpr int64_t kLargePixels = int64_t{1} << 22;  // of whole images: larger ones one at a time
constexpr int kMostScans = 100;                     // encoders write some ten

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
  sources::fail(fmt::format("{}: {}; expected a whole PNG or JPEG image", path, why));
}

void check_size(const std::string& path, int64_t height, int64_t width) {
  if (height < 1 || width < 1 || height > kMostPixels / width)
    refuse(path,
           fmt::format("an image of {} x {} pixels, beyond the limit of {}", height, width, kMostPixels));
}

// A lock held while a large image is in memory as a whole.
std::unique_lock<std::mutex> turn_of(int64_t pixels) {
  static std::mutex mutex;
  return pixels > kLargePixels ? std::unique_lock(mutex) : std::unique_lock<std::mutex>();
}

struct PngErrors {
  jmp_buf back;
  char message[256];
};

struct PngSource {
  const uint8_t* at;
  size_t left;
};

void take_bytes(png_structp png, png_bytep out, size_t size) {
  auto* source = static_cast<PngSource*>(png_get_io_ptr(png));
  if (size > source->left) png_error(png, "the file ends too early");
  std::memcpy(out, source->at, size);
  source->at += size;
  source->left -= size;
}

struct Png {
  PngErrors errors{};
  PngSource source{};
  png_structp png = nullptr;
  png_infop info = nullptr;

  explicit Png(const std::vector<uint8_t>& bytes) : source{bytes.data(), bytes.size()} {
    const auto on_error = [](png_structp failed, png_const_charp message) {
      auto* to = static_cast<PngErrors*>(png_get_error_ptr(failed));
      std::snprintf(to->message, sizeof to->message, "%s", message);
      longjmp(to->back, 1);
    };
    png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, &errors, on_error, [](png_structp, png_const_charp) {});
    if (png) info = png_create_info_struct(png);
    if (!info) throw std::bad_alloc();
    // Of the chunks besides the pixels only transparency is used. For the others libpng would allocate, and clear, as
    // much memory as a damaged length says, up to 2 GiB.
    static constexpr png_byte kUnused[] =
        "bKGD\0cHRM\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME\0zTX"
        "t";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, kUnused, sizeof kUnused / 5);
    png_set_read_fn(png, &source, take_bytes);
  }
  ~Png() { png_destroy_read_struct(&png, &info, nullptr); }
  Png(const Png&) = delete;
};

// Reads up to the first pixel and selects 8-bit red, green, blue, with alpha if there is one.
bool read_png_header(Png& file, int& passes) {
  if (setjmp(file.errors.back)) return false;
  png_read_info(file.png, file.info);
  png_set_expand(file.png);
  png_set_scale_16(file.png);
  png_set_gray_to_rgb(file.png);
  passes = png_set_interlace_handling(file.png);
  png_read_update_info(file.png, file.info);
  return true;
}

// Red, green, blue on black, in place where there is alpha.
const uint8_t* opaque(uint8_t* pixels, int64_t width, int channels) {
  if (channels != 4) return pixels;
  for (int64_t x = 0; x < width; ++x) {
    const unsigned alpha = pixels[4 * x + 3];
    for (int64_t c = 0; c < 3; ++c)
      pixels[3 * x + c] = static_cast<uint8_t>((pixels[4 * x + c] * alpha + 127) / 255);
  }
  return pixels;
}

bool read_png_rows(Png& file, int passes, std::vector<uint8_t>& pixels, RowSink& sink) {
  if (setjmp(file.errors.back)) return false;
  const int64_t height = png_get_image_height(file.png, file.info),
                width = png_get_image_width(file.png, file.info);
  const int channels = png_get_channels(file.png, file.info);
  const size_t row = png_get_rowbytes(file.png, file.info);
  pixels.resize(passes == 1 ? row : row * static_cast<size_t>(height));
  for (int pass = 1; pass < passes; ++pass)
    for (int64_t y = 0; y < height; ++y)
      png_read_row(file.png, pixels.data() + static_cast<size_t>(y) * row, nullptr);
  for (int64_t y = 0; y < height; ++y) {
    uint8_t* at = pixels.data() + (passes == 1 ? 0 : static_cast<size_t>(y) * row);
    png_read_row(file.png, at, nullptr);
    sink.row(opaque(at, width, channels));
  }
  png_read_end(file.png, nullptr);
  return true;
}

void decode_png(const std::string& path, const std::vector<uint8_t>& bytes, RowSink& sink) {
  Png file(bytes);
  int passes = 1;
  if (!read_png_header(file, passes)) refuse(path, file.errors.message);
  const int64_t height = png_get_image_height(file.png, file.info),
                width = png_get_image_width(file.png, file.info);
  check_size(path, height, width);
  const auto turn = turn_of(passes == 1 ? 0 : height * width);
  std::vector<uint8_t> pixels;
  sink.begin(height, width);
  if (!read_png_rows(file, passes, pixels, sink)) refuse(path, file.errors.message);
}

struct JpegErrors {
  jpeg_error_mgr manager;
  jmp_buf back;
  char message[JMSG_LENGTH_MAX];
};

struct Jpeg {
  JpegErrors errors{};
  jpeg_progress_mgr progress{};
  jpeg_decompress_struct jpeg{};

  Jpeg() {
    jpeg.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = [](j_common_ptr info) {
      auto* own = reinterpret_cast<JpegErrors*>(info->err);  // its first member
      info->err->format_message(info, own->message);
      longjmp(own->back, 1);
    };
    // The library only warns of a truncated file, and makes the rest grey.
    errors.manager.emit_message = [](j_common_ptr info, int level) {
      if (level >= 0 || info->err->num_warnings++ > 0) return;
      info->err->format_message(info, reinterpret_cast<JpegErrors*>(info->err)->message);
    };
    jpeg_create_decompress(&jpeg);
    // Each scan visits every block of the image, even if it has few bytes.
    progress.progress_monitor = [](j_common_ptr info) {
      if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMostScans) return;
      auto* own = reinterpret_cast<JpegErrors*>(info->err);
      std::snprintf(own->message, sizeof own->message, "more than %d scans", kMostScans);
      longjmp(own->back, 1);
    };
    jpeg.progress = &progress;
  }
  ~Jpeg() { jpeg_destroy_decompress(&jpeg); }
  Jpeg(const Jpeg&) = delete;
};

bool read_jpeg_header(Jpeg& file, const std::vector<uint8_t>& bytes) {
  if (setjmp(file.errors.back)) return false;
  jpeg_mem_src(&file.jpeg, bytes.data(), bytes.size());
  jpeg_read_header(&file.jpeg, TRUE);
  file.jpeg.out_color_space = JCS_RGB;
  return true;
}

bool read_jpeg_rows(Jpeg& file, std::vector<uint8_t>& pixels, RowSink& sink) {
  if (setjmp(file.errors.back)) return false;
  jpeg_start_decompress(&file.jpeg);
  pixels.resize(static_cast<size_t>(file.jpeg.output_width) * 3);
  while (file.jpeg.output_scanline < file.jpeg.output_height) {
    JSAMPROW at = pixels.data();
    jpeg_read_scanlines(&file.jpeg, &at, 1);
    sink.row(pixels.data());
  }
  jpeg_finish_decompress(&file.jpeg);
  return true;
}

void decode_jpeg(const std::string& path, const std::vector<uint8_t>& bytes, RowSink& sink) {
  Jpeg file;
  if (!read_jpeg_header(file, bytes)) refuse(path, file.errors.message);
  const int64_t height = file.jpeg.image_height, width = file.jpeg.image_width;
  check_size(path, height, width);
  if (file.jpeg.jpeg_color_space == JCS_CMYK || file.jpeg.jpeg_color_space == JCS_YCCK)
    refuse(path, "its colours are CMYK, for print; convert it to RGB (`convert IN -colorspace sRGB OUT`)");
  const auto turn = turn_of(jpeg_has_multiple_scans(&file.jpeg) ? height * width : 0);
  std::vector<uint8_t> pixels;
  sink.begin(height, width);
  if (!read_jpeg_rows(file, pixels, sink) || file.errors.manager.num_warnings > 0)
    refuse(path, file.errors.message);
}

}  // namespace

void decode_image(const std::string& path, const std::vector<uint8_t>& bytes, RowSink& sink) {
  static constexpr uint8_t kPng[] = {0x89, 'P', 'N', 'G'}, kJpeg[] = {0xFF, 0xD8, 0xFF};
  const auto begins = [&](const auto& with) {
    return bytes.size() >= std::size(with) && std::equal(std::begin(with), std::end(with), bytes.begin());
  };
  try {
    if (begins(kPng)) return decode_png(path, bytes, sink);
    if (begins(kJpeg)) return decode_jpeg(path, bytes, sink);
  } catch (const std::bad_alloc&) {
    throw RunError(kExitRunFailed, fmt::format("{}: there is no memory to decode this image", path));
  }
  refuse(path, bytes.empty() ? "the file is empty" : "the file begins as neither");
}

}  // namespace gradc::runtime
