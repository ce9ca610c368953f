// The typing rules of loop IR expressions in one place, for constructors, parser and verifier alike; private
// to ir/loop.
#pragma once
#include <optional>

#include "ir/loop/loop_ir.h"

namespace gradc::loop {

// The type a node of this kind has, given its operands; broadcast, cast, ramp and constants carry theirs.
// Operands must be present.
Type result_type(const ExprData& e);

// What is wrong with one node (operand count, operand types, its own type), not looking into the operands;
// empty when sound.
std::string type_error(const ExprData& e);

std::optional<Scalar> scalar_named(std::string_view name);
std::optional<UnaryOp> unary_named(std::string_view name);

// Names that the text form gives a meaning of their own; no variable or buffer may be called so.
bool is_reserved(std::string_view name);

// An f32 holds what a float can, an i32 wraps to 32 bits, an i1 is 0 or 1.
double canonical(Scalar s, double value);
int64_t canonical(Scalar s, int64_t value);

inline constexpr int max_lanes = 1024;

}  // namespace gradc::loop
