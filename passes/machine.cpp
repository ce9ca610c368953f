// The table of processors. Sources: AMD's Software Optimization Guides for families 17h (Zen, Zen 2), 19h (Zen 3, Zen 4)
// and 1Ah (Zen 5), the Intel 64 and IA-32 Architectures Optimization Reference Manual, Arm's Neoverse Software
// Optimization Guides; latencies also Fog, "Instruction tables". L3 is that of a usual model divided by its cores.
#include "passes/machine.h"

#include <algorithm>
#include <iterator>

namespace gradc::passes {

namespace {

struct Row {
  const char* name;
  int lanes, registers, fma_units, fma_latency;
  int64_t l1, l2, l3;  // KiB
};

constexpr Row kTable[] = {
    {"znver1", 8, 16, 1, 5, 32, 512, 2048},           {"znver2", 8, 16, 2, 5, 32, 512, 4096},
    {"znver3", 8, 16, 2, 4, 32, 512, 4096},           {"znver4", 16, 32, 1, 4, 32, 1024, 4096},
    {"znver5", 16, 32, 2, 4, 48, 1024, 4096},         {"haswell", 8, 16, 2, 5, 32, 256, 2048},
    {"broadwell", 8, 16, 2, 5, 32, 256, 2048},        {"skylake", 8, 16, 2, 4, 32, 256, 2048},
    {"alderlake", 8, 16, 2, 4, 48, 1280, 3072},       {"raptorlake", 8, 16, 2, 4, 48, 2048, 3072},
    {"meteorlake", 8, 16, 2, 4, 48, 2048, 3072},      {"skylake-avx512", 16, 32, 2, 4, 32, 1024, 1408},
    {"cascadelake", 16, 32, 2, 4, 32, 1024, 1408},    {"icelake-client", 16, 32, 1, 4, 48, 512, 2048},
    {"tigerlake", 16, 32, 1, 4, 48, 1280, 3072},      {"icelake-server", 16, 32, 2, 4, 48, 1280, 1536},
    {"sapphirerapids", 16, 32, 2, 4, 48, 2048, 1920}, {"emeraldrapids", 16, 32, 2, 4, 48, 2048, 5120},
    {"graniterapids", 16, 32, 2, 4, 48, 2048, 4096},  {"neoverse-n1", 4, 32, 2, 4, 64, 1024, 1024},
    {"neoverse-n2", 4, 32, 2, 4, 64, 1024, 1024},     {"neoverse-v1", 4, 32, 4, 4, 64, 1024, 1024},
    {"neoverse-v2", 4, 32, 4, 4, 64, 2048, 1536},     {"apple-m1", 4, 32, 4, 4, 128, 3072, 2048},
};

// Usual processors by registers: the levels of x86-64, which are no processors, and unknown ones.
constexpr Row kUsual[] = {
    {"", 4, 16, 1, 4, 32, 256, 2048},
    {"", 8, 16, 2, 4, 32, 512, 2048},
    {"", 16, 32, 2, 4, 32, 1024, 1408},
    {"", 4, 32, 2, 4, 64, 512, 1024},
};

Machine machine(const Row& row) {
  Machine m;
  m.name = row.name;
  m.lanes = row.lanes;
  m.registers = row.registers;
  m.fma_units = row.fma_units;
  m.fma_latency = row.fma_latency;
  m.l1 = row.l1 << 10;
  m.l2 = row.l2 << 10;
  m.l3 = row.l3 << 10;
  m.known = true;
  return m;
}

}  // namespace

Machine machine_of(const std::string& name, int lanes, int registers) {
  const auto row =
      std::find_if(std::begin(kTable), std::end(kTable), [&](const Row& r) { return name == r.name; });
  if (row != std::end(kTable)) {
    Machine m = machine(*row);
    // Half the width on a unit for whole vectors: twice as many begin in a cycle where it splits them.
    if (m.lanes > lanes && m.fma_units == 1) m.fma_units = 2;
    m.lanes = lanes;
    m.registers = registers;
    return m;
  }
  const auto usual = std::find_if(std::begin(kUsual), std::end(kUsual),
                                  [&](const Row& r) { return r.lanes == lanes && r.registers == registers; });
  Machine m = usual == std::end(kUsual) ? Machine{} : machine(*usual);
  m.name = name;
  m.lanes = lanes;
  m.registers = registers;
  m.known = false;
  return m;
}

std::vector<Machine> machines() {
  std::vector<Machine> list;
  for (const Row& row : kTable) list.push_back(machine(row));
  return list;
}

}  // namespace gradc::passes
