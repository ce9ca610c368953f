// The comparisons of one model. Its target, pass, memory level and partial batches follow from its number, so that a
// run of many models covers all of them in turn.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tools/random_models/native_run.h"

namespace gradc::random_models {

struct Trial {
  std::string text;                        // the model file
  uint64_t number = 0;                     // decides the variants
  std::string only;                        // one comparison's name; empty: all
  bool links = false;                      // also the executable, where the model trains by itself
  bool every = false;                      // every comparison; else those whose turn it is
  bool unmended = false;                   // exclusions do not count
  std::string break_pass, break_gradient;  // corrupted first, to test the comparisons themselves
};

struct Comparison {
  std::string name;
  std::string doc;  // with the variant of this number
};
// All of them for a number, in order.
std::vector<Comparison> comparisons(uint64_t number);

struct TrialFinding {
  std::string comparison;
  Finding finding;
};

// Runs them up to the first finding that no exclusion explains. Throws what compiling throws.
struct TrialEvents {
  std::function<void(const std::string& comparison)> begins;  // before each comparison
  std::function<void(const std::string& exclusion)> known;    // a finding that an exclusion explains
};
std::optional<TrialFinding> run_trial(const Trial& trial, const TrialEvents& events);

// The targets that code can be compiled for and run here, "native" first.
std::vector<std::string> runnable_targets();

}  // namespace gradc::random_models
