// Reads and writes safetensors; nlohmann-json does the header.
#include "runtime/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/files.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

using Json = nlohmann::json;
constexpr uint64_t kMaxHeader = 100'000'000;  // as the format's own implementation
static_assert(std::endian::native == std::endian::little, "the data are written as they stand in memory");

const std::map<std::string, uint64_t>& element_bytes() {
  static const std::map<std::string, uint64_t> table = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"U16", 2}, {"I16", 2}, {"F16", 2},
      {"BF16", 2}, {"U32", 4}, {"I32", 4}, {"F32", 4},     {"F64", 8},     {"U64", 8}, {"I64", 8}};
  return table;
}

[[noreturn]] void fail(const std::string& path, const std::string& what) {
  throw RunError(kExitDataError, fmt::format("{}: not a usable safetensors file: {}", path, what));
}

// Parses the header, which must not nest deeply or repeat a name (a parser that keeps the last hides an
// error).
Json parse_header(const std::string& path, const char* begin, const char* end) {
  std::vector<std::set<std::string>> names(8);
  const auto callback = [&](int depth, Json::parse_event_t event, Json& value) {
    if (depth > 4) fail(path, "its header nests too deeply");
    if (event == Json::parse_event_t::object_start) names[static_cast<size_t>(depth) + 1].clear();
    if (event == Json::parse_event_t::key &&
        !names[static_cast<size_t>(depth)].insert(value.get<std::string>()).second)
      fail(path, fmt::format("its header names `{}` twice", value.get<std::string>()));
    return true;
  };
  try {
    return Json::parse(begin, end, callback);
  } catch (const Json::exception& error) {
    fail(path, fmt::format("its header is not JSON ({})", error.what()));
  }
}

uint64_t unsigned_of(const std::string& path, const std::string& name, const Json& value) {
  if (!value.is_number_unsigned())
    fail(path, fmt::format("`{}`: {} is no size; expected a whole number", name, value.dump()));
  return value.get<uint64_t>();
}

TensorView parse_entry(const std::string& path, const std::string& name, const Json& entry,
                       const uint8_t* data, uint64_t data_bytes) {
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets"))
    fail(path, fmt::format("`{}` must have exactly dtype, shape and data_offsets", name));
  const Json &dtype = entry["dtype"], &shape = entry["shape"], &offsets = entry["data_offsets"];
  if (!dtype.is_string() || !element_bytes().count(dtype.get<std::string>()))
    fail(path, fmt::format("`{}`: dtype {} is unknown", name,
                           dtype.dump(-1, ' ', false, Json::error_handler_t::replace)));
  if (!shape.is_array() || shape.size() > 16)
    fail(path, fmt::format("`{}`: its shape is no list of sizes", name));
  if (!offsets.is_array() || offsets.size() != 2)
    fail(path, fmt::format("`{}`: data_offsets must be two numbers", name));
  TensorView view;
  view.dtype = dtype.get<std::string>();
  uint64_t bytes = element_bytes().at(view.dtype);
  for (const Json& extent : shape) {
    const uint64_t size = unsigned_of(path, name, extent);
    if (size > INT64_MAX || __builtin_mul_overflow(bytes, size, &bytes))
      fail(path, fmt::format("`{}`: its shape is too large", name));
    view.shape.push_back(static_cast<int64_t>(size));
  }
  const uint64_t begin = unsigned_of(path, name, offsets[0]), end = unsigned_of(path, name, offsets[1]);
  if (begin > end || end > data_bytes)
    fail(path, fmt::format("`{}` stands at bytes {} to {} of the data, which have {}; the file is truncated "
                           "or its header is wrong",
                           name, begin, end, data_bytes));
  if (end - begin != bytes)
    fail(path, fmt::format("`{}`: {}{} needs {} bytes, but {} are set aside", name, view.dtype, shape.dump(),
                           bytes, end - begin));
  view.data = data + begin;
  view.bytes = bytes;
  return view;
}

}  // namespace

TensorFile parse_safetensors(const std::string& path, std::vector<uint8_t> bytes) {
  TensorFile file;
  file.storage = std::move(bytes);
  const uint64_t size = file.storage.size();
  if (size < 8) fail(path, fmt::format("it has {} bytes; expected at least 8", size));
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.storage.data(), 8);
  if (header_bytes > kMaxHeader)
    fail(path, fmt::format(
                   "it promises a header of {} bytes, more than the {} allowed; is it another kind of file?",
                   header_bytes, kMaxHeader));
  if (header_bytes > size - 8)
    fail(path, fmt::format("it promises a header of {} bytes, but only {} follow; the file is truncated",
                           header_bytes, size - 8));
  const char* begin = reinterpret_cast<const char*>(file.storage.data()) + 8;
  if (header_bytes == 0 || *begin != '{') fail(path, "its header does not begin with {");
  const Json header = parse_header(path, begin, begin + header_bytes);
  const uint8_t* data = file.storage.data() + 8 + header_bytes;
  const uint64_t data_bytes = size - 8 - header_bytes;
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      file.tensors[name] = parse_entry(path, name, entry, data, data_bytes);
      continue;
    }
    if (!entry.is_object()) fail(path, "its __metadata__ is no object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail(path, fmt::format("its __metadata__ `{}` is no string", key));
      file.metadata[key] = value.get<std::string>();
    }
  }
  std::vector<std::pair<const std::string*, const TensorView*>> order;
  for (const auto& [name, view] : file.tensors) order.emplace_back(&name, &view);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->data, a.second->bytes) < std::pair(b.second->data, b.second->bytes);
  });
  const uint8_t* expected = data;
  for (const auto& [name, view] : order) {
    if (view->data != expected)
      fail(path, fmt::format(
                     "`{}` begins at byte {} of the data; expected {}: arrays must not overlap or leave gaps",
                     *name, view->data - data, expected - data));
    expected += view->bytes;
  }
  if (expected != data + data_bytes)
    fail(path, fmt::format("{} bytes follow the last array", data + data_bytes - expected));
  return file;
}

TensorFile read_safetensors(const std::string& path) {
  return parse_safetensors(path, read_file(path, "weights file"));
}

void write_safetensors(const std::string& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const auto& [name, view] : tensors) {
    header[name] = {
        {"dtype", view.dtype}, {"shape", view.shape}, {"data_offsets", {offset, offset + view.bytes}}};
    offset += view.bytes;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data are aligned in a mapped file
  const uint64_t header_bytes = text.size();
  OutputFile file(path, "weights file");
  file.write(&header_bytes, 8);
  file.write(text);
  for (const auto& [name, view] : tensors) file.write(view.data, view.bytes);
  file.commit();
}

}  // namespace gradc::runtime
