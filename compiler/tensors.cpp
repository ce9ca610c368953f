// Converts between the elements of programs and doubles.
#include "compiler/tensors.h"

namespace gradc::compiler {

using interpreter::Tensor;

namespace {

template <class T>
void read_as(const void* memory, int64_t elements, double* values) {
  const T* from = static_cast<const T*>(memory);
  for (int64_t i = 0; i < elements; ++i) values[i] = static_cast<double>(from[i]);
}

template <class T>
void write_as(const double* values, int64_t elements, void* memory) {
  T* to = static_cast<T*>(memory);
  for (int64_t i = 0; i < elements; ++i) to[i] = static_cast<T>(values[i]);
}

}  // namespace

void from_memory(const void* memory, DType dtype, int64_t elements, double* values) {
  switch (dtype) {
    case DType::f32: return read_as<float>(memory, elements, values);
    case DType::f64: return read_as<double>(memory, elements, values);
    case DType::i32: return read_as<int32_t>(memory, elements, values);
    case DType::boolean: return read_as<uint8_t>(memory, elements, values);
  }
}

void to_memory(const double* values, DType dtype, int64_t elements, void* memory) {
  switch (dtype) {
    case DType::f32: return write_as<float>(values, elements, memory);
    case DType::f64: return write_as<double>(values, elements, memory);
    case DType::i32: return write_as<int32_t>(values, elements, memory);
    case DType::boolean: return write_as<uint8_t>(values, elements, memory);
  }
}

Tensors batch_of(const gradc_entry_info& entry, const void* const* inputs, int64_t rows) {
  Tensors result;
  for (int i = 0; i < entry.input_count; ++i) {
    const gradc_input& input = entry.inputs[i];
    const Type type{static_cast<DType>(input.dtype), true, Shape(input.shape, input.shape + input.rank)};
    Tensor t = interpreter::make_tensor(type, rows);
    from_memory(inputs[i], type.dtype, type.elements() * rows, t.data.data());
    result[input.name] = std::move(t);
  }
  return result;
}

}  // namespace gradc::compiler
