// How threads share the panels of a batch, and how much memory that takes. Each rule is written once, for
// numbers (the runtime, the checks) and for LLVM values (codegen/emit_entry.cpp): N is int64_t, or a type with
// the operators used here and a select(condition, N, N).
#pragma once
#include <cstdint>

#include "runtime/abi.h"

namespace gradc::runtime {

inline int64_t select(bool condition, int64_t yes, int64_t no) { return condition ? yes : no; }

// Whether threads take whole panels through a segment (a group of kernels), one panel after the other: where at
// most a tenth of their time is lost for want of panels. Else all threads share each kernel's work.
template <class N>
auto by_panels(const N& panels, const N& threads) {
  const N each = (panels + (threads - 1)) / threads;  // of the thread with most
  return panels * 10 >= each * threads * 9;
}

// Panels that values used only in a segment (local values) need memory for: one a thread, or all.
template <class N>
N local_panels(const N& panels, const N& threads) {
  return select(by_panels(panels, threads), threads, panels);
}

// Whether a call with so many panels, of a full batch's `full`, takes whole panels: partial batches must, too, where a
// thread has memory for one panel only.
template <class N>
auto runs_by_panels(const N& panels, const N& full, const N& threads) {
  return by_panels(panels, threads) | ((panels > threads) & by_panels(full, threads));
}

// Bytes of working memory that so many threads need to run an entry.
inline int64_t working_bytes(const gradc_entry_info& entry, int32_t threads) {
  return entry.arena_bytes + local_panels<int64_t>(entry.panels, threads) * entry.local_bytes +
         threads * entry.scratch_bytes;
}

}  // namespace gradc::runtime
