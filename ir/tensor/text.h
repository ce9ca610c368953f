// The spelling of names, shared by the IR's printer and parser. Knows no operation.
#pragma once
#include <string>
#include <string_view>

namespace gradc::text {

// A letter, digit or underscore begins a bare name; dots and dashes may follow.
inline bool begins_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}
inline bool continues_name(char c) { return begins_name(c) || c == '.' || c == '-'; }

// Whether a name needs no quotes.
inline bool is_bare(std::string_view name) {
  if (name.empty() || !begins_name(name[0])) return false;
  for (const char c : name)
    if (!continues_name(c)) return false;
  return true;
}

}  // namespace gradc::text
