// PNG and JPEG files, what is made of damaged ones, and folders of them.
#include <gtest/gtest.h>
#include <png.h>
#include <stdio.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>

#include <jpeglib.h>

#include "runtime/data/image_files.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "tests/runtime/helpers.h"

namespace gradc::runtime::image_files_test {
namespace {

using test::Bytes;
using test::expect_error;
using test::TemporaryFolder;
using test::write_bytes;

Bytes png_bytes(uint32_t format, uint32_t height, uint32_t width, const Bytes& pixels) {
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.format = format;
  image.height = height;
  image.width = width;
  png_alloc_size_t size = 0;
  EXPECT_TRUE(png_image_write_to_memory(&image, nullptr, &size, 0, pixels.data(), 0, nullptr));
  Bytes bytes(size);
  EXPECT_TRUE(png_image_write_to_memory(&image, bytes.data(), &size, 0, pixels.data(), 0, nullptr));
  bytes.resize(size);
  return bytes;
}

// A file of these samples as they are: rows(y) gives a row's bytes, most significant first.
struct RawPng {
  uint32_t height = 1, width = 1;
  int depth = 8, colour = PNG_COLOR_TYPE_GRAY;
  bool interlaced = false;
  double gamma = 0;                  // 0: says nothing of it
  std::vector<png_color> palette{};  // with the alpha of its entries
  Bytes alpha{};
};

Bytes raw_png(const RawPng& like, const std::function<Bytes(uint32_t y)>& rows) {
  Bytes bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &bytes,
      [](png_structp file, png_bytep data, size_t size) {
        auto* to = static_cast<Bytes*>(png_get_io_ptr(file));
        to->insert(to->end(), data, data + size);
      },
      nullptr);
  png_set_compression_level(png, 1);
  png_set_IHDR(png, info, like.width, like.height, like.depth, like.colour,
               like.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  if (like.gamma > 0) png_set_gAMA(png, info, like.gamma);
  if (!like.palette.empty())
    png_set_PLTE(png, info, like.palette.data(), static_cast<int>(like.palette.size()));
  if (!like.alpha.empty())
    png_set_tRNS(png, info, like.alpha.data(), static_cast<int>(like.alpha.size()), nullptr);
  png_write_info(png, info);
  const int passes = png_set_interlace_handling(png);
  for (int pass = 0; pass < passes; ++pass)
    for (uint32_t y = 0; y < like.height; ++y) png_write_row(png, rows(y).data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

// `scans`: of a progressive file, where not empty.
Bytes jpeg_bytes(int height, int width, int components, const Bytes& pixels,
                 const std::vector<jpeg_scan_info>& scans = {}) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &memory, &size);
  jpeg.image_height = static_cast<JDIMENSION>(height);
  jpeg.image_width = static_cast<JDIMENSION>(width);
  jpeg.input_components = components;
  jpeg.in_color_space = components == 4 ? JCS_CMYK : components == 3 ? JCS_RGB : JCS_GRAYSCALE;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 100, TRUE);
  if (!scans.empty()) {
    jpeg.scan_info = scans.data();
    jpeg.num_scans = static_cast<int>(scans.size());
  }
  jpeg_start_compress(&jpeg, TRUE);
  for (int y = 0; y < height; ++y) {
    auto* row = const_cast<unsigned char*>(pixels.data()) + static_cast<ptrdiff_t>(y) * width * components;
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  Bytes bytes(memory, memory + size);
  free(memory);
  return bytes;
}

// Colours that change slowly, as JPEG likes them.
Bytes slope(size_t height, size_t width, size_t components) {
  Bytes pixels;
  for (size_t y = 0; y < height; ++y)
    for (size_t x = 0; x < width; ++x)
      for (size_t c = 0; c < components; ++c)
        pixels.push_back(static_cast<uint8_t>(40 + 3 * y + 2 * x + 20 * c));
  return pixels;
}

TEST(ImageFiles, PngIsReadAsItIs) {
  const Bytes colours = slope(5, 7, 3);
  const Pixels p = decode_image("a.png", png_bytes(PNG_FORMAT_RGB, 5, 7, colours));
  EXPECT_EQ(p.height, 5);
  EXPECT_EQ(p.width, 7);
  EXPECT_EQ(p.rgb, colours);
  const Bytes grey = slope(5, 7, 1);
  const Pixels g = decode_image("a.png", png_bytes(PNG_FORMAT_GRAY, 5, 7, grey));
  for (size_t i = 0; i < grey.size(); ++i)
    for (size_t c = 0; c < 3; ++c) EXPECT_EQ(g.rgb[3 * i + c], grey[i]);
  // What nothing is seen of is black.
  const Pixels clear =
      decode_image("a.png", png_bytes(PNG_FORMAT_RGBA, 1, 2, {200, 100, 50, 255, 200, 100, 50, 0}));
  EXPECT_EQ(clear.rgb, (Bytes{200, 100, 50, 0, 0, 0}));
}

// Text that says it has 2 GB, in a file of a hundred bytes: an error, and no memory for it.
TEST(ImageFiles, PngTextTakesNoMemory) {
  Bytes png = png_bytes(PNG_FORMAT_RGB, 1, 1, {1, 2, 3});
  const Bytes chunk = {0x78, 0xda, 0x63, 0x60, 't', 'E', 'X', 't', 'a', 0};
  png.insert(png.begin() + 33, chunk.begin(), chunk.end());  // after the header
  const std::optional<int64_t> peak = test::peak_memory([&] {
    expect_error(kExitDataError, {"a.png", "the file ends too early"}, [&] { decode_image("a.png", png); });
  });
  if (peak) {
    EXPECT_LT(*peak, int64_t{64} << 20);
  }
}

// The file's own samples, for any gamma: grey 4, 100, 196 of 16 bits became 38, 167, 226.
TEST(ImageFiles, PngOfEveryDepthIsReadLinearly) {
  const auto greys = [](const Bytes& png) {
    const Pixels p = decode_image("a.png", png);
    Bytes result;
    for (size_t i = 0; i < p.rgb.size(); i += 3) {
      EXPECT_TRUE(p.rgb[i] == p.rgb[i + 1] && p.rgb[i] == p.rgb[i + 2]);
      result.push_back(p.rgb[i]);
    }
    return result;
  };
  const auto file = [](int depth, uint32_t width, const Bytes& row, double gamma = 0) {
    return raw_png({.width = width, .depth = depth, .gamma = gamma}, [&](uint32_t) { return row; });
  };
  const Bytes wide = {4, 4,   100, 100, 196, 196,
                      0, 128, 0,   129, 255, 254};  // 128 / 257 is below a half, 129 above
  for (const double gamma : {0.0, 1.0, 1 / 2.2}) {
    EXPECT_EQ(greys(file(16, 6, wide, gamma)), (Bytes{4, 100, 196, 0, 1, 255})) << gamma;
    EXPECT_EQ(greys(file(8, 3, {4, 100, 196}, gamma)), (Bytes{4, 100, 196})) << gamma;
  }
  EXPECT_EQ(greys(file(1, 3, {0b10100000})), (Bytes{255, 0, 255}));
  EXPECT_EQ(greys(file(2, 4, {0b00011011})), (Bytes{0, 85, 170, 255}));
  EXPECT_EQ(greys(file(4, 2, {0x3F})), (Bytes{51, 255}));
}

TEST(ImageFiles, AlphaCompositesOnBlack) {
  const Pixels p = decode_image(
      "a.png", png_bytes(PNG_FORMAT_RGBA, 1, 3, {200, 100, 51, 128, 200, 100, 50, 1, 255, 255, 255, 254}));
  EXPECT_EQ(p.rgb, (Bytes{100, 50, 26, 1, 0, 0, 254, 254, 254}));  // c alpha / 255, rounded
  const Bytes wide = {200, 200, 128, 128};                         // 16 bits of grey and alpha
  EXPECT_EQ(decode_image("a.png", raw_png({.depth = 16, .colour = PNG_COLOR_TYPE_GRAY_ALPHA},
                                          [&](uint32_t) { return wide; }))
                .rgb,
            (Bytes{100, 100, 100}));
  const RawPng palette{.width = 2,
                       .colour = PNG_COLOR_TYPE_PALETTE,
                       .palette = {{10, 20, 30}, {200, 100, 50}},
                       .alpha = {255, 128}};
  EXPECT_EQ(decode_image("a.png", raw_png(palette, [](uint32_t) { return Bytes{1, 0}; })).rgb,
            (Bytes{100, 50, 25, 10, 20, 30}));
}

TEST(ImageFiles, InterlacedPngIsTheSame) {
  const Bytes pixels = slope(13, 11, 4);
  const auto row = [&](uint32_t y) { return Bytes(pixels.begin() + y * 44, pixels.begin() + (y + 1) * 44); };
  RawPng like{.height = 13, .width = 11, .colour = PNG_COLOR_TYPE_RGB_ALPHA};
  const Bytes plain = decode_image("a.png", raw_png(like, row)).rgb;
  like.interlaced = true;
  EXPECT_EQ(decode_image("a.png", raw_png(like, row)).rgb, plain);
}

// 8192 x 8192 pixels were 1.8 GB of floats, and eight files at once.
TEST(ImageFiles, LargeImagesTakeRows) {
  constexpr uint32_t kSide = 8192;
  const Bytes png = raw_png({.height = kSide, .width = kSide},
                            [](uint32_t y) { return Bytes(kSide, y < kSide / 2 ? 40 : 200); });
  TemporaryFolder folder;
  for (const char* name : {"a", "b"}) {
    std::filesystem::create_directory(folder / name);
    write_bytes(folder / (std::string(name) + "/1.png"), png);
  }
  DataRecord record{.name = "d", .source = "folder"};
  record.options = {{"path", folder.path()},
                    {"height", int64_t{2}},
                    {"width", int64_t{1}},
                    {"channels", int64_t{1}},
                    {"classes", int64_t{2}}};
  Bytes pixels;
  const auto peak = test::peak_memory([&] { pixels = read_image_folder(record)[0].table->fields[0].bytes; });
  EXPECT_EQ(pixels, (Bytes{40, 200, 40, 200}));
  if (!peak) GTEST_SKIP() << "the peak of memory cannot be measured here";
  EXPECT_LT(*peak, int64_t{16} << 20);
}

TEST(ImageFiles, JpegHasFewScans) {
  // A coefficient and a bit a scan, as no encoder writes them.
  std::vector<jpeg_scan_info> many = {{1, {0}, 0, 0, 0, 10}};
  for (int bit = 9; bit >= 0; --bit) many.push_back({1, {0}, 0, 0, bit + 1, bit});
  for (int k = 1; k < 64; ++k) {
    many.push_back({1, {0}, k, k, 0, 10});
    for (int bit = 9; bit >= 0; --bit) many.push_back({1, {0}, k, k, bit + 1, bit});
  }
  const Bytes grey = slope(16, 24, 1);
  expect_error(kExitDataError, {"x.jpg", "more than 100 scans"},
               [&] { decode_image("x.jpg", jpeg_bytes(16, 24, 1, grey, many)); });
  const Pixels p =
      decode_image("x.jpg", jpeg_bytes(16, 24, 1, grey, {{1, {0}, 0, 0, 0, 0}, {1, {0}, 1, 63, 0, 0}}));
  EXPECT_EQ(p.rgb, decode_image("x.jpg", jpeg_bytes(16, 24, 1, grey)).rgb);
}

TEST(ImageFiles, JpegIsReadClosely) {
  for (const int components : {3, 1}) {
    const Bytes colours = slope(16, 24, static_cast<size_t>(components));
    const Pixels p = decode_image("a.jpg", jpeg_bytes(16, 24, components, colours));
    ASSERT_EQ(p.rgb.size(), 16u * 24 * 3);
    for (size_t i = 0; i < 16 * 24; ++i)
      for (size_t c = 0; c < 3; ++c)
        EXPECT_NEAR(p.rgb[3 * i + c], colours[components == 3 ? 3 * i + c : i], 6) << i;
  }
}

TEST(ImageFiles, SaysWhatIsWrongWithAFile) {
  const auto fails = [](const Bytes& bytes, const std::string& piece) {
    expect_error(kExitDataError, {"x.img", piece, "expected a whole PNG or JPEG image"},
                 [&] { decode_image("x.img", bytes); });
  };
  fails({}, "the file is empty");
  fails({'G', 'I', 'F', '8', '9', 'a'}, "begins as neither");
  Bytes png = png_bytes(PNG_FORMAT_RGB, 30, 30, slope(30, 30, 3));
  Bytes jpeg = jpeg_bytes(32, 32, 3, slope(32, 32, 3));
  fails({png.begin(), png.begin() + 20}, "");
  fails({png.begin(), png.end() - 40}, "");
  fails({jpeg.begin(), jpeg.begin() + 10}, "");
  fails({jpeg.begin(), jpeg.end() - 100}, "");
  fails(jpeg_bytes(8, 8, 4, Bytes(256, 100)), "its colours are CMYK, for print; convert it to RGB");
  Bytes wrong = png;
  wrong[wrong.size() / 2] ^= 0x55;  // its check sum tells
  fails(wrong, "");
  // A header that promises 2^31 - 1 pixels a side.
  Bytes huge = png;
  std::fill_n(huge.begin() + 16, 8, uint8_t{0x7F});
  fails(huge, "");
}

TEST(ImageFiles, SurvivesDamage) {
  test::Noise noise(7);
  const Bytes originals[] = {png_bytes(PNG_FORMAT_RGB, 20, 20, slope(20, 20, 3)),
                             jpeg_bytes(20, 20, 3, slope(20, 20, 3))};
  int refused = 0;
  for (int round = 0; round < 3000; ++round) {
    Bytes bytes = originals[round % 2];
    for (uint32_t i = 0; i <= noise(4); ++i)
      bytes[4 + noise(static_cast<uint32_t>(bytes.size() - 4))] = static_cast<uint8_t>(noise(256));
    if (noise(4) == 0) bytes.resize(noise(static_cast<uint32_t>(bytes.size())));
    try {
      const Pixels p = decode_image("x", bytes);
      EXPECT_EQ(static_cast<int64_t>(p.rgb.size()), p.height * p.width * 3);
    } catch (const RunError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(ImageFiles, AreFittedToTheirSize) {
  // 8 x 12 to 2 x 2: the middle 8 x 8, halved twice; means of 4 x 4 pixels.
  Pixels p{8, 12, {}};
  for (int y = 0; y < 8; ++y)
    for (int x = 0; x < 12; ++x)
      for (int c = 0; c < 3; ++c)
        p.rgb.push_back(static_cast<uint8_t>(x < 2 || x > 9 ? 255 : 10 * (y / 4) + 20 * ((x - 2) / 4) + c));
  EXPECT_EQ(fitted(p, 3, 2, 2), (Bytes{0, 20, 10, 30, 1, 21, 11, 31, 2, 22, 12, 32}));
  EXPECT_EQ(fitted(p, 1, 2, 2), (Bytes{1, 21, 11, 31}));  // 0.299 r + 0.587 g + 0.114 b, rounded
  EXPECT_EQ(fitted(p, 3, 8, 12)[0], 255);                 // nothing to do
  const Bytes larger = fitted(p, 3, 16, 24);
  EXPECT_EQ(larger.size(), 3u * 16 * 24);
}

TEST(ImageFolder, ReadsAFolderAClass) {
  TemporaryFolder folder;
  for (const char* name : {"train/b", "train/a", "train/.hidden", "test/b"})
    std::filesystem::create_directories(folder / name);
  const auto plain = [](uint8_t value) { return png_bytes(PNG_FORMAT_GRAY, 4, 4, Bytes(16, value)); };
  write_bytes(folder / "train/a/2.png", plain(51));
  write_bytes(folder / "train/a/1.PNG", plain(102));
  write_bytes(folder / "train/a/notes.txt", {'x'});
  write_bytes(folder / "train/b/1.jpeg", jpeg_bytes(8, 8, 1, Bytes(64, 204)));
  write_bytes(folder / "test/b/1.png", plain(0));
  DataRecord record;
  record.name = "d";
  record.source = "folder";
  record.options = {{"path", folder / "train"}, {"test", folder / "test"}, {"height", int64_t{2}},
                    {"width", int64_t{2}},      {"channels", int64_t{1}},  {"classes", int64_t{2}}};
  const std::vector<Split> splits = read_image_folder(record);
  ASSERT_EQ(splits.size(), 2u);
  const auto& fields = splits[0].table->fields;
  EXPECT_EQ(fields[0].shape, (std::vector<int64_t>{1, 2, 2}));
  EXPECT_EQ(fields[0].bytes, (Bytes{102, 102, 102, 102, 51, 51, 51, 51, 204, 204, 204, 204}));
  EXPECT_EQ(fields[1].integers, (std::vector<int32_t>{0, 0, 1}));
  EXPECT_EQ(splits[1].table->fields[1].integers, std::vector<int32_t>{1});
  EXPECT_EQ(load_dataset(record).split("test").count, 1);

  const auto fails = [&](const char* option, RecordValue value, const std::vector<std::string>& pieces) {
    DataRecord wrong = record;
    wrong.options[option] = std::move(value);
    expect_error(kExitDataError, pieces, [&] { read_image_folder(wrong); });
  };
  fails("classes", int64_t{3}, {"2 folders of classes", "`classes=3`"});
  fails("channels", int64_t{2}, {"1 or 3 channels"});
  fails("path", folder / "nowhere", {"nowhere", "expected a folder"});
  fails("path", folder / "train/a", {"there is no folder in it"});
  std::filesystem::create_directories(folder / "test/bb");
  fails("classes", int64_t{2}, {"test/bb", "no such class", "did you mean `b`?"});
  std::filesystem::rename(folder / "test/bb", folder / "test/a");
  fails("classes", int64_t{2}, {"test/a", "no .png, .jpg or .jpeg file"});
  // The first of several bad files, whichever thread met it.
  for (int i = 0; i < 40; ++i) write_bytes(folder / ("test/a/" + std::to_string(100 + i) + ".png"), {'x'});
  fails("classes", int64_t{2}, {"test/a/100.png", "begins as neither"});
}

}  // namespace
}  // namespace gradc::runtime::image_files_test
