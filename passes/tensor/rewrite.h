// Rewrite rules as tables of patterns and replacements, and one function that applies them until nothing changes.
#pragma once
#include <span>

#include "ir/tensor/op_def.h"

namespace gradc::passes {

struct Rewrite {
  const char* text;                  // "x * 1 -> x": the rule as documentation
  const char* root;                  // the operation it starts from; null: any
  Op* (*apply)(Builder& b, Op* op);  // the replacement, or null when the guard fails
};

// Applies the rules to every operation in dependence order until none fits. The replacement keeps the root's
// locations.
bool apply_rewrites(Function& f, std::span<const Rewrite> rules);

// Matching helpers.
inline bool is_constant(const Op* op) { return op->is("constant"); }
inline bool is_constant(const Op* op, double value) {
  return op->is("constant") && op->attributes.number("value") == value;
}
// The other operand of a two-operand op when one is the constant `value`; null when neither is.
Op* other_than_constant(const Op* op, double value);

}  // namespace gradc::passes
