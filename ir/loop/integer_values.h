// The integer expressions of a kernel as sums of symbols: counters, quotients, minima and loaded integers, with the
// inequalities that define them and those that the conditions around a statement add ("facts"). Knows nothing of
// accesses.
#pragma once
#include <map>
#include <optional>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ir/loop/linear.h"
#include "ir/loop/loop_ir.h"
#include "ir/loop/thread_range.h"

namespace gradc::loop {

class IntegerValues {
 public:
  // `atoms` and `range` must outlive this.
  IntegerValues(Atoms& atoms, ThreadRange& range) : atoms_(atoms), range_(range) {}

  // A variable's value from here on; a condition that it names.
  void define(const VariableData* variable, Linear value) { known_[variable] = std::move(value); }
  void define_condition(const VariableData* variable, Expr condition) {
    conditions_[variable] = std::move(condition);
  }
  Linear eval(const Expr& e);
  // A new symbol for a value of which only the type and the bounds are known.
  Linear opaque(Type t, int64_t low = -kUnbounded, int64_t high = kUnbounded);
  // Before each statement: variables may have changed.
  void begin_statement() { memo_.clear(); }

  // Sums that are at least 0 at this point.
  std::vector<Linear>& facts() { return facts_; }
  const std::vector<Linear>& facts() const { return facts_; }
  // Adds what follows from a condition that holds, or does not.
  void assume(const Expr& e, bool holds);
  // Whether the facts from `from` on can be true.
  bool possible(size_t from) const;
  // The facts known at a point, to restore after a scope.
  struct Scope {
    size_t facts, truths, aliases;
  };
  Scope here() const { return {facts_.size(), truths_.size(), aliases_.size()}; }
  void leave(const Scope& s);

  // A sum with m * rest, of which it also has quotients, as m * (d * quotient + remainder): bounds of the quotient
  // and of the remainder then replace several inequalities. `free`: of the remainder no more is said than its range,
  // which keeps searches short.
  Linear with_remainders(Linear sum, bool free = false);

  void fact(const Linear& sum);  // it is at least 0 from here on

 private:
  void compared(CompareOp op, const Linear& a, const Linear& b, bool holds);
  Linear compute(const ExprData& e);
  Linear binary(const ExprData& e);
  Linear quotient(const Linear& a, int64_t d);
  Linear extreme(Type type, const Linear& a, const Linear& b, int64_t sign);
  Linear new_extreme(Type type, const Linear& a, const Linear& b, int64_t sign);
  Linear select(const ExprData& e);

  struct Selected {
    const VariableData* condition;
    int value;  // atom
    Linear yes, no;
  };
  struct Division {
    int quotient;  // an atom
    Linear rest;
    int64_t by;
    int remainder = -1;       // an atom; -1: not made yet
    int free_remainder = -1;  // likewise, without inequalities
  };

  Atoms& atoms_;
  ThreadRange& range_;
  std::unordered_map<const VariableData*, Linear> known_;
  std::unordered_map<const VariableData*, Expr> conditions_;
  std::vector<Selected> selected_;
  std::vector<Linear> facts_;
  std::vector<std::pair<int, Linear>> aliases_;       // atoms that are known to equal other sums
  std::vector<std::pair<const void*, bool>> truths_;  // variables and expressions with known truth
  std::map<std::tuple<int64_t, std::vector<std::pair<int, int64_t>>, int64_t>, int> quotients_;
  std::vector<Division> divisions_;
  std::map<std::vector<int64_t>, Linear> extremes_;
  std::unordered_map<const ExprData*, Linear> memo_;
};

}  // namespace gradc::loop
