// From a model file to native programs: reads the file, runs frontend, passes and JIT, and fills the ABI's
// tables. Knows nothing of training.
#include "compiler/compile.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <sstream>

#include "compiler/object_cache.h"
#include "compiler/program_tables.h"
#include "runtime/execution/session.h"
#include "support/check.h"

namespace gradc::compiler {

namespace {

// Model files are written by hand; anything larger is some other file given by mistake.
constexpr uintmax_t kMaxModelBytes = 4 << 20;

// ". Did you mean 'mlp.nn'?" for a file that does not exist, from the model files in its folder.
std::string nearby_files(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (entry.path().extension() == ".nn") names.push_back(entry.path().filename().string());
    if (names.size() > 1000) break;
  }
  const std::string nearest = nearest_name(path.filename().string(), names);
  return nearest.empty() ? "" : fmt::format(". Did you mean '{}'?", (path.parent_path() / nearest).string());
}

// Whether a debugger traces this process, as far as can be told.
bool debugger_watches() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with("TracerPid:")) return line.find_first_of("123456789") != std::string::npos;
  return false;
}

int32_t not_compiled(const gradc_step_args*, int32_t, int32_t) {
  GRADC_CHECK(false, "a program was called before it was compiled: gradc_entry_info.late has its code");
}

}  // namespace

uint32_t read_model_file(SourceManager& sources, const std::string& file) {
  std::error_code error;
  const std::filesystem::path path = file;
  const auto status = std::filesystem::status(path, error);
  if (status.type() == std::filesystem::file_type::not_found)
    throw RunError(kExitUsage, fmt::format("there is no model file '{}'{}", file, nearby_files(path)));
  if (std::filesystem::is_directory(status))
    throw RunError(kExitUsage, fmt::format("'{}' is a directory; a model file (*.nn) is expected", file));
  std::ifstream in(path, std::ios::binary);
  if (!in)
    throw RunError(kExitUsage,
                   fmt::format("cannot read the model file '{}': {}", file, std::strerror(errno)));
  std::string text;
  char block[1 << 16];
  while (in.read(block, sizeof block), in.gcount() > 0) {
    text.append(block, static_cast<size_t>(in.gcount()));
    if (text.size() > kMaxModelBytes)
      throw RunError(kExitUsage, fmt::format("'{}' is larger than {} MiB; is it really a model file?", file,
                                             kMaxModelBytes >> 20));
  }
  if (in.bad())
    throw RunError(kExitUsage,
                   fmt::format("cannot read the model file '{}': {}", file, std::strerror(errno)));
  return sources.add(file, std::move(text));
}

std::unique_ptr<LoadedModel> load_model(const CompileRequest& request) {
  auto loaded = std::make_unique<LoadedModel>();
  loaded->file = request.text ? loaded->sources.add(request.file, *request.text)
                              : read_model_file(loaded->sources, request.file);
  Diagnostics diagnostics(loaded->sources);
  std::optional<frontend::Model> model =
      frontend::compile(loaded->sources, loaded->file, request.settings, diagnostics,
                        {request.stochastic_evaluation, request.micro_batches, request.layer_values,
                         request.layers, request.variation, request.facts});
  if (diagnostics.has_errors()) throw ModelError(diagnostics, request.color);
  GRADC_CHECK(model, "the frontend gave neither a model nor an error");
  loaded->model = std::move(*model);
  loaded->model.experiment.settings = request.settings;
  return loaded;
}

std::vector<const loop::Program*> program_list(const passes::Lowered& lowered) {
  std::vector<const loop::Program*> result;
  for (const auto& [name, program] : lowered.programs) result.push_back(&program.program);
  return result;
}

passes::Machine machine_of(const codegen::Target& target) {
  return passes::machine_of(target.cpu, target.vector_width, target.registers);
}

passes::PipelineOptions pipeline_options(const CompileRequest& request, const codegen::Target& target,
                                         const LoadedModel& model) {
  passes::PipelineOptions options = request.passes;
  options.batch = request.batch > 0 ? request.batch : model.model.experiment.data.batch;
  options.pieces = request.micro_batches;
  options.machine = machine_of(target);
  options.machine.l2 = request.l2.value_or(options.machine.l2);
  return options;
}

void leave_out_training(Module& module) {
  for (const char* name : {"init", "train_step", "update"})
    if (module.function(name)) module.remove_function(name);
}

CompiledModel::CompiledModel(const CompileRequest& request)
    : target_(codegen::find_target(request.target)), loaded_(load_model(request)) {
  if (request.loaded) request.loaded(*loaded_);
  const passes::PipelineOptions options = pipeline_options(request, target_, *loaded_);
  loaded_->model.experiment.data.batch = options.batch;
  if (!passes::run_tensor_passes(*loaded_->model.module, options)) return;
  if (request.infer) leave_out_training(*loaded_->model.module);
  lowered_ = passes::lower(*loaded_->model.module, options);
  if (lowered_.stopped) return;
  codegen::CodegenOptions code;
  code.profile = request.profile;
  code.verify = request.passes.verify;
  code.debug_info = request.debug_info.value_or(debugger_watches());
  // Evaluation shares nearly all kernels of prediction, but not the other way round.
  code.apart = {"predict", "eval"};
  const bool wait = request.training_first && lowered_.programs.count("train_step") > 0;
  if (!request.object_cache.empty()) cache_ = std::make_unique<DiskObjectCache>(request.object_cache);
  jit_ = std::make_unique<codegen::Jit>(program_list(lowered_), target_, code, cache_.get(), wait);
  tables_ = std::make_unique<ProgramTables>(*loaded_, lowered_, target_, options.batch, request);
  for (const auto& [name, lowered] : lowered_.programs) {
    gradc_entry_info& entry = runtime::entry_called(tables_->program(), name);
    if (wait && std::find(code.apart.begin(), code.apart.end(), name) != code.apart.end()) {
      entry.run = not_compiled;
      entry.late = late_code;
      entry.owner = &late_.emplace_back(Late{this, name});
      continue;
    }
    entry.run = jit_->entry(name);
    GRADC_CHECK(entry.run, "no native code for '{}'", name);
  }
  if (wait) forget_bodies();
}

// Compiles on a thread of its own: the caller's may have a small stack.
gradc_entry CompiledModel::late_code(void* owner) {
  const Late& late = *static_cast<const Late*>(owner);
  if (const gradc_entry code = late.model->jit_->compiled(late.name)) return code;
  std::future<gradc_entry> compiling;
  try {
    compiling = std::async(std::launch::async, [&] { return late.model->jit_->entry(late.name); });
  } catch (const std::system_error& error) {
    throw RunError(kExitRunFailed,
                   fmt::format("cannot start the thread that compiles `{}`: {}; raise the limit on "
                               "threads or memory (ulimit -u, -v), or run fewer",
                               late.name, error.code().message()));
  }
  const gradc_entry code = compiling.get();
  GRADC_CHECK(code, "no native code for '{}'", late.name);
  return code;
}

// Loop IR is larger than its compiled code (50 MB for ResNet-20), and the step's own memory is about to be used for the
// first time.
void CompiledModel::forget_bodies() {
  for (auto& [name, lowered] : lowered_.programs) {
    if (runtime::entry_called(tables_->program(), name).late) continue;
    for (loop::Kernel& kernel : lowered.program.kernels) kernel.body.clear();
  }
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

CompiledModel::~CompiledModel() = default;

const gradc_program& CompiledModel::program() const { return tables_->program(); }

}  // namespace gradc::compiler
