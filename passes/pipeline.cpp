// The order of the passes, and the manager that runs, prints and verifies them.
#include "passes/pipeline.h"

#include <algorithm>
#include <memory>

#include "ir/loop/check_plan.h"
#include "passes/kernels/lowering.h"
#include "passes/tensor/passes.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::passes {

namespace {

enum class Stage { before_gradient, gradient, after_gradient, recompute, lowering };

struct Pass {
  PassInfo info;
  Stage stage;
  bool (*run)(Function&) = nullptr;                     // null: the manager runs it
  void (*run_on_loops)(lowering::Lowering&) = nullptr;  // the loop passes
};

// Order is meaning: stable forms come before gradients are taken; dropout and batchnorm are recognised before
// composite operations are taken apart; operations are put in order before kernels are chosen.
const std::vector<Pass>& passes() {
  static const std::vector<Pass> list = {
      {{"stabilize", "stable forms of formulas (sigmoid, softplus, log1p, expm1)", true},
       Stage::before_gradient,
       stabilize},
      {{"differentiate", "backward graph and optimizer updates: makes @train_step", false},
       Stage::gradient,
       nullptr},
      {{"fold", "constant folding", true}, Stage::after_gradient, fold},
      {{"simplify", "algebraic identities", true}, Stage::after_gradient, simplify},
      {{"cse", "common subexpressions", true}, Stage::after_gradient, cse},
      {{"fuse_dropout", "inverted dropout: mask made again in backward, scale folded", true},
       Stage::after_gradient,
       fuse_dropout},
      {{"fuse_batchnorm_relu", "batchnorm and ReLU in one operation, forward and backward", true},
       Stage::after_gradient,
       fuse_batchnorm_relu},
      {{"decompose", "composite operations into those that lower", false}, Stage::after_gradient, decompose},
      {{"fold_late", "constant folding after decomposition", true}, Stage::after_gradient, fold},
      {{"simplify_late", "algebraic identities after decomposition", true}, Stage::after_gradient, simplify},
      {{"cse_late", "common subexpressions after decomposition", true}, Stage::after_gradient, cse},
      {{"dce", "unused operations", true}, Stage::after_gradient, dce},
      {{"hoist_channels", "batchnorm on images: arithmetic on whole channels out of the loops over pixels",
        true},
       Stage::after_gradient,
       hoist_channels},
      {{"assign_layout", "images channels-last: reshapes from and to them copy", false},
       Stage::after_gradient,
       assign_layout},
      {{"order_operations", "step scalars, then the loss, then gradients and updates", false},
       Stage::after_gradient,
       order_operations},
      {{"recompute", "what backward computes again instead of keeping it; more where memory is limited",
        true},
       Stage::recompute,
       nullptr},
      {{"fuse_elementwise",
        "operations into kernels: elementwise chains, reductions, epilogues, optimizer updates", true},
       Stage::after_gradient,
       fuse_elementwise},
      {{"assign_kernels", "a kernel for whatever is not fused", false},
       Stage::after_gradient,
       assign_kernels},
      {{"lower", "tensor IR to loop IR: layouts, loop nests, register tiles", false},
       Stage::lowering,
       nullptr,
       [](lowering::Lowering& l) { l.run(); }},
      {{"segments",
        "calls that work panel by panel stand together and run for a band of images after the other", true},
       Stage::lowering,
       nullptr,
       lowering::make_segments},
      {{"partition", "the split over threads: barriers where parts meet, the guard before updates", false},
       Stage::lowering,
       nullptr,
       lowering::place_barriers},
      {{"plan_memory", "one arena: values that live at different times share memory", false},
       Stage::lowering,
       nullptr,
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

class Manager {
 public:
  Manager(Module& module, const PipelineOptions& options) : module_(module), options_(options) {}

  // False when the pipeline is to stop after this pass.
  bool run(const Pass& pass) {
    const std::string& name = pass.info.name;
    PassReport report{pass.info};
    report.enabled = !listed(options_.disable, name);
    mark_old(report);
    if (report.enabled) {
      if (pass.stage == Stage::gradient) {
        make_train_step(module_, options_.gradient_outputs);
        report.changed = true;
        mark_copied(report);
      } else {
        for (const auto& f : module_.functions) {
          const bool now = pass.stage == Stage::recompute ? recompute(*f, options_.recompute) : pass.run(*f);
          if (now && !options_.observe) f->renumber();
          report.changed = report.changed || now;
        }
      }
      if (options_.tamper) options_.tamper(pass.info, module_);
      if (options_.verify) verify_after(name);
    }
    show(report);
    if (options_.print && (listed(options_.print_after, name) || listed(options_.print_after, "all"))) {
      std::string text = fmt::format("# after {}", name);
      if (!report.enabled)
        text += " (disabled)\n";
      else if (!report.changed)
        text += " (unchanged)\n";
      else
        text += "\n" + print(module_, {options_.print_locations});
      options_.print(text);
    }
    return options_.stop_after != name;
  }

 private:
  // Numbers below zero mark what is there before a pass: what it makes has others.
  void mark_old(PassReport& report) const {
    if (!options_.observe) return;
    for (const auto& f : module_.functions) {
      report.numbered[f->name] = static_cast<int>(f->body.size());
      for (const auto& op : f->body) op->id = -op->id;
    }
  }

  // Differentiation numbers everything anew, but only adds to the end of functions, and of @train.
  void mark_copied(PassReport& report) const {
    if (!options_.observe) return;
    report.numbered["train_step"] = report.numbered["train"];
    for (const auto& f : module_.functions) {
      int left = report.numbered[f->name];
      for (const auto& op : f->body)
        if (left-- > 0) op->id = -op->id;
    }
  }

  void show(PassReport& report) const {
    if (!options_.observe) return;
    for (const auto& f : module_.functions) {
      const auto known = report.numbered.find(f->name);
      int next = known == report.numbered.end() ? 0 : known->second;
      for (const auto& op : f->body) op->id = op->id < 0 ? -op->id : ++next;
    }
    report.module = &module_;
    options_.observe(report);
    for (const auto& f : module_.functions) f->renumber();
  }

  void verify_after(const std::string& name) const {
    const std::vector<std::string> wrong = verify(module_);
    GRADC_CHECK(wrong.empty(), "pass {} broke the IR: {}", name, wrong.empty() ? "" : wrong.front());
  }
  Module& module_;
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

bool is_tensor_pass(const std::string& name, const char* flag) {
  check_name(name, flag, false);
  return std::any_of(passes().begin(), passes().end(),
                     [&](const Pass& p) { return p.info.name == name && p.stage != Stage::lowering; });
}

bool run_pass(Module& module, const std::string& name) {
  check_name(name, "--pass", false);
  for (const Pass& pass : passes()) {
    if (pass.info.name != name) continue;
    if (pass.stage == Stage::gradient) {
      make_train_step(module);
      return true;
    }
    if (pass.stage == Stage::lowering)
      throw RunError(kExitUsage, fmt::format("{} works on loop IR; it is no pass on tensor IR", name));
    bool changed = false;
    for (const auto& f : module.functions) {
      if (!(pass.stage == Stage::recompute ? recompute(*f, 1) : pass.run(*f))) continue;
      f->renumber();
      changed = true;
    }
    return changed;
  }
  return false;
}

bool run_tensor_passes(Module& module, const PipelineOptions& options) {
  check_names(options);
  Manager manager(module, options);
  for (const Pass& pass : passes())
    if (pass.stage != Stage::lowering && !manager.run(pass)) return false;
  if (!options.verify) {
    const std::vector<std::string> wrong = verify(module);
    GRADC_CHECK(wrong.empty(), "a pass broke the IR (GRADC_VERIFY=on says which): {}", wrong.front());
  }
  return true;
}

std::vector<double> rows_of_panels(const StoredValue& value, int64_t rows, int64_t panel,
                                   const std::function<double(int64_t)>& element) {
  const Type& t = value.op->type;
  const int64_t elements = t.elements();
  std::vector<double> result(static_cast<size_t>(rows * elements));
  std::vector<int64_t> stride(t.shape.size());  // in memory, by axis
  int64_t step = 1;
  for (size_t i = value.order.size(); i-- > 0;) {
    stride[static_cast<size_t>(value.order[i])] = step;
    step *= t.shape[static_cast<size_t>(value.order[i])];
  }
  for (int64_t e = 0; e < elements; ++e) {
    int64_t at = 0, rest = e;
    for (size_t a = t.shape.size(); a-- > 0;) {
      at += rest % t.shape[a] * stride[a];
      rest /= t.shape[a];
    }
    for (int64_t r = 0; r < rows; ++r)
      result[static_cast<size_t>(r * elements + e)] =
          element((r / panel * elements + at) * panel + r % panel);
  }
  return result;
}

Lowered lower(const Module& module, const PipelineOptions& options) {
  Lowered lowered;
  for (const Symbol& s : module.symbols) {
    lowered.symbol_offsets[s.name] = lowered.parameter_bytes;
    lowered.parameter_bytes +=
        lowering::spaced_bytes(s.type.elements() * loop::bytes(lowering::memory_scalar_of(s.type.dtype)));
  }
  std::vector<std::unique_ptr<lowering::Lowering>> functions;
  for (const auto& f : module.functions)
    functions.push_back(std::make_unique<lowering::Lowering>(module, *f, options, lowered.symbol_offsets));
  std::map<const lowering::Lowering*, std::string> before;  // text, where it is printed
  for (const Pass& pass : passes()) {
    if (pass.stage != Stage::lowering) continue;
    const bool wants_print =
        options.print && (listed(options.print_after, pass.info.name) || listed(options.print_after, "all"));
    const bool enabled = !listed(options.disable, pass.info.name);
    for (const auto& l : functions) {
      if (enabled) pass.run_on_loops(*l);
      l->publish_calls();
      if (options.tamper_loops) {
        options.tamper_loops(pass.info, l->result.program);
        for (size_t c = 0; c < l->calls.size(); ++c) l->calls[c].call = l->result.program.calls[c];
      }
      if (options.verify) {
        std::vector<std::string> wrong = loop::verify(l->result.program);
        GRADC_CHECK(wrong.empty(), "pass {} made wrong loop IR of @{}: {}", pass.info.name, l->function.name,
                    wrong.empty() ? "" : wrong.front());
        // Barriers and memory are there after the last pass; what a test makes wrong is for others to find.
        if (options.prove_plans && &pass == &passes().back() && !options.tamper_loops)
          wrong = loop::check_plan(l->result.program, {.batch = options.batch});
        GRADC_CHECK(wrong.empty(), "the plan of @{} is not sound: {}", l->function.name,
                    wrong.empty() ? "" : wrong.front());
      }
      if (options.observe) {
        PassReport report{pass.info};
        report.enabled = report.changed = enabled;
        report.program = &l->result;
        options.observe(report);
      }
      if (!wants_print) continue;
      std::string text = loop::print(l->result.program, options.print_locations);
      const bool same = before[l.get()] == text;
      options.print(fmt::format("# after {} of @{}{}\n{}", pass.info.name, l->function.name,
                                same ? " (unchanged)" : "", same ? "" : text));
      before[l.get()] = std::move(text);
    }
    if (options.stop_after == pass.info.name) {
      lowered.stopped = true;
      break;
    }
  }
  for (const auto& l : functions) lowered.programs.emplace(l->function.name, std::move(l->result));
  return lowered;
}

}  // namespace gradc::passes
