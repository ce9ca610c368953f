// The typing rules of loop IR expressions shared by constructors, parser and verifier; private to ir/loop.
#pragma once
#include <optional>

#include "ir/loop/loop_ir.h"

namespace gradc::loop {

// The type a node of this kind has, given its operands; broadcast, cast, ramp and constants have their own.
// Operands must be present.
Type result_type(const ExprData& e);

// The error of one node (operand count, operand types, its own type), without checking its operands; empty when sound.
std::string type_error(const ExprData& e);

std::optional<Scalar> scalar_named(std::string_view name);
std::optional<UnaryOp> unary_named(std::string_view name);

// Whether the text form reserves the name; no variable or buffer may have it.
bool is_reserved(std::string_view name);

// Converts to the scalar's range: f32 rounds to float, i32 wraps to 32 bits, i1 is 0 or 1.
double canonical(Scalar s, double value);
int64_t canonical(Scalar s, int64_t value);

inline constexpr int max_lanes = 1024;

}  // namespace gradc::loop
