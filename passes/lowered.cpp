// Restores the logical order of values that programs store in panels.
#include "passes/lowered.h"

namespace gradc::passes {

std::vector<double> rows_of_panels(const StoredValue& value, int64_t rows, int64_t panel,
                                   const std::function<double(int64_t)>& element) {
  const Type& t = value.op->type;
  const int64_t elements = t.elements();
  std::vector<double> result(static_cast<size_t>(rows * elements));
  std::vector<int64_t> stride(t.shape.size());  // in memory, by axis
  int64_t step = 1;
  for (size_t i = value.order.size(); i-- > 0;) {
    stride[static_cast<size_t>(value.order[i])] = step;
    step *= t.shape[static_cast<size_t>(value.order[i])];
  }
  for (int64_t e = 0; e < elements; ++e) {
    int64_t at = 0, rest = e;
    for (size_t a = t.shape.size(); a-- > 0;) {
      at += rest % t.shape[a] * stride[a];
      rest /= t.shape[a];
    }
    for (int64_t r = 0; r < rows; ++r)
      result[static_cast<size_t>(r * elements + e)] =
          element((r / panel * elements + at) * panel + r % panel);
  }
  return result;
}

}  // namespace gradc::passes
