// Hoists the arithmetic of batchnorm on images that is invariant over a channel: it is computed once a channel, not
// once a pixel (a square root and a division each).
//
//   %5 = batch_norm_relu %1, %mean, %var, @gamma, @beta {eps=1e-05}
// becomes, with %s of one element a channel,
//   %r = rsqrt (%var + 1e-05)          %s = mul %r, @gamma
//   %5 = relu (sub(%1, %mean) * %s + @beta)
// and batch_norm_grad likewise. Runs after cse, which would merge x - mean of forward and backward: it is cheaper to
// compute twice than to store. The order of arithmetic does not change, so results keep their bits. Dense layers do not
// need this: there a channel's values are computed outside the loop over the batch.
#include "passes/tensor/layout.h"
#include "passes/tensor/passes.h"

namespace gradc::passes {

namespace {

Op* hoisted(Builder& b, Op* op) {
  const std::vector<Op*>& in = op->operands;
  const double eps = op->attributes.number("eps");
  if (op->is("batch_norm_grad")) {
    Op *g = in[0], *x = in[1], *mean = in[2], *var = in[3], *gamma = in[4], *dgamma = in[5], *dbeta = in[6];
    Op* r = b.create("rsqrt", {b.add(var, eps)});
    Op* per = b.div(b.constant(1, in[7]->type.dtype), in[7]);
    Op *offset = b.mul(dbeta, per), *slope = b.mul(b.mul(r, dgamma), per), *scale = b.mul(gamma, r);
    return b.mul(b.sub(b.sub(g, offset), b.mul(b.sub(x, mean), slope)), scale);
  }
  Op *x = in[0], *mean = in[1], *var = in[2], *gamma = in[3], *beta = in[4];
  Op* scale = b.mul(b.create("rsqrt", {b.add(var, eps)}), gamma);
  Op* y = b.add(b.mul(b.sub(x, mean), scale), beta);
  return op->is("batch_norm_relu") ? b.create("relu", {y}) : y;
}

}  // namespace

bool hoist_channels(Function& f) {
  if (!works_on_images(f)) return false;
  bool changed = false;
  Builder b(f);
  for (Op* op : f.ops()) {
    if (!op->is("batch_norm") && !op->is("batch_norm_relu") && !op->is("batch_norm_grad")) continue;
    if (!op->type.batched || op->type.rank() != 3) continue;
    b.insert_before(op);
    b.set_locations(op->locations);
    f.replace_uses(op, hoisted(b, op));
    changed = true;
  }
  if (changed) f.remove_dead();
  return changed;
}

}  // namespace gradc::passes
