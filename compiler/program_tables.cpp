// Tables of symbols, inputs, outputs and memory for each program.
#include "compiler/program_tables.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "include/gradc/version.h"
#include "runtime/execution/session.h"
#include "support/check.h"
#include "support/experiment.h"

namespace gradc::compiler {

int useful_threads(const passes::LoweredProgram& lowered, int64_t batch) {
  // Most of a small program's values stay in the caches, so bytes cost little compared with FLOP.
  constexpr double kFlopPerSecond = 20e9, kBytesPerSecond = 160e9, kBarrierSeconds = 0.3e-6;
  double seconds = 0;
  for (const loop::Call& call : lowered.program.calls)
    seconds +=
        static_cast<double>(call.flop) / kFlopPerSecond + static_cast<double>(call.bytes) / kBytesPerSecond;
  const loop::Program& program = lowered.program;
  int64_t barriers = 1, units = 1;
  for (const loop::Call& call : program.calls) {
    barriers += call.barrier_before ? 1 : 0;
    const bool panels = call.partition.kind == loop::Partition::Extent::panels;
    const int64_t extent =
        call.partition.extent * (panels ? panels_of(program, batch, call.partition.rows) : 1);
    units = std::max(units, (extent + call.partition.unit - 1) / std::max<int64_t>(call.partition.unit, 1));
  }
  const double worth = seconds / (static_cast<double>(barriers) * kBarrierSeconds);
  return static_cast<int>(std::clamp<double>(worth, 1, static_cast<double>(std::min<int64_t>(units, 1024))));
}

namespace {

// Replaces absolute paths of the data by their last component: an executable on another machine looks for it in its
// working folder.
void strip_paths(DataRecord& data) {
  const auto strip = [](std::string& path) {
    if (path.empty() || path[0] != '/') return;
    while (path.size() > 1 && path.back() == '/') path.pop_back();
    path = std::filesystem::path(path).filename().string();
  };
  for (auto& [name, value] : data.options)
    if (auto* text = std::get_if<std::string>(&value)) strip(*text);
  for (DataField& field : data.fields) {
    strip(field.train);
    strip(field.test);
  }
}

// The index ranges of the frontend's function.
const IndexRanges& ranges_of(const LoadedModel& model, const std::string& program) {
  static const IndexRanges none;
  const auto found = model.model.index_ranges.find(program == "train_step" ? "train" : program);
  return found == model.model.index_ranges.end() ? none : found->second;
}

}  // namespace

ProgramTables::ProgramTables(const LoadedModel& model, const passes::Lowered& lowered,
                             const codegen::Target& target, int64_t batch, const CompileRequest& request,
                             bool strip) {
  const Module& module = *model.model.module;
  program_.abi_version = GRADC_ABI_VERSION;
  program_.gradc_version = GRADC_VERSION;
  program_.target = keep(target.name);
  if (!strip) program_.source = keep(model.sources.text(model.file));
  program_.name = keep(std::filesystem::path(request.file).filename().string());
  program_.batch = batch;
  program_.parameter_bytes = lowered.parameter_bytes;
  std::vector<gradc_symbol>& symbols = symbols_.emplace_back();
  for (const Symbol& s : module.symbols) {
    const auto offset = lowered.symbol_offsets.find(s.name);
    if (offset == lowered.symbol_offsets.end()) continue;  // no program uses it
    symbols.push_back({keep(s.name), static_cast<int32_t>(s.kind), static_cast<int32_t>(s.type.dtype),
                       s.type.rank(), keep(s.type.shape), offset->second});
  }
  program_.symbol_count = static_cast<int32_t>(symbols.size());
  program_.symbols = symbols.data();
  for (const char* name : kProgramNames)
    if (const auto it = lowered.programs.find(name); it != lowered.programs.end())
      runtime::entry_called(program_, name) =
          entry(module.function(name), it->second, ranges_of(model, name));
  Experiment record = model.model.experiment;
  record.data.batch = batch;
  if (strip) {
    strip_paths(record.data);
    record.settings.clear();
  }
  program_.experiment_json = keep(experiment_json(record));
  program_.pieces = request.micro_batches;
}

gradc_entry_info ProgramTables::entry(const Function* f, const passes::LoweredProgram& lowered,
                                      const IndexRanges& ranges) {
  gradc_entry_info info{};
  const std::string& name = lowered.program.name;
  GRADC_CHECK(f, "a program '{}' without its function", name);
  info.arena_bytes = lowered.program.arena_bytes;
  info.panels = static_cast<int32_t>(lowered.program.panels);
  info.local_bytes = lowered.program.local_bytes;
  info.scratch_bytes = lowered.program.scratch_bytes;

  std::vector<gradc_input>& inputs = inputs_.emplace_back();
  for (const std::string& input : lowered.inputs) {
    const Op* op = f->input(input);
    GRADC_CHECK(op, "program '{}' reads '{}', which its function lacks", name, input);
    gradc_input& made = inputs.emplace_back(gradc_input{keep(input), static_cast<int32_t>(op->type.dtype),
                                                        op->type.rank(), keep(op->type.shape), 0, nullptr});
    const auto found = ranges.find(input);
    if (found == ranges.end()) continue;
    std::vector<gradc_index_range>& list = ranges_.emplace_back();
    for (const IndexRange& r : found->second)
      list.push_back({r.first, r.count, r.extent,
                      keep(fmt::format("`{}` at {}", r.operation, user_location(r.location)))});
    made.range_count = static_cast<int32_t>(list.size());
    made.ranges = list.data();
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
    const auto divisor = std::find(lowered.outputs.begin(), lowered.outputs.end(), found->divisor);
    outputs.push_back(
        {keep(output), static_cast<int32_t>(type.dtype), type.batched, type.rank(), keep(type.shape),
         is_loss_part(*found)    ? GRADC_LOSS_PART
         : is_weight_sum(*found) ? GRADC_WEIGHT_SUM
                                 : GRADC_RESULT,
         divisor == lowered.outputs.end() ? 0 : static_cast<int32_t>(divisor - lowered.outputs.begin()) + 1});
  }
  info.output_count = static_cast<int32_t>(outputs.size());
  info.outputs = outputs.data();
  info.max_threads = useful_threads(lowered, program_.batch);
  return info;
}

const char* ProgramTables::keep(std::string text) { return texts_.emplace_back(std::move(text)).c_str(); }
const int64_t* ProgramTables::keep(const Shape& shape) { return shapes_.emplace_back(shape).data(); }

}  // namespace gradc::compiler
