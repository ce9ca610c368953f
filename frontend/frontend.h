// From .nn text to tensor IR: parses, resolves names and shapes, and evaluates the experiment into one
// module.
//
// The module it makes (see Module in ir/tensor/module.h) has these functions; every one takes the data fields
// it uses as inputs:
//   @train      training=true, stochastic=true. Outputs "loss" (per example, f32[n]), the metrics (per
//               example, f32[n]), and, where penalties are written, "penalty" (f32, unbatched). Updates:
//               running statistics.
//   @eval       training=false, stochastic=false. Outputs "loss" and the metrics, per example.
//   @predict    outputs "predict" (batched); missing when the model file says no `predict`.
//   @init       no data inputs; updates every parameter, state and slot with its first value.
//   @update.P   one for each trained parameter P. Inputs: "g" (type of P), then f64 scalars "step", "epoch",
//               "total", "lr_factor". Updates P and its slots; output "lr" (f64). The schedule is evaluated
//               inside.
//   @gradients  only where gradients are clipped or get noise. Inputs: the gradient of every trained
//               parameter P, named P, and "step"; outputs likewise, and "grad_norm" (f64).
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

// A value that a call in the model file makes: an input of the model, what a layer's instance returns, or
// what a function of one tensor makes of it in the same shape (an activation function).
struct LayerValue {
  std::string name;          // "hidden.0.dense_1", "hidden.0.relu_1", "image"
  std::string callee;        // "dense", "relu"; "input"
  std::string place;         // "mlp.nn:12:5"
  std::string output;        // of @train, "value.hidden.0.dense_1"; empty: not asked for
  double low = 0, high = 0;  // the range of a function that levels off at both ends; equal: none
};
inline constexpr const char* kValuePrefix = "value.";

// Properties of the model file's losses and metrics, filled in where Options::facts is set.
struct LossFacts {
  std::string name;   // as written; empty: none
  double weight = 1;  // in the sum
  // Its value where the model scores everything the same, as log(10) of a cross entropy; none: there is no
  // such number (loss_at_equal_scores() in frontend/results.h).
  std::optional<double> at_equal_scores;
};
struct MetricFacts {
  std::string name;
  bool share = false;            // an average of truth values, as an accuracy
  bool grows_with_loss = false;  // less is better, as of an error rate
};

struct Model {
  std::unique_ptr<Module> module;
  Experiment experiment;
  std::map<std::string, IndexRanges> index_ranges;  // by program: "train", "eval", "predict"
  std::string batch_mixes;                          // why a batch cannot be taken in pieces; empty: it can
  std::vector<LayerValue> values;                   // in the order of the program, where Options ask for them
  std::vector<LossFacts> losses;                    // likewise
  std::vector<MetricFacts> metrics;                 // likewise
};

// How a model is compiled otherwise than its file says, to try it (gradc recipe). The defaults change
// nothing.
struct Variation {
  bool penalties = true;               // false: as if no `penalty` were there
  bool random_layers = true;           // false: `stochastic` holds nowhere, as in evaluation
  bool schedule = true;                // false: rates stay at the optimizers' lr
  std::optional<double> weight_decay;  // of every optimizer, instead of the file's
};

struct Options {
  bool stochastic_evaluation = false;  // `stochastic` holds in @eval and @predict too (Monte-Carlo dropout)
  // Pieces of each batch, a divisor of it: the same updates from batches of batch / micro_batches examples
  // whose gradients add up. Only for models whose batch_mixes is empty.
  int64_t micro_batches = 1;
  bool layer_values = false;        // @train has each LayerValue as an output too,
  std::vector<std::string> layers;  // but only those whose names match one of these patterns, if any
  Variation variation;
  bool facts = false;  // fill in Model::losses and Model::metrics
};

// Compiles the file `file` of `sources`. `settings` are --set name=value pairs: each must name a `set` of the
// file. Errors go to diagnostics (codes E01xx lexical and syntax, E02xx names and types, E03xx experiment and
// settings); then the result is empty.
std::optional<Model> compile(SourceManager& sources, uint32_t file,
                             const std::map<std::string, std::string>& settings, Diagnostics& diagnostics,
                             const Options& options = {});

// Whether a name matches a pattern, where `*` is any text, dots too.
bool matches(const std::string& pattern, const std::string& name);

// The syntax tree as indented text (`gradc dump --stage ast`), or empty when the file does not parse.
std::string dump_ast(SourceManager& sources, uint32_t file, Diagnostics& diagnostics);

}  // namespace gradc::frontend
