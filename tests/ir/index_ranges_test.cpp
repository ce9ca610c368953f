// Which elements of an integer input an operator reads as positions, through what only moves them.
#include "ir/tensor/index_ranges.h"

#include <gtest/gtest.h>

#include "ir/tensor/op_def.h"

namespace gradc::index_ranges_test {
namespace {

// The ranges of one function: "ids[0..2]<50 by pick" for each.
std::vector<std::string> ranges(const std::string& text) {
  const ModuleParseResult parsed = parse_module("func @f(" + text + "}\n");
  EXPECT_EQ(parsed.error, "") << text;
  std::vector<std::string> result;
  if (!parsed.module) return result;
  for (const std::string& problem : verify(*parsed.module)) ADD_FAILURE() << problem;
  for (const auto& [input, list] : index_ranges(*parsed.module->functions[0]))
    for (const IndexRange& r : list)
      result.push_back(input + "[" + std::to_string(r.first) + ".." + std::to_string(r.first + r.count) +
                       "]<" + std::to_string(r.extent) + " by " + r.operation);
  return result;
}

using List = std::vector<std::string>;

TEST(IndexRanges, OfOperatorsThatReadAtPositions) {
  EXPECT_EQ(ranges("%x: f32[n,10], %label: i32[n]) {\n  %1 = pick %x, %label : f32[n]\n  return y=%1\n"),
            List{"label[0..1]<10 by pick"});
  EXPECT_EQ(ranges("%x: f32[n,7,3], %at: i32[n,2]) {\n  %1 = gather %x, %at {axis=1} : f32[n,7,2]\n"
                   "  return y=%1\n"),
            List{"at[0..2]<3 by gather"});
  // 0 outside is what one_hot is defined as, and a comparison has no extent.
  EXPECT_EQ(ranges("%label: i32[n]) {\n  %1 = one_hot %label {depth=10} : f32[n,10]\n"
                   "  %2 = eq %label, %label : bool[n]\n  return y=%1, z=%2\n"),
            List{});
}

TEST(IndexRanges, TheLeastExtentHolds) {
  EXPECT_EQ(ranges("%x: f32[n,10], %z: f32[n,4], %label: i32[n]) {\n  %1 = pick %x, %label : f32[n]\n"
                   "  %2 = pick %z, %label : f32[n]\n  %3 = pick %x, %label : f32[n]\n"
                   "  return a=%1, b=%2, c=%3\n"),
            List{"label[0..1]<4 by pick"});
}

TEST(IndexRanges, AreOfTheElementsThatAreUsed) {
  // A user and a film in one field, each with a table of its own; what pads is no element of it.
  EXPECT_EQ(ranges("%users: f32[n,50], %films: f32[n,90], %ids: i32[n,3]) {\n"
                   "  %1 = slice %ids {begin=[0], end=[1], step=[1]} : i32[n,1]\n"
                   "  %2 = gather %users, %1 {axis=0} : f32[n,1]\n"
                   "  %3 = slice %ids {begin=[1], end=[3], step=[1]} : i32[n,2]\n"
                   "  %4 = pad %3 {high=[0], interior=[], low=[1], value=0} : i32[n,3]\n"
                   "  %5 = gather %films, %4 {axis=0} : f32[n,3]\n  return a=%2, b=%5\n"),
            (List{"ids[0..1]<50 by gather", "ids[1..3]<90 by gather"}));
  EXPECT_EQ(ranges("%x: f32[n,8], %ids: i32[n,2,2], %more: i32[n]) {\n"
                   "  %1 = transpose %ids {permutation=[1, 0]} : i32[n,2,2]\n"
                   "  %2 = reshape %1 {shape=[4]} : i32[n,4]\n"
                   "  %3 = slice %2 {begin=[0], end=[2], step=[1]} : i32[n,2]\n"
                   "  %4 = reshape %more {shape=[1]} : i32[n,1]\n"
                   "  %5 = concat %3, %4 {axis=0} : i32[n,3]\n"
                   "  %6 = gather %x, %5 {axis=0} : f32[n,3]\n  return y=%6\n"),
            (List{"ids[0..1]<8 by gather", "ids[2..3]<8 by gather", "more[0..1]<8 by gather"}));
}

TEST(IndexRanges, WhatIsComputedIsTheProgramsOwn) {
  EXPECT_EQ(ranges("%x: f32[n,10], %label: i32[n]) {\n"
                   "  %1 = constant {dtype=\"i32\", value=0} : i32\n  %2 = ge %label, %1 : bool[n]\n"
                   "  %3 = select %2, %label, %1 : i32[n]\n  %4 = pick %x, %3 : f32[n]\n  return y=%4\n"),
            List{});
}

// Every operator that reads at positions says so, and reads 0 outside of what it says.
TEST(IndexRanges, EveryOperatorThatSaysSoHasTheOperand) {
  int found = 0;
  for (const OpDef& def : op_defs()) {
    if (!def.index) continue;
    ++found;
    for (const OpSample& sample : def.samples) {
      Op op;
      op.def = &def;
      op.attributes = sample.attributes;
      std::vector<Op> operands(sample.operands.size());
      for (size_t i = 0; i < operands.size(); ++i) {
        operands[i].type = sample.operands[i];
        op.operands.push_back(&operands[i]);
      }
      ASSERT_EQ(infer(def, sample.operands, op.attributes).error, "");
      const IndexUse use = def.index(op);
      ASSERT_LT(use.operand, operands.size()) << def.name;
      EXPECT_EQ(sample.operands[use.operand].dtype, DType::i32) << def.name;
      EXPECT_GE(use.extent, 1) << def.name;
    }
  }
  EXPECT_GE(found, 3);
}

}  // namespace
}  // namespace gradc::index_ranges_test
