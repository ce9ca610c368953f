// Distances between values in memory. Knows nothing of programs.
#pragma once
#include <cstdint>

namespace gradc::passes::lowering {

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

}  // namespace gradc::passes::lowering
