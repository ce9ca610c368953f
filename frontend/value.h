// The value of an expression: static (known at compile time), or a tensor (an operation of the function being
// emitted).
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "frontend/syntax.h"
#include "ir/tensor/module.h"

namespace gradc::frontend {

struct Builtin;
struct DataSource;
struct Value;
using List = std::vector<Value>;

struct BoundArgument;
// A definition, built-in function or primitive as a value, with the arguments already given: `relu`,
// `normal(0, 0.01)`, `adam(lr=1e-3)`.
struct DefinitionValue {
  std::string name;
  const Definition* definition = nullptr;  // exactly one of these three is set
  const Builtin* builtin = nullptr;
  const OpDef* op = nullptr;
  std::vector<BoundArgument> arguments;
  bool is(DefinitionKind kind) const { return definition && definition->kind == kind; }
};

enum class ValueKind : uint8_t {
  poison,  // the result of an error already reported; its uses report no other
  none,    // an optional argument of a built-in function that was not given
  boolean,
  integer,
  number,
  string,
  list,
  range,  // integer .. end, without end
  tensor,
  definition,
  data,  // the name of a data set; its fields are tensors
};

struct Value {
  ValueKind kind = ValueKind::poison;
  bool boolean = false;
  int64_t integer = 0, end = 0;
  double number = 0;
  std::string text;
  std::shared_ptr<const List> list;
  Op* tensor = nullptr;
  std::shared_ptr<const DefinitionValue> definition;
  const DataSource* data = nullptr;
  // The number of values in it, itself included and shared ones counted at each use: elements of nested
  // lists, bound arguments, and one per 64 bytes of a string. The evaluator bounds it, which bounds every
  // walk over a value.
  int64_t weight = 1;

  static Value of(bool b);
  static Value of(int64_t i);
  static Value of(double d);
  static Value of(std::string s);
  static Value of(const char* s) { return of(std::string(s)); }
  static Value of(List l);
  static Value of(Op* op);
  static Value of(DefinitionValue d);
  static Value of_shape(const Shape& s);
  static Value none();

  bool is(ValueKind k) const { return kind == k; }
  bool poisoned() const { return kind == ValueKind::poison; }
  bool is_static_number() const { return kind == ValueKind::integer || kind == ValueKind::number; }
  bool is_tensor() const { return kind == ValueKind::tensor; }
  double as_number() const { return kind == ValueKind::integer ? static_cast<double>(integer) : number; }
};

struct BoundArgument {
  std::string name;  // empty: positional
  Value value;
  Span span;
};

// As it would be written: "32", "[3, 3]", "normal(0, 0.01)"; tensors as their type. For messages: long lists
// and strings are cut.
std::string print(const Value& v);
// The same in full: values with equal texts are equal.
std::string full_text(const Value& v);
// A text cut to the length that a message shows.
std::string shortened(const std::string& text);
// With its kind, for messages: "the integer 32", "a tensor f32[512]", "the optimizer `adam`".
std::string describe(const Value& v);
// A type as users write it, without the batch: "f32[16, 32, 32]"; a single number is "f32[]".
std::string user_type(const Type& t);
// Equality of static values; integers equal numbers of the same value.
bool equal(const Value& a, const Value& b);

}  // namespace gradc::frontend
