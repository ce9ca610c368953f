// Arrays of .npy files as fields of examples: which types of numbers an f32 and an i32 field take. Knows no
// programs.
#pragma once
#include <string>

#include "runtime/data/dataset.h"
#include "runtime/data/npy.h"

namespace gradc::runtime {

// The array as a field of examples x the other axes, of at least one example. f32: float32, float64, or
// unsigned bytes, which become value / 255; i32: int32, int64 within i32, or unsigned bytes. `doubles`: float64 values
// that floats cannot represent stay doubles (Preparation::reads_doubles). `path` and `what` ("the field
// `x` is f32") are for messages. Throws RunError (kExitDataError).
Field npy_field(const std::string& path, NpyArray array, const std::string& name, bool is_float,
                const std::string& what, bool doubles);

}  // namespace gradc::runtime
