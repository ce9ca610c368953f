// Reference evaluation of elementwise operators: walks over broadcast operands in double precision. Plain
// loops, runs along the last axes; it must not know how anything is lowered.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <tuple>
#include <vector>

#include "ir/interpreter/interpreter.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::ops {

using interpreter::Context;
using interpreter::Decisions;
using interpreter::Tensor;
using Operands = std::span<const Tensor* const>;

inline constexpr size_t kMaxOperands = 8;  // of an elementwise operator

// One loop over a result: its extent and each operand's stride.
struct WalkAxis {
  int64_t extent = 1;
  std::array<int64_t, kMaxOperands> stride{};
};
// Outermost (rows, when batched) first, adjacent axes merged where every operand allows it; never empty.
std::vector<WalkAxis> walk_axes(const Type& result, int64_t rows, Operands operands);

// Calls run(first result index, operand offsets) for each run along the last walk axis.
template <class F>
void for_each_run(const std::vector<WalkAxis>& axes, F&& run) {
  const size_t outer = axes.size() - 1;
  std::array<int64_t, kMaxOperands> offset{};
  std::vector<int64_t> count(outer, 0);
  for (const WalkAxis& axis : axes) {
    if (axis.extent == 0) return;
  }
  for (int64_t at = 0;;) {
    run(at, offset);
    at += axes[outer].extent;
    size_t a = outer;
    while (a > 0) {
      const WalkAxis& axis = axes[a - 1];
      for (size_t i = 0; i < kMaxOperands; ++i) offset[i] += axis.stride[i];
      if (++count[a - 1] < axis.extent) break;
      for (size_t i = 0; i < kMaxOperands; ++i) offset[i] -= axis.stride[i] * axis.extent;
      count[a - 1] = 0;
      --a;
    }
    if (a == 0) return;
  }
}

// result[i] = f(i, operand elements), i being the flat index (rows first).
template <size_t N, class F>
Tensor map_indexed(const Op& op, Operands operands, Context& context, F&& f) {
  Tensor out = interpreter::make_tensor(op.type, context.rows);
  double* result = out.data.data();
  std::array<const double*, N> data;
  for (size_t k = 0; k < N; ++k) data[k] = operands[k]->data.data();
  const auto axes = walk_axes(op.type, context.rows, operands.subspan(0, N));
  const WalkAxis inner = axes.back();
  for_each_run(axes, [&](int64_t at, const std::array<int64_t, kMaxOperands>& offset) {
    std::array<const double*, N> p;
    for (size_t k = 0; k < N; ++k) p[k] = data[k] + offset[k];
    for (int64_t i = 0; i < inner.extent; ++i) {
      std::array<double, N> v;
      for (size_t k = 0; k < N; ++k) v[k] = p[k][i * inner.stride[k]];
      result[at + i] = f(at + i, v);
    }
  });
  return out;
}

// Evaluation by a function of the operand elements: evaluate<2, [](double a, double b) { return a * b; }>.
template <size_t N, auto f>
Tensor evaluate(const Op& op, Operands operands, Context& context) {
  return map_indexed<N>(op, operands, context,
                        [](int64_t, const std::array<double, N>& v) -> double { return std::apply(f, v); });
}

// The branch that a kinked operation takes at each element: the choice of this run, or the recorded one when
// replaying.
class Chooser {
 public:
  Chooser(const Op& op, Context& context, int64_t count);
  int64_t operator()(int64_t position, int64_t choice) {
    if (list_ == nullptr) return choice;
    int64_t& slot = (*list_)[static_cast<size_t>(position)];
    if (replay_) return slot;
    return slot = choice;
  }

 private:
  std::vector<int64_t>* list_ = nullptr;
  bool replay_ = false;
};

inline int64_t value_count(const Op& op, const Context& context) {
  return op.type.elements() * rows_of(op.type, context);
}

// As evaluate, for operators with kinks: choose(elements...) -> int64_t is recorded and replayed,
// apply(choice, elements...) is smooth for a fixed choice.
template <size_t N, auto choose, auto apply>
Tensor evaluate_kinked(const Op& op, Operands operands, Context& context) {
  Chooser chooser(op, context, value_count(op, context));
  return map_indexed<N>(op, operands, context, [&](int64_t i, const std::array<double, N>& v) -> double {
    const int64_t choice = chooser(i, std::apply(choose, v));
    return std::apply([&](auto... x) { return apply(choice, x...); }, v);
  });
}

// 32-bit integer arithmetic wraps: the low 32 bits as a signed number.
inline double wrap(int64_t v) {
  return static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint64_t>(v)));
}

// The random word of element i (flat index, rows first) of a value of this type.
uint32_t random_word_at(const Type& type, const Context& context, uint32_t stream, int64_t i);

}  // namespace gradc::ops
