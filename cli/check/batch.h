// A batch of examples as tensors, for checks: from the model's own data, or synthetic where that is missing.
#pragma once
#include <string>
#include <vector>

#include "cli/check/native_call.h"
#include "compiler/compile.h"

namespace gradc::cli {

using namespace compiler;

// At most `rows` examples of the training split in a fixed shuffled order, with every data field that some program
// reads. Throws RunError (kExitDataError) where the data cannot be read.
Tensors training_batch(const CompiledModel& compiled, int64_t rows);

// The same, but random values of the fields' types (integers small enough for every use) where the data
// cannot be read; a note tells which.
Tensors first_batch(const CompiledModel& compiled, int64_t rows, std::vector<std::string>& notes);

// Synthetic examples only, as native code reads them: floats uniform in -1..1.
Tensors made_up_batch(const CompiledModel& compiled, int64_t rows);

// Examples in a batch of tensors.
int64_t rows_of(const Tensors& batch);

}  // namespace gradc::cli
