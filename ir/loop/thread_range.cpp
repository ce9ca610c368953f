#include "ir/loop/thread_range.h"

#include <algorithm>
#include <numeric>

namespace gradc::loop {

ThreadRange::ThreadRange(Atoms& atoms, const Partition& partition, int64_t panels, int panels_atom)
    : atoms_(atoms), partition_(partition), panels_atom_(panels_atom) {
  if (by_panels()) {
    units_ = panels;
    first_ = any_owner(), last_ = any_owner();
    lo_ = number_of(first_), hi_ = number_of(last_) + 1;
    atoms_.require(hi_ - lo_ - 1);
    return;
  }
  units_ = std::max<int64_t>((partition_.extent + partition_.unit - 1) / partition_.unit, 1);
  first_ = any_owner(), last_ = any_owner();
  lo_ = number_of(first_) * partition_.unit;
  hi_ = number_of(last_) * partition_.unit;
  if (units_ == 1) {
    hi_ = Linear::of(partition_.extent);
  } else if (partition_.extent % partition_.unit == 0) {
    hi_ = hi_ + partition_.unit;
  } else {  // the last unit may be partial
    const int64_t grain = std::gcd(partition_.unit, partition_.extent);
    const Linear rest = Linear::atom(atoms_.add(1, partition_.unit / grain), grain);
    hi_ = hi_ + rest;
    atoms_.require(hi_ * -1 + partition_.extent);
    atoms_.require_one(rest.terms.back().first, rest - partition_.unit, hi_ - partition_.extent);
  }
  if (units_ > 1) atoms_.require(Linear::atom(last_.unit) - Linear::atom(first_.unit));
}

// A unit of the partition, not yet bounded by the range.
Owner ThreadRange::any_owner() {
  Owner owner;
  if (by_panels()) {
    owner.panel = atoms_.add(0, units_ - 1);
    atoms_.require(Linear::atom(panels_atom_) - Linear::atom(owner.panel) - 1);
    if (partition_.extent > 1) owner.chunk = atoms_.add(0, partition_.extent - 1);
  } else if (units_ > 1) {
    owner.unit = atoms_.add(0, units_ - 1);
  }
  return owner;
}

Owner ThreadRange::another() {
  const Owner owner = any_owner();
  atoms_.require(number_of(owner) - number_of(first_));
  atoms_.require(number_of(last_) - number_of(owner));
  return owner;
}

Linear ThreadRange::number_of(const Owner& owner) const {
  if (!by_panels()) return owner.unit < 0 ? Linear{} : Linear::atom(owner.unit);
  return Linear::atom(owner.panel, partition_.extent) +
         (owner.chunk < 0 ? Linear{} : Linear::atom(owner.chunk));
}

int64_t ThreadRange::multiple(const Linear& sum, const Owner& owner) const {
  if (!splits()) return 0;
  const int64_t each = by_panels() ? partition_.extent : partition_.unit;
  const int64_t c = sum.coefficient(by_panels() ? owner.panel : owner.unit);
  return c > 0 && c % each == 0 ? c / each : 0;
}

Linear ThreadRange::end_below(int64_t cap) {
  if (cap <= 0) return Linear::of(cap);
  int64_t grain = std::gcd(partition_.unit, cap);
  if (cap > partition_.extent) grain = std::gcd(grain, partition_.extent);
  const int own = atoms_.add(0, units_ - 1);
  const int rest = atoms_.add(1, partition_.unit / grain);
  const Linear end = Linear::atom(own, partition_.unit) + Linear::atom(rest, grain);
  atoms_.require(Linear::atom(own) * -1 + Linear::atom(last_.unit));
  atoms_.require(hi_ - end);
  atoms_.require(end * -1 + cap);
  atoms_.require_one(rest, end - hi_, end - cap);
  ends_.push_back(own);
  return end;
}

}  // namespace gradc::loop
