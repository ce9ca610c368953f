// Shared state of lowering one function: where values are stored, which calls were made, what memory each call
// accesses. Lowering knows kinds of operations and their attributes through definitions; only contractions' own
// files know operator names.
//
// Physical layout. A batched value is stored in panels of kPanel rows (examples, or positions of examples where an axis
// is folded into the rows), which are in the vector lanes:
//   [panel][element of the row, in the order of passes/tensor/layout.h][kPanel]
// so every vector operation works on consecutive rows, extents need not be multiples of the vector width, and the
// one dynamic extent, the number of rows, only sets how many panels run. Lanes at and past `rows` hold finite garbage;
// only reductions over the batch mask them. Contractions whose sum is over the batch read one
// operand by rows instead, [row][element] (Layout::rows): the caller's inputs are stored so, and other values get a
// copy. Unbatched values are row-major.
#pragma once
#include <set>

#include "ir/ops/lower.h"
#include "passes/loop/accesses.h"
#include "passes/loop/spacing.h"
#include "passes/lowered.h"
#include "passes/options.h"
#include "passes/tensor/kernel_groups.h"
#include "passes/tensor/layout.h"

namespace gradc::passes::lowering {

using loop::AccessScope;
using loop::RowRange;
using ops::memory_scalar_of;
using ops::scalar_of;

enum class Layout : uint8_t { plain, panels, rows };

struct Storage {
  int allocation = -1;
  Layout layout = Layout::plain;
  int64_t first = 0;  // element of the allocation where the value starts
};

// The rows of images of `height` rows that each of `chunks` accesses when a chunk computes `step` rows and reads from
// `before` rows before its first to `after` rows after its last.
std::vector<RowRange> rows_by_chunk(int64_t chunks, int64_t step, int64_t height, int64_t before = 0,
                                    int64_t after = 0);

class KernelBuilder;

class Lowering {
 public:
  Lowering(const Module& module, const Function& f, const PipelineOptions& options,
           const std::map<std::string, int64_t>& symbol_offsets)
      : options(options),
        module(module),
        function(f),
        symbol_offsets(symbol_offsets),
        width(options.machine.lanes),
        images(works_on_images(f)),
        from_row_zero(f.name == "train_step" && options.pieces == 1),
        offset_aligned(f.name == "train_step" && (options.pieces == 1 || options.batch % kPanel == 0)) {}
  void run();  // makes kernels and calls; barriers and offsets are still missing

  int new_allocation(std::string name, loop::Scalar scalar, int64_t elements, loop::Space space,
                     int64_t offset);
  // Memory of a thread's own for the kernel that is being built; `at` counts the bytes it has taken so far.
  int new_scratch(std::string name, loop::Scalar scalar, int64_t elements, int64_t& at);
  // Elements a value takes in a layout at the full batch.
  int64_t elements_of(const Type& t, Layout layout) const;
  // Where a value is stored for reading in panels or plain (views followed); GRADC_CHECKs that it is stored.
  Storage storage(const Op* value) const;
  // Where it is stored by rows; GRADC_CHECKs that a rows copy was made.
  Storage rows_storage(const Op* value) const;
  void finish(KernelBuilder& kb, loop::Partition partition);
  // The index in memory, within its example, of the element at a position of every axis; the value is in panels.
  loop::Expr element(const Type& t, const std::vector<loop::Expr>& places) const;

  // Panels of a full batch where an example has so many rows.
  int64_t batch_panels(int64_t rows = 1) const { return (options.batch * rows + kPanel - 1) / kPanel; }

  const PipelineOptions& options;
  LoweredProgram result;
  const Module& module;
  const Function& function;
  const std::map<std::string, int64_t>& symbol_offsets;
  const int width;
  const bool images;
  // The step's contract (runtime/abi.h): its first row is number 0, or a multiple of the piece's rows.
  const bool from_row_zero, offset_aligned;
  std::map<const Op*, Storage> panels_or_plain, rows;
  // The allocations that a value must be stored to: in the arena, an output, a symbol in place. Filled before kernels
  // are built.
  std::map<const Op*, std::vector<int>> targets;
  std::set<int> symbol_targets;  // allocations of symbols that some kernel writes in place

 private:
  void place_values(const std::vector<KernelGroup>& groups);
  void place_inputs();
  void place_outputs(const std::map<const Op*, int>& group_index);
  void place_updates(const std::map<const Op*, int>& group_index,
                     const std::map<const Op*, std::vector<const Op*>>& users);
  void find_users(std::map<const Op*, std::vector<const Op*>>& users) const;
  bool can_update_in_place(const Update& u, const std::map<const Op*, int>& group_index,
                           const std::map<const Op*, std::vector<const Op*>>& users) const;
  int symbol_allocation(const std::string& name);
  int scalars_allocation();
  std::map<std::string, int> symbol_allocations_;
  int scalars_ = -1;
  std::vector<std::pair<const Op*, int>> late_updates_;  // value, symbol's allocation
  std::vector<std::pair<const Op*, int>> batched_outputs_, plain_outputs_;
};

// One kernel under construction: its loop IR, and the allocations of its buffers.
class KernelBuilder {
 public:
  KernelBuilder(Lowering& lowering, std::string name, std::string summary);
  // A group's kernel: named after its first operation, writing every target of its operations.
  KernelBuilder(Lowering& lowering, const KernelGroup& group);
  // The buffer for an allocation; `writes`, `scope` and `rows` add up over all uses.
  loop::Buffer buffer(int allocation, bool writes, AccessScope scope, const std::vector<RowRange>& rows = {});
  // Must be called before any load when the kernel will write this allocation.
  void declare_written(int allocation) { written_.insert(allocation); }

