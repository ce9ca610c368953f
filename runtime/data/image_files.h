// A data source of folders of PNG and JPEG files (runtime/data/image_decode.h). Knows nothing of programs and
// training.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "runtime/data/dataset.h"

namespace gradc::runtime {

// Pixels as bytes: height x width x 3, row-major.
struct Pixels {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> rgb;
};

// All pixels of an image; throws as the decoder does.
Pixels decode_image(const std::string& path, const std::vector<uint8_t>& bytes);

// The largest central crop with the aspect ratio of height x width, resized to that: halved by means of 2 x 2 pixels
// while it is at least twice as large, then by bilinear interpolation. channels x height x width
// bytes; one channel is grey (Rec. 601).
std::vector<uint8_t> fitted(const Pixels& pixels, int64_t channels, int64_t height, int64_t width);

// folder: `path`, a folder with one folder of .png, .jpg and .jpeg files for each class (split train; labels
// are the folders' numbers in order of their names); `test`, another with folders of the same names;
// `height`, `width`, `channels` (1 or 3), `classes`. image f32[channels, height, width] in 0..1, label i32.
// Files are taken in order of their names; hidden ones and those of other kinds are skipped.
std::vector<Split> read_image_folder(const DataRecord& record);

}  // namespace gradc::runtime
