// Memory plans of whole sessions, and the search for one below a limit; see the header.
#include "compiler/memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "compiler/program_tables.h"
#include "runtime/threads.h"
#include "support/check.h"

namespace gradc::compiler {

namespace {

// Runs passes and lowering without code generation; the module is discarded.
struct Trial {
  MemoryPlan plan;
  int64_t batch = 0;
  std::string batch_mixes;
};

Trial plan_for(const CompileRequest& request, int threads) {
  const codegen::Target target = codegen::find_target(request.target, /*must_run=*/false);
  const std::unique_ptr<LoadedModel> loaded = load_model(request);
  passes::PipelineOptions pipeline = pipeline_options(request, target, *loaded);
  pipeline.print = nullptr;
  pipeline.stop_after.clear();
  pipeline.verify = false;  // the chosen plan is lowered once more, and verified then
  passes::run_tensor_passes(*loaded->model.module, pipeline);
  const passes::Lowered lowered = passes::lower(*loaded->model.module, pipeline);
  return {memory_plan(lowered, pipeline.batch, threads), pipeline.batch, loaded->model.batch_mixes};
}

constexpr int kLevels[] = {1, 2, 3, 4, 6, 8, 12, 16, 24};
// In a unit with significant digits: a limit of 1 kB is not "0.00 MB".
std::string size_text(int64_t bytes) {
  if (bytes < 1000) return fmt::format("{} bytes", bytes);
  return bytes < 100'000 ? fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3)
                         : megabytes(static_cast<double>(bytes));
}

constexpr int64_t kLeastPiece = 32;  // rows: fewer save nothing, since rows are computed in panels

}  // namespace

std::string megabytes(double bytes) { return fmt::format("{:.2f} MB", bytes / 1e6); }

MemoryPlan memory_plan(const passes::Lowered& lowered, int64_t batch, int threads) {
  MemoryPlan plan;
  int useful = 1;
  for (const auto& [name, program] : lowered.programs)
    useful = std::max(useful, useful_threads(program, batch));
  plan.threads = std::min(runtime::choose_thread_count(threads), useful);
  plan.parameters = lowered.parameter_bytes;
  for (const auto& [name, l] : lowered.programs) {
    const int used = std::min(plan.threads, useful_threads(l, batch));
    plan.working = std::max(plan.working, working_bytes(l.program, used));
    for (const loop::Allocation& a : l.program.allocations)
      if (a.space == loop::Space::input || a.space == loop::Space::output)
        plan.buffers += a.elements * loop::bytes(a.scalar);
  }
  return plan;
}

std::string fit_memory(CompileRequest& request, int threads, int64_t limit) {
  const Trial whole = plan_for(request, threads);
  if (whole.plan.peak() <= limit) return "";
  struct Best {
    int64_t peak;
    std::string how;
  };
  Best least{whole.plan.peak(), "as it is"};
  const auto describe = [&](int level, int64_t pieces) {
    std::string how;
    if (level == 1) how = "backward computes elementwise operations again";
    if (level > 1) how = fmt::format("backward computes forward again in {} segments", level);
    if (pieces > 1)
      how += fmt::format("{}batches of {} in {} pieces whose gradients add up", how.empty() ? "" : ", ",
                         whole.batch, pieces);
    return how;
  };
  // Tries levels in order of arithmetic and takes the first that fits; fewer segments may take less memory than more.
  const auto search = [&](int64_t pieces) -> std::optional<std::string> {
    request.micro_batches = pieces;
    const auto fits = [&](int level) {
      request.passes.recompute = level;
      const int64_t peak = plan_for(request, threads).plan.peak();
      if (peak < least.peak) least = {peak, describe(level, pieces)};
      return peak <= limit;
    };
    if (pieces > 1 && fits(0)) return describe(0, pieces);
    for (int level : kLevels)
      if (fits(level)) return describe(level, pieces);
    return std::nullopt;
  };
  const auto found = [&](const std::string& how) {
    return fmt::format("{} within {}, {} without a limit: {}", size_text(least.peak), size_text(limit),
                       size_text(whole.plan.peak()), how);
  };
  // Parameters and their state cannot be reduced.
  if (whole.plan.parameters < limit) {
    if (const auto how = search(1)) return found(*how);
    if (whole.batch_mixes.empty() && request.batch == 0)
      for (int64_t pieces = 2; whole.batch / pieces >= kLeastPiece; pieces *= 2) {
        if (whole.batch % pieces != 0) break;
        if (const auto how = search(pieces)) return found(*how);
      }
  }
  std::string text = fmt::format(
      "--mem-limit: {} are too few: this model takes {}, of which parameters and optimizer state are {}; the "
      "least found is {} ({})",
      size_text(limit), size_text(whole.plan.peak()), size_text(whole.plan.parameters), size_text(least.peak),
      least.how);
  if (!whole.batch_mixes.empty())
    text += fmt::format(". Batches cannot be taken in pieces: {}", whole.batch_mixes);
  text += whole.plan.parameters >= limit ? ". An optimizer with less state (sgd has none) takes less"
                                         : ". A smaller `batch` in the model file takes less";
  throw RunError(kExitUsage, text);
}

}  // namespace gradc::compiler
