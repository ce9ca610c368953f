// Every primitive, value and gradient, through lowering: on the loop interpreter with one and with three
// threads in both orders, and as native code, against the reference interpreter in double precision. One test
// an operator and sample; a new operator is covered by its samples alone.
#include <gtest/gtest.h>

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
TEST_P(OpThroughLowering, AgreesOnOtherTargets) {
  if (GetParam().def->kind != OpKind::contraction && GetParam().def->kind != OpKind::reduction)
    GTEST_SKIP() << "no tiles";
  for (const char* target : {"x86-64-v2", "x86-64-v3"}) {
    try {
      codegen::find_target(target);
    } catch (const RunError&) {
      continue;  // this machine cannot run it
    }
    compare({.engine = Engine::native, .threads = 2, .target = target}, target);
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, OpThroughLowering, ::testing::ValuesIn(cases()), case_name);

}  // namespace
}  // namespace gradc::testing::ops_native_test
