// Every primitive, value and gradient, through lowering: on the loop interpreter with one and with three
// threads in both orders, and as native code, against the reference interpreter in double precision. One test
// an operator and sample; a new operator is covered by its samples alone.
#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <set>
#include <tuple>

#include "codegen/jit.h"
#include "support/check.h"
#include "tests/passes/one_operation.h"

namespace gradc::testing::ops_native_test {
namespace {

struct Case {
  const OpDef* def;
  size_t sample;
  bool gradient;
};

std::vector<Case> cases() {
  std::vector<Case> list;
  for (const OpDef& def : op_defs()) {
    if (def.kind == OpKind::external) continue;
    for (size_t s = 0; s < def.samples.size(); ++s) {
      list.push_back({&def, s, false});
      const bool floats = !def.samples[s].operands.empty() && def.samples[s].operands[0].is_float();
      if (def.gradient && floats) list.push_back({&def, s, true});
    }
  }
  return list;
}

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.def->name << " sample " << c.sample << (c.gradient ? " gradient" : "");
}

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  return fmt::format("{}_{}{}", info.param.def->name, info.param.sample,
                     info.param.gradient ? "_gradient" : "");
}

class OpThroughLowering : public ::testing::TestWithParam<Case> {
 protected:
  OpThroughLowering()
      : one_(*GetParam().def, GetParam().def->samples[GetParam().sample], GetParam().gradient,
             7 + GetParam().sample) {}

  void compare(const RunnerOptions& options, const char* how) {
    expect_as_defined(one_, run_lowered(one_.module, "f", one_.input, options), how);
  }

  OneOperation one_;
};

TEST_P(OpThroughLowering, AgreesWithTheDefinition) {
  compare({.engine = Engine::loops}, "loops, 1 thread");
  compare({.engine = Engine::loops, .threads = 3}, "loops, 3 threads");
  compare({.engine = Engine::loops, .threads = 3, .reversed = true}, "loops, 3 threads backwards");
  compare({.engine = Engine::loops, .vector_width = 4, .batch = 100},
          "loops, 4 lanes and 32 registers as of aarch64, batch 100");
  compare({.engine = Engine::native, .threads = 2}, "native, 2 threads");
  if (GetParam().def->images)
    compare({.engine = Engine::native, .threads = 2, .strict_math = true}, "native, 2 threads, strict math");
}

// Code for processors with narrower and fewer registers takes other tiles.
class OpInTiles : public OpThroughLowering {};

TEST_P(OpInTiles, AgreesOnOtherTargets) {
  for (const char* target : {"x86-64-v2", "x86-64-v3"}) {
    try {
      codegen::find_target(target);
    } catch (const RunError&) {
      continue;  // this machine cannot run it
    }
    compare({.engine = Engine::native, .threads = 2, .target = target}, target);
  }
}

std::vector<Case> in_tiles() {
  std::vector<Case> list = cases();
  std::erase_if(list, [](const Case& c) {
    return c.def->kind != OpKind::contraction && c.def->kind != OpKind::reduction;
  });
  return list;
}

INSTANTIATE_TEST_SUITE_P(Ops, OpThroughLowering, ::testing::ValuesIn(cases()), case_name);
INSTANTIATE_TEST_SUITE_P(Ops, OpInTiles, ::testing::ValuesIn(in_tiles()), case_name);

// Numbers beyond those of the samples: an elementwise operator that goes another way there (a series near 0, an end
// that it levels off to, an overflow) is compared there too; without broadcasting, whose gradients are sums.
//
// Tolerance: 1e-5 (1 + |reference|) an element, since one operation on f32 operands loses at most some units in the
// last place; where it is beyond f32's range it is infinite.
class OpFarOutside : public ::testing::TestWithParam<Case> {};

TEST_P(OpFarOutside, AgreesWithTheDefinition) {
  for (const double range : {1e-6, 1e-2, 30.0, 1e4}) {
    OpSample sample = GetParam().def->samples[GetParam().sample];
    sample.low = sample.low < 0 ? -range : 0;
    sample.high = range;
    const OneOperation one(*GetParam().def, sample, GetParam().gradient, 5);
    const RunnerResult result = run_lowered(one.module, "f", one.input, {.engine = Engine::native});
    for (const auto& [name, expected] : one.reference) {
      const interpreter::Tensor& got = result.outputs.at(name);
      for (size_t i = 0; i < got.data.size(); ++i) {
        double e = expected.data.data()[i];
        const double v = got.data.data()[i];
        if (expected.type.dtype == DType::f32 && std::fabs(e) > FLT_MAX) e = std::copysign(HUGE_VAL, e);
        if (std::isnan(e)) {
          EXPECT_TRUE(std::isnan(v)) << name << "[" << i << "] of numbers up to " << range << ": " << v;
        } else if (std::isinf(e)) {
          EXPECT_EQ(v, e) << name << "[" << i << "] of numbers up to " << range;
        } else {
          EXPECT_NEAR(v, e, 1e-5 * (1 + std::fabs(e))) << name << "[" << i << "] of numbers up to " << range;
        }
      }
    }
  }
}

std::vector<Case> of_floats() {
  std::vector<Case> list = cases();
  std::erase_if(list, [](const Case& c) {
    const std::vector<Type>& types = c.def->samples[c.sample].operands;
    return c.def->kind != OpKind::elementwise || types.size() > 2 ||
           !std::all_of(types.begin(), types.end(),
                        [&](const Type& t) { return t.is_float() && t == types.front(); });
  });
  // One sample of each operator and element type says it.
  std::set<std::tuple<const OpDef*, bool, DType>> seen;
  std::erase_if(list, [&](const Case& c) {
    const std::vector<Type>& types = c.def->samples[c.sample].operands;
    return !seen.emplace(c.def, c.gradient, types.empty() ? DType::f32 : types.front().dtype).second;
  });
  return list;
}

INSTANTIATE_TEST_SUITE_P(Ops, OpFarOutside, ::testing::ValuesIn(of_floats()), case_name);

}  // namespace
}  // namespace gradc::testing::ops_native_test
