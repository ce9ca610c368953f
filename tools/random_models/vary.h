// Variations of an example: replaces values, numbers, switches and options.
#pragma once
#include <functional>
#include <map>
#include <string>

#include "tools/random_models/draw.h"

namespace gradc::random_models {

struct Variation {
  // The replacement of a name of the example model (frontend::example_model()); empty: the name is kept.
  std::function<std::string(const std::string& name)> name;
  // Extents of the example model and those of the current model.
  std::map<int64_t, int64_t> extents;
  double boldness = 0.3;  // how likely each number and switch is another one
};

// A variation, which often compiles. `expression` is the whole text, or the text after the first word of a statement.
std::string vary(const std::string& expression, const Variation& variation, Draw& draw);

// An initialiser as an argument is written: "he_normal", "normal(0, 0.1)".
std::string any_initialiser(Draw& draw);

// The shortest of "0.25" and "1e-05" with a point or an exponent.
std::string number_text(double value);

}  // namespace gradc::random_models
