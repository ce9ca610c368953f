// Where a command's result goes: stdout or a file.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace gradc::cli {

// Writes to stdout or, where `path` is not empty, atomically to a file. Ends the text
// with a newline. `what` names the file in messages.
void write_result(const std::string& text, const std::string& path, const char* what);

// One line; bytes that are not UTF-8 are replaced.
std::string json_text(const nlohmann::ordered_json& record);

}  // namespace gradc::cli
