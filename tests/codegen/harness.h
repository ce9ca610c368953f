// Runs one loop IR kernel natively on caller's arrays: inputs and outputs are whole buffers, one call, any
// thread count.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "codegen/jit.h"
#include "ir/loop/loop_ir.h"

namespace gradc::testing {

// The machine's own target, or the best it can run of the named ones.
inline codegen::Target native() { return codegen::find_target("native"); }

// Every target that this machine runs.
inline std::vector<codegen::Target> runnable_targets() {
  std::vector<codegen::Target> found;
  for (const std::string& name : codegen::target_names()) {
    try {
      found.push_back(codegen::find_target(name));
    } catch (const std::exception&) {
    }
  }
  return found;
}

// A program of one call: the kernel's read buffers are inputs 0, 1, ..., the others outputs 0, 1, ... in the
// order they were made.
inline loop::Program one_call(loop::Kernel kernel, int64_t extent, int64_t unit = 1) {
  loop::Program p;
  p.name = "run";
  loop::Call call;
  int64_t inputs = 0, outputs = 0;
  for (const loop::Buffer& b : kernel.buffers) {
    const bool read = b->access == loop::Access::read;
    call.buffers.push_back(static_cast<int>(p.allocations.size()));
    p.allocations.push_back({b->name, b->scalar, 1, read ? loop::Space::input : loop::Space::output,
                             read ? inputs++ : outputs++});
  }
  call.partition.extent = extent;
  call.partition.unit = unit;
  p.kernels.push_back(std::move(kernel));
  p.calls.push_back(std::move(call));
  return p;
}

struct Arguments {
  std::vector<const void*> inputs;
  std::vector<void*> outputs;
  std::vector<uint8_t> arena, parameters;
  std::vector<double> scalars = std::vector<double>(GRADC_SCALAR_COUNT);
  gradc_step_args args{};
  gradc_step_args* get() {
    args.arena = arena.data();
    args.parameters = parameters.data();
    args.inputs = inputs.data();
    args.outputs = outputs.data();
    args.scalars = scalars.data();
    if (args.rows == 0) args.rows = 1;
    return &args;
  }
};

// y[i] = f(x[i]) over all of x, `lanes` at a time; x's size is a multiple of lanes. f builds the expression.
template <class In, class Out>
std::vector<Out> map(const codegen::Target& target, loop::Scalar in, loop::Scalar out, int lanes,
                     const std::vector<In>& x, const std::function<loop::Expr(loop::Expr)>& f) {
  loop::Kernel k = loop::make_kernel("map");
  loop::Builder b(k);
  const loop::Buffer xb = b.buffer("x", in, loop::Access::read, alignof(In));
  const loop::Buffer yb = b.buffer("y", out, loop::Access::write, alignof(Out));
  b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1, [&](loop::Expr i) {
    b.store(yb, i * loop::index(lanes), f(loop::load(xb, i * loop::index(lanes), lanes)));
  });
  const loop::Program p = one_call(std::move(k), static_cast<int64_t>(x.size()) / lanes);
  const codegen::Jit jit({&p}, target);
  std::vector<Out> y(x.size());
  Arguments a;
  a.inputs = {x.data()};
  a.outputs = {y.data()};
  jit.entry("run")(a.get(), 0, 1);
  return y;
}

}  // namespace gradc::testing
