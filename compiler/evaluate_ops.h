// Walks a function in double precision, operation by operation, with a say after each: for error estimates
// and for explaining non-finite values. The interpreter proper (ir/interpreter) is the reference; this shares
// its definitions.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "ir/interpreter/interpreter.h"

namespace gradc::compiler {

using OpValues = std::map<const Op*, interpreter::Tensor>;

// Called after each operation with its operands' values; may change the result.
using AfterOp = std::function<void(const Op& op, const std::vector<const interpreter::Tensor*>& operands,
                                   interpreter::Tensor& result)>;

// Evaluates every op of the body in order. `input` as for interpreter::run. With input.keep_all the values of
// all ops are returned, else each is freed after its last use.
OpValues evaluate_ops(const Function& f, const interpreter::RunInput& input, const AfterOp& after);

// One Monte Carlo arithmetic run (Parker 1997): every f32 result is moved at random by as much as f32
// rounding may move it, times rounding_size(run), where the rounding of a sum is relative to the sum of its
// terms' magnitudes; what f32 does not round stays exact, what is beyond its range becomes infinite. How far values of several runs differ from the
// exact ones says how far f32 code may rightly differ: cancellation and decisions near a tie included.
// `observe` sees every moved result.
void rounding_run(const Function& f, const interpreter::RunInput& input, uint64_t run,
                  const std::function<void(const Op& op, const interpreter::Tensor& result)>& observe);

// Every other run moves results four times as far: native code rounds long sums more often than once, so a
// decision may be lost to it that lies somewhat beyond one rounding.
double rounding_size(uint64_t run);

}  // namespace gradc::compiler
