// The order in which the elements of an example are stored. Knows traits of operations, not operators.
//
// In a function that works on images (operations with the trait `images`), a batched value of three axes
// [channels, height, width] is stored channels-last: [height][width][channels], unless an axis is folded into the rows. A window then reads its channels
// from neighbouring addresses. Everything else is stored in logical, row-major order.
#pragma once
#include <vector>

#include "ir/tensor/op_def.h"

namespace gradc::passes {

// Rows of a panel, the block of the batch's rows that is in the vector lanes (passes/kernels/lowering.h).
inline constexpr int64_t kPanel = 32;

bool works_on_images(const Function& f);

// Whether it is a value of images, in such a function (`images`).
bool is_image(const Type& t, bool images);
// Axes of a row of this type, outermost first as they are stored; `images` as works_on_images says.
std::vector<int> memory_order(const Type& t, bool images);
// Whether that order lists the elements in logical order.
bool logical_in_memory(const Type& t, bool images);

}  // namespace gradc::passes
