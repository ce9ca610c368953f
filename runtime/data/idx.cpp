// Reads IDX files through zlib, which passes plain files through.
#include "runtime/data/idx.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <new>

#include "runtime/files.h"
#include "runtime/memory.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/shape_text.h"

namespace gradc::runtime {
namespace {

constexpr int kMaxRank = 8;
constexpr uint64_t kMaxBytes = uint64_t{1} << 36;  // 64 GiB: far above any file of this format
constexpr size_t kPiece = size_t{4} << 20;

[[noreturn]] void refuse_idx(const std::string& path, const std::string& what) {
  throw RunError(kExitDataError, fmt::format("{}: {}", path, what));
}

// Gives up to `size` bytes to `out` and returns how many; fewer only at the end of the data.
using Source = std::function<size_t(void* out, size_t size)>;

uint32_t big_endian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | uint32_t{bytes[3]};
}

IdxArray::Type checked_type(const std::string& path, const uint8_t* magic) {
  const auto found = fmt::format("0x{:02x}{:02x}{:02x}{:02x}", magic[0], magic[1], magic[2], magic[3]);
  if (magic[0] != 0 || magic[1] != 0) {
    std::string advice = "is it the right file?";
    if (magic[0] == 0x1f && magic[1] == 0x8b) advice = "it looks like a damaged gzip file: fetch it again";
    if (magic[0] == 'P' && magic[1] == 'K') advice = "it is a zip archive: unpack it first";
    if (magic[0] == '<') advice = "it looks like a web page: the download went wrong";
    refuse_idx(path,
               fmt::format("not an IDX file: it begins with {}, expected 0x0000 and then type and rank; {}",
                           found, advice));
  }
  switch (magic[2]) {
    case 0x08:
    case 0x09:
    case 0x0B:
    case 0x0C:
    case 0x0D:
    case 0x0E: break;
    default:
      refuse_idx(path,
                 fmt::format("IDX type 0x{:02x} in the magic number {} is unknown; expected 0x08 (unsigned "
                             "bytes), 0x09, 0x0b, 0x0c, "
                             "0x0d or 0x0e",
                             magic[2], found));
  }
  if (magic[3] < 1 || magic[3] > kMaxRank)
    refuse_idx(
        path, fmt::format("IDX rank {} in the magic number {}: expected 1 to {}", magic[3], found, kMaxRank));
  return static_cast<IdxArray::Type>(magic[2]);
}

IdxArray read_from(const std::string& path, const Source& source) {
  IdxArray array;
  uint8_t header[4 + 4 * kMaxRank];
  size_t count = source(header, 4);
  if (count < 4)
    refuse_idx(
        path,
        fmt::format("the file ends after {} bytes, within the IDX header; it is truncated: fetch it again",
                    count));
  array.type = checked_type(path, header);
  const int rank = header[3];
  const size_t extent_bytes = 4 * static_cast<size_t>(rank);
  count = source(header + 4, extent_bytes);
  if (count < extent_bytes)
    refuse_idx(path, fmt::format("the file ends after {} bytes, within the {} bytes of the IDX header; it is "
                                 "truncated: fetch it again",
                                 4 + count, 4 + extent_bytes));
  uint64_t total = static_cast<uint64_t>(idx_element_bytes(array.type));
  for (int axis = 0; axis < rank; ++axis) array.shape.push_back(big_endian(header + 4 + 4 * axis));
  for (int64_t extent : array.shape) {
    if (extent == 0)
      refuse_idx(
          path,
          fmt::format("the header promises {}, an empty array; the header is wrong or the file has no data",
                      shape_text(array.shape)));
    if (total > kMaxBytes / static_cast<uint64_t>(extent))
      refuse_idx(
          path,
          fmt::format("the header promises {}, more than {} GiB; the header is wrong: fetch the file again",
                      shape_text(array.shape), kMaxBytes >> 30));
    total *= static_cast<uint64_t>(extent);
  }
  if (const uint64_t available = available_memory(); total > available)
    refuse_idx(
        path,
        fmt::format("the header promises {} of {}, {} bytes of data, and {} bytes of memory are available; "
                    "is the header right?",
                    shape_text(array.shape), idx_type_name(array.type), total, available));
  // Grow with the data that exist: the header may be wrong.
  try {
    size_t done = 0;
    while (done < total) {
      const size_t piece = std::min<uint64_t>(std::max(kPiece, done), total - done);
      array.bytes.resize(done + piece);
      const size_t got = source(array.bytes.data() + done, piece);
      done += got;
      if (got < piece)
        refuse_idx(path,
                   fmt::format("the header promises {} of {}, {} bytes of data, but only {} are there; the "
                               "file is truncated or its "
                               "header is wrong: fetch it again",
                               shape_text(array.shape), idx_type_name(array.type), total, done));
    }
  } catch (const std::bad_alloc&) {
    refuse_idx(path, fmt::format("there is no memory for its {} bytes", total));
  }
  uint8_t extra;
  if (source(&extra, 1) != 0)
    refuse_idx(path,
               fmt::format("the header promises {} of {}, {} bytes of data, but there are more; the header "
                           "is wrong or this is another file",
                           shape_text(array.shape), idx_type_name(array.type), total));
  if (const int size = idx_element_bytes(array.type); size > 1 && std::endian::native == std::endian::little)
    for (size_t i = 0; i < array.bytes.size(); i += static_cast<size_t>(size))
      std::reverse(array.bytes.begin() + static_cast<std::ptrdiff_t>(i),
                   array.bytes.begin() + static_cast<std::ptrdiff_t>(i) + size);
  return array;
}

}  // namespace

