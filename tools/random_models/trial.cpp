// The comparisons, each a function of the model and its number; native_run.cpp runs the code.
#include "tools/random_models/trial.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "compiler/memory.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"
#include "tools/random_models/exclusions.h"
#include "tools/random_models/executable.h"
#include "tools/random_models/stage_text.h"

namespace gradc::random_models {

namespace {

constexpr double kZeroReference = 1e3;  // a relative difference beyond: the reference is practically zero
constexpr const char* kOfZero = " of zero";

// Every constant of the module 1 % larger.
void make_wrong(Module& module) {
  for (const auto& f : module.functions)
    for (const auto& op : f->body)
      if (op->def->kind == OpKind::source && op->attributes.has("value") && op->type.is_float())
        op->attributes.set("value", 1.01 * op->attributes.number("value"));
}

CompileRequest request_for(const Trial& trial) {
  CompileRequest request;
  request.file = "model.nn";
  request.text = trial.text;
  request.passes.verify = true;
  request.debug_info = false;
  if (!trial.break_pass.empty())
    request.passes.tamper = [broken = trial.break_pass](const passes::PassInfo& pass, Module& module) {
      if (pass.name == broken) make_wrong(module);
    };
  return request;
}

std::vector<std::string> optional_passes() {
  std::vector<std::string> names;
  for (const passes::PassInfo& p : passes::pass_list())
    if (p.optional) names.push_back(p.name);
  return names;
}

// The passes that a number leaves out: none, each alone, all of them.
std::vector<std::string> passes_left_out(uint64_t number) {
  const std::vector<std::string> all = optional_passes();
  const size_t choice = number % (all.size() + 2);
  if (choice == 0) return {};
  if (choice == all.size() + 1) return all;
  return {all[choice - 1]};
}

std::string left_out_text(const std::vector<std::string>& passes) {
  return passes.empty() ? "with every pass" : fmt::format("without {}", fmt::join(passes, ", "));
}

std::string target_of(uint64_t number) {
  const std::vector<std::string> targets = runnable_targets();
  return targets[number % targets.size()];
}

// Numbers with different strides as the model's number grows, so that pairs of variants vary.
uint64_t turn(uint64_t number, uint64_t stride) { return number * stride + number / 7; }

std::string check_target(uint64_t number) { return target_of(turn(number, 1)); }
std::string variant_target(uint64_t number) { return target_of(turn(number, 3) + 1); }
std::vector<std::string> check_passes(uint64_t number) { return passes_left_out(turn(number, 5)); }
std::vector<std::string> variant_passes(uint64_t number) { return passes_left_out(turn(number, 1) + 9); }
int recompute_level(uint64_t number) {
  constexpr int levels[] = {1, 2, 3, 4, 6};
  return levels[turn(number, 1) % 5];
}

std::optional<Finding> check(const Trial& trial) {
  cli::CheckRequest request;
  request.compile = request_for(trial);
  request.break_gradient = trial.break_gradient;
  request.compile.target = check_target(trial.number);
  request.compile.passes.disable = check_passes(trial.number);
  const cli::CheckReport report = cli::check_model(request);
  for (const cli::CheckRow& r : report.rows)
    // Every gradient may be zero on a row or two, as where a hinge's margin is satisfied.
    if (!r.pass && r.name != "(all parameters)")
      return Finding{r.kind + (r.max_relative > kZeroReference ? kOfZero : ""),
                     fmt::format("{} @{} {} ({} rows): relative {:.2g}, allowed {:.0g}", r.kind, r.program,
                                 r.name, r.rows, r.max_relative, r.tolerance)};
  return std::nullopt;
}

std::optional<Finding> rows_and_threads(const Trial& trial) {
  const CompileRequest request = request_for(trial);
  const int64_t batch = compiler::load_model(request)->model.experiment.data.batch;
  return run_native(request, {{1, 31, 33, batch - 1}, {2, 5}});
}

// Evaluation and prediction in turn: compiling takes most of the time.
std::vector<std::string> in_turn(uint64_t number) { return {number / 4 % 2 ? "eval" : "predict"}; }

std::optional<Finding> variant(const Trial& trial) {
  CompileRequest request = request_for(trial);
  request.target = variant_target(trial.number);
  request.passes.disable = variant_passes(trial.number);
  constexpr int64_t part_batches[] = {33, 1, 31};
  constexpr int64_t caches[] = {1 << 20, 6 << 10, 2 << 10};  // small ones: short bands, much prefetching
  request.l2 = caches[trial.number / 2 % 3];
  // Monte-Carlo dropout: evaluation draws numbers too, by the row within the whole data.
  request.stochastic_evaluation = trial.number / 2 % 4 == 1;
  return run_native(
      request, {{part_batches[trial.number / 2 % 3]}, {trial.number % 3 ? 2 : 5}, in_turn(trial.number), 45});
}

// Recomputation in backward; and pieces, where a limit can be met by them.
std::optional<Finding> memory(const Trial& trial) {
  CompileRequest request = request_for(trial);
  request.passes.recompute = recompute_level(trial.number);
  return run_native(request, {{1}, {2}, in_turn(trial.number)});
}

// Bytes of a session by one thread, as --mem-limit counts them.
int64_t planned_peak(const CompileRequest& request) {
  const auto loaded = compiler::load_model(request);
  const passes::PipelineOptions pipeline =
      compiler::pipeline_options(request, codegen::find_target(request.target), *loaded);
  passes::run_tensor_passes(*loaded->model.module, pipeline);
  return compiler::memory_plan(passes::lower(*loaded->model.module, pipeline), pipeline.batch, 1).peak();
}

std::optional<Finding> memory_limit(const Trial& trial) {
  CompileRequest request = request_for(trial);
  const auto limit = static_cast<int64_t>(0.9 * static_cast<double>(planned_peak(request)));
  try {
    compiler::fit_memory(request, 1, limit);
  } catch (const RunError& error) {
    if (std::string(error.what()).find("--mem-limit") == std::string::npos) throw;
    return std::nullopt;  // the limit cannot be met, which is reported
  }
  if (const int64_t peak = planned_peak(request); peak > limit)
    return Finding{"limit", fmt::format("{} bytes are planned within a limit of {}", peak, limit)};
  if (request.micro_batches == 1) return run_native(request, {{1}, {2}, in_turn(trial.number)});
  return std::nullopt;  // the comparison `pieces` covers those
}

std::optional<Finding> pieces(const Trial& trial) {
  const CompileRequest request = request_for(trial);
  for (const int64_t n : {trial.number % 2 ? 2 : 4, 2, 3, 7, 31, 13, 37, 41, 67})
    if (can_take_pieces(request, n)) return run_pieces(request, n);
  return std::nullopt;
}

std::optional<Finding> text(const Trial& trial) {
  CompileRequest request = request_for(trial);
  request.target = variant_target(trial.number);
  return compare_stage_text(request);
}

std::optional<Finding> executable(const Trial& trial) { return compare_executable(trial.text); }

struct Entry {
  const char* name;
  std::optional<Finding> (*run)(const Trial&);
  bool (*turn)(uint64_t number);  // of those that do not go through every comparison
  std::string (*doc)(uint64_t number);
};

const std::vector<Entry>& entries() {
  static const std::vector<Entry> list = {
      {"check", check, [](uint64_t n) { return n % 2 == 0; },
       [](uint64_t n) {
         return fmt::format("gradc check for {} {}", check_target(n), left_out_text(check_passes(n)));
       }},
      {"variant", variant, [](uint64_t n) { return n % 2 == 1; },
       [](uint64_t n) {
         return fmt::format("native code for {} {}", variant_target(n), left_out_text(variant_passes(n)));
       }},
      {"rows", rows_and_threads, [](uint64_t n) { return n % 5 == 0; },
       [](uint64_t) { return std::string("part batches and 1, 2, 5 threads, native"); }},
      {"memory", memory, [](uint64_t n) { return n % 5 == 1; },
       [](uint64_t n) { return fmt::format("recomputation at level {}", recompute_level(n)); }},
      {"limit", memory_limit, [](uint64_t n) { return n % 5 == 2; },
       [](uint64_t) { return std::string("nine tenths of the memory"); }},
      {"pieces", pieces, [](uint64_t n) { return n % 5 == 3; },
       [](uint64_t) { return std::string("a batch in pieces against the whole"); }},
      {"text", text, [](uint64_t n) { return n % 5 == 4; },
       [](uint64_t) { return std::string("every stage printed, parsed and printed"); }},
      {"executable", executable, [](uint64_t) { return true; },
       [](uint64_t) { return std::string("a linked program against the tool, to the bit"); }}};
  return list;
}

}  // namespace

std::vector<std::string> runnable_targets() {
  static const std::vector<std::string> targets = [] {
    std::vector<std::string> result;
    for (const std::string& name : codegen::target_names()) {
      try {
        codegen::find_target(name);
        result.push_back(name);
      } catch (const RunError&) {
      }
    }
    return result;
  }();
  return targets;
}

std::vector<Comparison> comparisons(uint64_t number) {
  std::vector<Comparison> result;
  for (const Entry& e : entries()) result.push_back({e.name, e.doc(number)});
  return result;
}

std::optional<TrialFinding> run_trial(const Trial& trial, const TrialEvents& events) {
  for (const Entry& e : entries()) {
    const std::string name = e.name;
    if (!trial.only.empty() ? trial.only != name : !trial.every && !e.turn(trial.number)) continue;
    if (trial.only.empty() && name == "executable" && !trial.links) continue;
    events.begins(name);
    const std::optional<Finding> finding = e.run(trial);
    if (!finding) continue;
    const char* known = trial.unmended ? nullptr : excluded_finding(trial.text, name, finding->kind);
    if (!known) return TrialFinding{name, *finding};
    events.known(known);
  }
  return std::nullopt;
}

}  // namespace gradc::random_models
