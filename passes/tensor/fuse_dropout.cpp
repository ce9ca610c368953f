// Inverted dropout without a stored mask: the mask is a function of a counter, so forward and backward each
// recompute it, and the division by the keeping probability is included in that operation.
//
//   %2 = bernoulli {batched=true, keep=0.5, shape=[512], stream=3}
//   %3 = mul %1, %2                                      ->   %4 = dropout %1 {keep=0.5, stream=3}
//   %4 = div %3, %c            (%c = 0.5)
// and in backward
//   %7 = div %6, %c
//   %8 = mul %7, %2                                      ->   %8 = dropout %6 {keep=0.5, stream=3}
#include <array>

#include "passes/tensor/passes.h"
#include "passes/tensor/rewrite.h"

namespace gradc::passes {

namespace {

Op* make_dropout(Builder& b, Op* x, const Op* mask, const Op* like) {
  if (x->type != like->type || mask->type != like->type) return nullptr;
  return b.create(
      "dropout", {x},
      {{"keep", mask->attributes.number("keep")}, {"stream", mask->attributes.integer("stream")}});
}

// The bernoulli operand of a product, and the other one.
const Op* mask_of(const Op* product, Op*& x) {
  for (size_t i : {0, 1})
    if (product->operands[i]->is("bernoulli")) {
      x = product->operands[1 - i];
      return product->operands[i];
    }
  return nullptr;
}

bool is_keep(const Op* divisor, const Op* mask) {
  return is_constant(divisor) && static_cast<float>(divisor->attributes.number("value")) ==
                                     static_cast<float>(mask->attributes.number("keep"));
}

constexpr auto kDropoutRules = std::to_array<Rewrite>({
    {"(x * bernoulli(keep)) / keep -> dropout(x)", "div",
     [](Builder& b, Op* op) -> Op* {
       Op* x = nullptr;
       const Op* mask = op->operands[0]->is("mul") ? mask_of(op->operands[0], x) : nullptr;
       return mask && is_keep(op->operands[1], mask) ? make_dropout(b, x, mask, op) : nullptr;
     }},
    {"(g / keep) * bernoulli(keep) -> dropout(g)", "mul",
     [](Builder& b, Op* op) -> Op* {
       Op* x = nullptr;
       const Op* mask = mask_of(op, x);
       return mask && x->is("div") && is_keep(x->operands[1], mask)
                  ? make_dropout(b, x->operands[0], mask, op)
                  : nullptr;
     }},
});

}  // namespace

bool fuse_dropout(Function& f) { return apply_rewrites(f, kDropoutRules); }

}  // namespace gradc::passes
