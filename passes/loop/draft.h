// A loop IR program in the making, between lowering, which makes its kernels and calls, and the loop passes, which
// order calls (segments.cpp), insert barriers and the guard (partition.cpp) and give values their offsets
// (plan_memory.cpp). Knows nothing of operators.
#pragma once
#include <cstdint>
#include <vector>

#include "passes/lowered.h"
#include "passes/options.h"

namespace gradc::passes::lowering {

// Examples of a panel, the block of the batch's rows that kernels work on (kernels/lowering.h).
inline constexpr int64_t kPanel = 32;

inline int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Offsets are chosen against 4 KiB aliasing: processors look for the store that a load depends on by the lowest 12 bits
// of the addresses, and a load that finds a store to another address stalls until that is written. Images, whose pixels
// are often 2 KiB or a multiple apart, are the worst case: then every vector of one channel has the same lowest 11
// bits, and a loop that reads one image and writes another stalls at each vector if both start at the same offset. So
// large values start at different offsets modulo 2 KiB, all multiples of two cache lines; planes of scratch memory are
// an even number of lines apart too. Accesses of neighbouring iterations then differ by an odd number of lines.
inline constexpr int64_t kLineBytes = 64;
inline constexpr int64_t kArenaAlignment = 2 * kLineBytes;
// Bytes from the start of a value of `bytes` to the next value's.
int64_t spaced_bytes(int64_t bytes);
// Elements from a plane of `elements` (f32) to the next: twice an odd number of lines, since planes at
// distances of large powers of two would share few cache sets.
int64_t plane_distance(int64_t elements);

// What a call accesses of an allocation: the chunk that belongs to the calling thread's share of the partition, or
// anything. Two calls with equal partitions that access an allocation only within their own
// chunks need no barrier between them. `panel`: beyond the own chunk of a panel, but not beyond the panel, as
// convolutions read neighbouring rows of images.
enum class AccessScope : uint8_t { anything, own_axis0, own_panels, panel };

// Rows [begin, end) of an image.
struct RowRange {
  int64_t begin = 0, end = 0;
  friend bool operator==(const RowRange&, const RowRange&) = default;
};

struct MemoryAccess {
  int allocation = -1;
  bool writes = false;
  AccessScope scope = AccessScope::anything;
  // of a panel's images, by the chunks that the partition cuts it into; empty: all, or not within panels
  std::vector<RowRange> rows;
};

// Whether two accesses are of the same memory and one of them writes.
bool conflict(const MemoryAccess& a, const MemoryAccess& b);

struct PendingCall {
  loop::Call call;
  std::vector<MemoryAccess> accesses;  // one a buffer of the kernel
  CallCost cost;
};

struct ProgramDraft {
  explicit ProgramDraft(const PipelineOptions& options) : options(options) {}
  void publish_calls();  // copies the calls, in their current state, into result.program
  int64_t batch_panels() const { return (options.batch + kPanel - 1) / kPanel; }

  const PipelineOptions& options;
  LoweredProgram result;
  std::vector<PendingCall> calls;
};

void make_segments(ProgramDraft& draft);
void place_barriers(ProgramDraft& draft);
void plan_memory(ProgramDraft& draft);

}  // namespace gradc::passes::lowering
