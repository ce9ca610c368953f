// The table of processors, against what LLVM knows of them.
#include "passes/machine.h"

#include <gtest/gtest.h>

#include <set>

#include "codegen/jit.h"

namespace gradc::testing::machine_test {
namespace {

using passes::Machine;
using passes::machine_of;

TEST(Machine, EveryProcessorIsLlvmsWithItsRegisters) {
  std::set<std::string> names;
  for (const Machine& m : passes::machines()) {
    SCOPED_TRACE(m.name);
    EXPECT_TRUE(names.insert(m.name).second);
    const codegen::Target target = codegen::find_cpu(m.name);
    EXPECT_EQ(target.vector_width, m.lanes);
    EXPECT_EQ(target.registers, m.registers);
    EXPECT_TRUE(m.known);
    EXPECT_TRUE(m.l1 >= 32 << 10 && m.l1 < m.l2);
    EXPECT_GE(m.l3, 1 << 20);
    EXPECT_TRUE(m.fma_units >= 1 && m.fma_units <= 4 && m.fma_latency >= 3 && m.fma_latency <= 5);
  }
}

TEST(Machine, HasTheFiguresOfItsProcessor) {
  const Machine zen4 = machine_of("znver4", 16, 32);
  EXPECT_EQ(zen4.l2, 1 << 20);
  EXPECT_EQ(zen4.fma_units, 1);
  // Vectors of 8 lanes begin twice as often.
  const Machine narrow = machine_of("znver4", 8, 16);
  EXPECT_EQ(narrow.lanes, 8);
  EXPECT_EQ(narrow.registers, 16);
  EXPECT_EQ(narrow.fma_units, 2);
  EXPECT_EQ(narrow.l2, zen4.l2);
  EXPECT_EQ(machine_of("znver3", 8, 16).l2, 512 << 10);
}

TEST(Machine, AnyOtherNameIsAUsualProcessor) {
  for (const auto& [lanes, registers] : {std::pair{4, 16}, {8, 16}, {16, 32}, {4, 32}}) {
    const Machine m = machine_of("none", lanes, registers);
    EXPECT_EQ(m.name, "none");
    EXPECT_FALSE(m.known);
    EXPECT_EQ(m.lanes, lanes);
    EXPECT_EQ(m.registers, registers);
    EXPECT_GE(m.l2, 256 << 10);
  }
}

}  // namespace
}  // namespace gradc::testing::machine_test
