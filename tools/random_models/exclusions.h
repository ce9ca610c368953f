// Known faults that are not yet fixed: models that random_models does not generate, and findings that it counts and
// does not report. Each is one record in exclusions.cpp; fixing a fault ends with deleting its record.
#pragma once
#include <string>

namespace gradc::random_models {

// The exclusion that a model file falls under, or null.
const char* excluded_model(const std::string& text);

// The exclusion that explains a finding of some kind in a comparison of a model, or null.
const char* excluded_finding(const std::string& text, const std::string& comparison, const std::string& kind);

}  // namespace gradc::random_models
