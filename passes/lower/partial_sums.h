// Sums over batch and space of images [channels, height, width] inside a kernel whose threads share the rows
// of the images: a partial result for each channel and part (a row of a panel's images, or of tiles), in a
// fixed order within the part; a second call adds the parts in order, in double precision. So the results do
// not depend on the number of threads, and the data is passed over once. The batch stands in the lanes: a
// part is added up lane by lane, channel by channel, in scratch memory, and the lanes are added at its end.
#pragma once
#include <functional>

#include "passes/lower/lowering.h"

namespace gradc::passes::lowering {

class PartialSums {
 public:
  // Of the reductions of a group that is by_parts(). `parts` of each panel; `scratch`: bytes that the kernel
  // has taken of its scratch memory so far.
  PartialSums(KernelBuilder& kb, const KernelGroup& group, int64_t parts, int64_t& scratch);
  void begin_part();
  void add(PointEmitter& emitter, const Point& point);  // one vector of examples at one point
  // What is added while body runs, all at the point's channel and examples, is added up in registers first: a
  // sum in memory waits for the one before it, some ten cycles each.
  void in_registers(const Point& point, const std::function<void()>& body);
  void end_part(const loop::Expr& part);  // number panel * parts + part
  // After the kernel has been finished: the call that adds the parts and stores the results.
  void add_parts();

 private:
  struct Sum {
    const Op* op;
    loop::Buffer scratch, partial;
    int allocation;
    loop::Variable run = nullptr;  // within in_registers()
  };
  loop::Expr existing(const Point& point);
  void combine(const Sum& s, const loop::Expr& at, const loop::Expr& v, const loop::Expr& exists);
  loop::Type type(const Op* op, int lanes) const {
    return {scalar_of(op->type.dtype), static_cast<uint16_t>(lanes)};
  }
  Lowering& l_;
  KernelBuilder& kb_;
  const KernelGroup& g_;
  int64_t parts_, channels_;
  std::vector<Sum> sums_;
};

}  // namespace gradc::passes::lowering
