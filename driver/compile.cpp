// From a model file to native programs: reads the file, runs frontend, passes and JIT, and fills the ABI's
// tables. Knows nothing of training.
#include "driver/compile.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "driver/experiment.h"
#include "driver/object_cache.h"
#include "ir/op_def.h"
#include "support/check.h"

namespace gradc::driver {

namespace {

// Model files are written by hand; anything larger is some other file given by mistake.
constexpr uintmax_t kMaxModelBytes = 4 << 20;

// ". Did you mean 'mlp.nn'?" for a name that no file has, from the model files beside it.
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

// More threads than this gain nothing: every thread must save more than the barriers cost. Rough figures
// suffice, since results do not depend on the number of threads.
int max_threads(const Function& f, const loop::Program& program, int64_t batch) {
  constexpr double kFlopPerSecond = 20e9, kBytesPerSecond = 20e9, kBarrierSeconds = 0.3e-6;
  double seconds = 0;
  for (const auto& op : f.body) {
    Cost cost;
    if (op->def->cost) {
      cost = op->def->cost(*op);
    } else {
      cost.flop = static_cast<double>(op->type.elements());
    }
    const bool batched = op->type.batched || std::any_of(op->operands.begin(), op->operands.end(),
                                                         [](const Op* o) { return o->type.batched; });
    // Fused elementwise values do not reach memory, so FLOP alone are counted for most; bytes weigh where
    // they are all there is.
    seconds += (cost.flop / kFlopPerSecond + cost.bytes / kBytesPerSecond / 8) *
               (batched ? static_cast<double>(batch) : 1);
  }
  int64_t barriers = 1, units = 1;
  for (const loop::Call& call : program.calls) {
    barriers += call.barrier_before ? 1 : 0;
    const bool panels = call.partition.kind == loop::Partition::Extent::panels;
    const int64_t extent = call.partition.extent * (panels ? (batch + program.panel - 1) / program.panel : 1);
    units = std::max(units, (extent + call.partition.unit - 1) / std::max<int64_t>(call.partition.unit, 1));
  }
  const double worth = seconds / (static_cast<double>(barriers) * kBarrierSeconds);
  return static_cast<int>(std::clamp<double>(worth, 1, static_cast<double>(std::min<int64_t>(units, 1024))));
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
  loaded->file = read_model_file(loaded->sources, request.file);
  Diagnostics diagnostics(loaded->sources);
  std::optional<frontend::Model> model = frontend::compile(loaded->sources, loaded->file, request.settings,
                                                           diagnostics, request.stochastic_evaluation);
  if (diagnostics.has_errors())
    throw ModelError(diagnostics.render(request.color), diagnostics.render_json());
  GRADC_CHECK(model, "the frontend gave neither a model nor an error");
  loaded->model = std::move(*model);
  return loaded;
}

std::vector<const loop::Program*> program_list(const passes::Lowered& lowered) {
  std::vector<const loop::Program*> result;
  for (const auto& [name, program] : lowered.programs) result.push_back(&program.program);
  return result;
}

CompiledModel::CompiledModel(const CompileRequest& request)
    : target_(codegen::find_target(request.target)), loaded_(load_model(request)) {
  passes::PipelineOptions options = request.passes;
  options.batch = request.batch > 0 ? request.batch : experiment().data.batch;
  options.vector_width = target_.vector_width;
  options.registers = target_.registers;
  if (!passes::run_tensor_passes(*loaded_->model.module, options)) return;
  lowered_ = passes::lower(*loaded_->model.module, options);
  if (lowered_.stopped) return;
  codegen::CodegenOptions code;
  code.profile = request.profile;
  std::optional<DiskObjectCache> cache;
  if (!request.object_cache.empty()) cache.emplace(request.object_cache);
  jit_ = std::make_unique<codegen::Jit>(program_list(lowered_), target_, code, cache ? &*cache : nullptr);
  if (cache) {
    cache_hits_ = cache->hits();
    cache_misses_ = cache->misses();
  }

  program_.abi_version = GRADC_ABI_VERSION;
  program_.gradc_version = GRADC_VERSION;
  program_.target = keep(target_.name);
  program_.source = loaded_->sources.text(loaded_->file).c_str();
  program_.name = keep(std::filesystem::path(request.file).filename().string());
  program_.batch = options.batch;
  program_.parameter_bytes = lowered_.parameter_bytes;
  std::vector<gradc_symbol>& symbols = symbols_.emplace_back();
  for (const Symbol& s : module().symbols) {
    const auto offset = lowered_.symbol_offsets.find(s.name);
    if (offset == lowered_.symbol_offsets.end()) continue;  // no program uses it
    symbols.push_back({keep(s.name), static_cast<int32_t>(s.kind), static_cast<int32_t>(s.type.dtype),
                       s.type.rank(), keep(s.type.shape), offset->second});
  }
  program_.symbol_count = static_cast<int32_t>(symbols.size());
  program_.symbols = symbols.data();
  program_.init = entry("init");
  program_.train_step = entry("train_step");
  program_.eval = entry("eval");
  program_.predict = entry("predict");
  program_.update = entry("update");
  ExperimentRecord record = experiment();
  record.data.batch = options.batch;
  program_.experiment_json = keep(experiment_json(record));
}

gradc_entry_info CompiledModel::entry(const std::string& name) {
  gradc_entry_info info{};
  const auto it = lowered_.programs.find(name);
  if (it == lowered_.programs.end()) return info;
  const passes::LoweredProgram& lowered = it->second;
  const Function* f = module().function(name);
  GRADC_CHECK(f, "a program '{}' without its function", name);
  info.run = jit_->entry(lowered.program.name);
  GRADC_CHECK(info.run, "no native code for '{}'", name);
  info.arena_bytes = lowered.program.arena_bytes;
  info.scratch_bytes = lowered.program.scratch_bytes;

  std::vector<gradc_input>& inputs = inputs_.emplace_back();
  for (const std::string& input : lowered.inputs) {
    const Op* op = f->input(input);
    GRADC_CHECK(op, "program '{}' reads '{}', which its function lacks", name, input);
    inputs.push_back(
        {keep(input), static_cast<int32_t>(op->type.dtype), op->type.rank(), keep(op->type.shape)});
  }
  info.input_count = static_cast<int32_t>(inputs.size());
  info.inputs = inputs.data();

  std::vector<gradc_output>& outputs = outputs_.emplace_back();
  for (const std::string& output : lowered.outputs) {
    const auto found =
        std::find_if(f->outputs.begin(), f->outputs.end(), [&](const Output& o) { return o.name == output; });
    GRADC_CHECK(found != f->outputs.end(), "program '{}' writes '{}', which its function lacks", name,
                output);
    const Type& type = found->value->type;
    outputs.push_back(
        {keep(output), static_cast<int32_t>(type.dtype), type.batched, type.rank(), keep(type.shape)});
  }
  info.output_count = static_cast<int32_t>(outputs.size());
  info.outputs = outputs.data();
  info.max_threads = max_threads(*f, lowered.program, program_.batch);
  return info;
}

const char* CompiledModel::keep(std::string text) { return texts_.emplace_back(std::move(text)).c_str(); }
const int64_t* CompiledModel::keep(const Shape& shape) { return shapes_.emplace_back(shape).data(); }

}  // namespace gradc::driver
