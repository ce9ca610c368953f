#include "tests/passes/one_operation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "passes/tensor/passes.h"
#include "support/check.h"

namespace gradc::testing {

namespace {

using interpreter::Tensor;

Tensor random_tensor(const Type& type, int64_t rows, double low, double high, std::mt19937_64& random) {
  Tensor t = interpreter::make_tensor(type, rows * type.rows);
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

}  // namespace

OneOperation::OneOperation(const OpDef& def, const OpSample& sample, bool gradient, uint64_t seed) {
  std::mt19937_64 random(seed);
  Function& f = module.add_function("f");
  input.context.rows = sample.rows;
  input.context.seed = 11;
  input.context.micro_step = 3;
  Builder b(f);
  const auto value = [&](const std::string& name, const Type& type, double low, double high) -> Op* {
    const Tensor t = random_tensor(type, sample.rows, low, high, random);
    if (type.batched) {
      input.inputs[name] = t;
      return f.add_input(name, type);
    }
    input.symbols[name] = t;
    return f.read(module.add_symbol({name, type, SymbolKind::parameter, {}}));
  };
  std::vector<Op*> operands;
  for (size_t i = 0; i < sample.operands.size(); ++i)
    operands.push_back(value(fmt::format("x{}", i), sample.operands[i], sample.low, sample.high));
  Op* y = b.create(def.name, operands, sample.attributes);
  if (!gradient) {
    f.outputs.push_back({"y", y});
  } else {
    Op* g = value("g", y->type, -1, 1);
    const std::vector<Op*> parts = def.gradient(b, y, g);
    for (size_t i = 0; i < parts.size(); ++i)
      if (parts[i]) f.outputs.push_back({fmt::format("dx{}", i), b.sum_to(parts[i], operands[i]->type)});
  }
  f.renumber();
  reference = interpreter::run(f, input).outputs;
  passes::decompose(f);
  passes::simplify(f);
  passes::cse(f);
  passes::dce(f);
  passes::assign_layout(f);
  passes::fuse_elementwise(f);
  f.renumber();
  const std::vector<std::string> wrong = verify(module);
  GRADC_CHECK(wrong.empty(), "{}", wrong.front());
}

void expect_as_defined(const OneOperation& one, const RunnerResult& result, const std::string& how) {
  for (const auto& [name, expected] : one.reference) {
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

}  // namespace gradc::testing
