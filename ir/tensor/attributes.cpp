// Attributes: typed access and their text; knows no operation.
#include "ir/tensor/attributes.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <cmath>

#include "support/check.h"

namespace gradc {

namespace {

template <class T>
const T& get(const Attributes& attributes, const std::string& name, const char* kind) {
  const Attribute* a = attributes.find(name);
  GRADC_CHECK(a, "no attribute `{}`", name);
  const T* value = std::get_if<T>(a);
  GRADC_CHECK(value, "attribute `{}` is {}, not {}", name, to_string(*a), kind);
  return *value;
}

// Shortest text that reads back to the same double; a point or exponent tells it from an integer.
std::string double_text(double value) {
  std::string text = fmt::format("{}", value);
  if (std::isfinite(value) && text.find_first_of(".e") == text.npos) text += ".0";
  return text;
}

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      result += '\\';
      result += c;
    } else if (c == '\n') {
      result += "\\n";
    } else if (const auto byte = static_cast<unsigned char>(c); byte < 0x20 || byte == 0x7f) {
      result += fmt::format("\\x{:02x}", byte);
    } else {
      result += c;
    }
  }
  return result + '"';
}

}  // namespace

const Attribute* Attributes::find(const std::string& name) const {
  const auto it = map_.find(name);
  return it == map_.end() ? nullptr : &it->second;
}

bool Attributes::boolean(const std::string& name) const { return get<bool>(*this, name, "true or false"); }
int64_t Attributes::integer(const std::string& name) const { return get<int64_t>(*this, name, "an integer"); }
const std::string& Attributes::text(const std::string& name) const {
  return get<std::string>(*this, name, "text");
}
const std::vector<int64_t>& Attributes::integers(const std::string& name) const {
  return get<std::vector<int64_t>>(*this, name, "a list of integers");
}

double Attributes::number(const std::string& name) const {
  if (const Attribute* a = find(name); a && std::holds_alternative<int64_t>(*a))
    return static_cast<double>(std::get<int64_t>(*a));
  return get<double>(*this, name, "a number");
}

std::string to_string(const Attribute& a) {
  struct {
    std::string operator()(bool value) const { return value ? "true" : "false"; }
    std::string operator()(int64_t value) const { return std::to_string(value); }
    std::string operator()(double value) const { return double_text(value); }
    std::string operator()(const std::string& value) const { return quoted(value); }
    std::string operator()(const std::vector<int64_t>& value) const {
      return fmt::format("[{}]", fmt::join(value, ","));
    }
  } text;
  return std::visit(text, a);
}

}  // namespace gradc
