// The register tile of a contraction: accumulators, the loop over tile rows with its remainder, and the
// group's epilogue on each of them.
#pragma once
#include <functional>

#include "passes/lower/lowering.h"

namespace gradc::passes::lowering {

class Tile {
 public:
  Tile(Lowering& lowering, const KernelGroup& group);

  // How the kernel is split over threads; at most one of these is called, before anything else.
  void partition_batched();  // a batched result: by its first axis where that is long, else by panels
  void partition_axis0(int64_t extent,
                       int64_t unit = 0);             // by the result's first axis; unit 0: axis_partition's
  void partition_free(int64_t extent, int64_t unit);  // by another axis
  void partition_panels();                            // a batched result, always by panels
  Reach own() const { return own_; }
  bool splits_axis0() const { return own_ == Reach::own_axis0; }
  bool splits_free() const { return free_; }
  bool serial() const { return partition_ == loop::Partition{}; }
  loop::Expr lo() const { return loop::ref(kb.b.predefined().lo); }
  loop::Expr hi() const { return loop::ref(kb.b.predefined().hi); }

  // Calls body(first row, rows) for the tile rows of an axis: full tiles in a loop, the static remainder
  // once. `split`: only this thread's part, whose bounds are multiples of the tile but for the last.
  void over_rows(const char* name, int64_t extent, bool split,
                 const std::function<void(loop::Expr, int)>& body);

  void declare(int rows, int vectors, int lanes, double initial = 0);  // accumulators
  void accumulate(int row, int vector, const loop::Expr& a, const loop::Expr& b);
  const loop::Variable& accumulator(int row, int vector) const {
    return acc_[static_cast<size_t>(row)][static_cast<size_t>(vector)];
  }
  // The rest of the group at the point of each accumulator, and its stores. `result` makes the contraction's
  // value of an accumulator (default: the accumulator itself).
  void epilogue(const std::function<Point(int, int)>& point_of,
                const std::function<loop::Expr(loop::Expr)>& result = nullptr);
  void finish();

  KernelBuilder kb;

 private:
  Lowering& l_;
  const KernelGroup& g_;
  loop::Partition partition_;
  Reach own_ = Reach::anything;
  bool free_ = false;
  std::vector<std::vector<loop::Variable>> acc_;
};

// Rows of a register tile: 8 divides the usual extents and leaves registers for operands (8 x 2
// accumulators); a short axis is one tile.
inline constexpr int kTileRows = 8;
inline constexpr int kShortAxis = 12;

}  // namespace gradc::passes::lowering
