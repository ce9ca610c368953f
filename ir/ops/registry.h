// The files under ir/ops/ that define primitives: each gives one register function here. It must not know any
// primitive itself.
#pragma once
#include <vector>

#include "ir/tensor/op_def.h"

namespace gradc {

// Each appends its primitives. The order of the calls in registry.cpp is the order of docs/ops.md.
void register_unary(std::vector<OpDef>& defs);
void register_binary(std::vector<OpDef>& defs);
void register_compare(std::vector<OpDef>& defs);
void register_sources(std::vector<OpDef>& defs);
void register_random(std::vector<OpDef>& defs);
void register_reductions(std::vector<OpDef>& defs);
void register_softmax(std::vector<OpDef>& defs);
void register_statistics(std::vector<OpDef>& defs);
void register_normalization(std::vector<OpDef>& defs);
void register_einsum(std::vector<OpDef>& defs);
void register_conv2d(std::vector<OpDef>& defs);
void register_pixels(std::vector<OpDef>& defs);
void register_conv2d_rows(std::vector<OpDef>& defs);
void register_pool2d(std::vector<OpDef>& defs);
void register_indexing(std::vector<OpDef>& defs);
void register_gather(std::vector<OpDef>& defs);
void register_orthonormal(std::vector<OpDef>& defs);
void register_attention(std::vector<OpDef>& defs);
void register_rows(std::vector<OpDef>& defs);
void register_external(std::vector<OpDef>& defs);

// The missing fields of a record, in words; empty when it is complete.
std::vector<std::string> missing_parts(const OpDef& def);

}  // namespace gradc
