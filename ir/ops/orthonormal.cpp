// Makes rows orthogonal to each other and of length 1, for orthogonal initialisers. It must not know where
// its rows come from.
#include <cmath>

#include "ir/ops/common.h"
#include "ir/ops/evaluate.h"
#include "ir/ops/registry.h"

namespace gradc {

using namespace ops;

void register_orthonormal(std::vector<OpDef>& defs) {
  OpDef def = Def("orthonormal_rows", OpKind::contraction,
                  "The rows of a matrix, made orthogonal to each other and of length 1 by Gram and Schmidt's "
                  "process in its modified "
                  "form, done twice a row so that rounding does not add up (Giraud, Langou and Rozloznik "
                  "2005). Of normal random "
                  "numbers the result is any set of orthonormal rows with equal probability.");
  def.loop_nest = LoopNest::orthonormal_rows;
  def.operands = {{"x", "f32 or f64, unbatched, [rows, columns] with no more rows than columns"}};
  def.epilogue = false;
  def.infer = [](Types t, const Attributes& a) {
    if (InferResult r = infer_floats(t, a); !r.error.empty()) return r;
    if (t[0].batched || t[0].rank() != 2)
      return InferResult::fail(fmt::format("{} is no matrix", to_string(t[0])));
    if (t[0].shape[0] > t[0].shape[1])
      return InferResult::fail(
          fmt::format("{} has more rows than columns, which cannot all be orthogonal", to_string(t[0])));
    return InferResult::ok(t[0]);
  };
  def.no_gradient = "it makes initial values of parameters";
  def.evaluate = [](const Op& op, Operands in, Context& c) {
    interpreter::Tensor out = interpreter::make_tensor(op.type, c.rows);
    const int64_t rows = op.type.shape[0], columns = op.type.shape[1];
    std::copy_n(in[0]->data.data(), rows * columns, out.data.data());
    const auto dot = [&](const double* a, const double* b) {
      double sum = 0;
      for (int64_t i = 0; i < columns; ++i) sum += a[i] * b[i];
      return sum;
    };
    for (int64_t i = 0; i < rows; ++i) {
      double* own = out.data.data() + i * columns;
      for (int round = 0; round < 2; ++round) {
        for (int64_t j = 0; j < i; ++j) {
          const double* other = out.data.data() + j * columns;
          const double part = dot(own, other);
          for (int64_t k = 0; k < columns; ++k) own[k] -= part * other[k];
        }
        const double length = std::sqrt(dot(own, own));
        for (int64_t k = 0; k < columns; ++k) own[k] /= length;
      }
    }
    return out;
  };
  def.cost = [](const Op& op) {
    const auto rows = static_cast<double>(op.type.shape[0]), columns = static_cast<double>(op.type.shape[1]);
    return simple_cost(op, 4 * rows * rows * columns);
  };
  def.samples = {{{plain({3, 5})}, {}},
                 {{plain({1, 7})}, {}},
                 {{plain({20, 33})}, {}},
                 {{plain({4, 6}, DType::f64)}, {}}};
  defs.push_back(std::move(def));
}

}  // namespace gradc
