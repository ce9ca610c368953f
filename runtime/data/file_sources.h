// The sources for common file formats: CIFAR-10, NumPy, CSV. Knows nothing of training.
#pragma once
#include <vector>

#include "runtime/data/dataset.h"

namespace gradc::runtime {

// cifar10: `path`, a folder with data_batch_1.bin to data_batch_5.bin (at least one of them; in that order the split
// train) and test_batch.bin (the split test, if the file exists), Krizhevsky's binary format: each
// example is a byte of label and 3 x 32 x 32 bytes of image. image f32[3, 32, 32] in 0..1, label i32 in 0..9.
std::vector<Split> read_cifar10(const DataRecord& record);

// npy: a file for each declared field, of N x shape. Numbers for f32 fields: float32, float64, or unsigned
// bytes, which become value / 255; for i32 fields: whole numbers of any width within i32. `classes`: a field
// `label` of single integers lies in 0..classes - 1; 0 leaves it unchecked.
std::vector<Split> read_npy_files(const DataRecord& record);

// csv: `path` and `test`, text files; `separator`, `header`; `classes` as above. The declared fields name
// their columns.
std::vector<Split> read_csv_files(const DataRecord& record);

}  // namespace gradc::runtime
