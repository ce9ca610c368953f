// Gathers a batch's rows into contiguous buffers.
#include "runtime/data/batches.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "runtime/data/prepare.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::runtime {
namespace {

// Leading extents of 1 do not matter: 28 x 28 fits f32[1, 28, 28].
std::vector<int64_t> without_leading_ones(std::vector<int64_t> shape) {
  while (!shape.empty() && shape.front() == 1) shape.erase(shape.begin());
  return shape;
}

}  // namespace

int64_t dtype_bytes(int32_t dtype) {
  switch (dtype) {
    case GRADC_F32:
    case GRADC_I32: return 4;
    case GRADC_F64: return 8;
    case GRADC_BOOL: return 1;
  }
  GRADC_CHECK(false, "dtype {}", dtype);
  return 0;
}

std::string type_text(int32_t dtype, int32_t rank, const int64_t* shape) {
  static const char* const names[] = {"f32", "f64", "i32", "bool"};
  GRADC_CHECK(dtype >= 0 && dtype < 4, "dtype {}", dtype);
  if (rank == 0) return names[dtype];
  return fmt::format("{}[{}]", names[dtype], fmt::join(shape, shape + rank, ", "));
}

int64_t element_count(int32_t rank, const int64_t* shape) {
  return std::accumulate(shape, shape + rank, int64_t{1}, std::multiplies<>());
}

InputBuffers::InputBuffers(const gradc_entry_info& entry, int64_t rows) {
  for (int32_t i = 0; i < entry.input_count; ++i) {
    const gradc_input& input = entry.inputs[i];
    const auto bytes =
        static_cast<uint64_t>(rows * element_count(input.rank, input.shape) * dtype_bytes(input.dtype));
    blocks_.emplace_back(bytes, "batch");
    pointers_.push_back(blocks_.back().data());
  }
}

const Field& field_of(const gradc_input& input, const Split& split) {
  const std::string full = input.name;
  const std::string last = full.substr(full.rfind('.') == std::string::npos ? 0 : full.rfind('.') + 1);
  std::vector<std::string> names;
  for (const Field& field : split.table->fields) {
    names.push_back(field.name);
    if (field.name != full && field.name != last) continue;
    const std::vector<int64_t> wanted(input.shape, input.shape + input.rank);
    const Preparation* preparation = split.preparation.get();
    const gradc_dtype dtype = preparation ? preparation->dtype_of(field) : field.dtype();
    const std::vector<int64_t> shape = preparation ? preparation->shape_of(field) : field.shape;
    if (dtype != input.dtype || without_leading_ones(shape) != without_leading_ones(wanted))
      throw RunError(
          kExitDataError,
          fmt::format(
              "the model reads {} as {}, but the data hold {}; change the model's input, or the data set",
              full, type_text(input.dtype, input.rank, input.shape),
              type_text(dtype, static_cast<int32_t>(shape.size()), shape.data())));
    return field;
  }
  throw RunError(kExitDataError, fmt::format("the model reads {}, which the data lack; they hold {}", full,
                                             fmt::join(names, ", ")));
}

void check_index_ranges(const gradc_input& input, const int32_t* values, int64_t rows,
                        const std::function<std::string(int64_t row)>& what) {
  const int64_t elements = element_count(input.rank, input.shape);
  for (int64_t row = 0; row < rows; ++row)
    for (int32_t k = 0; k < input.range_count; ++k) {
      const gradc_index_range& range = input.ranges[k];
      const int32_t* from = values + row * elements + range.first;
      for (int64_t i = 0; i < range.count; ++i) {
        if (from[i] >= 0 && from[i] < range.extent) continue;
        const std::string element = elements > 1 ? fmt::format(" (element {})", range.first + i) : "";
        throw RunError(
            kExitDataError,
            fmt::format(
                "{}{} is {}; expected 0 to {}: {} chooses one of {} with it{}", what(row), element, from[i],
                range.extent - 1, range.use, range.extent,
                from[i] == range.extent ? "; numbers count from 0, so that the last of N is N - 1" : ""));
      }
    }
}

