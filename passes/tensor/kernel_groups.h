// Which operations may share a kernel: those with one iteration domain, of which some axes are reduced. Used
// by the fusion pass, which makes groups, and by lowering, which turns each into a loop nest. Knows kinds of
// operations, not operators.
//
// A group's domain is the type its inner operations have: an optional batch and the axes of one example. When
// the group reduces, the reduced axes R are the same for all its reductions. Operations then live at two
// levels:
//   inner  one value for every point of the domain
//   outer  one value for every point of the axes that are not reduced (results of reductions and what is
//   computed from them)
// Outer values may be used by inner operations of a later phase: mean, then variance, then normalisation are
// three phases of one group.
#pragma once
#include <set>

#include "ir/tensor/op_def.h"

namespace gradc::passes {

enum class Level : uint8_t { none, inner, outer };

struct KernelGroup {
  int number = -1;
  bool contraction = false;  // ops[0] is one; the others are its epilogue
  bool images = false;       // the function works on images (layout.h)
  Type domain;               // dtype has no meaning
  bool has_reduction = false;
  bool reduces_batch = false;
  std::vector<char> reduced;  // for each example axis
  std::vector<Op*> ops;       // in order
  std::map<const Op*, Level> level;

  bool contains(const Op* op) const { return level.count(op) != 0; }
  // Whether a value of this type has one element for each point of the outer axes.
  bool is_outer_type(const Type& t) const;
  bool is_inner_type(const Type& t) const { return t.with(domain.dtype) == domain; }
  // The level `op` would have in this group, or none when it does not belong: operands at the wrong level,
  // another domain, other axes.
  Level level_for(const Op* op) const;
  // Whether its reductions are sums over batch and space of images, computed as a partial sum for each row of images
  // (partial_sums.h): such a group makes one pass, and its results are available only after its kernel.
  bool by_partial_sums() const;
  void add(Op* op, Level level);
  void note_reduction(const Op* op);  // the first reduction fixes the reduced axes
};

// Starts a group with its first operation.
KernelGroup make_group(Op* op, int number, bool images);

// An operation that gets no kernel of its own: views, inputs, symbols, and cheap sources (recomputed where
// they are used).
bool needs_kernel(const Op* op);
// The value whose storage a view shares: follows views to what they look at.
const Op* storage_of(const Op* op);

// The operations that the guarded output, the loss, depends on, with inputs and symbols. Empty without a guard.
std::set<const Op*> needed_by_guard(const Function& f);

// The groups of a function whose ops have been numbered, in order of execution.
std::vector<KernelGroup> kernel_groups(const Function& f);
// Why a function's operations and their kernels cannot be lowered; empty where they can. For functions that no pipeline
// has made.
std::string kernel_error(const Function& f);

}  // namespace gradc::passes
