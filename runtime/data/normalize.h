// Normalisation of fields: numbers fitted to the training examples once, saved with the weights, and applied to every
// example. Knows nothing of batches, threads and files.
//
// Methods (frontend/data_methods.cpp), and the arrays that each keeps:
//   channel, pixel, value  std: whether to divide. mean and std of each channel [C], of each element (the
//                          example's shape), of all ([]): (x - mean) / std, std the root of the biased variance
//   mean_image             mean, of the example's shape: x - mean
//   min_max                low, high: min and max of each channel [C]:
//                          low + (x - min) (high - low) / (max - min)
//   pca                    components: mean [D], components [K, D]: components (x - mean); the rows are the unit
//                          eigenvectors of the biased covariance with the greatest eigenvalues, greatest
//                          first, each with its largest coordinate (the first of equal ones) positive
//   whiten                 components, eps: as pca, then divided by std [K] = sqrt(eigenvalue + eps)
// An element that never changes has a std of 1, so that it becomes 0; likewise max - min.
//
// Precision: statistics are sums in double, of values that may be doubles themselves (unix times). The arrays are saved
// as floats unless rounding the subtrahend would move examples by more than a millionth of a deviation (for min_max and
// std=false, of the range); then they stay doubles, and the difference is taken in double before it becomes a float.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "runtime/data/data_arrays.h"
#include "support/experiment.h"

namespace gradc::runtime {

// One method on one field.
class Normalization {
 public:
  explicit Normalization(DataMethod record);

  const std::string& field() const { return record_.field; }
  const std::string& name() const { return record_.name; }
  // Whether it makes components of an example: pca and whiten.
  bool projects() const { return record_.name == "pca" || record_.name == "whiten"; }
  // "data.image.channel.": what the names of its arrays in a weights file begin with.
  std::string prefix() const;
  std::vector<int64_t> shape_of(const std::vector<int64_t>& shape) const;  // of an example after it

  // How often fitting reads each example.
  int64_t passes() const;
  // Fits to `count` examples of this shape; read(i, out) gives the i-th. `exact`: the values are the data's own, so
  // that any deviation counts, however small; else they were rounded to floats, and a deviation as small as that
  // rounding counts as none.
  using Reader = std::function<void(int64_t i, double* out)>;
  void fit(const std::vector<int64_t>& shape, int64_t count, const Reader& read, bool exact = false);

  // The fitted arrays by their last name ("mean"); set() takes them from a file instead of fit(). expected() gives the
  // names and shapes that examples of this shape need.
  const std::map<std::string, NumberArray>& arrays() const { return arrays_; }
  std::vector<std::string> array_names() const;
  std::map<std::string, std::vector<int64_t>> expected(const std::vector<int64_t>& shape) const;
  void set(std::map<std::string, NumberArray> arrays);
  // Whether arrays of these names fit each other, for any example's shape.
  bool consistent(const std::map<std::string, NumberArray>& arrays) const;

  // One example of this shape; `out` may be `in` unless it is pca or whiten.
  void apply(const float* in, const std::vector<int64_t>& shape, float* out) const;
  void apply(const double* in, const std::vector<int64_t>& shape, float* out) const;

 private:
  int64_t components() const;
  void fit_components(int64_t elements, int64_t count, const Reader& read);
  void prepare();
  template <class In, class Offset>
  void apply_to(const In* in, const std::vector<Offset>& offset, const std::vector<int64_t>& shape,
                float* out) const;

  DataMethod record_;
  std::map<std::string, NumberArray> arrays_;
  // (x - offset) * factor + shift, group by group; and for projections the components as [D, K].
  std::vector<float> offset_, factor_, columns_;
  std::vector<double> exact_offset_;  // the same before it was rounded
  bool wide_ = false;                 // whether exact_offset_ is used
  float shift_ = 0;
};

// The unit eigenvectors (columns) and eigenvalues of the biased covariance of the colours of these images,
// greatest first, signs as above.
struct Colours {
  std::array<std::array<double, 3>, 3> vectors{};
  std::array<double, 3> values{};
};
Colours fit_colours(int64_t pixels, int64_t count, const std::function<void(int64_t i, float* out)>& read);

}  // namespace gradc::runtime