int idx_element_bytes(IdxArray::Type type) {
  switch (type) {
    case IdxArray::Type::u8:
    case IdxArray::Type::i8: return 1;
    case IdxArray::Type::i16: return 2;
    case IdxArray::Type::i32:
    case IdxArray::Type::f32: return 4;
    case IdxArray::Type::f64: return 8;
  }
  return 1;
}

const char* idx_type_name(IdxArray::Type type) {
  switch (type) {
    case IdxArray::Type::u8: return "unsigned bytes";
    case IdxArray::Type::i8: return "signed bytes";
    case IdxArray::Type::i16: return "16-bit integers";
    case IdxArray::Type::i32: return "32-bit integers";
    case IdxArray::Type::f32: return "32-bit floats";
    case IdxArray::Type::f64: return "64-bit floats";
  }
  return "?";
}

IdxArray parse_idx(const std::string& path, const uint8_t* bytes, size_t size) {
  size_t at = 0;
  return read_from(path, [&](void* out, size_t wanted) {
    const size_t count = std::min(wanted, size - at);
    std::memcpy(out, bytes + at, count);
    at += count;
    return count;
  });
}

IdxArray read_idx(const std::string& path) {
  struct stat status{};
  if (stat(path.c_str(), &status) != 0)
    refuse_idx(path, fmt::format("cannot read the data file: {}{}", error_text(errno),
                                 errno == ENOENT ? "; check the data set's path" : ""));
  if (!S_ISREG(status.st_mode)) refuse_idx(path, "cannot read the data file: it is not a regular file");
  errno = 0;
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rbe"), gzclose);
  if (!file)
    refuse_idx(path, fmt::format("cannot read the data file: {}", errno ? error_text(errno) : "no memory"));
  gzbuffer(file.get(), 1 << 18);
  return read_from(path, [&](void* out, size_t size) {
    size_t done = 0;
    while (done < size) {
      const auto piece = static_cast<unsigned>(std::min(size - done, size_t{1} << 30));
      const int count = gzread(file.get(), static_cast<uint8_t*>(out) + done, piece);
      int error = Z_OK;
      const char* text = gzerror(file.get(), &error);
      if (count < 0 || (error != Z_OK && error != Z_STREAM_END)) {
        if (error == Z_BUF_ERROR)
          refuse_idx(path, "the compressed data end too early; the file is truncated: fetch it again");
        if (error == Z_ERRNO)
          refuse_idx(path, fmt::format("cannot read the data file: {}", error_text(errno)));
        refuse_idx(path, fmt::format("the compressed data are damaged ({}): fetch the file again", text));
      }
      if (count == 0) break;
      done += static_cast<size_t>(count);
    }
    return done;
  });
}

}  // namespace gradc::runtime
