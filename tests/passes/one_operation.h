// A function of one primitive, or of its gradient, on random operands, ready for lowering, with what the
// reference interpreter makes of it in double precision.
#pragma once
#include <map>
#include <string>

#include "ir/tensor/op_def.h"
#include "tests/passes/program_runner.h"

namespace gradc::testing {

struct OneOperation {
  // Batched operands are inputs, others symbols.
  OneOperation(const OpDef& def, const OpSample& sample, bool gradient, uint64_t seed);
  OneOperation(const OneOperation&) = delete;

  Module module;
  interpreter::RunInput input;
  std::map<std::string, interpreter::Tensor> reference;  // outputs
};

// Expects outputs as the reference has them; `how` says how they were made.
//
// Tolerance: |native - reference| <= 2e-5 * (1 + largest |reference|): single precision over sums of at most
// a few hundred terms, and vector math within 4 ulp. Integers and booleans must be equal.
void expect_as_defined(const OneOperation& one, const RunnerResult& result, const std::string& how);

}  // namespace gradc::testing
