// The tensor passes, one function each, named as in the pipeline. Those on a function return whether they
// changed it.
#pragma once
#include "ir/tensor/module.h"

namespace gradc::passes {

// Appends to the function a gradient for every parameter that has an @update function; returns them by
// parameter name, and in `values`, unless null, those of every operation that has one. Of the mean loss over
// the rows, or its parts' means by their weights, and the penalty, as far as the function has them; or, where
// several batches make one update, of the sum over the rows of the output `sum_of`, the loss or a part of it,
// alone. See differentiate.cpp.
std::map<std::string, Op*> differentiate(Module& module, Function& step, const std::string& sum_of = {},
                                         std::map<const Op*, Op*>* values = nullptr);
// "loss", or the parts of it that have a divisor each (ir/tensor/module.h).
std::vector<Output> losses_of(const Function& f);

// Makes @train_step of @train and @update.*, and sums @eval's outputs over the rows (train_step.cpp). With
// gradient_outputs, @train_step has an output "grad.P" for each trained parameter P. Leaves operations
// unnumbered.
void add_train_step(Module& module, bool gradient_outputs);

bool fuse_attention(Function& f);       // softmax(q k^T) v, before differentiation
bool stabilize(Function& f);            // stable forms of formulas, before differentiation
bool fold(Function& f);                 // constants
bool simplify(Function& f);             // algebraic identities, stable forms
bool cse(Function& f);                  // equal operations merged
bool dce(Function& f);                  // unused operations dropped
bool fuse_dropout(Function& f);         // x * bernoulli / keep -> dropout
bool fuse_batchnorm_relu(Function& f);  // relu(batch_norm) -> batch_norm_relu, and its mask in backward
bool decompose(Function& f);            // composite operations into the ones that lower
bool hoist_channels(
    Function& f);              // batchnorm on images: invariants of a channel out of the pixels' arithmetic
bool merge_sums(Function& f);  // sums of pieces and of products into one operation
// Axes that operations map over, into the rows; those of images where batches of so many examples fill few lanes, or
// where there may be any number of them (0).
bool fold_rows(Function& f, int64_t batch);
bool assign_layout(Function& f);     // views that cross orders in memory into copies
bool order_operations(Function& f);  // step scalars, then the loss, then gradients and updates
// Rematerialises values of forward in backward instead of keeping them. level 0: where it saves time; 1: elementwise
// operations; n > 1: those, and forward in n segments of which all but the last are recomputed.
bool recompute(Function& f, int level);
bool fuse_elementwise(Function& f);  // gives operations that become one kernel one number
bool assign_kernels(Function& f);    // numbers operations that fusion left without a kernel

// Why a function cannot be lowered: its inputs, its operations, their kernels. Empty where it can.
std::string lowering_error(const Function& f);

}  // namespace gradc::passes
