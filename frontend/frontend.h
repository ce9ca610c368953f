// From .nn text to tensor IR: parses, resolves names and shapes, and evaluates the experiment into one
// module.
//
// The module it makes (see Module in ir/tensor/module.h) has these functions; every one takes the data fields
// it uses as inputs:
//   @train      training=true, stochastic=true. Outputs "loss" (per example, f32[n]), the metrics (per
//               example, f32[n]), and, where penalties are written, "penalty" (f32, unbatched). Updates:
//               running statistics.
//   @eval       training=false, stochastic=false. Outputs "loss" and the metrics, per example.
//   @predict    outputs "predict" (batched); absent without `predict` in the model file.
//   @init       no data inputs; sets every parameter, state and slot to its initial value.
//   @update.P   one for each trained parameter P. Inputs: "g" (type of P), then f64 scalars "step", "epoch",
//               "total", "lr_factor". Updates P and its slots; output "lr" (f64). The schedule is evaluated
//               inside.
//   @gradients  only where gradients are clipped or get noise. Inputs: the gradient of every trained
//               parameter P, named P, and "step" where there is noise. Outputs: the new gradients, named
//               likewise, and "grad_norm" (f64) where the norm is clipped.
// Passes differentiate @train and join the updates into @train_step.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/tensor/index_ranges.h"
#include "ir/tensor/module.h"
#include "support/diagnostic.h"
#include "support/experiment.h"

namespace gradc::frontend {

// A value of the model file that can be inspected: an input of the model, the result of a layer's instance,
// or the result of a function of one tensor that keeps its type (an activation function).
struct LayerValue {
  std::string name;          // "hidden.0.dense_1", "hidden.0.relu_1", "image"
  std::string callee;        // "dense", "relu"; "input"
  std::string location;      // "mlp.nn:12:5"
  std::string output;        // of @train, "value.hidden.0.dense_1"; empty: not requested
  double low = 0, high = 0;  // asymptotes of a bounded activation (OpDef::range); equal: none
};
inline constexpr const char* kValuePrefix = "value.";

// Properties of the model file's losses and metrics, filled in where Options::facts is set.
struct LossFacts {
  std::string name;   // as written; empty: none
  double weight = 1;  // factor in the sum of the losses
  // Its value where all scores are equal, such as log(10) for a cross entropy; none: there is no such number
  // (loss_at_equal_scores() in frontend/results.h).
  std::optional<double> at_equal_scores;
};
struct MetricFacts {
  std::string name;
  bool share = false;            // an average of booleans, such as an accuracy
  bool grows_with_loss = false;  // lower is better, as for an error rate
};

struct Model {
  std::unique_ptr<Module> module;
  Experiment experiment;
  std::map<std::string, IndexRanges> index_ranges;  // by program: "train", "eval", "predict"
  std::string batch_mixes;                          // why micro_batches must be 1; empty: any divisor
  std::vector<LayerValue> values;                   // in program order, with Options::layer_values
  std::vector<LossFacts> losses;                    // with Options::facts
  std::vector<MetricFacts> metrics;                 // with Options::facts
};

// Deviations from the model file, for trial runs (gradc recipe). The defaults change nothing.
struct Variation {
  bool penalties = true;               // false: `penalty` statements are ignored
  bool random_layers = true;           // false: `stochastic` holds nowhere, as in evaluation
  bool schedule = true;                // false: learning rates stay at the optimizers' lr
  std::optional<double> weight_decay;  // of every optimizer, instead of the file's
};

struct Options {
  bool stochastic_evaluation = false;  // `stochastic` holds in @eval and @predict too (Monte-Carlo dropout)
  // Micro-batches per batch, a divisor of it: an update adds up the gradients of micro_batches batches of
  // batch / micro_batches examples. Only for models whose batch_mixes is empty.
  int64_t micro_batches = 1;
  bool layer_values = false;        // @train also outputs each LayerValue,
  std::vector<std::string> layers;  // only those whose names match one of these patterns; empty: all
  Variation variation;
  bool facts = false;  // fill in Model::losses and Model::metrics
};

// Compiles the file `file` of `sources`. `settings` are --set name=value pairs: each must name a `set` of the
// file. Errors go to diagnostics (codes E01xx lexical and syntax, E02xx names and types, E03xx experiment and
// settings); then the result is empty.
std::optional<Model> compile(SourceManager& sources, uint32_t file,
                             const std::map<std::string, std::string>& settings, Diagnostics& diagnostics,
                             const Options& options = {});

// Whether a name matches a pattern, in which `*` matches any text, dots included.
bool matches(const std::string& pattern, const std::string& name);

// The syntax tree as indented text (`gradc dump --stage ast`), or empty when the file does not parse.
std::string dump_ast(SourceManager& sources, uint32_t file, Diagnostics& diagnostics);

}  // namespace gradc::frontend
