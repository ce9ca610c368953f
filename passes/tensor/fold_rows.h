// How values are folded into rows, and operations work on folded ones: what pass fold_rows asks. Private to the pass.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/tensor/op_def.h"

namespace gradc::passes {

enum class FoldedUse : uint8_t {
  folded,
  as_is,     // without a batch, and without the folded axes
  squeezed,  // without a batch, the folded axes having extent 1
  spread,  // broadcast along the folded axes or the batch, which the folded value can only have as elements of its own
};

// An operation in its folded form.
struct FoldedForm {
  std::vector<FoldedUse> operands;
  Attributes attributes;
  std::string name;         // of the operator; empty: the same
  bool is_operand = false;  // it is its folded operand
  // Makes it of the operands in their places; null: by name and attributes.
  Op* (*make)(Builder& b, const Op& op, const std::vector<Op*>& operands) = nullptr;
};

// One way of folding. Values that can be folded are told by their type.
class RowFolding {
 public:
  virtual ~RowFolding() = default;
  virtual bool folds(const Type& t) const = 0;
  virtual std::optional<FoldedForm> form(const Op& op) const = 0;
  // What folding saves at a contraction that has a form, in FLOP an example; 0: no contraction.
  virtual double gain(const Op& op) const = 0;
  // What folding or unfolding one element costs, likewise.
  virtual double copy_cost() const = 0;
  virtual Op* fold(Builder& b, Op* value) const = 0;
  virtual Op* unfold(Builder& b, Op* folded, const Type& type) const = 0;
  // The folded value that this operation unfolds; null: it is none.
  virtual Op* unfolded(const Op* value) const = 0;
  // A shape without the folded axes, and one of so many axes that has them in full, as `result` has.
  virtual Shape squeezed(const Shape& shape) const = 0;
  virtual Shape spread(Shape shape, const Shape& result) const = 0;
};

// Folds what it is worth to fold; whether anything was.
bool fold_rows(Function& f, const RowFolding& folding);

// The first axis of values, where einsums map over it (fold_sequences.cpp).
bool fold_sequences(Function& f);
// The pixels of images, for batches of so many examples, where few of a vector's lanes have one; 0: for any number of them,
// where changes of layout are few (fold_pixels.cpp).
bool fold_pixels(Function& f, int64_t batch);

}  // namespace gradc::passes
