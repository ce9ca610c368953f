// The range lo to hi of a partition that a thread works on, as symbols, and the units of the partition in it. Knows
// nothing of statements.
#pragma once
#include <vector>

#include "ir/loop/linear.h"
#include "ir/loop/loop_ir.h"

namespace gradc::loop {

// The first atoms of every kernel. All kernels of a run share the numbers of panels and of rows, and the first row's number
// among all rows; the lane of a vector is each kernel's own.
inline constexpr int kPanelsAtom = 0, kRowsAtom = 1, kRowOffsetAtom = 2, kSharedAtoms = 3, kLaneAtom = 3;

// The unit of the partition that an access belongs to: of a fixed extent the number of its unit, of panels the panel
// and, where panels are split into chunks, the chunk. Atoms; -1: none.
struct Owner {
  int unit = -1, panel = -1, chunk = -1;
  friend bool operator==(const Owner&, const Owner&) = default;
};

class ThreadRange {
 public:
  // Adds the symbols of lo and hi to `atoms`, which must outlive this and have the shared atoms. There are at most
  // `panels` panels; `panels_atom` is their number.
  ThreadRange(Atoms& atoms, const Partition& partition, int64_t panels, int panels_atom);

  const Linear& lo() const { return lo_; }
  const Linear& hi() const { return hi_; }
  // The unit at lo, and the one before hi. A kernel is called only where lo < hi, so both are the thread's.
  const Owner& first() const { return first_; }
  const Owner& last() const { return last_; }
  bool by_panels() const { return partition_.kind == Partition::Extent::panels; }
  // Elements of a unit; 1 with panels.
  int64_t unit() const { return by_panels() ? 1 : partition_.unit; }
  // Whether there may be several units.
  bool splits() const { return by_panels() || units_ > 1; }

  // A new unit of the range.
  Owner another();
  // The number of a unit as the kernel counts them; with panels, of a panel's chunk.
  Linear number_of(const Owner& owner) const;
  // The multiple of a unit's elements that a sum advances by from unit to unit of `owner`, 0 where it does not.
  int64_t multiple(const Linear& sum, const Owner& owner) const;
  // min(hi, cap): unless the range begins after it, the end of a unit of the range, which may be partial. Not for
  // panels.
  Linear end_below(int64_t cap);
  // The units that the results of end_below() end in, as atoms.
  const std::vector<int>& ends() const { return ends_; }

 private:
  Owner any_owner();

  Atoms& atoms_;
  const Partition partition_;
  const int panels_atom_;
  int64_t units_ = 1;
  Owner first_, last_;
  Linear lo_, hi_;
  std::vector<int> ends_;
};

}  // namespace gradc::loop
