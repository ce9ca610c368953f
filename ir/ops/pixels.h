// Types of images whose pixels are the rows of their examples, each with its channels.
#pragma once
#include <string>

#include "ir/ops/common.h"

namespace gradc::ops {

inline Type pixels(int64_t channels, int64_t height, int64_t width, DType dtype = DType::f32) {
  return {dtype, true, {channels}, height * width};
}

// What is wrong with the type of `what` for an image of this height and width; empty: nothing.
std::string check_pixels(const Type& t, int64_t height, int64_t width, const char* what);

}  // namespace gradc::ops
