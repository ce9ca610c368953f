// From .nn text to tensor IR: parses, resolves names and shapes, and evaluates the experiment into one
// module.
//
// The module it makes (see Module in ir/module.h) has these functions; every one takes the data fields it
// uses as inputs:
//   @train      training=true, stochastic=true. Outputs "loss" (per example, f32[n]), the metrics (per
//   example, f32[n]), and, where
//               penalties are written, "penalty" (f32, unbatched). Updates: running statistics.
//   @eval       training=false, stochastic=false. Outputs "loss" and the metrics, per example.
//   @predict    outputs "predict" (batched); missing when the model file says no `predict`.
//   @init       no data inputs; updates every parameter, state and slot with its first value.
//   @update.P   one for each trained parameter P. Inputs: "g" (type of P), then f64 scalars "step", "epoch",
//   "total",
//               "lr_factor". Updates P and its slots; output "lr" (f64). The schedule is evaluated inside.
//   @gradients  only where gradients are clipped or get noise. Inputs: the gradient of every trained
//   parameter P, named P, and "step"; outputs likewise, and "grad_norm" (f64).
// Passes differentiate @train and join the updates into @train_step.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "ir/experiment.h"
#include "ir/module.h"
#include "support/diagnostic.h"

namespace gradc::frontend {

struct Model {
  std::unique_ptr<Module> module;
  ExperimentRecord experiment;
  std::string batch_mixes;  // why a batch cannot be taken in pieces; empty: it can
};

struct Options {
  bool stochastic_evaluation = false;  // `stochastic` holds in @eval and @predict too (Monte-Carlo dropout)
  // Pieces of each batch, a divisor of it: the same updates from batches of batch / micro_batches examples
  // whose gradients add up. Only for models whose batch_mixes is empty.
  int64_t micro_batches = 1;
};

// Compiles the file `file` of `sources`. `settings` are --set name=value pairs: each must name a `set` of the
// file. Errors go to diagnostics (codes E01xx lexical and syntax, E02xx names and types, E03xx experiment and
// settings); then the result is empty.
std::optional<Model> compile(SourceManager& sources, uint32_t file,
                             const std::map<std::string, std::string>& settings, Diagnostics& diagnostics,
                             Options options = {});

// The syntax tree as indented text (`gradc dump --stage ast`), or empty when the file does not parse.
std::string dump_ast(SourceManager& sources, uint32_t file, Diagnostics& diagnostics);

}  // namespace gradc::frontend