void check_index_ranges(const gradc_entry_info& entry, const Split& split) {
  constexpr int64_t kElements = 1 << 16;  // a block that is checked at once
  for (int32_t i = 0; i < entry.input_count; ++i) {
    const gradc_input& input = entry.inputs[i];
    if (input.range_count == 0) continue;
    const Field& field = field_of(input, split);
    const int64_t elements = element_count(input.rank, input.shape);
    const int64_t most = std::clamp<int64_t>(kElements / elements, 1, split.count);
    std::vector<int32_t> values(static_cast<size_t>(most * elements));
    std::vector<int64_t> rows(static_cast<size_t>(most));
    for (int64_t first = 0; first < split.count; first += most) {
      const int64_t count = std::min(most, split.count - first);
      for (int64_t r = 0; r < count; ++r) rows[static_cast<size_t>(r)] = split.row(first + r);
      if (split.preparation)
        split.preparation->gather(split, field, rows.data(), count, nullptr, values.data());
      else
        field.gather(rows.data(), count, values.data());
      check_index_ranges(input, values.data(), count, [&](int64_t r) {
        const int64_t row = rows[static_cast<size_t>(r)];
        return field.lines ? fmt::format("{}:{}: `{}`", field.origin,
                                         (*field.lines)[static_cast<size_t>(row)], field.name)
                           : fmt::format("{}`{}` of example {}",
                                         field.origin.empty() ? "" : field.origin + ": ", field.name, row);
      });
    }
  }
}

BatchReader::BatchReader(const Split& split, const gradc_entry_info& entry, int64_t batch, bool drop_last)
    : split_(split), batch_(batch), drop_last_(drop_last), buffers_(entry, batch), entry_(entry) {
  GRADC_CHECK(batch >= 1 && split.count >= 1, "batch {} of {} examples", batch, split.count);
  for (int32_t i = 0; i < entry.input_count; ++i) {
    const gradc_input& input = entry.inputs[i];
    fields_.push_back(&field_of(input, split));
    example_bytes_.push_back(
        static_cast<size_t>(element_count(input.rank, input.shape) * dtype_bytes(input.dtype)));
  }
  check_index_ranges(entry, split);
  batches_ = drop_last ? split.count / batch : (split.count + batch - 1) / batch;
  if (batches_ == 0)
    throw RunError(kExitDataError,
                   fmt::format("split {} has {} examples, fewer than one batch of {}, and incomplete batches "
                               "are dropped: nothing is "
                               "left; make the batch smaller or keep the last one (last=\"keep\")",
                               split.name, split.count, batch));
  order_.resize(static_cast<size_t>(split.count));
  for (int64_t i = 0; i < split.count; ++i) order_[static_cast<size_t>(i)] = split.row(i);
}

void BatchReader::set_order(uint64_t seed, uint64_t epoch, bool shuffled) {
  if (loader_) loader_->cancel();
  order_ = epoch_order(split_, seed, epoch, shuffled);
}

void BatchReader::shuffle(uint64_t seed, uint64_t epoch) { set_order(seed, epoch, true); }

int64_t BatchReader::rows(int64_t index) const { return std::min(batch_, split_.count - index * batch_); }

void BatchReader::begin_epoch(uint64_t seed, uint64_t epoch, bool shuffled, bool augmented) {
  set_order(seed, epoch, shuffled);
  if (augmented) key_ = EpochKey{seed, epoch};
  if (loader_) loader_->start(0);
}

void BatchReader::load_ahead(int threads) {
  if (!second_) second_.emplace(entry_, batch_);
  loader_ = std::make_unique<Loader>(threads, [this](int64_t index, int part, int parts, int buffer) {
    assemble(index, part, parts, buffer == 0 ? buffers_ : *second_);
  });
}

void BatchReader::fetch(int64_t index) {
  const auto start = std::chrono::steady_clock::now();
  const int buffer = loader_->fetch(index, index + 1 < batches_ ? index + 1 : -1);
  current_ = buffer == 0 ? &buffers_ : &*second_;
  waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void BatchReader::assemble(int64_t index, int thread, int threads) {
  assemble(index, thread, threads, buffers_);
}

void BatchReader::assemble(int64_t index, int thread, int threads, InputBuffers& buffers) const {
  const int64_t all = rows(index), begin = all * thread / threads, end = all * (thread + 1) / threads;
  const int64_t* rows = order_.data() + index * batch_ + begin;
  for (size_t i = 0; i < fields_.size(); ++i) {
    uint8_t* to = static_cast<uint8_t*>(buffers.data(i)) + static_cast<size_t>(begin) * example_bytes_[i];
    if (split_.preparation)
      split_.preparation->gather(split_, *fields_[i], rows, end - begin, key_ ? &*key_ : nullptr, to);
    else
      fields_[i]->gather(rows, end - begin, to);
  }
}

}  // namespace gradc::runtime
