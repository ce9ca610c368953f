// From a model file to native programs with the runtime's ABI: the only code that joins frontend, passes and codegen.
// Knows nothing of training, data or the command line.
#pragma once
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "codegen/jit.h"
#include "compiler/object_cache.h"
#include "frontend/frontend.h"
#include "passes/pipeline.h"
#include "runtime/abi.h"

namespace gradc::compiler {

// The user's model has errors (exit 3): the diagnostics as text and as JSON lines, and the first one's code.
struct ModelError : std::runtime_error {
  ModelError(const Diagnostics& diagnostics, bool color)
      : std::runtime_error(diagnostics.render(color)),
        json(diagnostics.render_json()),
        code(diagnostics.all().empty() ? "" : diagnostics.all().front().code) {}
  std::string json, code;
};

struct LoadedModel;

struct CompileRequest {
  std::string file;                             // the model file as the user named it
  std::optional<std::string> text;              // its text, if the file is not to be read
  std::map<std::string, std::string> settings;  // --set name=value
  std::string target = "native";
  int64_t batch = 0;                   // B; 0: as the file says
  passes::PipelineOptions passes;      // batch and machine are filled in from the two above
  std::optional<int64_t> l2;           // bytes of the second-level cache to assume; default: the target's
  std::string object_cache;            // folder of objects compiled earlier; empty: none
  bool color = false;                  // of diagnostics
  bool profile = false;                // code that records the time of each kernel call
  int64_t micro_batches = 1;           // pieces of each batch, whose gradients add up (frontend::Options)
  bool infer = false;                  // without training: no init, train_step and update
  bool training_first = false;         // eval and predict are compiled when they are first called
  std::optional<bool> debug_info;      // lines for debuggers; default: if one traces the process
  bool stochastic_evaluation = false;  // eval and predict draw random numbers as training does
  bool layer_values = false;           // layers' values as further outputs of the step (gradc stats)
  std::vector<std::string> layers;     // patterns of those; none: all
  frontend::Variation variation;       // deviations from the file (gradc recipe)
  bool facts = false;                  // describe losses and metrics (likewise)
  // Called with the model after the frontend, before anything is compiled; may throw. Null: not called.
  std::function<void(const LoadedModel&)> loaded;
};

// A model file after the frontend. Keeps the sources because diagnostics and locations refer to them.
struct LoadedModel {
  SourceManager sources;
  uint32_t file = 0;
  frontend::Model model;
};

// Reads the text of a model file into `sources`. Throws RunError (exit 2) when there is no such file or it
// cannot be a model file.
uint32_t read_model_file(SourceManager& sources, const std::string& file);
// Throws ModelError, or RunError as above.
std::unique_ptr<LoadedModel> load_model(const CompileRequest& request);

// The pipeline's options for this request.
// The record of a target's processor.
passes::Machine machine_of(const codegen::Target& target);
passes::PipelineOptions pipeline_options(const CompileRequest& request, const codegen::Target& target,
                                         const LoadedModel& model);

// Removes the programs of training from a module after the tensor passes.
void leave_out_training(Module& module);

class ProgramTables;

// Native code of every program of a model, with the tables that describe it. Owns everything that program() points to.
class CompiledModel {
 public:
  // Throws as load_model does; RunError (exit 2) for an unknown target, pass or batch.
  explicit CompiledModel(const CompileRequest& request);
  CompiledModel(const CompiledModel&) = delete;
  ~CompiledModel();

  const gradc_program& program() const;
  const Module& module() const { return *loaded_->model.module; }
  const std::vector<frontend::LayerValue>& values() const { return loaded_->model.values; }
  // The model file's records, with the batch that the programs are compiled for.
  const Experiment& experiment() const { return loaded_->model.experiment; }
  // With training_first and native code, kernels of compiled programs have lost their bodies.
  const passes::Lowered& lowered() const { return lowered_; }
  const codegen::Target& target() const { return target_; }
  // Objects of the native code that were and were not in the cache, so far.
  size_t cache_hits() const { return cache_ ? cache_->hits() : 0; }
  size_t cache_misses() const { return cache_ ? cache_->misses() : 0; }
  // False when --stop-after ended the pipeline: there is no native code then.
  bool complete() const { return jit_ != nullptr; }

 private:
  // A program that is compiled when it is first called: gradc_entry_info.owner.
  struct Late {
    const CompiledModel* model;
    std::string name;
  };
  static gradc_entry late_code(void* owner);
  void forget_bodies();

  codegen::Target target_;
  std::unique_ptr<LoadedModel> loaded_;
  passes::Lowered lowered_;
  std::unique_ptr<DiskObjectCache> cache_;
  std::unique_ptr<codegen::Jit> jit_;
  std::deque<Late> late_;
  std::unique_ptr<ProgramTables> tables_;
};

// Programs for code generation, in a fixed order.
std::vector<const loop::Program*> program_list(const passes::Lowered& lowered);

}  // namespace gradc::compiler
