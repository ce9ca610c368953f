// The methods of preparing examples that a model file may name: normalisations, and augmentations while
// training. This file defines their options and their effect on a field's type; the runtime implements their
// effect on its numbers.
#pragma once
#include <string>
#include <vector>

#include "frontend/data_sources.h"
#include "frontend/evaluator.h"

namespace gradc::frontend {

struct MethodOption {
  const char* name;
  enum class Kind : uint8_t { number, integer, boolean, size } kind = Kind::number;
  RecordValue otherwise{};  // the default; none for a size, whose default is the image's
  bool required = false;
  double low = 0, high = 0;  // of numbers and integers
  bool above_low = false;    // low itself is not allowed
  const char* doc = "";
};

struct MethodKind {
  const char* name;
  const char* doc;
  std::vector<MethodOption> options;  // by position in this order, or by name
  bool image = false;                 // needs a field f32[channels, height, width]
  bool colour = false;                // and three channels
  bool mixes = false;                 // mixes labels too
};

const std::vector<MethodKind>& normalizations();
const std::vector<MethodKind>& augmentations();

// Adds `normalize` and `augment` to the record, and sets the fields' types to those that the programs read.
// Reports errors.
void data_methods(Evaluator& e, const DataSyntax& d, DataSource& data);

}  // namespace gradc::frontend
