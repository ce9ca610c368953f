// Runs the passes, in the one list that gives their order: from the frontend's module to loop IR programs.
#pragma once
#include <string>
#include <vector>

#include "passes/lowered.h"
#include "passes/options.h"

namespace gradc::passes {

// Every pass in order, tensor passes first, then loop passes.
const std::vector<PassInfo>& pass_list();

// Outputs "value.NAME" of @train, the values of layers (frontend.h), are not summed over the batch in @train_step;
// their gradients "gradient.NAME" follow them. Such a step has no guard.
// Runs the tensor passes on the module in place: makes @train_step from @train and @update.*, adds the batch
// sums of losses and metrics, optimises every function. Returns false when stop_after ended it.
bool run_tensor_passes(Module& module, const PipelineOptions& options);

// Whether a pass works on tensor IR, and not on loop IR. Throws RunError (exit 2) for an unknown name; `flag` is the
// option that named it.
bool is_tensor_pass(const std::string& name, const char* flag);

// Runs one tensor pass on every function (tests, `gradc opt`), for batches of so many examples; returns whether anything
// changed. Throws RunError for an unknown name.
bool run_pass(Module& module, const std::string& name, int64_t batch = 1);

// Runs one pass on loop IR; of the options it reads machine, recompute and keep_all_values. Throws RunError for an
// unknown name, or that of a pass on tensor IR.
bool run_pass(loop::Program& program, const std::string& name, const PipelineOptions& options = {});

// Differentiation alone (makes @train_step, unoptimised): `dump --stage grad`, and the reference side of
// `check`. With gradient_outputs, @train_step has an output "grad.P" for each trained parameter P.
void make_train_step(Module& module, bool gradient_outputs = false);

// Lowers every function to a loop IR program with its memory plan and partition.
Lowered lower(const Module& module, const PipelineOptions& options);

}  // namespace gradc::passes
