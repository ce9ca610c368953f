// Augmentation of training examples: a list of methods, applied in order, each with random numbers of its own that
// depend on (seed, epoch, example, method) alone. Knows nothing of threads, batches and files.
//
// Methods and their options (described in frontend/data_methods.cpp): flip_horizontal p; flip_vertical
// p; random_crop pad, size; random_resized_crop size, scale, ratio; brightness, contrast, saturation, hue
// amount; pca_color std; rotation degrees; translation share; shear degrees; stretch amount; cutout size,
// value; mixup and cutmix alpha, p, classes; noise std. `size` is [height, width].
#pragma once
#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "runtime/data/draws.h"
#include "runtime/data/image_ops.h"
#include "support/experiment.h"

namespace gradc::runtime {

// Principal components of the colours of training images, each times its variance; column k is component k.
using ColourBasis = std::array<std::array<float, 3>, 3>;

class Augmentation {
 public:
  explicit Augmentation(const std::vector<DataMethod>& methods);
  ~Augmentation();
  Augmentation(const Augmentation&) = delete;

  const std::string& field() const { return field_; }
  // Whether labels become probabilities, and of how many classes.
  int64_t mixed_classes() const { return classes_; }
  bool needs_colours() const;
  void set_colours(const ColourBasis& basis) { colours_ = basis; }

  // The shape of an example of this shape after the crops.
  std::vector<int64_t> shape_of(std::vector<int64_t> shape) const;

  // The source of examples. Fields that are no images (of another rank than 3) are one row of one channel.
  struct Examples {
    std::function<Image(int64_t row)> read;  // not augmented
    int64_t count = 0;                       // of the training examples, from which mixed ones are drawn
    std::function<int64_t(int64_t)> row;     // of the i-th
  };
  // The example augmented for training.
  Image train(const Examples& examples, int64_t row, const EpochKey& key) const;
  // The example as it is evaluated: crops take the centre, other methods do nothing.
  Image evaluate(Image image) const;

  // Which examples' labels make the label of `row` while training, with weights whose sum is 1.
  std::vector<std::pair<int64_t, float>> mixture(const Examples& examples, int64_t row, const EpochKey& key,
                                                 const std::vector<int64_t>& shape) const;

  struct Method;

 private:
  Image train(const Examples& examples, int64_t row, const EpochKey& key, size_t methods) const;
  void mixture(const Examples& examples, int64_t row, const EpochKey& key,
               const std::vector<std::vector<int64_t>>& shapes, size_t methods, float weight,
               std::vector<std::pair<int64_t, float>>& out) const;

  std::string field_;
  int64_t classes_ = 0;
  std::vector<Method> methods_;
  ColourBasis colours_{};
};

}  // namespace gradc::runtime
