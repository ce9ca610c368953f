// Attributes of an operation: values known when compiling, by name.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace gradc {

using Attribute = std::variant<bool, int64_t, double, std::string, std::vector<int64_t>>;

// Sorted by name, so that text and hashes are stable.
class Attributes {
 public:
  Attributes() = default;
  Attributes(std::initializer_list<std::pair<const std::string, Attribute>> list) : map_(list) {}
  bool has(const std::string& name) const { return map_.count(name) != 0; }
  void set(const std::string& name, Attribute value) { map_[name] = std::move(value); }
  void erase(const std::string& name) { map_.erase(name); }
  const Attribute* find(const std::string& name) const;
  // Typed access; GRADC_CHECKs that the attribute exists with that type (the verifier ensures it).
  bool boolean(const std::string& name) const;
  int64_t integer(const std::string& name) const;
  double number(const std::string& name) const;  // an integer attribute is converted
  const std::string& text(const std::string& name) const;
  const std::vector<int64_t>& integers(const std::string& name) const;
  auto begin() const { return map_.begin(); }
  auto end() const { return map_.end(); }
  bool empty() const { return map_.empty(); }
  friend bool operator==(const Attributes&, const Attributes&) = default;

 private:
  std::map<std::string, Attribute> map_;
};

// "true", "3", "0.5" (shortest text that reads back to the same double, always with a point or exponent),
// "\"nk,ok->no\"", "[1,1]".
std::string to_string(const Attribute& a);

}  // namespace gradc
