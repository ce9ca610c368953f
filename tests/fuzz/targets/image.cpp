// PNG and JPEG files to pixels of a wanted size. Of PNG the checksums are made right as well, so that damage
// reaches what they guard.
#include "runtime/data/image_files.h"

#include <zlib.h>

#include <algorithm>

#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

constexpr size_t kSignature = 8, kFrame = 12;  // a chunk's length, type and checksum

uint32_t big_endian(const uint8_t* b) {
  return uint32_t{b[0]} << 24 | uint32_t{b[1]} << 16 | uint32_t{b[2]} << 8 | uint32_t{b[3]};
}

std::vector<uint8_t> with_checksums(std::vector<uint8_t> png) {
  for (size_t at = kSignature; at + kFrame <= png.size();) {
    const size_t length = big_endian(&png[at]);
    if (length > png.size() - at - kFrame) break;
    const auto sum = static_cast<uint32_t>(crc32(0, &png[at + 4], static_cast<uInt>(length + 4)));
    for (size_t i = 0; i < 4; ++i) png[at + 8 + length + i] = static_cast<uint8_t>(sum >> (24 - 8 * i));
    at += length + kFrame;
  }
  return png;
}

void decode(const std::vector<uint8_t>& bytes) {
  accepts([&] {
    const runtime::Pixels pixels = runtime::decode_image("fuzz.png", bytes);
    require(pixels.height > 0 && pixels.width > 0 &&
                pixels.rgb.size() == static_cast<size_t>(pixels.height * pixels.width * 3),
            "three bytes a pixel");
    if (pixels.height * pixels.width > 1 << 18) return;  // sizes are tried where they take no time
    require(runtime::fitted(pixels, 3, 8, 8).size() == 192, "pixels of the wanted size");
    require(runtime::fitted(pixels, 1, 5, 7).size() == 35, "grey of the wanted size");
  });
}

void run(Bytes input) {
  const std::vector<uint8_t> bytes = vector_of(input);
  decode(bytes);
  if (bytes.size() > kSignature && bytes[0] == 0x89) decode(with_checksums(bytes));
}

const Registration registration("image", run);

}  // namespace
}  // namespace gradc::fuzz
