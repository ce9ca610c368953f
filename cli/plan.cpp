// `gradc plan`: the memory, the arithmetic and the traffic of a model's programs, known before anything runs.
// Knows no operator.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/check/native_call.h"
#include "cli/command.h"
#include "compiler/memory.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/json_line.h"

namespace gradc::cli {

namespace {

struct PlanOptions {
  ModelOptions model;
  std::optional<int64_t> batch;
};

struct SymbolSums {
  int64_t values = 0, bytes = 0;
};

struct ProgramPlan {
  std::string name;
  int64_t arena = 0, least = 0, local = 0, scratch = 0, buffers = 0;
  int kernels = 0, calls = 0, barriers = 0;
  double flop = 0, bytes = 0;
};

ProgramPlan plan_of(const std::string& name, const passes::LoweredProgram& lowered) {
  ProgramPlan p;
  p.name = name;
  p.arena = lowered.program.arena_bytes;
  p.least = passes::least_arena_bytes(lowered.program);
  p.local = lowered.program.local_bytes;
  p.scratch = lowered.program.scratch_bytes;
  p.kernels = static_cast<int>(lowered.program.kernels.size());
  p.calls = static_cast<int>(lowered.program.calls.size());
  for (const loop::Call& call : lowered.program.calls) p.barriers += call.barrier_before || call.guard_before;
  for (const loop::Allocation& a : lowered.program.allocations)
    if (a.space == loop::Space::input || a.space == loop::Space::output)
      p.buffers += a.elements * loop::bytes(a.scalar);
  for (const loop::Call& call : lowered.program.calls) {
    p.flop += static_cast<double>(call.flop);
    p.bytes += static_cast<double>(call.bytes);
  }
  return p;
}

int run_plan(const PlanOptions& options) {
  const CompileRequest request = compile_request(options.model, options.batch.value_or(0));
  const codegen::Target target = codegen::find_target(request.target, /*must_run=*/false);
  const std::unique_ptr<LoadedModel> loaded = load_model(request);
  Module& module = *loaded->model.module;
  const passes::PipelineOptions pipeline = pipeline_options(request, target, *loaded);
  passes::Lowered lowered;
  if (passes::run_tensor_passes(module, pipeline)) lowered = passes::lower(module, pipeline);
  if (lowered.stopped || lowered.programs.empty())
    throw RunError(kExitUsage, "plan needs the whole pipeline: no --stop-after");

  SymbolSums kinds[5];  // by SymbolKind
  for (const Symbol& s : module.symbols) {
    SymbolSums& sums = kinds[static_cast<size_t>(s.kind)];
    sums.values += s.type.elements();
    sums.bytes += s.type.elements() * bytes_of(s.type.dtype);
  }
  const MemoryPlan memory = memory_plan(lowered, pipeline.batch, options.model.threads);
  std::vector<ProgramPlan> programs;
  for (const char* name : {"train_step", "update", "eval", "predict", "init"})
    if (const auto it = lowered.programs.find(name); it != lowered.programs.end())
      programs.push_back(plan_of(name, it->second));

  if (options.model.json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const ProgramPlan& p : programs)
      list.push_back({{"name", p.name},
                      {"flop", p.flop},
                      {"bytes_moved", p.bytes},
                      {"kernels", p.kernels},
                      {"calls", p.calls},
                      {"barriers", p.barriers},
                      {"arena_bytes", p.arena},
                      {"least_arena_bytes", p.least},
                      {"local_bytes_per_panel", p.local},
                      {"scratch_bytes_per_thread", p.scratch},
                      {"input_output_bytes", p.buffers}});
    fmt::print("{}\n", json_line(nlohmann::ordered_json{{"event", "plan"},
                                                        {"model", options.model.file},
                                                        {"target", target.name},
                                                        {"batch", pipeline.batch},
                                                        {"threads", memory.threads},
                                                        {"parameters", kinds[0].values},
                                                        {"parameter_bytes", kinds[0].bytes},
                                                        {"state_bytes", kinds[1].bytes},
                                                        {"optimizer_bytes", kinds[2].bytes},
                                                        {"average_bytes", kinds[3].bytes},
                                                        {"gradient_bytes", kinds[4].bytes},
                                                        {"peak_bytes", memory.peak()},
                                                        {"programs", list}}));
    return kExitOk;
  }
  fmt::print("{}: batch {}, {} thread{}, target {} ({})\n", options.model.file, pipeline.batch,
             memory.threads, memory.threads == 1 ? "" : "s", target.name, target.cpu);
  const auto line = [](const char* what, const std::string& size, const std::string& more) {
    fmt::print("{:<18}{:>12}  {}\n", what, size, more);
  };
  const char* names[5] = {"parameters", "state", "optimizer state", "averages", "gradient sums"};
  for (size_t i = 0; i < 5; ++i)
    if (i < 3 || kinds[i].bytes > 0)  // most models have neither averages nor sums
      line(names[i], megabytes(static_cast<double>(kinds[i].bytes)),
           fmt::format("{} values", kinds[i].values));
  line("working memory", megabytes(static_cast<double>(memory.working)),
       "arena, local and scratch memory, shared by all programs");
  line("inputs, outputs", megabytes(static_cast<double>(memory.buffers)), "one batch");
  line("peak", megabytes(static_cast<double>(memory.peak())), "besides the process itself and the data set");
  fmt::print("\n{:<12}{:>9}{:>12}{:>9}{:>10}{:>14}{:>14}{:>12}{:>12}\n", "program", "GFLOP", "moved",
             "kernels", "barriers", "arena", "at least", "a panel", "a thread");
  for (const ProgramPlan& p : programs)
    fmt::print("{:<12}{:>9.4f}{:>12}{:>9}{:>10}{:>14}{:>14}{:>12}{:>12}\n", p.name, p.flop / 1e9,
               megabytes(p.bytes), p.kernels, p.barriers, megabytes(static_cast<double>(p.arena)),
               megabytes(static_cast<double>(p.least)), megabytes(static_cast<double>(p.local)),
               megabytes(static_cast<double>(p.scratch)));
  fmt::print(
      "\nmoved: every buffer of a kernel once; at least: the most that is alive between two barriers, below "
      "which no plan of the arena goes; a panel: values that a thread needs for one panel of 32 examples "
      "at a time, where threads have about as many panels, else all panels have that much; a thread: scratch "
      "memory.\n");
  return kExitOk;
}

}  // namespace

Command add_plan(CLI::App& app) {
  const auto o = std::make_shared<PlanOptions>();
  CLI::App* c =
      app.add_subcommand("plan", "a model's memory, arithmetic and traffic, exactly, before anything runs");
  add_model_options(c, o->model);
  c->add_option("--batch", o->batch, "plan for batches of this size (default: the file's)")
      ->check(from_to(1, 65536))
      ->type_name("N");
  add_thread_option(c, o->model.threads);
  add_code_options(c, o->model);
  return {c, [o] { return run_plan(*o); }, &o->model.json};
}

}  // namespace gradc::cli
