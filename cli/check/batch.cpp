// A batch of examples as tensors, read through the runtime's data sets or synthetic; knows nothing of the checks.
#include "cli/check/batch.h"

#include <algorithm>
#include <cstdint>

#include "runtime/data/batches.h"
#include "runtime/data/dataset.h"
#include "runtime/data/prepare.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/philox.h"

namespace gradc::cli {

using interpreter::Tensor;

namespace {

// The number of values that each integer element of an example's input may have, so that it fits every program that
// reads it; 2 where none gives a range.
std::vector<int64_t> integer_bounds(const gradc_program& program, const std::string& name, int64_t elements) {
  std::vector<int64_t> bounds(static_cast<size_t>(elements), INT64_MAX);
  for (const gradc_entry_info* entry : {&program.train_step, &program.eval, &program.predict})
    for (int32_t i = 0; i < entry->input_count; ++i) {
      const gradc_input& input = entry->inputs[i];
      if (name != input.name) continue;
      for (int32_t k = 0; k < input.range_count; ++k) {
        const gradc_index_range& range = input.ranges[k];
        for (int64_t at = range.first; at < range.first + range.count; ++at)
          bounds[static_cast<size_t>(at)] = std::min(bounds[static_cast<size_t>(at)], range.extent);
      }
    }
  std::replace(bounds.begin(), bounds.end(), INT64_MAX, int64_t{2});
  return bounds;
}

}  // namespace

Tensors made_up_batch(const CompiledModel& compiled, int64_t rows) {
  Tensors batch;
  uint32_t stream = 0;
  for (const auto& f : compiled.module().functions)
    for (const auto& input : f->inputs) {
      if (!input->type.batched || batch.count(input->symbol())) continue;
      Tensor t = interpreter::make_tensor(input->type, rows);
      const bool is_float = input->type.is_float();
      const int64_t elements = input->type.elements();
      const std::vector<int64_t> bounds = integer_bounds(compiled.program(), input->symbol(), elements);
      ++stream;
      for (size_t i = 0; i < t.data.size(); ++i) {
        const uint32_t word = random_word(1, 0, stream, i, 0);
        // Floats of f32 precision, as native code reads them.
        t.data.data()[i] = is_float
                               ? static_cast<double>(static_cast<float>(2 * uniform_from_word(word) - 1))
                               : static_cast<double>(
                                     word % static_cast<uint64_t>(bounds[i % static_cast<size_t>(elements)]));
      }
      batch[input->symbol()] = std::move(t);
    }
  return batch;
}

int64_t rows_of(const Tensors& batch) { return batch.empty() ? 0 : batch.begin()->second.rows; }

Tensors training_batch(const CompiledModel& compiled, int64_t rows) {
  const gradc_program& p = compiled.program();
  const DataRecord& record = compiled.experiment().data;
  runtime::Dataset data = runtime::load_dataset(record);
  runtime::fit_preparation(data, record);
  const runtime::Split& split = data.split("train");
  rows = std::min(rows, split.count);
  Tensors batch;
  for (const gradc_entry_info* entry : {&p.train_step, &p.eval, &p.predict}) {
    if (!entry->run) continue;
    runtime::BatchReader reader(split, *entry, rows);
    reader.shuffle(1, 0);
    reader.assemble(0, 0, 1);
    batch.merge(batch_of(*entry, reader.batch(0).inputs, rows));
  }
  return batch;
}

Tensors first_batch(const CompiledModel& compiled, int64_t rows, std::vector<std::string>& notes) {
  try {
    Tensors batch = training_batch(compiled, rows);
    notes.push_back(fmt::format("checked on {} examples of the training data ({})", rows_of(batch),
                                compiled.experiment().data.source));
    return batch;
  } catch (const RunError& error) {
    if (error.exit_code != kExitDataError) throw;
    notes.push_back(
        fmt::format("checked on {} made-up examples, since the data cannot be read: {}", rows, error.what()));
    return made_up_batch(compiled, rows);
  }
}

}  // namespace gradc::cli
