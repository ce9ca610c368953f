// The IDX format of the MNIST files, plain or gzip; knows the format and nothing of data sets.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace gradc::runtime {

// One array: the first extent counts the examples.
struct IdxArray {
  enum class Type : uint8_t { u8 = 0x08, i8 = 0x09, i16 = 0x0B, i32 = 0x0C, f32 = 0x0D, f64 = 0x0E };
  Type type = Type::u8;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;  // row-major, native byte order

  int64_t examples() const { return shape[0]; }
};

// Bytes of one element; name in messages ("unsigned bytes").
int idx_element_bytes(IdxArray::Type type);
const char* idx_type_name(IdxArray::Type type);

// Reads a whole file strictly: the header must be sensible and the data exactly what it promises. Never
// allocates much more than the file really holds, for any claim of its header. Throws RunError
// (kExitDataError) with file, expectation, finding, advice.
IdxArray read_idx(const std::string& path);

// Reads from memory what read_idx reads from a file; `path` is for messages. `bytes` are the plain (not
// compressed) content.
IdxArray parse_idx(const std::string& path, const uint8_t* bytes, size_t size);

}  // namespace gradc::runtime
