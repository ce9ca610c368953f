// The register tile of a contraction: accumulators, the loop over tile rows with its remainder, and the
// group's epilogue on each of them.
#pragma once
#include <algorithm>
#include <functional>
#include <optional>
#include <set>

#include "passes/kernels/blocked_sum.h"
#include "passes/kernels/lowering.h"
#include "passes/kernels/partial_sums.h"

namespace gradc::passes::lowering {

class Tile {
 public:
  Tile(Lowering& lowering, const KernelGroup& group);

  // How the kernel is split over threads; at most one of these is called, before anything else.
  void partition_batched();  // a batched result: by its first axis where that is long, else by panels
  void partition_axis0(int64_t extent,
                       int64_t unit = 0);             // by the result's first axis; unit 0: axis_partition's
  void partition_free(int64_t extent, int64_t unit);  // by another axis
  // A batched result, always by panels, each split into `chunks` chunks of `rows` rows of an image.
  void partition_panels(int64_t chunks = 1, int64_t rows = 1);
  // Calls body(panel, chunk) for this thread's chunks of panels, or for all panels where another axis is split.
  void over_panels(const std::function<void(loop::Expr, loop::Expr)>& body);
  AccessScope own() const { return own_; }
  int64_t chunks() const { return own_ == AccessScope::own_panels ? partition_.extent : 1; }
  bool splits_axis0() const { return own_ == AccessScope::own_axis0; }
  bool splits_free() const { return free_; }
  bool serial() const { return partition_ == loop::Partition{}; }
  loop::Expr lo() const { return loop::ref(kb.b.predefined().lo); }
  loop::Expr hi() const { return loop::ref(kb.b.predefined().hi); }
  // The rows that over_rows takes with `split`: this thread's, unless others were set, which end where a block does or
  // with the axis.
  void set_rows(loop::Expr first, loop::Expr past) {
    first_row_ = std::move(first), past_row_ = std::move(past);
  }
  loop::Expr first_row() const { return first_row_ ? first_row_ : lo(); }
  loop::Expr past_row() const { return past_row_ ? past_row_ : hi(); }

  // Calls body(first row, rows) for the tiles of an axis: blocks of them in a loop, the static remainder
  // once. `split`: only the rows from first_row() to past_row(), whose bounds are multiples of the block but for the last.
  void over_rows(const char* name, int64_t extent, bool split,
                 const std::function<void(loop::Expr, int)>& body);

  // The same for blocks of another size: body(first row, rows).
  void over_blocks(const char* name, int64_t extent, bool split, int64_t block,
                   const std::function<void(loop::Expr, int64_t)>& body);

  // Allocations with values of the result's shape that the epilogue accesses: operands (for a result without a batch
  // only parameters and optimizer state), and for a batch the results.
  std::set<int> streams() const;
  // Prefetches them at the points of a tile, before its sums are computed, where they do not fit the nearest caches.
  void prefetch_epilogue(int rows, int vectors, const std::function<Point(int, int)>& point_of);
  void declare(int rows, int vectors, int lanes, double initial = 0);  // accumulators
  void accumulate(int row, int vector, const loop::Expr& a, const loop::Expr& b);
  // Runs body, which adds `body_terms` products to each accumulator, in the loops: in blocks where they are
  // many (blocked_sum.h).
  void sum(std::vector<SumLoop> loops, int64_t body_terms, const std::function<void()>& body) {
    blocked_sum(kb.b, accumulators(), std::move(loops), kBlockProducts, body_terms, body);
  }
  std::vector<loop::Variable*> accumulators();
  const loop::Variable& accumulator(int row, int vector) const {
    return acc_[static_cast<size_t>(row)][static_cast<size_t>(vector)];
  }
  // Computes the rest of the group at the point of each accumulator, and stores. `result` maps an accumulator to the
  // contraction's value (default: the accumulator itself).
  void epilogue(const std::function<Point(int, int)>& point_of,
                const std::function<loop::Expr(loop::Expr)>& result = nullptr);
  // The same for one value of the contraction, from the tile or from memory.
  void epilogue_at(const Point& point, const loop::Expr& value);
  // Runs body, whose epilogues are all of the point's channel and vector of examples; `value` is the contraction's
  // value at the point.
  void one_channel(const Point& point, const loop::Expr& value, const std::function<void()>& body);
  void finish();

  KernelBuilder kb;
  int64_t scratch = 0;  // bytes of scratch memory that the kernel has taken

 private:
  Lowering& l_;
  const KernelGroup& g_;
  loop::Partition partition_;
  AccessScope own_ = AccessScope::anything;
  int64_t chunk_rows_ = 1;
  bool free_ = false;
  loop::Expr first_row_, past_row_;  // null: lo and hi
  std::vector<std::vector<loop::Variable>> acc_;
  std::optional<PartialSums> sums_;  // of a group that is by_partial_sums()
};

// Rows of a register tile of two vectors, at most: with 32 registers 8 (16 accumulators, and registers for operands),
// which divides the usual extents; with 16 registers 6 (12 accumulators, two for one operand, one for the other; 8 would
// leave each product waiting for the one before). A short axis is one tile. Rows are cut into blocks, which threads'
// chunks are multiples of, and blocks into tiles of about the same height: 16 rows into 5, 5 and 6.
inline int tile_rows(int registers) { return registers >= 32 ? 8 : 6; }
inline int tile_block(int registers) { return registers >= 32 ? 8 : 16; }
// Rows where all tiles are of one height, which divides the usual extents.
inline int even_rows(int registers) { return registers >= 32 ? 8 : 4; }
inline int short_axis(int registers) { return registers >= 32 ? 12 : 6; }
std::vector<int> tiles_of(int64_t rows, int registers);
// Calls body(first row, rows) for the tiles of a block.
void in_tiles(const loop::Expr& first, int64_t count, int registers,
              const std::function<void(loop::Expr, int)>& body);
// Vectors of a panel that one tile covers.
inline int tile_vectors(int width) { return static_cast<int>(std::min<int64_t>(2, kPanel / width)); }

// Rows to columns: n vectors of n lanes (a power of two), vector i of the result has lane i of each.
std::vector<loop::Expr> transposed(loop::Builder& b, std::vector<loop::Expr> v);

}  // namespace gradc::passes::lowering
