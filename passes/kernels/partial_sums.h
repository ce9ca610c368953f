// Sums over batch and space of images [channels, height, width] inside a kernel whose threads share the rows
// of the images: a partial sum for each channel and chunk of a panel (a row of its images, or of tiles), in a fixed
// order within the chunk; a second call adds the partial sums in order, in double precision. So the results do not
// depend on the number of threads, and the data is read once. The batch is in the lanes: a chunk is summed lane by
// lane, channel by channel, in scratch memory, and the lanes are added at its end. A row of many columns has several
// such sums, so that none has more than some hundred terms.
//
// Squared deviations (OpDef::squared_deviations), and the sum of the same values, are taken in each chunk around its
// shift s, one of the chunk's own values: s, A = sum of (x - s) and B = sum of (x - s)^2. With N values in all and n in
// a chunk,
//   mean = sum over chunks of (n s + A) / N
//   sum of (x - mean)^2 = sum over chunks of (B + t (2 A + n t)),  t = s - mean
// in double precision (Chan, Golub and LeVeque 1983). As s is one of the values, (s - mean of the chunk)^2 is one of
// the terms of the sum: rounding grows by a factor of at most n + 1, usually 2, for any offset of the values.
#pragma once
#include <functional>

#include "passes/kernels/lowering.h"

namespace gradc::passes::lowering {

class PartialSums {
 public:
  // For the reductions of a group that is by_partial_sums(). Each panel has `chunks` chunks of `rows` rows of the
  // domain's images (the last may have fewer); `scratch`: bytes that the kernel has taken of its scratch memory so far.
  PartialSums(KernelBuilder& kb, const KernelGroup& group, int64_t chunks, int64_t rows, int64_t& scratch);
  void begin_chunk();
  // Whether values are summed around a shift. Then take_shift must be called in each chunk for each channel, with that
  // channel's first vector of examples and any pixel of the chunk, before a value is added.
  bool shifted() const { return !shifts_.empty(); }
  void take_shift(PointEmitter& emitter, const Point& point);
  void compute(PointEmitter& emitter) const;  // the values that shifts are taken from
  // Whether the point is its channel's first in its chunk, where pixels come from left to right, a pixel's vectors of
  // examples in order and the chunk's first row first.
  loop::Expr is_first(const Point& point) const;
  void add(PointEmitter& emitter, const Point& point);  // one vector of examples at one point
  // While body runs, which adds only at the point's channel and examples, sums are kept in registers: a sum in memory
  // depends on the store before it, which takes some ten cycles.
  void in_registers(const Point& point, const std::function<void()>& body);
  bool adds_in_registers() const { return !sums_.empty() && sums_.front().run; }
  void end_chunk(const loop::Expr& chunk);  // numbered panel * chunks + chunk of the panel
  // After the kernel has been finished: the call that adds the chunks' sums and stores the results.
  void add_chunks();

 private:
  struct Shift {
    const Op* value;
    loop::Buffer scratch, partial;
    int allocation;
    loop::Expr run = nullptr;  // within in_registers()
  };
  enum class Term { value, difference, square };
  struct Sum {
    const Op* value;
    Term term;
    loop::BinaryOp combiner;
    double identity;
    int shift;  // of a difference or square: index
    loop::Buffer scratch, partial;
    int allocation;
    loop::Variable run = nullptr;  // within in_registers()
  };
  // Where a reduction's result comes from: a sum, or a shift with its sums of differences and of squares.
  struct Result {
    const Op* op;
    int sum, squares = -1;
  };
  int new_sum(const Op* op, Term term, int shift, int64_t& scratch);
  int new_shift(const Op* value, int64_t& scratch);
  loop::Buffer new_partial(const std::string& name, loop::Scalar scalar, int& allocation);
  loop::Expr existing(const Point& point);
  loop::Expr place(const Point& point);
  void combine(const Sum& s, const loop::Expr& at, const loop::Expr& v, const loop::Expr& exists);
  std::vector<loop::Expr> terms(PointEmitter& emitter, const Point& point);
  loop::Expr shift_at(const Shift& s, const loop::Expr& channel) const;
  loop::Expr identity(const Sum& s, int lanes) const;
  static loop::Type type(const Op* op, int lanes) {
    return {scalar_of(op->type.dtype), static_cast<uint16_t>(lanes)};
  }

  Lowering& l_;
  KernelBuilder& kb_;
  const KernelGroup& g_;
  int64_t chunks_, rows_, channels_;
  int64_t columns_ = 0;  // of a row that share a sum
  int64_t slots_ = 1;    // sums of a channel
  std::vector<Shift> shifts_;
  std::vector<Sum> sums_;
  std::vector<Result> results_;
};

}  // namespace gradc::passes::lowering
