// Walks a function in double precision, operation by operation, with a say after each: for error estimates
// and for explaining non-finite values. The interpreter proper (ir/interpreter) is the reference; this shares
// its definitions.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ir/interpreter/interpreter.h"

namespace gradc::driver {

using OpValues = std::map<const Op*, interpreter::Tensor>;

// Called after each operation with its operands' values; may change the result, and ends the walk by
// returning false.
using AfterOp = std::function<bool(const Op& op, const std::vector<const interpreter::Tensor*>& operands,
                                   interpreter::Tensor& result)>;

// The values of every op, inputs and symbols included. `input` as for interpreter::run.
OpValues evaluate_ops(const Function& f, const interpreter::RunInput& input, const AfterOp& after);

// One Monte Carlo arithmetic run (Parker 1997): every f32 result is moved at random by as much as f32
// rounding may move it, where the rounding of a sum is relative to the sum of its terms' magnitudes. How far
// values of several runs stand apart from the exact ones says how far f32 code may rightly stand apart:
// cancellation and decisions near a tie included.
OpValues rounding_run(const Function& f, const interpreter::RunInput& input, uint64_t run);

}  // namespace gradc::driver
