// PNG and JPEG files to rows of pixels (libpng, libjpeg-turbo). Knows nothing of folders, data sets and sizes
// wanted.
//
// Samples are the file's own, without gamma correction even where the file has a gamma, as in PIL and torchvision: 8 bits
// as they are, 16 bits rounded to 8 (v / 257), fewer stretched to 0..255; grey and palettes
// become red, green, blue. Alpha composites on black: c * alpha / 255, rounded.
//
// Memory besides the file: some rows, of at most 10^6 pixels; where the order of pixels in the file needs the whole
// image (interlaced PNG, JPEG in several scans), 4 or 6 bytes for each of at most 2^26 pixels, and such images of more
// than 2^22 pixels are decoded one at a time. Time: that of at most 2^26 pixels in at most 100 scans.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace gradc::runtime {

// Receives an image's rows, from the top.
class RowSink {
 public:
  virtual ~RowSink() = default;
  virtual void begin(int64_t height, int64_t width) = 0;
  virtual void row(const uint8_t* rgb) = 0;  // width x 3
};

// Throws RunError (kExitDataError) with `path` and what the library says for anything that is no whole PNG or
// JPEG image, or one of more than 2^26 pixels, 100 scans, or CMYK.
void decode_image(const std::string& path, const std::vector<uint8_t>& bytes, RowSink& sink);

}  // namespace gradc::runtime
