// Attributes and checks of windowed operators.
#include "ir/ops/window.h"

namespace gradc::ops {
namespace {

std::array<int64_t, 2> pair(const Attributes& a, const char* name) {
  const auto& list = a.integers(name);
  return {list[0], list[1]};
}

}  // namespace

std::vector<AttributeSpec> convolution_specs() {
  return {optional("stride", AttributeKind::integers, ints({1, 1}),
                   "steps of the window, height and width, at least 1"),
          optional("padding", AttributeKind::integers, ints({0, 0}), "zeros on each side, height and width"),
          optional("dilation", AttributeKind::integers, ints({1, 1}),
                   "distance of the window's elements, height and width, at least 1"),
          optional("groups", AttributeKind::integer, integer(1),
                   "how many separate groups of channels; divides both channel counts")};
}

std::vector<AttributeSpec> pooling_specs() {
  return {required("window", AttributeKind::integers, "extents of the window, height and width, at least 1"),
          required("stride", AttributeKind::integers, "steps of the window, height and width, at least 1"),
          optional("padding", AttributeKind::integers, ints({0, 0}),
                   "positions on each side, height and width, at most half the window")};
}

std::string check_convolution(const Attributes& a) {
  for (const auto& [name, low] : {std::pair{"stride", 1}, {"padding", 0}, {"dilation", 1}}) {
    if (std::string e = check_list(a, name, 2, low, kMaxWindow); !e.empty()) return e;
  }
  if (a.integer("groups") < 1)
    return fmt::format("`groups` is {}; it must be at least 1", a.integer("groups"));
  return {};
}

Window convolution_window(const Attributes& a, int64_t height, int64_t width) {
  return {{height, width}, pair(a, "stride"), pair(a, "padding"), pair(a, "dilation")};
}

std::string check_pooling(const Attributes& a) {
  for (const auto& [name, low] : {std::pair{"window", 1}, {"stride", 1}, {"padding", 0}}) {
    if (std::string e = check_list(a, name, 2, low, kMaxWindow); !e.empty()) return e;
  }
  for (size_t i = 0; i < 2; ++i) {
    const int64_t padding = a.integers("padding")[i], window = a.integers("window")[i];
    if (2 * padding > window)
      return fmt::format("`padding` {} is more than half of the window's {}: some windows would be empty",
                         padding, window);
  }
  return {};
}

Window pooling_window(const Attributes& a) {
  return {pair(a, "window"), pair(a, "stride"), pair(a, "padding"), {1, 1}};
}

std::string check_fits(const Window& w, int64_t height, int64_t width) {
  if (w.fits(0, height) && w.fits(1, width)) return {};
  return fmt::format(
      "a window of {} x {} with dilation {} x {} does not fit an input of {} x {} with padding {} x {}",
      w.window[0], w.window[1], w.dilation[0], w.dilation[1], height, width, w.padding[0], w.padding[1]);
}

}  // namespace gradc::ops
