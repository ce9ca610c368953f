// Types and shapes of the tensor IR as text and under broadcasting; knows no operation.
#include "ir/tensor/type.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <charconv>

#include "support/check.h"
#include "support/shape_text.h"

namespace gradc {

std::string_view name(DType t) {
  switch (t) {
    case DType::f32: return "f32";
    case DType::f64: return "f64";
    case DType::i32: return "i32";
    case DType::boolean: return "bool";
  }
  GRADC_CHECK(false, "no such element type: {}", static_cast<int>(t));
  return {};
}

bool parse_dtype(std::string_view text, DType& out) {
  for (DType t : {DType::f32, DType::f64, DType::i32, DType::boolean}) {
    if (text != name(t)) continue;
    out = t;
    return true;
  }
  return false;
}

int64_t Type::elements() const {
  int64_t product = 1;
  for (int64_t extent : shape) product *= extent;
  return product;
}

std::string to_string(const Type& t) {
  std::string text(name(t.dtype));
  if (!t.batched && t.shape.empty()) return text;
  text += '[';
  if (t.batched) text += 'n';
  if (t.batched && t.rows != 1) text += fmt::format("*{}", t.rows);
  for (size_t i = 0; i < t.shape.size(); ++i) {
    if (i != 0 || t.batched) text += ',';
    text += std::to_string(t.shape[i]);
  }
  return text + ']';
}

std::string to_string(const Shape& s) { return shape_text(s); }

bool parse_type(std::string_view text, Type& out) {
  const size_t bracket = text.find('[');
  Type t;
  if (!parse_dtype(text.substr(0, bracket), t.dtype)) return false;
  if (bracket != text.npos) {
    if (text.back() != ']') return false;
    std::string_view list = text.substr(bracket + 1, text.size() - bracket - 2);
    int64_t elements = 1;
    for (bool first = true;; first = false) {
      while (!list.empty() && list.front() == ' ') list.remove_prefix(1);
      const size_t comma = list.find(',');
      std::string_view item = list.substr(0, comma);
      while (!item.empty() && item.back() == ' ') item.remove_suffix(1);
      if (first && item == "n") {
        t.batched = true;
      } else {
        const bool folded = first && item.starts_with("n*");
        if (folded) item.remove_prefix(2);
        int64_t extent = 0;
        const auto [end, error] = std::from_chars(item.data(), item.data() + item.size(), extent);
        if (error != std::errc{} || end != item.data() + item.size() || extent < (folded ? 2 : 1))
          return false;
        if (extent > kMaxElements / elements || t.rank() == kMaxRank) return false;
        elements *= extent;
        t.batched = t.batched || folded;
        if (folded)
          t.rows = extent;
        else
          t.shape.push_back(extent);
      }
      if (comma == list.npos) break;
      list.remove_prefix(comma + 1);
    }
  }
  out = std::move(t);
  return true;
}

bool broadcast_shapes(const Shape& a, const Shape& b, Shape& out) {
  const Shape& longer = a.size() >= b.size() ? a : b;
  const Shape& shorter = a.size() >= b.size() ? b : a;
  Shape result = longer;
  const size_t offset = longer.size() - shorter.size();
  for (size_t i = 0; i < shorter.size(); ++i) {
    int64_t& extent = result[offset + i];
    if (extent == shorter[i] || shorter[i] == 1) continue;
    if (extent != 1) return false;
    extent = shorter[i];
  }
  out = std::move(result);
  return true;
}

}  // namespace gradc
