// Numbers fitted to the training data that belong to the weights without being parameters. Knows nothing of
// what they mean.
#pragma once
#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace gradc::runtime {

// In a file F32 where every value is a float, else F64.
struct NumberArray {
  std::vector<int64_t> shape;
  std::vector<double> values;
  bool are_floats() const {
    return std::all_of(values.begin(), values.end(),
                       [](double v) { return static_cast<double>(static_cast<float>(v)) == v; });
  }
};

// By name, each beginning with kDataPrefix: "data.image.channel.mean".
using DataArrays = std::map<std::string, NumberArray>;
inline constexpr const char* kDataPrefix = "data.";

}  // namespace gradc::runtime
