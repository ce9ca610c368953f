// The ranges of integers that a function's inputs may hold: an operator that reads at positions gives their extent
// (OpDef::index), and operations that move elements without computing (views, slices, transposes) are traced back from
// there to the elements of an input. Computed values are not traced: a program that computes its positions, select(id
// >= 0, id, 0), must keep them in range itself. Knows no operator.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ir/tensor/module.h"

namespace gradc {

// Elements of each example that must be in 0 .. extent - 1.
struct IndexRange {
  int64_t first = 0, count = 0;  // row-major
  int64_t extent = 0;            // the smallest of all uses
  // That reads at these positions, by the name that the user called: "cross_entropy", "pick".
  std::string operation;
  Location location;       // of the operation
  const Op* op = nullptr;  // the operation in the analysed function
};

// By input, in order of their elements; inputs without a bound are left out.
using IndexRanges = std::map<std::string, std::vector<IndexRange>>;

// To be called before composite operators are decomposed: afterwards their positions are unknown.
IndexRanges index_ranges(const Function& f);

}  // namespace gradc
