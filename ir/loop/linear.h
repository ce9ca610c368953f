// Sums of integer multiples of unknowns ("atoms": loop counters, numbers of rows, quotients), and proofs about them
// from inequalities. Exact integer arithmetic; knows nothing of loop IR.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

namespace gradc::loop {

// Rounds down; b is positive.
inline int64_t floor_div(int64_t a, int64_t b) { return a >= 0 ? a / b : -((-a + b - 1) / b); }

struct Linear {
  int64_t constant = 0;
  std::vector<std::pair<int, int64_t>> terms;  // atom and coefficient, by atom, no coefficient 0

  static Linear of(int64_t constant) { return {constant, {}}; }
  static Linear atom(int number, int64_t coefficient = 1);
  bool is_constant() const { return terms.empty(); }
  int64_t coefficient(int atom) const;
  friend bool operator==(const Linear&, const Linear&) = default;
};
// These throw TooLarge where a number does not fit.
struct TooLarge {};
Linear operator+(const Linear& a, const Linear& b);
Linear operator-(const Linear& a, const Linear& b);
Linear operator*(const Linear& a, int64_t factor);
inline Linear operator+(const Linear& a, int64_t b) { return a + Linear::of(b); }
inline Linear operator-(const Linear& a, int64_t b) { return a + Linear::of(-b); }

inline constexpr int64_t kUnbounded = int64_t{1} << 60;  // as a bound: none is known

// The atoms of a kernel, their ranges, and the inequalities among them.
class Atoms {
 public:
  int add(int64_t low, int64_t high);
  int size() const { return static_cast<int>(atoms_.size()); }
  int64_t low(int atom) const { return atoms_[static_cast<size_t>(atom)].low; }
  int64_t high(int atom) const { return atoms_[static_cast<size_t>(atom)].high; }
  // Each sum is at least 0 wherever its atoms have values.
  void require(const Linear& sum);
  // The inequalities on the atom and older ones.
  const std::vector<Linear>& required(int atom) const { return atoms_[static_cast<size_t>(atom)].required; }
  // One of two sums is at least 0: the definition of an atom that is a minimum or maximum. The atom is the newest one
  // in both.
  void require_one(int atom, const Linear& a, const Linear& b);
  // Appends another kernel's atoms, renumbered by the returned offset: atom i becomes i + offset, those below `shared`
  // keep their numbers.
  int append(const Atoms& other, int shared);

  // The largest lower bound of a sum that is found, given facts (sums that are at least 0); at least
  // -kUnbounded. Where ranges alone give `enough`, that.
  int64_t least(const Linear& sum, const std::vector<Linear>& facts = {}, int64_t enough = kUnbounded) const;
  int64_t greatest(const Linear& sum, const std::vector<Linear>& facts = {}) const;
  // The same by the atoms' ranges alone.
  int64_t least_by_ranges(const Linear& sum) const;
  // The same, with a case distinction for minima and maxima; slower.
  int64_t least_by_cases(const Linear& sum, const std::vector<Linear>& facts, int choices = 3) const;
  // The facts, and the whole numbers that bound each atom that the sum depends on, oldest first: sharper than
  // inequalities on several together.
  std::vector<Linear> with_ranges(const Linear& sum, std::vector<Linear> facts) const;
  // Whether the sum is proven to be at least 0.
  bool proves(const Linear& sum, const std::vector<Linear>& facts = {}) const;
  // Whether the sum's range depends on an atom: by its terms, or by inequalities on these.
  bool depends(const Linear& sum, int atom) const;

 private:
  struct Atom {
    int64_t low, high;
    std::vector<Linear> required;                    // whose newest atom this is
    std::vector<std::pair<Linear, Linear>> choices;  // one of each pair holds
  };
  int64_t search(const Linear& sum, const std::vector<Linear>& facts, int turned, int& budget) const;
  bool proves(const Linear& sum, const std::vector<Linear>& facts, int choices) const;
  bool never(const Linear& sum, const std::vector<Linear>& facts) const;
  std::vector<int> reached(const Linear& sum, const std::vector<Linear>& facts) const;

  int64_t least_of_piece(const Linear& sum, const std::vector<Linear>& facts) const;

  std::vector<Atom> atoms_;
  mutable std::map<std::vector<int64_t>, int64_t>
      found_;  // least_of_piece of sum and facts, until more is required
};

// A sum known to be at least 0, divided by the common divisor of its coefficients and rounded, which makes it stronger.
Linear tightened(const Linear& sum);

// The sum with atoms from `shared` on renumbered by `offset`.
Linear renumbered(const Linear& sum, int shared, int offset);

}  // namespace gradc::loop
