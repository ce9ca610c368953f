// Walks a function in double precision, operation by operation, with a callback after each that may change the result:
// for error estimates and for explaining non-finite values. The reference interpreter is ir/interpreter; this uses the
// same definitions.
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
// terms' magnitudes; results that f32 does not round stay exact, those beyond its range become infinite. The
// differences between several runs and the exact values estimate how far correct f32 code may differ, including
// cancellation and decisions near a tie.
// `observe` is called with every moved result.
void rounding_run(const Function& f, const interpreter::RunInput& input, uint64_t run,
                  const std::function<void(const Op& op, const interpreter::Tensor& result)>& observe);

// Every other run moves results four times as far: native code rounds long sums more than once, so a decision may flip
// even if its margin is somewhat larger than one rounding.
double rounding_size(uint64_t run);

}  // namespace gradc::compiler
