// Kernels whose assembly tests read, and how they read it.
#pragma once
#include <algorithm>
#include <sstream>

#include "harness.h"

namespace gradc::testing {

inline const codegen::CodegenOptions plain{false, true};

inline std::vector<std::string> lines(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

// The innermost loop that holds the instruction: from the label before its first use to the first jump after
// it, a line that begins with `jump`.
inline std::vector<std::string> loop_with(const std::string& assembly, const std::string& instruction,
                                          const std::string& jump = "\tj") {
  const auto all = lines(assembly);
  const auto use = std::find_if(
      all.begin(), all.end(), [&](const std::string& l) { return l.find(instruction) != std::string::npos; });
  if (use == all.end()) return {};
  auto begin = use, end = use;
  while (begin != all.begin() && begin->rfind(".LBB", 0) != 0) --begin;
  while (end != all.end() && end->rfind(jump, 0) != 0) ++end;
  return {begin, end};
}

inline size_t count(const std::vector<std::string>& code, const std::string& what) {
  return static_cast<size_t>(std::count_if(
      code.begin(), code.end(), [&](const std::string& l) { return l.find(what) != std::string::npos; }));
}

// out[m][n lanes] = sum over k of a[m][k] x[k][n lanes]: rows x columns vectors of accumulators.
inline loop::Kernel tile(int lanes, int rows, int columns, int64_t depth) {
  loop::Kernel k = loop::make_kernel("tile");
  loop::Builder b(k);
  const loop::Buffer a = b.buffer("a", loop::Scalar::f32, loop::Access::read),
                     x = b.buffer("x", loop::Scalar::f32, loop::Access::read),
                     y = b.buffer("y", loop::Scalar::f32, loop::Access::write);
  const loop::Type vector{loop::Scalar::f32, static_cast<uint16_t>(lanes)};
  b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1, [&](loop::Expr i) {
    std::vector<loop::Variable> sums;
    for (int m = 0; m < rows * columns; ++m) sums.push_back(b.declare("sum", loop::constant(vector, 0)));
    b.loop("k", loop::index(0), loop::index(depth), 1, [&](loop::Expr at) {
      std::vector<loop::Expr> row;
      for (int n = 0; n < columns; ++n)
        row.push_back(
            b.let("x", loop::load(x, at * loop::index(columns * lanes) + loop::index(n * lanes), lanes)));
      for (int m = 0; m < rows; ++m) {
        const loop::Expr w = b.let(
            "w",
            loop::broadcast(loop::load(a, (i * loop::index(rows) + loop::index(m)) * loop::index(depth) + at),
                            lanes));
        for (int n = 0; n < columns; ++n) {
          const loop::Variable& sum = sums[static_cast<size_t>(m * columns + n)];
          b.assign(sum, loop::fma(w, row[static_cast<size_t>(n)], loop::ref(sum)));
        }
      }
    });
    for (int m = 0; m < rows * columns; ++m)
      b.store(y, (i * loop::index(rows * columns) + loop::index(m)) * loop::index(lanes),
              loop::ref(sums[static_cast<size_t>(m)]));
  });
  return k;
}

// The assembly of y = f(x), a register at a time.
inline std::string elementwise(const codegen::Target& target,
                               const std::function<loop::Expr(loop::Expr)>& f) {
  loop::Kernel k = loop::make_kernel("map");
  loop::Builder b(k);
  const int lanes = target.vector_width;
  const loop::Buffer x = b.buffer("x", loop::Scalar::f32, loop::Access::read),
                     y = b.buffer("y", loop::Scalar::f32, loop::Access::write);
  b.loop("i", loop::ref(k.predefined.lo), loop::ref(k.predefined.hi), 1, [&](loop::Expr i) {
    b.store(y, i * loop::index(lanes), f(loop::load(x, i * loop::index(lanes), lanes)));
  });
  const loop::Program p = one_call(std::move(k), 64);
  return codegen::emit_assembly({&p}, target, plain);
}

}  // namespace gradc::testing
