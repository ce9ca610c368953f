// Batches of a split in the layout that an entry reads; knows nothing of what the entry does with them.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/abi.h"
#include "runtime/data/dataset.h"
#include "runtime/data/draws.h"
#include "runtime/data/loader.h"
#include "runtime/memory.h"

namespace gradc::runtime {

// The arguments of an entry: `rows` examples, one pointer an input (gradc_step_args.inputs).
struct Batch {
  const void* const* inputs = nullptr;
  int64_t rows = 0;
};

// Bytes of one element of a gradc_dtype; "f32[1, 28, 28]" for messages.
int64_t dtype_bytes(int32_t dtype);
std::string type_text(int32_t dtype, int32_t rank, const int64_t* shape);
int64_t element_count(int32_t rank, const int64_t* shape);

// Row-major buffers for up to `rows` examples of an entry's inputs.
class InputBuffers {
 public:
  InputBuffers(const gradc_entry_info& entry, int64_t rows);
  void* data(size_t input) { return blocks_[input].data(); }
  const void* const* pointers() const { return pointers_.data(); }

 private:
  std::vector<AlignedBlock> blocks_;
  std::vector<const void*> pointers_;
};

// Checks integers of `rows` examples, one after the other, against the ranges of an input (gradc_index_range). Throws
// RunError (kExitDataError) for the first out of range; `what(row)` gives its location, as in "labels.npy: `label` of
// example 3".
void check_index_ranges(const gradc_input& input, const int32_t* values, int64_t rows,
                        const std::function<std::string(int64_t row)>& what);
// The same for every input that an entry reads of a split, after the split's preparation.
void check_index_ranges(const gradc_entry_info& entry, const Split& split);

// The field that an input reads: of the same name, or named as the input's name after its last dot.
// Throws RunError (kExitDataError) when there is none or its type is another.
const Field& field_of(const gradc_input& input, const Split& split);

// Cuts a split into batches. The reader must outlive the batches it returns; the next assemble() overwrites the last.
class BatchReader {
 public:
  // Throws RunError (kExitDataError) when the inputs do not fit the data, integers lie outside the entry's
  // ranges, or drop_last leaves nothing.
  BatchReader(const Split& split, const gradc_entry_info& entry, int64_t batch, bool drop_last = false);
  BatchReader(const BatchReader&) = delete;
  BatchReader& operator=(const BatchReader&) = delete;

  int64_t batches() const { return batches_; }
  int64_t examples() const { return drop_last_ ? batches_ * batch_ : split_.count; }  // of one round
  // The order of the next round; at first the split's own.
  void shuffle(uint64_t seed, uint64_t epoch);

  // For training: sets the order of this epoch (unless `shuffled` is false), and from now on augments examples (unless
  // `augmented` is false) with random numbers of this seed and epoch.
  void begin_epoch(uint64_t seed, uint64_t epoch, bool shuffled, bool augmented = true);

  int64_t rows(int64_t index) const;
  // Thread `thread` of `threads` fills its chunk of batch `index`; batch() is complete when all have.
  void assemble(int64_t index, int thread, int threads);
  // The same into other buffers, which were made for the same entry and batch.
  void assemble(int64_t index, int thread, int threads, InputBuffers& buffers) const;
  Batch batch(int64_t index) const { return {current_->pointers(), rows(index)}; }

  // Starts threads that assemble the next batch while the current one is used: from now on call fetch(), not
  // assemble(). Throws RunError when they cannot be started.
  void load_ahead(int threads);
  bool loads_ahead() const { return loader_ != nullptr; }
  // Waits until batch `index` is complete, then starts the next; batch(index) is valid until the next fetch().
  void fetch(int64_t index);

  // Seconds that training waited for data: in fetch(), or in assemble() as its caller noted them.
  double waited() const { return waited_; }
  void note_wait(double seconds) { waited_ += seconds; }

 private:
  void set_order(uint64_t seed, uint64_t epoch, bool shuffled);

  Split split_;
  int64_t batch_ = 0;
  bool drop_last_ = false;
  int64_t batches_ = 0;
  std::optional<EpochKey> key_;  // examples are augmented
  std::vector<const Field*> fields_;
  std::vector<size_t> example_bytes_;  // of each input
  std::vector<int64_t> order_;         // rows of the table
  InputBuffers buffers_;
  std::optional<InputBuffers> second_;       // with a loader
  const InputBuffers* current_ = &buffers_;  // what batch() returns
  const gradc_entry_info& entry_;
  double waited_ = 0;
  std::unique_ptr<Loader> loader_;  // last: its threads use the others
};

}  // namespace gradc::runtime
