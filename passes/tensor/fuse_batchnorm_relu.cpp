// Batchnorm and ReLU as one elementwise operation, which then becomes one kernel with the statistics
// (fuse_elementwise.cpp); backward needs no stored mask or intermediate: it takes the sign from the result, which is
// stored for the next layer anyway.
//
//   %4 = batch_norm %1, %mean, %var, @gamma, @beta
//   %5 = relu %4                                   ->  %5 = batch_norm_relu %1, %mean, %var, @gamma, @beta
//   %6 = dropout %5 {keep=0.5, stream=3}               %6 = dropout %5 {keep=0.5, stream=3}
// and in backward, where dropout's result is above 0 exactly where ReLU's is and the mask kept it:
//   %8 = dropout %7 {keep=0.5, stream=3}           ->  %8 = mul %7, %c            (%c = 2)
//   %9 = relu_grad %8, %5                              %9 = relu_grad %8, %6
#include <array>

#include "passes/tensor/passes.h"
#include "passes/tensor/rewrite.h"

namespace gradc::passes {

namespace {

// The dropout of `x` with the numbers of `like`, if the function has it before `before`.
Op* same_dropout(const Function& f, const Op* x, const Op* like, const Op* before) {
  for (const auto& op : f.body) {
    if (op.get() == before) return nullptr;
    if (op->is("dropout") && op->operands[0] == x && op->attributes == like->attributes) return op.get();
  }
  return nullptr;
}

constexpr auto kBatchnormReluRules = std::to_array<Rewrite>({
    {"relu(batch_norm(x)) -> batch_norm_relu(x)", "relu",
     [](Builder& b, Op* op) -> Op* {
       Op* norm = op->operands[0];
       if (!norm->is("batch_norm")) return nullptr;
       std::vector<Location> both = op->locations;
       both.insert(both.end(), norm->locations.begin(), norm->locations.end());
       b.set_locations(both);
       return b.create("batch_norm_relu", norm->operands, norm->attributes);
     }},
    {"relu_grad(dropout(g), y) -> relu_grad(g / keep, dropout(y))", "relu_grad",
     [](Builder& b, Op* op) -> Op* {
       Op* g = op->operands[0];
       if (!g->is("dropout") || g->type != op->operands[1]->type) return nullptr;
       Op* y = same_dropout(b.function(), op->operands[1], g, op);
       if (!y) return nullptr;
       return b.create("relu_grad", {b.mul(g->operands[0], 1 / g->attributes.number("keep")), y});
     }},
});

}  // namespace

bool fuse_batchnorm_relu(Function& f) { return apply_rewrites(f, kBatchnormReluRules); }

}  // namespace gradc::passes
