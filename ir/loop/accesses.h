// The accesses of a kernel's calls: for each load and store, the elements as a sum of loop counters with their known
// bounds, derived from the kernel's own statements. Knows nothing of barriers or memory plans.
#pragma once
#include <string>
#include <vector>

#include "ir/loop/linear.h"
#include "ir/loop/loop_ir.h"
#include "ir/loop/thread_range.h"

namespace gradc::loop {

// A unit of the thread's range that an access belongs to, and the access's elements as a sum that shows it.
struct OwnUnit {
  Owner owner;
  Linear at;
  friend bool operator==(const OwnUnit&, const OwnUnit&) = default;
};

struct MemoryUse {
  int buffer = 0;  // of the kernel
  bool writes = false;
  // It accesses, for each of `constants`, `width` elements from `at` + constant on.
  Linear at;
  Linear in_remainders;            // the same sum, with remainders in place of what quotients divide
  std::vector<int64_t> constants;  // ascending
  int64_t width = 1;
  std::vector<Linear> facts;    // sums that are at least 0 where it happens
  std::vector<OwnUnit> owners;  // innermost first; of each, a sum with remainders before the plain one
  Location location;
  int shape = 0;  // accesses of one shape differ in nothing but buffer, direction and location
};

struct KernelAccesses {
  Atoms atoms;
  std::vector<MemoryUse> accesses;
  std::vector<std::string> errors;  // cases where the split over threads changes results
};

// `batch`: rows of a full batch.
KernelAccesses accesses_of(const Program& program, const Call& call, int64_t batch);

}  // namespace gradc::loop
