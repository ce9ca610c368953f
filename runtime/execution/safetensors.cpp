// Reads and writes safetensors; nlohmann-json parses the header.
#include "runtime/execution/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "runtime/files.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/json_line.h"

namespace gradc::runtime {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the limit of the format's reference implementation
constexpr size_t kMostAxes = 16;
static_assert(std::endian::native == std::endian::little, "the data are written as they stand in memory");

const std::map<std::string, uint64_t>& bytes_by_dtype() {
  static const std::map<std::string, uint64_t> table = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"U16", 2}, {"I16", 2}, {"F16", 2},
      {"BF16", 2}, {"U32", 4}, {"I32", 4}, {"F32", 4},     {"F64", 8},     {"U64", 8}, {"I64", 8}};
  return table;
}

[[noreturn]] void refuse_safetensors(const std::string& path, const std::string& what) {
  throw RunError(kExitDataError, fmt::format("{}: not a usable safetensors file: {}", path, what));
}

// A value of the header where a size, a type or a text is expected.
struct Scalar {
  enum class Kind : uint8_t { other, text, size } kind = Kind::other;
  std::string text;  // as in the JSON; a string without its quotes
  uint64_t size = 0;
};

// The header's entry of one array.
struct Entry {
  bool object = true, dtype_given = false, other_keys = false;
  Scalar dtype;
  bool shape_given = false, shape_list = false, offsets_given = false, offsets_list = false;
  std::vector<Scalar> shape, offsets;
};

// Checks the header event by event, an array when its object ends. nlohmann-json's parser with callbacks, which builds
// the tree and decides for each value whether to keep it, visits all siblings after each value: that is quadratic.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(const std::string& path, TensorFile& file, const uint8_t* data, uint64_t data_bytes)
      : path_(path), file_(file), data_(data), data_bytes_(data_bytes) {}

  bool null() override { return scalar({Scalar::Kind::other, "null"}); }
  bool boolean(bool value) override { return scalar({Scalar::Kind::other, value ? "true" : "false"}); }
  bool number_integer(nlohmann::json::number_integer_t value) override {
    return scalar({Scalar::Kind::other, std::to_string(value)});
  }
  bool number_unsigned(nlohmann::json::number_unsigned_t value) override {
    return scalar({Scalar::Kind::size, std::to_string(value), value});
  }
  bool number_float(nlohmann::json::number_float_t, const std::string& written) override {
    return scalar({Scalar::Kind::other, written});
  }
  bool string(std::string& value) override { return scalar({Scalar::Kind::text, std::move(value)}); }
  bool binary(nlohmann::json::binary_t&) override { return false; }  // not in JSON

  bool start_object(size_t) override {
    if (++depth_ == 1) return true;
    if (depth_ > kDeepest) refuse_safetensors(path_, "its header nests too deeply");
    if (depth_ == 2 && is_metadata()) return true;
    if (depth_ == 2)
      entry_ = {};
    else
      scalar_at(depth_ - 1, {Scalar::Kind::other, "{..}"});
    return true;
  }
  bool end_object() override {
    if (--depth_ == 1 && !is_metadata()) add(entry_);
    return true;
  }
  bool start_array(size_t) override {
    if (++depth_ > kDeepest) refuse_safetensors(path_, "its header nests too deeply");
    const bool in_entry = depth_ == 3 && !is_metadata();
    if (depth_ == 2 && !is_metadata()) {
      entry_ = {};
      entry_.object = false;
    } else if (in_entry && key_ == "shape") {
      entry_.shape_given = entry_.shape_list = true;
    } else if (in_entry && key_ == "data_offsets") {
      entry_.offsets_given = entry_.offsets_list = true;
    } else {
      scalar_at(depth_ - 1, {Scalar::Kind::other, "[..]"});
    }
    return true;
  }
  bool end_array() override {
    if (--depth_ == 1 && !is_metadata()) add(entry_);
    return true;
  }
  bool key(std::string& value) override {
    if (depth_ == 1) {
      if (file_.tensors.count(value) || (value == kMetadata && metadata_met_)) twice(value);
      name_ = value;
      metadata_met_ |= is_metadata();
    } else if (depth_ == 2) {
      if (is_metadata()             ? file_.metadata.count(value) > 0
          : value == "dtype"        ? entry_.dtype_given
          : value == "shape"        ? entry_.shape_given
          : value == "data_offsets" ? entry_.offsets_given
                                    : false)
        twice(value);
      key_ = value;
    }
    return true;
  }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& error) override {
    refuse_safetensors(path_, fmt::format("its header is not JSON ({})", error.what()));
  }

 private:
  static constexpr int kDeepest = 4;
  static constexpr const char* kMetadata = "__metadata__";

  bool is_metadata() const { return name_ == kMetadata; }
  [[noreturn]] void twice(const std::string& name) const {
    refuse_safetensors(path_, fmt::format("its header names `{}` twice", name));
  }

  bool scalar(Scalar value) {
    scalar_at(depth_, std::move(value));
    return true;
  }
  // A value in an object (depth 1: the header, 2: an entry) or a list (3) of this depth; lists and objects where a
  // scalar is expected are passed here too.
  void scalar_at(int depth, Scalar value) {
    if (is_metadata()) {
      if (depth == 1) refuse_safetensors(path_, "its __metadata__ is no object");
      if (depth > 2) return;
      if (value.kind != Scalar::Kind::text)
        refuse_safetensors(path_, fmt::format("its __metadata__ `{}` is no string", key_));
      file_.metadata[key_] = std::move(value.text);
      return;
    }
    if (depth == 1) {
      entry_ = {};
      entry_.object = false;
      return add(entry_);
    }
    if (depth > 3) return;
    const bool listed = depth == 3;
    if (key_ == "shape") {
      entry_.shape_given = true;
      if (listed && entry_.shape.size() <= kMostAxes) entry_.shape.push_back(std::move(value));
    } else if (key_ == "data_offsets") {
      entry_.offsets_given = true;
      if (listed && entry_.offsets.size() <= 2) entry_.offsets.push_back(std::move(value));
    } else if (key_ == "dtype" && !listed) {
      entry_.dtype_given = true;
      entry_.dtype = std::move(value);
    } else if (!listed) {
      entry_.other_keys = true;
    }
  }

  uint64_t size_of(const Scalar& value) const {
    if (value.kind != Scalar::Kind::size)
      refuse_safetensors(path_,
                         fmt::format("`{}`: {} is no size; expected a whole number", name_, value.text));
    return value.size;
  }

  void add(const Entry& entry) {
    if (!entry.object || entry.other_keys || !entry.dtype_given || !entry.shape_given || !entry.offsets_given)
      refuse_safetensors(path_, fmt::format("`{}` must have exactly dtype, shape and data_offsets", name_));
    const bool text = entry.dtype.kind == Scalar::Kind::text;
    const auto element = bytes_by_dtype().find(entry.dtype.text);
    if (!text || element == bytes_by_dtype().end())
      refuse_safetensors(path_, fmt::format("`{}`: dtype {} is unknown", name_,
                                            text ? "\"" + entry.dtype.text + "\"" : entry.dtype.text));
    if (!entry.shape_list || entry.shape.size() > kMostAxes)
      refuse_safetensors(path_, fmt::format("`{}`: its shape is no list of sizes", name_));
    if (!entry.offsets_list || entry.offsets.size() != 2)
      refuse_safetensors(path_, fmt::format("`{}`: data_offsets must be two numbers", name_));
    TensorView view;
    view.dtype = element->first;
    uint64_t bytes = element->second;
    std::vector<uint64_t> shape;
    for (const Scalar& extent : entry.shape) {
      shape.push_back(size_of(extent));
      if (shape.back() > INT64_MAX || __builtin_mul_overflow(bytes, shape.back(), &bytes))
        refuse_safetensors(path_, fmt::format("`{}`: its shape is too large", name_));
      view.shape.push_back(static_cast<int64_t>(shape.back()));
    }
    const uint64_t begin = size_of(entry.offsets[0]), end = size_of(entry.offsets[1]);
    if (begin > end || end > data_bytes_)
      refuse_safetensors(
          path_, fmt::format("`{}` is at bytes {} to {} of the data, which have {}; the file is truncated "
                             "or its header is wrong",
                             name_, begin, end, data_bytes_));
    if (end - begin != bytes)
      refuse_safetensors(path_, fmt::format("`{}`: {}[{}] needs {} bytes, but {} are set aside", name_,
                                            view.dtype, fmt::join(shape, ","), bytes, end - begin));
    view.data = data_ + begin;
    view.bytes = bytes;
    file_.tensors.emplace_hint(file_.tensors.end(), name_,
                               std::move(view));  // names in files are mostly sorted
  }

  const std::string& path_;
  TensorFile& file_;
  const uint8_t* data_;
  uint64_t data_bytes_;
  int depth_ = 0;
  bool metadata_met_ = false;
  std::string name_, key_;  // of the entry, and within it
  Entry entry_;
};

}  // namespace

