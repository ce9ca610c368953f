// The safetensors format (https://github.com/huggingface/safetensors): eight bytes of header length, a JSON
// header, the data. Knows the format and nothing of programs.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace gradc::runtime {

// One array of a file: a view of its bytes, row-major, little-endian.
struct TensorView {
  std::string dtype;  // "F32"
  std::vector<int64_t> shape;
  const uint8_t* data = nullptr;
  uint64_t bytes = 0;
};

struct TensorFile {
  std::vector<uint8_t> storage;
  std::map<std::string, TensorView> tensors;  // views of storage
  std::map<std::string, std::string> metadata;
};

// Reads a file strictly: the header must be JSON of the format's form without repeated names, and the arrays
// must cover the data without gap or overlap. Time is that of sorting the arrays; memory besides the file is at most
// about six times the header, which has at most 100 MB. Throws RunError (kExitDataError) with file,
// expectation, finding.
TensorFile read_safetensors(const std::string& path);
TensorFile parse_safetensors(const std::string& path, std::vector<uint8_t> bytes);  // `path` is for messages

// Writes arrays in name order, through a temporary file. Throws RunError (kExitRunFailed).
void write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace gradc::runtime
