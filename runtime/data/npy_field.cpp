// The types that a field takes, for the source `npy` and for `predict --input`.
#include "runtime/data/npy_field.h"

#include <fmt/format.h>

#include <cstring>

#include "runtime/data/source_options.h"

namespace gradc::runtime {
namespace {

template <class T>
std::vector<T> numbers_of(const NpyArray& array) {
  std::vector<T> values(array.bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), array.bytes.data(), array.bytes.size());
  return values;
}

void keep_integers(const std::string& path, Field& field, const std::vector<int64_t>& values) {
  field.integers.reserve(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] < INT32_MIN || values[i] > INT32_MAX)
      sources::fail(fmt::format("{}: {} at number {} does not fit a field of i32", path, values[i], i));
    field.integers.push_back(static_cast<int32_t>(values[i]));
  }
}

}  // namespace

Field npy_field(const std::string& path, NpyArray array, const std::string& name, bool is_float,
                const std::string& what, bool doubles) {
  if (array.shape.empty() || array.shape[0] == 0)
    sources::fail(fmt::format("{}: it holds no examples", path));
  Field field{.name = name, .shape = {array.shape.begin() + 1, array.shape.end()}, .origin = path};
  if (is_float && array.dtype == "|u1") {
    field.bytes = std::move(array.bytes);
  } else if (is_float && array.dtype == "<f4") {
    field.floats = numbers_of<float>(array);
  } else if (is_float && array.dtype == "<f8") {
    std::vector<double> values = numbers_of<double>(array);
    array.bytes = {};
    sources::keep_values(field, std::move(values), doubles,
                         [&](size_t i) { return fmt::format("{}: at number {}", path, i); });
  } else if (!is_float && array.dtype == "<i4") {
    field.integers = numbers_of<int32_t>(array);
  } else if (!is_float && array.dtype == "<i8") {
    keep_integers(path, field, numbers_of<int64_t>(array));
  } else if (!is_float && array.dtype == "|u1") {
    field.integers.assign(array.bytes.begin(), array.bytes.end());
  } else {
    sources::fail(fmt::format("{}: numbers of '{}'; {} and takes {}: use array.astype()", path, array.dtype,
                              what, is_float ? "'<f4', '<f8' or '|u1'" : "'<i4', '<i8' or '|u1'"));
  }
  return field;
}

}  // namespace gradc::runtime
