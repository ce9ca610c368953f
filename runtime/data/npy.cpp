// Reads and writes .npy: magic, version, a header that is a Python dictionary, the data.
#include "runtime/data/npy.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <map>
#include <optional>
#include <string_view>

#include "runtime/files.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

[[noreturn]] void refuse_npy(const std::string& path, const std::string& what) {
  throw RunError(kExitDataError, fmt::format("{}: not a usable .npy file: {}", path, what));
}

const std::map<std::string, uint64_t>& element_bytes() {
  static const std::map<std::string, uint64_t> table = {{"<f4", 4}, {"|u1", 1}, {"<i4", 4},
                                                        {"<f8", 8}, {"<i8", 8}, {"|b1", 1}};
  return table;
}

// The dictionary {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, keys in any order, nothing
// else.
class HeaderParser {
 public:
  HeaderParser(const std::string& path, std::string_view text) : path_(path), text_(text) {}

  NpyArray parse() {
    NpyArray array;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr" && !descr) {
        descr = true;
        array.dtype = quoted();
      } else if (key == "fortran_order" && !order) {
        order = true;
        if (word() == "True")
          refuse_npy(path_, "it is in Fortran order; save numpy.ascontiguousarray(array)");
      } else if (key == "shape" && !shape) {
        shape = true;
        tuple(array.shape);
      } else {
        wrong();
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip();
    if (at_ != text_.size() || !descr || !order || !shape) wrong();
    return array;
  }

 private:
  [[noreturn]] void wrong() const {
    refuse_npy(path_,
               fmt::format("its header is not of the form {{'descr': .., 'fortran_order': .., 'shape': ..}} "
                           "(at character {})",
                           at_));
  }
  void skip() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t')) ++at_;
  }
  bool accept(char c) {
    skip();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) wrong();
  }
  std::string quoted() {
    skip();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    if (quote != '\'' && quote != '"') wrong();
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) wrong();
    const std::string result(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return result;
  }
  std::string_view word() {
    skip();
    for (std::string_view candidate : {"True", "False"})
      if (text_.substr(at_).substr(0, candidate.size()) == candidate) {
        at_ += candidate.size();
        return candidate;
      }
    wrong();
  }
  void tuple(std::vector<int64_t>& shape) {
    expect('(');
    while (!accept(')')) {
      skip();
      int64_t value = 0;
      const char* end = text_.data() + text_.size();
      const auto [rest, error] = std::from_chars(text_.data() + at_, end, value);
      if (error != std::errc() || value < 0 || shape.size() == 16) wrong();
      at_ = static_cast<size_t>(rest - text_.data());
      shape.push_back(value);
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
  }

  const std::string& path_;
  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

NpyArray parse_npy(const std::string& path, const std::vector<uint8_t>& bytes) {
  if (bytes.size() < 10 || std::memcmp(bytes.data(), "\x93NUMPY", 6) != 0)
    refuse_npy(path, "it does not begin with NumPy's magic bytes");
  const int version = bytes[6];
  if (version < 1 || version > 3)
    refuse_npy(path, fmt::format("version {} of the format; expected 1 to 3", version));
  const size_t prefix = version == 1 ? 10 : 12;
  if (bytes.size() < prefix) refuse_npy(path, "it ends within its header");
  uint64_t header_bytes = bytes[8] | uint64_t{bytes[9]} << 8;
  if (version > 1) header_bytes |= uint64_t{bytes[10]} << 16 | uint64_t{bytes[11]} << 24;
  if (header_bytes > bytes.size() - prefix)
    refuse_npy(path,
               fmt::format("it promises a header of {} bytes, but only {} follow; the file is truncated",
                           header_bytes, bytes.size() - prefix));
  NpyArray array =
      HeaderParser(path, {reinterpret_cast<const char*>(bytes.data()) + prefix, header_bytes}).parse();
  const auto size = element_bytes().find(array.dtype);
  if (size == element_bytes().end())
    refuse_npy(
        path,
        fmt::format(
            "dtype '{}'; expected '<f4' (float32), '<f8' (float64), '|u1' (uint8), '<i4' (int32), '<i8' "
            "(int64) or '|b1' (bool): use array.astype()",
            array.dtype));
  uint64_t expected = size->second;
  for (int64_t extent : array.shape)
    if (__builtin_mul_overflow(expected, static_cast<uint64_t>(extent), &expected))
      refuse_npy(path, "its shape is too large");
  const uint64_t found = bytes.size() - prefix - header_bytes;
  if (found != expected)
    refuse_npy(path, fmt::format("its header promises '{}' of shape ({}), {} bytes, but {} follow",
                                 array.dtype, fmt::join(array.shape, ", "), expected, found));
  array.bytes.assign(bytes.end() - static_cast<std::ptrdiff_t>(found), bytes.end());
  return array;
}

NpyArray read_npy(const std::string& path) { return parse_npy(path, read_file(path, "input file")); }

std::string npy_header(const std::string& dtype, const std::vector<int64_t>& shape) {
  std::string dictionary = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}", dtype,
                                       fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  // Padded so that the data begin at a multiple of 64.
  dictionary.resize((10 + dictionary.size() + 1 + 63) / 64 * 64 - 10 - 1, ' ');
  dictionary += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(dictionary.size() & 255);
  header += static_cast<char>(dictionary.size() >> 8);
  return header + dictionary;
}

}  // namespace gradc::runtime
