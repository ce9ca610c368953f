#include "passes/loop/spacing.h"

namespace gradc::passes::lowering {

int64_t spaced_bytes(int64_t bytes) {
  // Padding would enlarge small values too much. Each large value starts 6 lines after the one before it, modulo the 32
  // lines of 2 KiB: sixteen values in a row have different offsets.
  constexpr int64_t kLarge = 32 << 10, kPeriod = 2048, kStep = 6 * kLineBytes;
  if (bytes < kLarge) return round_up(bytes, kArenaAlignment);
  return round_up(bytes - kStep, kPeriod) + kStep;
}

int64_t plane_distance(int64_t elements) {
  constexpr int64_t kLine = kLineBytes / 4;  // elements
  return round_up(elements - 2 * kLine, 4 * kLine) + 2 * kLine;
}

}  // namespace gradc::passes::lowering
