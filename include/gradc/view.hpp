// Arrays of the program's own memory as gradc's calls take them. Included by gradc/gradc.hpp.
#pragma once
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <ranges>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "gradc/gradc.h"

namespace gradc {
inline namespace v0 {

namespace detail {

template <class T>
inline constexpr int kElement = std::is_same_v<T, float>          ? GRADC_ELEMENT_F32
                                : std::is_same_v<T, double>       ? GRADC_ELEMENT_F64
                                : std::is_same_v<T, int32_t>      ? GRADC_ELEMENT_I32
                                : std::is_same_v<T, bool>         ? GRADC_ELEMENT_BOOL
                                : std::is_same_v<T, std::uint8_t> ? GRADC_ELEMENT_U8
                                                                  : -1;
template <class T>
concept Element = kElement<std::remove_cv_t<T>> >= 0;

}  // namespace detail

// How a class of arrays shows its memory: specialisations have a static function `View view(const A&)`
// (gradc/xtensor.hpp is an example).
template <class A>
struct ViewOf {};

// An array of the program's own memory, read in place: it must outlive the call it is given to.
class View {
 public:
  // `rows` x the shape of one example, or any range in one piece that holds all elements of all rows.
  template <detail::Element T>
  View(const T* data, std::vector<int64_t> shape)
      : data_(data), element_(detail::kElement<std::remove_cv_t<T>>), shape_(std::move(shape)) {}
  template <detail::Element T>
  View(const T* data, std::vector<int64_t> shape, std::vector<int64_t> strides)
      : View(data, std::move(shape)) {
    strides_ = std::move(strides);
  }
  template <std::ranges::contiguous_range R>
    requires(std::ranges::sized_range<R> && detail::Element<std::ranges::range_value_t<R>> &&
             !requires(const R& r) { r.shape(); })
  View(const R& range)  // NOLINT: meant to convert
      : View(std::ranges::data(range), {static_cast<int64_t>(std::ranges::size(range))}) {}
  template <class A>
    requires requires(const A& array) { ViewOf<A>::view(array); }
  View(const A& array) : View(ViewOf<A>::view(array)) {}  // NOLINT: meant to convert
  // With the name of the input or field that it is for.
  template <class A>
    requires std::is_convertible_v<const A&, View>
  View(std::string name, const A& array) : View(array) {
    name_ = std::move(name);
  }

  gradc_view c() const {
    return {
        name_.empty() ? nullptr : name_.c_str(), data_,         element_,
        static_cast<int32_t>(shape_.size()),     shape_.data(), strides_.empty() ? nullptr : strides_.data()};
  }

 private:
  std::string name_;
  const void* data_;
  int32_t element_;
  std::vector<int64_t> shape_, strides_;
};

// The arrays of one call, in the model's order or each with its name: written in braces, or a vector, an
// array or a span of View. Refers to them, so it is for parameters alone.
class Views {
 public:
  Views(std::initializer_list<View> list)  // NOLINT: meant to convert
      : first_(std::data(list)), size_(list.size()) {}
  template <std::ranges::contiguous_range R>
    requires(std::ranges::sized_range<R> && std::same_as<std::ranges::range_value_t<R>, View>)
  Views(const R& range)  // NOLINT: meant to convert
      : first_(std::ranges::data(range)), size_(std::ranges::size(range)) {}
  const View* begin() const { return first_; }
  const View* end() const { return first_ + size_; }
  size_t size() const { return size_; }

 private:
  const View* first_;
  size_t size_;
};

}  // namespace v0
}  // namespace gradc
