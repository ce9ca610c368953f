// Results on standard output: JSON lines and text. Knows how to write, not what.
#pragma once
#include <cstdio>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "runtime/execution/session.h"

namespace gradc::runtime {

// Writes a line at once; throws RunError (kExitRunFailed) when the write fails (a full disk).
void write_line(std::FILE* out, const std::string& line);

// One event a line. Numbers that are not finite become null, invalid UTF-8 is replaced: the line is always valid JSON.
void write_event(std::FILE* out, const nlohmann::ordered_json& event);

// "loss 0.1234  accuracy 97.65%": `shares` (TrainRecord) in percent; "loss not finite". `prefix` is put before every
// name ("val ").
std::string results_text(double loss, const Metrics& metrics, const std::vector<std::string>& shares,
                         const std::string& prefix = "");

}  // namespace gradc::runtime
