// xtensor's containers and views as arrays of gradc's calls, without a copy, and tensors of a session as
// xtensor's. Expressions that are not evaluated have no memory: evaluate them first (xt::eval).
#pragma once
#include <cstdint>
#include <string>
#include <vector>
#include <xtensor/xadapt.hpp>
#include <xtensor/xarray.hpp>
#include <xtensor/xexpression.hpp>

#include "gradc/gradc.hpp"

namespace gradc {
inline namespace v0 {

// What is stored with gaps or in another order than row-major (a slice of columns, a transposed view)
// is refused when it is used.
template <class E>
  requires(xt::is_xexpression<E>::value &&
           requires(const E& e) {
             e.data();
             e.data_offset();
             e.strides();
           })
struct ViewOf<E> {
  static View view(const E& e) {
    return View(e.data() + e.data_offset(), std::vector<int64_t>(e.shape().begin(), e.shape().end()),
                std::vector<int64_t>(e.strides().begin(), e.strides().end()));
  }
};

// A parameter, state or slot in place: to be read and written between calls.
template <class T = float>
auto xtensor(Session& session, const std::string& name) {
  Array found;
  const std::span<T> elements = session.tensor<T>(name, &found);
  return xt::adapt(elements.data(), elements.size(), xt::no_ownership(),
                   std::vector<size_t>(found.shape.begin(), found.shape.end()));
}

// Predictions as an array of rows x the output's shape.
template <class T = float>
xt::xarray<T> predict(Session& session, Views inputs) {
  std::vector<T> values = session.predict<T>(inputs);
  const Array out = session.output();
  std::vector<size_t> shape = {values.size() / static_cast<size_t>(out.elements())};
  shape.insert(shape.end(), out.shape.begin(), out.shape.end());
  xt::xarray<T> result = xt::xarray<T>::from_shape(shape);
  std::copy(values.begin(), values.end(), result.begin());
  return result;
}

}  // namespace v0
}  // namespace gradc
