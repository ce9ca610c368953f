// Every primitive, value and gradient, through lowering: on the loop interpreter with one and with three
// threads in both orders, and as native code, against the reference interpreter in double precision. One test
// an operator and sample; a new operator is covered by its samples alone.
//
// Tolerance: |native - reference| <= 2e-5 * (1 + largest |reference|): single precision over sums of at most
// a few hundred terms, and vector math within 4 ulp. Integers and booleans must be equal.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "codegen/jit.h"
#include "ir/op_def.h"
#include "passes/passes.h"
#include "support/check.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing {
namespace {

using interpreter::Tensor;

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

Tensor random_tensor(const Type& type, int64_t rows, double low, double high, std::mt19937_64& random) {
  Tensor t = interpreter::make_tensor(type, rows);
  std::uniform_real_distribution<double> uniform(low, high);
  for (size_t i = 0; i < t.data.size(); ++i) {
    double v = uniform(random);
    switch (type.dtype) {
      case DType::i32:
        v = high > 1 ? std::floor(std::uniform_real_distribution<double>(0, high)(random)) : 0;
        break;
      case DType::boolean: v = v > (low + high) / 2; break;
      case DType::f32: v = static_cast<float>(v); break;
      case DType::f64: break;
    }
    t.data.data()[i] = v;
  }
  return t;
}

class OpThroughLowering : public ::testing::TestWithParam<Case> {
 protected:
  // A function of one operation (or of its gradient): batched operands are inputs, others symbols.
  void build() {
    const Case& c = GetParam();
    const OpSample& sample = c.def->samples[c.sample];
    std::mt19937_64 random(7 + c.sample);
    Function& f = module_.add_function("f");
    input_.context.rows = sample.rows;
    input_.context.seed = 11;
    input_.context.micro_step = 3;
    Builder b(f);
    const auto value = [&](const std::string& name, const Type& type, double low, double high) -> Op* {
      const Tensor t = random_tensor(type, sample.rows, low, high, random);
      if (type.batched) {
        input_.inputs[name] = t;
        return f.add_input(name, type);
      }
      input_.symbols[name] = t;
      return f.read(module_.add_symbol({name, type, SymbolKind::parameter, {}}));
    };
    std::vector<Op*> operands;
    for (size_t i = 0; i < sample.operands.size(); ++i)
      operands.push_back(value(fmt::format("x{}", i), sample.operands[i], sample.low, sample.high));
    Op* y = b.create(c.def->name, operands, sample.attributes);
    if (!c.gradient) {
      f.outputs.push_back({"y", y});
    } else {
      Op* g = value("g", y->type, -1, 1);
      const std::vector<Op*> parts = c.def->gradient(b, y, g);
      for (size_t i = 0; i < parts.size(); ++i)
        if (parts[i]) f.outputs.push_back({fmt::format("dx{}", i), b.sum_to(parts[i], operands[i]->type)});
    }
    f.renumber();
    reference_ = interpreter::run(f, input_).outputs;
    passes::decompose(f);
    passes::simplify(f);
    passes::cse(f);
    passes::dce(f);
    passes::assign_layout(f);
    passes::fuse_elementwise(f);
    f.renumber();
    ASSERT_TRUE(verify(module_).empty()) << verify(module_).front();
  }

  void compare(const RunnerOptions& options, const char* how) {
    const RunnerResult result = run_lowered(module_, "f", input_, options);
    for (const auto& [name, expected] : reference_) {
      const Tensor& got = result.outputs.at(name);
      ASSERT_EQ(got.data.size(), expected.data.size());
      double largest = 0;
      for (double v : expected.data) largest = std::isfinite(v) ? std::max(largest, std::fabs(v)) : largest;
      for (size_t i = 0; i < got.data.size(); ++i) {
        const double e = expected.data.data()[i], v = got.data.data()[i];
        if (std::isnan(e)) {
          EXPECT_TRUE(std::isnan(v)) << how << ", " << name << "[" << i << "]";
        } else if (std::isinf(e)) {
          EXPECT_EQ(v, e) << how << ", " << name << "[" << i << "]";
        } else {
          const double tolerance = expected.type.is_float() ? 2e-5 * (1 + largest) : 0;
          ASSERT_NEAR(v, e, tolerance) << how << ", " << name << "[" << i << "] of " << got.data.size();
        }
      }
    }
  }

  Module module_;
  interpreter::RunInput input_;
  std::map<std::string, Tensor> reference_;
};

TEST_P(OpThroughLowering, AgreesWithTheDefinition) {
  build();
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
  build();
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
}  // namespace gradc::testing
