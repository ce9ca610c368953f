// Types of the tensor IR: an element type, whether there is one value per example, and the shape of one
// example. Where an axis of the example is folded into the rows (passes/tensor/fold_rows.cpp), an example has several
// rows, each with a value of the shape.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gradc {

enum class DType : uint8_t { f32, f64, i32, boolean };
std::string_view name(DType t);  // "f32", "f64", "i32", "bool"
bool parse_dtype(std::string_view text, DType& out);

using Shape = std::vector<int64_t>;

struct Type {
  DType dtype = DType::f32;
  bool batched = false;  // printed as a first extent `n`
  Shape shape;           // of one row; every extent >= 1
  int64_t rows =
      1;  // of an example, printed as `n*128`: row 128 i + j is row j of example i; 1 unless batched
  int rank() const { return static_cast<int>(shape.size()); }
  bool is_float() const { return dtype == DType::f32 || dtype == DType::f64; }
  int64_t elements() const;  // of one row (or of the value, when not batched)
  Type with(DType d) const { return {d, batched, shape, rows}; }
  Type with_shape(Shape s) const { return {dtype, batched, std::move(s), rows}; }
  friend bool operator==(const Type&, const Type&) = default;
};

std::string to_string(const Type& t);   // "f32[n,3,32,32]", "f32[n*128,64]", "f32[512]", "f32", "f32[n]"
std::string to_string(const Shape& s);  // "[3, 32, 32]"
bool parse_type(std::string_view text, Type& out);

// The shape two operands broadcast to (aligned at the right, extents equal or 1, as NumPy); false when they
// do not.
bool broadcast_shapes(const Shape& a, const Shape& b, Shape& out);

// Limits that keep any input from exhausting memory; beyond them the frontend reports an error.
inline constexpr int64_t kMaxElements = int64_t{1} << 31;  // of one example or one parameter
inline constexpr int kMaxRank = 8;

}  // namespace gradc
