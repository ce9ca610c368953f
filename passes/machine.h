// The processor that kernels are made for. Of it the passes read the lanes, the registers (register tiles) and the
// second-level cache (bands of images, prefetches); the rest is for `gradc machine` and cost models.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace gradc::passes {

struct Machine {
  std::string name;     // LLVM's name of the processor, or of a level: "znver4", "x86-64-v3"
  int lanes = 16;       // f32 in a vector register
  int registers = 32;   // vector registers
  int fma_units = 2;    // multiply-adds of whole vectors that begin in one cycle
  int fma_latency = 4;  // cycles from operands to result
  int64_t line = 64;    // bytes of a cache line
  // Bytes of the data caches for one core; of a cache that cores share, a core's share.
  int64_t l1 = int64_t{32} << 10, l2 = int64_t{1} << 20, l3 = int64_t{2} << 20;
  bool known = false;  // from the table; else the figures of a usual processor with these registers
};

// The record of a processor by its name, for code that uses vectors of `lanes` f32 and so many registers, which may be
// less than the processor has.
Machine machine_of(const std::string& name, int lanes, int registers);

// Every processor in the table.
std::vector<Machine> machines();

}  // namespace gradc::passes
