// JSON as one line of text, for any contents.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace gradc {

// Bytes that are not UTF-8, as file names may have, are replaced: JSON has no bytes. nlohmann's dump() alone
// throws for them (tests/layers_test.py allows it nowhere else).
template <class Json>
std::string json_line(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace gradc
