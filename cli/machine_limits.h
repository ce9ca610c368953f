// This machine's peak arithmetic and memory bandwidth, measured by running generated code. Knows nothing of models.
#pragma once
#include <algorithm>

#include "codegen/jit.h"

namespace gradc::cli {

struct MachineLimits {
  double gflops = 0;    // fused multiply-adds on registers, two FLOP each
  double gb_per_s = 0;  // a[i] = b[i] + s * c[i] on arrays beyond the caches, three floats an element
                        // (STREAM's triad; the write-allocate traffic is not counted)

  // Takes the higher of both: a limit that was measured on a busy machine is too low.
  void raise(const MachineLimits& other) {
    gflops = std::max(gflops, other.gflops);
    gb_per_s = std::max(gb_per_s, other.gb_per_s);
  }
};

// With `threads` threads at once, on code for this target; the best of several runs. Takes about 0.3 s and
// 192 MiB.
MachineLimits measure_machine(const codegen::Target& target, int threads);

}  // namespace gradc::cli
