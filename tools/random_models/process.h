// One trial in a process of its own, so that a crash or an endless loop is a finding too.
#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "tools/random_models/trial.h"

namespace gradc::random_models {

struct Outcome {
  std::string text;                       // of the model; empty: generating it failed
  std::string comparison;                 // the last that began, "generate" before the first
  std::optional<Finding> finding;         // empty: all agree
  bool invalid = false;                   // the model file has errors: no finding
  std::vector<std::string> known;         // exclusions that explained findings
  std::map<std::string, double> seconds;  // of processor time, by comparison
};

// Generates the model of a seed and the trial's number and tries it.
Outcome try_number(uint64_t seed, Trial trial, double seconds);

// Tries a given text with the variants of a number.
Outcome try_text(const Trial& trial, double seconds);

}  // namespace gradc::random_models
