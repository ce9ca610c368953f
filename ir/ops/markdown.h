// The reference of all primitives as text for docs/ops.md. It must not know any primitive.
#pragma once
#include <string>

namespace gradc {

struct OpDef;

// "einsum(a, b) {spec}": operands, then attributes.
std::string op_signature(const OpDef& def);
// One line of IR: the operation on operands of its first sample.
std::string op_example(const OpDef& def);

// "In a model file: `primitive.conv2d(...)`.", or that it cannot be called there.
std::string op_call_form(const OpDef& def);

// Markdown made from the registry alone; a test keeps docs/ops.md equal to it.
std::string ops_markdown();

}  // namespace gradc