TensorFile parse_safetensors(const std::string& path, std::vector<uint8_t> bytes) {
  TensorFile file;
  file.storage = std::move(bytes);
  const uint64_t size = file.storage.size();
  if (size < 8) refuse_safetensors(path, fmt::format("it has {} bytes; expected at least 8", size));
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.storage.data(), 8);
  if (header_bytes > kMaxHeader)
    refuse_safetensors(
        path,
        fmt::format("it promises a header of {} bytes, more than the {} allowed; is it another kind of file?",
                    header_bytes, kMaxHeader));
  if (header_bytes > size - 8)
    refuse_safetensors(
        path, fmt::format("it promises a header of {} bytes, but only {} follow; the file is truncated",
                          header_bytes, size - 8));
  const char* begin = reinterpret_cast<const char*>(file.storage.data()) + 8;
  if (header_bytes == 0 || *begin != '{') refuse_safetensors(path, "its header does not begin with {");
  const uint8_t* data = file.storage.data() + 8 + header_bytes;
  const uint64_t data_bytes = size - 8 - header_bytes;
  HeaderReader reader(path, file, data, data_bytes);
  try {
    nlohmann::json::sax_parse(begin, begin + header_bytes, &reader);
  } catch (const std::bad_alloc&) {
    throw RunError(kExitRunFailed,
                   fmt::format("{}: there is no memory for its header of {} bytes", path, header_bytes));
  }
  std::vector<std::pair<const std::string*, const TensorView*>> order;
  for (const auto& [name, view] : file.tensors) order.emplace_back(&name, &view);
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second->data, a.second->bytes) < std::pair(b.second->data, b.second->bytes);
  });
  const uint8_t* expected = data;
  for (const auto& [name, view] : order) {
    if (view->data != expected)
      refuse_safetensors(
          path, fmt::format(
                    "`{}` begins at byte {} of the data; expected {}: arrays must not overlap or leave gaps",
                    *name, view->data - data, expected - data));
    expected += view->bytes;
  }
  if (expected != data + data_bytes)
    refuse_safetensors(path, fmt::format("{} bytes follow the last array", data + data_bytes - expected));
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
  std::string text = json_line(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data are aligned in a mapped file
  const uint64_t header_bytes = text.size();
  OutputFile file(path, "weights file");
  file.write(&header_bytes, 8);
  file.write(text);
  for (const auto& [name, view] : tensors) file.write(view.data, view.bytes);
  file.commit();
}

}  // namespace gradc::runtime
