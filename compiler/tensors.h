// The memory of compiled programs as tensors of the reference interpreter; knows the ABI's layouts, no
// operator.
#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "ir/interpreter/interpreter.h"
#include "runtime/abi.h"

namespace gradc::compiler {

using Tensors = std::map<std::string, interpreter::Tensor>;

// Elements of row-major memory as doubles and back. `elements` counts all rows.
void from_memory(const void* memory, DType dtype, int64_t elements, double* values);
void to_memory(const double* values, DType dtype, int64_t elements, void* memory);

// The rows of an entry's inputs, given as the runtime passes them, as tensors by name.
Tensors batch_of(const gradc_entry_info& entry, const void* const* inputs, int64_t rows);

}  // namespace gradc::compiler
