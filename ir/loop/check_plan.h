// Whether a program's memory plan, its split over threads, its barriers and segments are sound, for every
// number of threads and of rows: a proof from the kernels' own statements, independent of what the passes recorded.
// docs/loop_ir.md lists what is proven.
#pragma once
#include <string>
#include <vector>

#include "ir/loop/loop_ir.h"

namespace gradc::loop {

struct PlanOptions {
  int64_t batch = 0;  // rows of a full batch; 0: of all its panels
  size_t most_errors = 20;
};

// The properties that are not proven, a sentence each: kernels, buffers, addresses and the barriers around them. Empty
// when
// sound. The program must verify().
std::vector<std::string> check_plan(const Program& program, const PlanOptions& options = {});

}  // namespace gradc::loop
