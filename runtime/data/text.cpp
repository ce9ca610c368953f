// Reads text, cuts it into windows, numbers its characters.
#include "runtime/data/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/data/source_options.h"
#include "runtime/files.h"
#include "runtime/memory.h"

namespace gradc::runtime {
namespace {

using sources::fail;
using sources::Options;
using sources::whole;

constexpr uint64_t kMostBytes = uint64_t{1} << 30;
constexpr int32_t kLastCodePoint = 0x10FFFF;

Table windows(const std::vector<int32_t>& text, const std::string& name, int64_t length, int64_t stride) {
  const auto size = static_cast<int64_t>(text.size());
  if (size <= length)
    fail(
        fmt::format("{}: {} characters; windows of {} and the character after each need at least {}: choose "
                    "a smaller `length`, or a longer text",
                    name, size, length, length + 1));
  Table table;
  table.rows = (size - length - 1) / stride + 1;
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(table.rows), static_cast<uint64_t>(length) * 8, &bytes) ||
      bytes > available_memory())
    fail(fmt::format("{}: {} windows of {} characters do not fit the memory; choose a greater `stride`", name,
                     table.rows, length));
  for (const int64_t shift : {0, 1}) {
    Field field{.name = shift == 0 ? "tokens" : "next", .shape = {length}};
    field.integers.reserve(static_cast<size_t>(table.rows * length));
    for (int64_t row = 0; row < table.rows; ++row) {
      const auto begin = text.begin() + row * stride + shift;
      field.integers.insert(field.integers.end(), begin, begin + length);
    }
    table.fields.push_back(std::move(field));
  }
  return table;
}

}  // namespace

std::vector<int32_t> code_points(std::string_view text, const std::string& name) {
  std::vector<int32_t> result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const auto first = static_cast<uint8_t>(text[i]);
    // Leading ones say how many bytes a character has (RFC 3629).
    const size_t bytes = first < 0x80       ? 1
                         : first >> 5 == 6  ? 2
                         : first >> 4 == 14 ? 3
                         : first >> 3 == 30 ? 4
                                            : 0;
    static constexpr int32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
    int32_t value = bytes == 1 ? first : first & (0x7F >> bytes);
    bool valid = bytes > 0 && i + bytes <= text.size();
    for (size_t k = 1; valid && k < bytes; ++k) {
      const auto next = static_cast<uint8_t>(text[i + k]);
      valid = next >> 6 == 2;
      value = value << 6 | (next & 0x3F);
    }
    valid =
        valid && value >= kLeast[bytes] && value <= kLastCodePoint && !(value >= 0xD800 && value < 0xE000);
    if (!valid)
      fail(fmt::format("{}: byte {} (0x{:02x}) begins no UTF-8 character; convert the text with iconv", name,
                       i, first));
    result.push_back(value);
    i += bytes;
  }
  return result;
}

std::string utf8(int32_t c) {
  std::string out;
  const auto byte = [&](int32_t value) { out += static_cast<char>(value); };
  const auto rest = [&](int shift) { byte(0x80 | (c >> shift & 0x3F)); };
  if (c < 0x80) {
    byte(c);
  } else if (c < 0x800) {
    byte(0xC0 | c >> 6);
    rest(0);
  } else if (c < 0x10000) {
    byte(0xE0 | c >> 12);
    rest(6);
    rest(0);
  } else {
    byte(0xF0 | c >> 18);
    rest(12);
    rest(6);
    rest(0);
  }
  return out;
}

std::vector<Split> read_text(const DataRecord& record) {
  Options options(record);
  const std::string path = options.optional_text("path"), test = options.optional_text("test");
  const int64_t length = options.integer("length", 64, 1, 1 << 20);
  int64_t stride = options.integer("stride", 0, 0, INT64_MAX);
  const int64_t characters = options.integer("characters", 200'000, 1, 1 << 28);
  const auto seed = static_cast<uint64_t>(options.integer("seed", 1, INT64_MIN, INT64_MAX));
  options.integer("vocabulary", 96, 2, INT32_MAX);  // of the preparation
  options.refuse_others();
  if (stride == 0) stride = length;
  std::vector<Split> splits;
  const auto add = [&](const char* split, const std::vector<int32_t>& text, const std::string& name) {
    splits.push_back(whole(split, windows(text, name, length, stride)));
  };
  const auto file = [&](const char* split, const std::string& name) {
    const std::vector<uint8_t> bytes = read_file(name, "text", kMostBytes);
    add(split, code_points({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, name), name);
  };
  const auto made = [&](const char* split, uint32_t number, int64_t count) {
    const std::string name = fmt::format("data {} = text(...)", record.name);
    add(split, code_points(make_text(seed, number, count), name), name);
  };
  if (path.empty())
    made("train", 0, characters);
  else
    file("train", path);
  if (!test.empty())
    file("test", test);
  else if (path.empty() && characters / 10 > length)
    made("test", 1, characters / 10);
  return splits;
}

Vocabulary Vocabulary::of(const std::map<int32_t, int64_t>& counts, int64_t size) {
  std::vector<std::pair<int32_t, int64_t>> by_count(counts.begin(), counts.end());
  std::stable_sort(by_count.begin(), by_count.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  if (static_cast<int64_t>(by_count.size()) >= size) by_count.resize(static_cast<size_t>(size - 1));
  Vocabulary result;
  for (const auto& [c, count] : by_count) result.characters_.push_back(c);
  std::sort(result.characters_.begin(), result.characters_.end());
  return result;
}

Vocabulary Vocabulary::restored(const std::vector<double>& kept) {
  Vocabulary result;
  double last = -1;
  for (const double value : kept) {
    if (!(value > last) || value > kLastCodePoint || value != std::floor(value)) return {};
    result.characters_.push_back(static_cast<int32_t>(value));
    last = value;
  }
  return result;
}

NumberArray Vocabulary::kept() const {
  return {{static_cast<int64_t>(characters_.size())}, {characters_.begin(), characters_.end()}};
}

int32_t Vocabulary::number(int32_t code_point) const {
  const auto at = std::lower_bound(characters_.begin(), characters_.end(), code_point);
  return at != characters_.end() && *at == code_point ? static_cast<int32_t>(at - characters_.begin()) + 1
                                                      : 0;
}

}  // namespace gradc::runtime
