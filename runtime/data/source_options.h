// What the data sources share: their options, errors and splits. Knows no source.
#pragma once
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "runtime/data/dataset.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime::sources {

[[noreturn]] inline void fail(const std::string& message) { throw RunError(kExitDataError, message); }

// "; did you mean `val`?", or nothing.
inline std::string suggestion(const std::string& name, const std::vector<std::string>& candidates) {
  const std::string nearest = nearest_name(name, candidates);
  return nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest);
}

// A source's options by name; one that was never read is reported as unknown.
class Options {
 public:
  explicit Options(const DataRecord& record) : record_(record) {}

  std::string text(const std::string& name) {
    const std::string value = optional_text(name);
    if (value.empty())
      fail(fmt::format("data {} = {}(...): the option `{}` is missing", record_.name, record_.source, name));
    return value;
  }
  std::string optional_text(const std::string& name) {
    const RecordValue* value = find(name);
    if (!value) return "";
    if (const auto* text = std::get_if<std::string>(value)) return *text;
    wrong(name, "a string");
  }
  int64_t integer(const std::string& name, int64_t otherwise, int64_t low, int64_t high) {
    const RecordValue* value = find(name);
    if (!value) return otherwise;
    const auto* number = std::get_if<int64_t>(value);
    if (!number || *number < low || *number > high)
      wrong(name, fmt::format("an integer from {} to {}", low, high));
    return *number;
  }
  bool flag(const std::string& name, bool otherwise) {
    const RecordValue* value = find(name);
    if (!value) return otherwise;
    if (const auto* given = std::get_if<bool>(value)) return *given;
    wrong(name, "true or false");
  }
  // A list of 1 to `most` integers, each at least 1.
  std::vector<int64_t> extents(const std::string& name, std::vector<int64_t> otherwise, int64_t most) {
    const RecordValue* value = find(name);
    if (!value) return otherwise;
    const auto* list = std::get_if<std::vector<int64_t>>(value);
    if (!list || list->empty() || list->size() > static_cast<size_t>(most) ||
        std::any_of(list->begin(), list->end(), [](int64_t extent) { return extent < 1; }))
      wrong(name, fmt::format("a list of 1 to {} integers of at least 1", most));
    return *list;
  }
  void refuse_others() const {
    for (const auto& [name, value] : record_.options)
      if (!asked_.count(name))
        fail(fmt::format("data {} = {}(...): there is no option `{}`{}", record_.name, record_.source, name,
                         suggestion(name, {asked_.begin(), asked_.end()})));
  }

 private:
  const RecordValue* find(const std::string& name) {
    asked_.insert(name);
    const auto it = record_.options.find(name);
    return it == record_.options.end() ? nullptr : &it->second;
  }
  [[noreturn]] void wrong(const std::string& name, const std::string& expected) const {
    fail(fmt::format("data {} = {}(...): the option `{}` must be {}", record_.name, record_.source, name,
                     expected));
  }
  const DataRecord& record_;
  std::set<std::string> asked_;
};

// A field of single integers called `label` counts classes; `classes` 0 leaves it unchecked. `what` names the field,
// `location_of(i)` the location of number i.
template <class LocationOf>
void check_classes(const std::string& what, const Field& field, int64_t rows, int64_t classes,
                   LocationOf&& location_of) {
  const int32_t* labels = field.integer_values();
  if (classes == 0 || field.name != "label" || !field.shape.empty() || !labels) return;
  for (int64_t i = 0; i < rows; ++i)
    if (labels[i] < 0 || labels[i] >= classes)
      fail(fmt::format("{}: label {} {} is out of range; expected 0 to {}; check the data, or `classes`",
                       what, labels[i], location_of(static_cast<size_t>(i)), classes - 1));
}

// Gives an f32 field its values: as doubles where `doubles` is set and floats cannot represent one of them.
// location_of(i) is the location of value i.
template <class LocationOf>
void keep_values(Field& field, std::vector<double> values, bool doubles, LocationOf&& location_of) {
  bool lost = false;
  for (size_t i = 0; i < values.size(); ++i) {
    const auto rounded = static_cast<float>(values[i]);
    if (std::isinf(rounded) && std::isfinite(values[i]))
      fail(fmt::format("{}: {} is beyond the range of f32", location_of(i), values[i]));
    lost |= static_cast<double>(rounded) != values[i];
  }
  if (doubles && lost)
    field.doubles = std::move(values);
  else
    field.floats.assign(values.begin(), values.end());
}

inline Split whole(std::string name, Table table) {
  const int64_t rows = table.rows;
  return {std::move(name), std::make_shared<const Table>(std::move(table)), 0, rows};
}

}  // namespace gradc::runtime::sources
