// The order of the passes, and the manager that runs, prints and verifies them.
#include "passes/pipeline.h"

#include <algorithm>
#include <variant>

#include "ir/loop/check_plan.h"
#include "ir/ops/lower.h"
#include "passes/kernels/lowering.h"
#include "passes/loop/passes.h"
#include "passes/loop/spacing.h"
#include "passes/tensor/passes.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::passes {

namespace {

// One signature for all passes on tensor IR; returns whether it changed the module.
using TensorPass = bool (*)(Module&, const PipelineOptions&);
using SymbolOffsets = std::map<std::string, int64_t>;
using LoweringPass = LoweredProgram (*)(const Module&, const Function&, const PipelineOptions&,
                                        const SymbolOffsets&);
using LoopPass = bool (*)(loop::Program&, const PipelineOptions&);

struct Pass {
  PassInfo info;
  std::variant<TensorPass, LoweringPass, LoopPass> run;
  template <class Kind>
  Kind as() const {
    const Kind* run_as = std::get_if<Kind>(&run);
    return run_as ? *run_as : nullptr;
  }
};

template <bool (*pass)(Function&)>
bool each_function(Module& module, const PipelineOptions&) {
  bool changed = false;
  for (const auto& f : module.functions) changed = pass(*f) || changed;
  return changed;
}

bool run_differentiate(Module& module, const PipelineOptions& options) {
  add_train_step(module, options.gradient_outputs);
  return true;
}

// Predictions are made of one example as of many, and an example's must not depend on how many there are: one layout for
// all.
bool run_fold_rows(Module& module, const PipelineOptions& options) {
  bool changed = false;
  for (const auto& f : module.functions)
    changed = fold_rows(*f, f->name == "predict" ? 0 : options.batch) || changed;
  return changed;
}

bool run_recompute(Module& module, const PipelineOptions& options) {
  bool changed = false;
  for (const auto& f : module.functions) changed = recompute(*f, options.recompute) || changed;
  return changed;
}

LoweredProgram lower_function(const Module& module, const Function& function, const PipelineOptions& options,
                              const SymbolOffsets& offsets) {
  lowering::Lowering lowering(module, function, options, offsets);
  lowering.run();
  return std::move(lowering.result);
}

// The order matters: stable forms and attention are found before differentiation; dropout and batchnorm are recognised before
// composite operations are decomposed; operations are ordered before kernels are chosen.
const std::vector<Pass>& passes() {
  constexpr bool optional = true, needed = false;
  static const std::vector<Pass> list = {
      {{"stabilize", "stable forms of formulas (sigmoid, softplus, log1p, expm1)", optional},
       each_function<stabilize>},
      {{"fuse_attention", "attention of its formula: nothing of queries x keys in memory", optional},
       each_function<fuse_attention>},
      {{"differentiate", "backward graph and optimizer updates: makes @train_step", needed},
       run_differentiate},
      {{"fold", "constant folding", optional}, each_function<fold>},
      {{"simplify", "algebraic identities", optional}, each_function<simplify>},
      {{"cse", "common subexpressions", optional}, each_function<cse>},
      {{"fuse_dropout", "inverted dropout: mask recomputed in backward, scale folded", optional},
       each_function<fuse_dropout>},
      {{"fuse_batchnorm_relu", "batchnorm and ReLU in one operation, forward and backward", optional},
       each_function<fuse_batchnorm_relu>},
      {{"decompose", "composite operations into those that lower", needed}, each_function<decompose>},
      {{"fold_late", "constant folding after decomposition", optional}, each_function<fold>},
      {{"simplify_late", "algebraic identities after decomposition", optional}, each_function<simplify>},
      {{"cse_late", "common subexpressions after decomposition", optional}, each_function<cse>},
      {{"dce", "unused operations", optional}, each_function<dce>},
      {{"merge_sums", "sums of pieces into concatenations, of products into one", optional},
       each_function<merge_sums>},
      {{"hoist_channels", "batchnorm on images: arithmetic on whole channels out of the loops over pixels",
        optional},
       each_function<hoist_channels>},
      {{"fold_rows",
        "positions of sequences, which operations map over, into the rows of the batch; pixels of small "
        "batches",
        optional},
       run_fold_rows},
      {{"assign_layout", "images channels-last: reshapes from and to them copy", needed},
       each_function<assign_layout>},
      {{"order_operations", "step scalars, then the loss, then gradients and updates", needed},
       each_function<order_operations>},
      {{"recompute", "what backward computes again instead of keeping it; more where memory is limited",
        optional},
       run_recompute},
      {{"fuse_elementwise",
        "operations into kernels: elementwise chains, reductions, epilogues, optimizer updates", optional},
       each_function<fuse_elementwise>},
      {{"assign_kernels", "a kernel for each operation that is not fused", needed},
       each_function<assign_kernels>},
      {{"lower", "tensor IR to loop IR: layouts, loop nests, register tiles", needed}, lower_function},
      {{"segments", "kernels that work panel by panel run in sequence for one band of images at a time",
        optional},
       lowering::make_segments},
      {{"partition", "the split over threads: barriers where accesses conflict, the guard before updates",
        needed},
       lowering::place_barriers},
      {{"plan_memory", "one arena: values that live at different times share memory", needed},
       lowering::plan_memory},
  };
  return list;
}

bool listed(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void check_name(const std::string& name, const char* flag, bool allow_all) {
  if (allow_all && name == "all") return;
  std::vector<std::string> known;
  for (const Pass& p : passes()) {
    known.push_back(p.info.name);
    if (p.info.name != name) continue;
    if (std::string(flag) == "--disable-pass" && !p.info.optional)
      throw RunError(
          kExitUsage,
          fmt::format("--disable-pass={}: this pass cannot be disabled, later ones depend on it", name));
    return;
  }
  const std::string near = nearest_name(name, known);
  throw RunError(kExitUsage, fmt::format("{}={}: no such pass{}; `gradc passes` lists them", flag, name,
                                         near.empty() ? "" : fmt::format(", did you mean {}?", near)));
}

void check_names(const PipelineOptions& o) {
  for (const std::string& n : o.print_after) check_name(n, "--print-after", true);
  for (const std::string& n : o.disable) check_name(n, "--disable-pass", false);
  if (!o.stop_after.empty()) check_name(o.stop_after, "--stop-after", false);
}

// Runs a pass if it is enabled, then prints, verifies and reports its result.
class Manager {
 public:
  explicit Manager(const PipelineOptions& options) : options_(options) {}

  // A pass on tensor IR. False when the pipeline is to stop after it.
  bool run(const Pass& pass, Module& module) const {
    PassReport report{pass.info};
    report.enabled = !listed(options_.disable, pass.info.name);
    mark_old(report, module);
    if (report.enabled) {
      report.changed = pass.as<TensorPass>()(module, options_);
      if (report.changed && !options_.observe) renumber(module);
      if (options_.tamper) options_.tamper(pass.info, module);
      if (options_.verify) refuse(pass, "broke the IR", verify(module));
    }
    if (options_.observe) {
      number_new(report, module);
      report.module = &module;
      options_.observe(report);
      renumber(module);
    }
    if (prints(pass)) print_after(pass, report, gradc::print(module, {options_.print_locations}));
    return options_.stop_after != pass.info.name;
  }

  // A pass that makes or changes loop IR, on each function's program; the result as above.
  bool run(const Pass& pass, const Module& module, Lowered& lowered) {
    PassReport report{pass.info};
    report.enabled = !listed(options_.disable, pass.info.name);
    for (const auto& f : module.functions) {
      LoweredProgram& l = lowered.programs[f->name];
      report.changed = false;
      if (const auto lower = pass.as<LoweringPass>()) {
        l = lower(module, *f, options_, lowered.symbol_offsets);
        report.changed = true;
      } else if (report.enabled) {
        report.changed = pass.as<LoopPass>()(l.program, options_);
      }
      if (options_.tamper_loops) options_.tamper_loops(pass.info, l.program);
      if (options_.verify)
        refuse(pass, fmt::format("made wrong loop IR of @{}", f->name), loop::verify(l.program));
      if (options_.observe) {
        report.program = &l;
        options_.observe(report);
      }
      if (prints(pass)) print_after(pass, report, loop::print(l.program, options_.print_locations), f->name);
    }
    return options_.stop_after != pass.info.name;
  }

 private:
  static void renumber(Module& module) {
    for (const auto& f : module.functions) f->renumber();
  }

  // Negative ids mark the operations that exist before a pass; new operations get others.
  void mark_old(PassReport& report, const Module& module) const {
    if (!options_.observe) return;
    for (const auto& f : module.functions) {
      report.numbered[f->name] = static_cast<int>(f->body.size());
      for (const auto& op : f->body) op->id = -op->id;
    }
  }

  // Restores the ids of old operations, and numbers new ones after them.
  static void number_new(PassReport& report, const Module& module) {
    for (const auto& f : module.functions) {
      int& last = report.numbered[f->name];  // 0 for a function that the pass made
      for (const auto& op : f->body) last = std::max(last, -op->id);
      int next = last;
      for (const auto& op : f->body) op->id = op->id < 0 ? -op->id : ++next;
    }
  }

  static void refuse(const Pass& pass, const std::string& did, const std::vector<std::string>& wrong) {
    GRADC_CHECK(wrong.empty(), "pass {} {}: {}", pass.info.name, did, wrong.front());
  }

  bool prints(const Pass& pass) const {
    return options_.print &&
           (listed(options_.print_after, pass.info.name) || listed(options_.print_after, "all"));
  }

  void print_after(const Pass& pass, const PassReport& report, const std::string& text,
                   const std::string& function = {}) const {
    const char* how = !report.enabled ? " (disabled)" : report.changed ? "" : " (unchanged)";
    options_.print(fmt::format("# after {}{}{}\n{}", pass.info.name,
                               function.empty() ? "" : " of @" + function, how, *how ? "" : text));
  }

  const PipelineOptions& options_;
};

}  // namespace

const std::vector<PassInfo>& pass_list() {
  static const std::vector<PassInfo> infos = [] {
    std::vector<PassInfo> list;
    for (const Pass& p : passes()) list.push_back(p.info);
    return list;
  }();
  return infos;
}

namespace {

const Pass* find_pass(const std::string& name) {
  check_name(name, "--pass", false);
  return &*std::find_if(passes().begin(), passes().end(), [&](const Pass& p) { return p.info.name == name; });
}

}  // namespace

bool is_tensor_pass(const std::string& name, const char* flag) {
  check_name(name, flag, false);
  return std::any_of(passes().begin(), passes().end(),
                     [&](const Pass& p) { return p.info.name == name && p.as<TensorPass>(); });
}

bool run_pass(Module& module, const std::string& name, int64_t batch) {
  const Pass* pass = find_pass(name);
  const auto run = pass->as<TensorPass>();
  if (!run) throw RunError(kExitUsage, fmt::format("{} works on loop IR; it is no pass on tensor IR", name));
  PipelineOptions options;
  options.batch = batch;
  options.recompute = 1;  // else there may be nothing to see
  const bool changed = run(module, options);
  for (const auto& f : module.functions) f->renumber();
  return changed;
}

bool run_pass(loop::Program& program, const std::string& name, const PipelineOptions& options) {
  const auto run = find_pass(name)->as<LoopPass>();
  if (!run) throw RunError(kExitUsage, fmt::format("{} works on tensor IR; it is no pass on loop IR", name));
  return run(program, options);
}

void make_train_step(Module& module, bool gradient_outputs) {
  add_train_step(module, gradient_outputs);
  for (const auto& f : module.functions) f->renumber();
}

bool run_tensor_passes(Module& module, const PipelineOptions& options) {
  check_names(options);
  const Manager manager(options);
  for (const Pass& pass : passes())
    if (pass.as<TensorPass>() && !manager.run(pass, module)) return false;
  if (!options.verify) {
    const std::vector<std::string> wrong = verify(module);
    GRADC_CHECK(wrong.empty(), "a pass broke the IR (GRADC_VERIFY=on says which): {}", wrong.front());
  }
  return true;
}

Lowered lower(const Module& module, const PipelineOptions& options) {
  Lowered lowered;
  for (const Symbol& s : module.symbols) {
    lowered.symbol_offsets[s.name] = lowered.parameter_bytes;
    lowered.parameter_bytes +=
        lowering::spaced_bytes(s.type.elements() * loop::bytes(ops::memory_scalar_of(s.type.dtype)));
  }
  Manager manager(options);
  for (const Pass& pass : passes())
    if (!pass.as<TensorPass>() && !manager.run(pass, module, lowered)) {
      lowered.stopped = true;
      break;
    }
  // Only after the last pass does the program have barriers and offsets. A program that a test corrupts is left to the
  // tool under test.
  if (options.verify && options.prove_plans && !lowered.stopped && !options.tamper_loops)
    for (const auto& [name, l] : lowered.programs) {
      const std::vector<std::string> wrong = loop::check_plan(l.program, {.batch = options.batch});
      GRADC_CHECK(wrong.empty(), "the plan of @{} is not sound: {}", name, wrong.front());
    }
  return lowered;
}

}  // namespace gradc::passes
