// NumPy's .npy format, versions 1 to 3; knows the format and nothing of programs.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace gradc::runtime {

struct NpyArray {
  std::string dtype;  // "<f4", "|u1", "<i4", "<f8", "<i8", "|b1"
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;  // row-major
};

// Reads a file strictly: known dtype, row-major, the data exactly as large as the header says. Throws
// RunError (kExitDataError).
NpyArray read_npy(const std::string& path);
NpyArray parse_npy(const std::string& path, const std::vector<uint8_t>& bytes);  // `path` is for messages

// The header of a row-major array; the data follow it in the file.
std::string npy_header(const std::string& dtype, const std::vector<int64_t>& shape);

}  // namespace gradc::runtime
