// Which integers a function's inputs may hold: an operator that reads at positions says how many there are
// (OpDef::index), and what moves elements without computing (views, slices, transposes) leads back from there
// to the elements of an input. What is computed is not followed: a program that chooses its positions itself,
// select(id >= 0, id, 0), answers for them itself. Knows no operator.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ir/tensor/module.h"

namespace gradc {

// Elements of each example that must lie in 0 .. extent - 1.
struct IndexRange {
  int64_t first = 0, count = 0;  // row-major
  int64_t extent = 0;            // the least of all uses
  std::string operation;         // that reads at them, as the user called it: "cross_entropy", "pick"
  Location location;             // of that
  const Op* op = nullptr;        // the same; of the function as it was
};

// By input, in order of their elements; inputs whose integers may be any are not there.
using IndexRanges = std::map<std::string, std::vector<IndexRange>>;

// Before composite operators are taken apart: afterwards they read at nothing.
IndexRanges index_ranges(const Function& f);

}  // namespace gradc
