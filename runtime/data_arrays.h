// Numbers fitted to the training data that belong to the weights without being parameters. Knows nothing of
// what they mean.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace gradc::runtime {

struct FloatArray {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

// By name, each beginning with kDataPrefix: "data.image.channel.mean".
using DataArrays = std::map<std::string, FloatArray>;
inline constexpr const char* kDataPrefix = "data.";

}  // namespace gradc::runtime
