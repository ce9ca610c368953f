// Turns the data's examples into what a program reads: augmentation (or its central crop at evaluation), mixed labels,
// then normalisation; characters of text become their numbers. Fitted to the training split once, or restored with the
// weights; after that constant and shared by all splits. Knows nothing of threads.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/data/augment.h"
#include "runtime/data/dataset.h"
#include "runtime/data/normalize.h"
#include "runtime/data/text.h"
#include "runtime/progress.h"

namespace gradc::runtime {

class Preparation {
 public:
  explicit Preparation(const DataRecord& record);

  // Fits the normalisations to the split's examples; `progress`, unless null, is updated meanwhile.
  void fit(const Split& train, Progress* progress = nullptr);
  // Restores what was fitted from a weights file; `path` is for messages. Throws RunError (kExitDataError) when
  // the arrays are not those that the record's methods have.
  void restore(const DataArrays& arrays, const std::string& path);
  // What was fitted, to be saved with the weights.
  DataArrays arrays() const;

  // Whether values of a field of so many axes are to be kept in double precision where floats do not hold
  // them: a normalisation subtracts its mean before they become floats. Not of images, which are floats
  // throughout.
  bool reads_doubles(const std::string& field, size_t rank) const;

  // The type that the programs read a field as. Throws RunError (kExitDataError) when the fitted numbers are
  // for another shape.
  gradc_dtype dtype_of(const Field& field) const;
  std::vector<int64_t> shape_of(const Field& field) const;

  // Throws RunError (kExitUsage) where a view of the split's images does not exist or equals another.
  void check_view(const Split& split, const View& view) const;

  // Writes examples rows[0..count) of the field, one after the other, as that type; augmented where `key` is
  // given. Mixed examples come from `split`. May run on several threads at once.
  void gather(const Split& split, const Field& field, const int64_t* rows, int64_t count, const EpochKey* key,
              void* out) const;

 private:
  bool augments(const Field& field) const { return augmentation_ && augmentation_->field() == field.name; }
  bool mixes(const Field& field) const;
  std::vector<int64_t> cropped(const Field& field) const;
  Image read(const Field& field, int64_t row) const;
  Augmentation::Examples examples(const Split& split, const Field& field) const;
  // An example through the crop of evaluation and the first `methods` normalisations of its field.
  void evaluated(const Field& field, int64_t row, size_t methods, const View& view, float* out) const;
  Image seen(const Field& field, Image image, const View& view) const;
  // Image::values of a field with doubles are relative to its first example, so that floats hold what
  // augmentation works on: adding noise and mixing examples commute with that.
  void normalize(const Field& field, const Image& image, size_t methods, float* out) const;
  template <class In>
  void normalize(const Field& field, const In* in, size_t methods, float* out) const;
  void mixed_labels(const Split& split, const Field& field, const int64_t* rows, int64_t count,
                    const EpochKey* key, float* out) const;

  std::unique_ptr<Augmentation> augmentation_;  // null: none
  std::vector<Normalization> normalizations_;
  int64_t vocabulary_size_ = 0;  // of text, else 0
  Vocabulary vocabulary_;
  bool fitted_ = false;
};

// The arrays that a split's preparation saves with the weights.
DataArrays data_arrays_of(const Split& split);

// Gives every split of the data the record's preparation, fitted to the split `train`.
void fit_preparation(Dataset& data, const DataRecord& record, Progress* progress = nullptr);
// The same, restored from a weights file; `path` is for messages.
void restore_preparation(Dataset& data, const DataRecord& record, const DataArrays& arrays,
                         const std::string& path, bool always = false);
// For examples that do not come from a data set; null where the record has no methods, unless there must be
// one.
std::shared_ptr<const Preparation> restored_preparation(const DataRecord& record, const DataArrays& arrays,
                                                        const std::string& path, bool always = false);

}  // namespace gradc::runtime
