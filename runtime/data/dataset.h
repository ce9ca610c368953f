// Data sets in memory: fields by name, splits, and the sources that fill them. Knows nothing of programs and
// training.
//
// Sources and their options (data NAME = SOURCE(...)):
//   mnist            path: a folder with train-images-idx3-ubyte, train-labels-idx1-ubyte,
//                    t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, each plain or .gz. Splits train and
//                    test; image f32[1, 28, 28] in 0..1, label i32.
//   synthetic_digits train=10000, test=2000, seed=1: drawn digits (runtime/data/synthetic_digits.h). Fields and
//                    splits as mnist.
//   idx              images, labels: two IDX files of equally many examples (split train); test_images,
//                    test_labels: two more (split test); classes=10. Images of unsigned bytes become
//                    value / 255, of floats stay as they are; an array of N x H x W becomes f32[1, H, W],
//                    others keep their shape.
//   random           shape=[1, 28, 28], classes=10, train=1024, test=256, seed=1: random numbers
//                    (runtime/data/random_data.h). Splits train and test; image f32[shape] standard normal, label
//                    i32 uniform in 0..classes - 1.
//   cifar10, npy, csv: see runtime/data/file_sources.h; text: runtime/data/text.h; folder: runtime/data/image_files.h.
//   arrays           the caller's own examples, see make_dataset(); load_dataset() has none.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/abi.h"
#include "support/experiment.h"

namespace gradc::runtime {

// Values in the caller's memory, which must outlive the field: at most one of the pointers is set.
struct GivenValues {
  const uint8_t* bytes = nullptr;
  const float* floats = nullptr;
  const int32_t* integers = nullptr;
};

// The values of one field for all examples; exactly one of the vectors is filled, or of `given` set.
struct Field {
  std::string name;
  std::vector<int64_t> shape;     // of one example
  std::vector<uint8_t> bytes;     // read as f32: value / 255
  std::vector<float> floats;      // read as f32
  std::vector<double> doubles;    // read as f32; `normalize` reads the doubles (runtime/data/prepare.h)
  std::vector<int32_t> integers;  // read as i32
  GivenValues given;
  std::string
      origin;  // where it was read from, for messages: a file, "the split `val`"; empty: the data's name
  std::shared_ptr<const std::vector<int64_t>> lines;  // of each example in its file; null: it has none

  // Where the values are stored; null where they are of another kind.
  const uint8_t* byte_values() const { return bytes.empty() ? given.bytes : bytes.data(); }
  const float* float_values() const { return floats.empty() ? given.floats : floats.data(); }
  const int32_t* integer_values() const { return integers.empty() ? given.integers : integers.data(); }
  gradc_dtype dtype() const { return integer_values() ? GRADC_I32 : GRADC_F32; }
  int64_t elements() const;  // of one example
  // Writes the examples rows[0..count) to out, one after the other, as dtype().
  void gather(const int64_t* rows, int64_t count, void* out) const;
};

struct Table {
  int64_t rows = 0;
  std::vector<Field> fields;
};

class Preparation;

// The view of images for evaluation: resized so that their shorter side is `scale` (0: not resized), then cropped to
// the size that the model reads: the centre, or one of the four corners (1 to 4), the centre (5), and these five
// mirrored (6 to 10): the ten crops of Krizhevsky et al. 2012.
struct View {
  int64_t scale = 0;
  int crop = 0;  // 0: the centre
  bool plain() const { return scale == 0 && crop == 0; }
};

// Examples of a table: first..first+count, or those that `rows` lists.
struct Split {
  std::string name;
  std::shared_ptr<const Table> table;
  int64_t first = 0;
  int64_t count = 0;
  std::shared_ptr<const std::vector<int64_t>> rows;  // the first `count` of them; null: none
  // A curriculum: its rows from the lowest score to the highest, and for how many epochs it applies; null: none.
  std::shared_ptr<const std::vector<int64_t>> easy_first;
  int64_t curriculum_epochs = 0;
  // How an example is prepared before a program reads it (runtime/data/prepare.h); null: not at all.
  std::shared_ptr<const Preparation> preparation;
  View view;  // of images, when they are not augmented; other than plain only with a preparation
  int64_t row(int64_t i) const { return rows ? (*rows)[static_cast<size_t>(i)] : first + i; }
};

class Dataset {
 public:
  std::vector<Split> splits;
  const Split* find(const std::string& name) const;  // null when there is none
  const Split& split(
      const std::string& name) const;  // throws RunError (kExitDataError) with the existing names
};

// Reads the source and cuts the splits. Where the record has methods of preparing examples, they are to be
// fitted or restored (runtime/data/prepare.h) before a batch is read. Throws RunError (kExitDataError).
Dataset load_dataset(const DataRecord& record);

// The same with splits that are given. Splits of the record that are among them are not cut from others.
Dataset make_dataset(const DataRecord& record, std::vector<Split> splits);

// A permutation of 0..count-1 that depends on seed and epoch alone.
std::vector<int64_t> keyed_permutation(int64_t count, uint64_t seed, uint64_t epoch);

// The order in which an epoch takes a split's rows, `count` of them: the split's own, or shuffled by seed and
// epoch. In epoch e of a curriculum's E, only the easiest share (e + 1) / (E + 1) is taken, repeatedly until the epoch
// is full.
std::vector<int64_t> epoch_order(const Split& split, uint64_t seed, uint64_t epoch, bool shuffled);

}  // namespace gradc::runtime