  Lowering& lowering;
  loop::Kernel kernel;
  loop::Builder b;
  std::vector<MemoryAccess> accesses;
  double flop = 0;  // at the full batch

 private:
  std::map<int, loop::Buffer> buffers_;
  std::set<int> written_;
};

// A point of a group's domain at which values are computed, one vector at a time.
struct Point {
  bool batched = false;          // lanes are consecutive examples
  loop::Expr panel, sub;         // batched: lane l is row panel * kPanel + sub * width + l
  std::vector<loop::Expr> axes;  // position on each example axis of the domain (i64)
  bool vector_last = false;      // not batched: lanes run along the last axis, from axes.back()
  loop::Expr flat;  // not batched, all operands of the domain's shape or scalar: position in the flattened
                    // value instead of axes
  int lanes = 1;
  loop::Expr mask;  // lanes that exist; null: all
};

// Computes the operations of one group at points of its domain.
class PointEmitter {
 public:
  // `own`: the scope of a thread's accesses to its own chunk; for own_panels, each panel has `chunks` chunks of `rows`
  // rows of images.
  PointEmitter(KernelBuilder& kb, const KernelGroup& group, AccessScope own, int64_t chunks,
               int64_t rows = 1);
  void begin_outer(const Point& point);  // forgets every value; sets the point for outer values
  void begin_inner(const Point& point);  // forgets inner values
  // The value of an operation of the group (or an operand from outside) at the current inner or outer point.
  loop::Expr value(const Op* op, Level at);
  void define(const Op* op, Level at, loop::Expr value) {
    (at == Level::inner ? inner_ : outer_)[op] = std::move(value);
  }
  // Stores into every target of the operation; only_symbols / not_symbols select among in-place symbol
  // updates and the rest.
  enum class Which { all, symbols, others };
  void store(const Op* op, Level at, Which which = Which::all);
  // Prefetches the element of a value from outside the group at a point.
  void prefetch(const Type& type, const Storage& s, const Point& p);
  // A value computed in an earlier phase that is stored in memory is loaded instead of computed again.
  std::set<const Op*> reload;

 private:
  loop::Expr compute(const Op* op, Level at);
  enum class Place { same, other };  // an operand at the point computed, or anywhere else
  loop::Expr load(const Op* op, const Point& p, Place place);
  Point stored_at(const Op* op, const Point& p) const;
  loop::Expr index_of(const Type& t, const Point& p, std::vector<loop::Expr>* axes_out = nullptr) const;
  loop::Expr address(const Type& t, const Storage& s, const Point& p, bool& vector);
  AccessScope scope_of(const Type& t, Layout layout) const;
  loop::Buffer buffer_of(const Type& t, const Storage& s, bool writes) const;
  KernelBuilder& kb_;
  const KernelGroup& group_;
  AccessScope own_;
  int64_t chunks_;
  std::vector<RowRange> rows_;  // of the domain's images, by chunk
  Point inner_point_, outer_point_;
  std::map<const Op*, loop::Expr> inner_, outer_;
};

// The group's loop nests (nest.cpp, contraction.cpp).
void lower_nest(Lowering& lowering, const KernelGroup& group);
void lower_contraction(Lowering& lowering, const KernelGroup& group);
void lower_attention(Lowering& lowering,
                     const KernelGroup& group);  // attention and its gradients (attention.cpp)
void lower_window(Lowering& lowering, const KernelGroup& group);  // convolutions and pooling (window.cpp)
// Convolutions of images whose pixels are rows, and the choice of pixels (rows_convolution.cpp).
void lower_rows_convolution(Lowering& lowering, const KernelGroup& group);
// The operand of a contraction that it reads by rows, or -1; `packs`: it takes panels as well.
struct RowsOperand {
  int index = -1;
  bool packs = false;
};
RowsOperand rows_operand(const Op* contraction);

// Copies between layouts (copy.cpp).
void copy_rows_to_panels(Lowering& lowering, const std::string& name, const Type& type, int from, int to);
void copy_panels_to_rows(Lowering& lowering, const std::string& name, const Type& type, int from, int to);
// fold_rows and unfold_rows: from the operand's copy by rows, which has the elements in the result's order.
void lower_fold_rows(Lowering& lowering, const KernelGroup& group);
void copy_plain(Lowering& lowering, const std::string& name, const Type& type, const Storage& from, int to);

// How an outermost axis of extent `extent` is split: chunks of a long one are multiples of the widest vector.
inline constexpr int64_t kSplitUnit = 16;
inline loop::Partition axis_partition(int64_t extent) {
  return {loop::Partition::Extent::fixed, extent, extent >= 4 * kSplitUnit ? kSplitUnit : 1};
}

}  // namespace gradc::passes::lowering
