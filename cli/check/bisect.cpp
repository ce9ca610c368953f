// `gradc check --bisect-passes`: interprets the model's tensor IR and loop IR after each pass, then runs native code,
// and finds the first step whose results differ from those of the model as written. Knows no operator.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/check/batch.h"
#include "cli/check/check.h"
#include "cli/check/compare.h"
#include "cli/output.h"
#include "compiler/evaluate_ops.h"
#include "ir/loop/interpret.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::cli {

using interpreter::Tensor;

namespace {

constexpr int64_t kMostRows = 6;      // formulas do not depend on their number
constexpr uint64_t kWarmUpSteps = 2;  // so that biases, slots and statistics do not have their initial values
const char* const kNative = "code_generation";
// Loop IR is interpreted up to so many operations, which take seconds; beyond, only when native code is wrong.
constexpr double kMostInterpreted = 1e8;
constexpr int kThreads = 4;  // so that calls with different partitions conflict

// The passes on loop IR, and how their results are interpreted. Programs have barriers from `partition` on; a missing
// one shows in one of the two orders of threads. They have offsets from `plan_memory` on.
struct LoopStage {
  const char* pass;
  std::vector<loop::RunOptions> ways;
};
const LoopStage kLoopStages[] = {
    {"lower", {{.apart = true}}},
    {"segments", {{.apart = true}}},
    {"partition",
     {{.threads = kThreads, .apart = true}, {.threads = kThreads, .reversed = true, .apart = true}}},
    {"plan_memory", {{.threads = kThreads}, {.threads = kThreads, .reversed = true}}}};

// Simulates a wrong pass: every constant of the module becomes 1 % larger.
void make_wrong(Module& module) {
  bool any = false;
  for (const auto& f : module.functions)
    for (const auto& op : f->body) {
      if (op->def->kind != OpKind::source || !op->attributes.has("value") || !op->type.is_float()) continue;
      const double value = op->attributes.number("value");
      if (value == 0 || !std::isfinite(value)) continue;
      op->attributes.set("value", value * 1.01);
      any = true;
    }
  if (!any) throw RunError(kExitUsage, "--break-pass: the model has no constant that could be made wrong");
}

void scale_stores(const std::vector<loop::Stmt>& body) {
  for (const loop::Stmt& s : body) {
    if (s->kind == loop::StmtKind::store && s->value->type.is_float())
      s->value = s->value * loop::constant(loop::Type{s->value->type.scalar, 1}, 1.01);
    scale_stores(s->body);
    scale_stores(s->other);
  }
}

// Simulates a mistake of each pass: another value, another order, no barriers, memory that is shared while it is in
// use.
void make_wrong(const std::string& what, loop::Program& program) {
  if (what == "segments") {
    std::reverse(program.calls.begin(), program.calls.end());
    program.segments.clear();
    for (loop::Allocation& a : program.allocations) {
      if (a.space != loop::Space::local) continue;
      a.space = loop::Space::arena;
      a.offset = (program.arena_bytes + 63) / 64 * 64;
      program.arena_bytes = a.offset + a.elements * loop::bytes(a.scalar);
    }
    program.local_bytes = 0;
  } else if (what == "partition") {
    for (loop::Call& call : program.calls) call.barrier_before = false;
  } else if (what == "plan_memory") {
    for (loop::Allocation& a : program.allocations)
      if (a.space == loop::Space::arena || a.space == loop::Space::local) a.offset = 0;
  } else {
    for (loop::Kernel& kernel : program.kernels) scale_stores(kernel.body);
  }
}

class Bisector {
 public:
  Bisector(const CheckRequest& request, const std::string& break_pass) : request_(request) {
    request_.compile.passes.gradient_outputs = true;
    request_.compile.passes.strict_math = true;  // as for the check itself
    if (break_pass == kNative) {
      // Loop IR is interpreted after the last pass, while native code is generated from a corrupted copy.
      native_ = request_.compile;
      native_.passes.tamper_loops = [](const passes::PassInfo& pass, loop::Program& program) {
        if (pass.name == "plan_memory") make_wrong(kNative, program);
      };
    } else if (!break_pass.empty()) {
      if (passes::is_tensor_pass(break_pass, "--break-pass"))
        request_.compile.passes.tamper = [break_pass](const passes::PassInfo& pass, Module& module) {
          if (pass.name == break_pass) make_wrong(module);
        };
      else
        request_.compile.passes.tamper_loops = [break_pass](const passes::PassInfo& pass,
                                                            loop::Program& program) {
          if (pass.name == break_pass) make_wrong(pass.name, program);
        };
    }
    if (break_pass != kNative) native_ = request_.compile;
    // Reading examples needs the runtime's tables, so compile first; the code is run last.
    compiled_ = std::make_unique<CompiledModel>(native_);
    const int64_t rows = std::min(kMostRows, compiled_->program().batch);
    call_.inputs = first_batch(*compiled_, rows, report_.notes);
    call_.rows = rows_of(call_.inputs);
    call_.seed = request_.seed;
    call_.micro_step = 7;
    call_.scalars[GRADC_SCALAR_STEP] = 7;
    call_.scalars[GRADC_SCALAR_EPOCH] = 1;
    call_.scalars[GRADC_SCALAR_TOTAL] = 100;
    call_.scalars[GRADC_SCALAR_EXAMPLES] = static_cast<double>(call_.rows);
    reference_ = load_model(request_.compile);
    passes::make_train_step(*reference_->model.module, /*gradient_outputs=*/true);
    warm_up();
    for (const char* name : {"train_step", "update", "eval", "predict"})
      if (const Function* f = reference_->model.module->function(name))
        results_[name] = interpreter::run(*f, input_of(*f));
  }

  BisectReport run() {
    const std::unique_ptr<LoadedModel> loaded = load_model(request_.compile);
    Module& module = *loaded->model.module;
    passes::PipelineOptions pipeline =
        pipeline_options(request_.compile, codegen::find_target(request_.compile.target), *loaded);
    pipeline.observe = [&](const passes::PassReport& pass) {
      if (pass.program) loops_[pass.pass.name][pass.program->program.name] = pass.program->program;
      if (!pass.module || report_.culprit()) return;
      BisectReport::Step step{pass.pass.name, pass.enabled, pass.changed};
      // An unchanged module need not be run again, unless a test corrupts it: then `changed` is not reliable.
      if (pass.enabled && (pass.changed || pipeline.tamper)) compare_module(*pass.module, step);
      report_.steps.push_back(step);
    };
    passes::run_tensor_passes(module, pipeline);
    if (report_.culprit()) return std::move(report_);
    const BisectReport::Step native = run_code(kNative, {}, 1);
    if (!native.pass || operations() <= kMostInterpreted) {
      passes::lower(module, pipeline);
      for (const LoopStage& stage : kLoopStages) {
        report_.steps.push_back(run_loops(stage));
        if (report_.culprit()) return std::move(report_);
      }
    } else {
      report_.notes.push_back(
          "the model is large: native code agrees, so loop IR was not interpreted as each of its passes "
          "leaves it; "
          "a barrier that is missing would not be found");
    }
    report_.steps.push_back(native);
    return std::move(report_);
  }

 private:
  CallRequest call_of(const std::string& program) const {
    return program == "update" ? update_call(call_) : call_;
  }

  interpreter::RunInput input_of(const Function& f) const {
    return interpreter_input(f, call_of(f.name), symbols_);
  }

  void warm_up() {
    const Module& m = *reference_->model.module;
    for (const Symbol& s : m.symbols) symbols_[s.name] = interpreter::make_tensor(s.type, 1);
    const auto step = [&](const char* name) {
      const Function* f = m.function(name);
      if (!f) return;
      for (auto& [symbol, value] : interpreter::run(*f, input_of(*f)).updates)
        symbols_[symbol] = std::move(value);
    };
    step("init");
    for (uint64_t i = 0; i < kWarmUpSteps; ++i) {
      step("train_step");
      step("update");
    }
  }

  void compare_module(const Module& module, BisectReport::Step& step) const {
    // Before differentiation, gradients come from a differentiated copy.
    std::unique_ptr<Module> copy;
    if (module.function("train")) {
      ModuleParseResult parsed = parse_module(print(module));
      GRADC_CHECK(parsed.error.empty(), "the IR after {} does not parse: {}", step.name, parsed.error);
      copy = std::move(parsed.module);
      passes::make_train_step(*copy, /*gradient_outputs=*/true);
    }
    for (const auto& [name, expected] : results_) {
      const Function* f = (copy ? *copy : module).function(name);
      GRADC_CHECK(f, "@{} is gone after {}", name, step.name);
      const interpreter::RunResult got = interpreter::run(*f, input_of(*f));
      for (const auto& [value, tensor] : expected.outputs)
        compare_value(name, value, got.outputs.at(value), step);
      for (const auto& [value, tensor] : expected.updates)
        compare_value(name, value, got.updates.at(value), step);
    }
  }

  // An estimate of the operations to interpret the compared programs once; whole panels are computed.
  double operations() const {
    double flop = 0;
    const int64_t batch = compiled_->program().batch;
    for (const auto& [name, expected] : results_) {
      const passes::LoweredProgram& lowered = compiled_->lowered().programs.at(name);
      const int64_t panels = (batch + lowered.program.panel - 1) / lowered.program.panel;
      for (const loop::Call& call : lowered.program.calls)
        flop += static_cast<double>(call.flop) / static_cast<double>(name == "update" ? 1 : panels);
    }
    return flop;
  }

  BisectReport::Step run_loops(const LoopStage& stage) {
    const std::map<std::string, loop::Program>& programs = loops_.at(stage.pass);
    BisectReport::Step step{stage.pass, true, true};
    for (const loop::RunOptions& way : stage.ways) {
      const auto interpret = [&](const std::string& name, const gradc_step_args& args) {
        return loop::interpret(programs.at(name),
                               {args.arena, args.parameters, args.inputs, args.outputs, args.scalars,
                                args.rows, args.row_offset, args.seed, args.micro_step},
                               way);
      };
      const BisectReport::Step run = run_code(stage.pass, interpret, way.threads);
      if (!run.pass) return run;
      if (run.worst >= step.worst) step = run;
    }
    return step;
  }

  // Runs native code, or the engine in its place.
  BisectReport::Step run_code(const char* what, NativeCaller::Engine engine, int threads) {
    BisectReport::Step step{what, true, true};
    NativeCaller caller(*compiled_);
    caller.set_engine(std::move(engine), threads);
    const auto fails = [&](const std::string& program, const std::string& value) {
      step.pass = false;
      step.program = program;
      step.value = value;
      step.worst = INFINITY;
    };
    for (const auto& [name, expected] : results_) {
      for (const auto& [symbol, value] : symbols_)
        if (compiled_->lowered().symbol_offsets.count(symbol)) caller.set_symbol(symbol, value);
      try {
        if (caller.call(name, call_of(name)) != 0) {
          fails(name, "loss");
          continue;
        }
      } catch (const std::runtime_error& error) {  // an access out of bounds
        fails(name, error.what());
        continue;
      }
      for (const auto& [value, tensor] : expected.outputs)
        compare_value(name, value, caller.outputs().at(value), step);
      for (const auto& [value, tensor] : expected.updates)
        if (compiled_->lowered().symbol_offsets.count(value))
          compare_value(name, value, caller.symbol(value), step);
    }
    return step;
  }

  void compare_value(const std::string& program, const std::string& value, const Tensor& got,
                     BisectReport::Step& step) const {
    const interpreter::RunResult& expected = results_.at(program);
    const auto output = expected.outputs.find(value);
    const Tensor& reference = output != expected.outputs.end() ? output->second : expected.updates.at(value);
    const Tolerances tolerances;
    const double tolerance = value.rfind("grad.", 0) == 0 ? tolerances.gradient : tolerances.value;
    const Comparison c = compare(got, reference, tolerance);
    const bool wrong = c.beyond != 0 && !rounding_explains(program, value, got, reference);
    if ((wrong && step.pass) || (wrong == !step.pass && c.max_relative > step.worst)) {
      step.worst = c.max_relative;
      step.program = program;
      step.value = value;
    }
    step.pass = step.pass && !wrong;
  }

  // As for the check: differences that single-precision rounding of the written model makes as well are none.
  bool rounding_explains(const std::string& program, const std::string& value, const Tensor& got,
                         const Tensor& reference) const {
    const Function& f = *reference_->model.module->function(program);
    const Op* op = nullptr;
    for (const Output& o : f.outputs)
      if (o.name == value) op = o.value;
    for (const Update& u : f.updates)
      if (!op && u.symbol == value) op = u.value;
    RoundingBound bound(reference);
    for (uint64_t run = 1; run <= kRoundingRuns; ++run) {
      rounding_run(f, input_of(f), run, [&](const Op& at, const Tensor& moved) {
        if (&at == op) bound.add_run(moved, rounding_size(run));
      });
      if (bound.covers(got, Tolerances().rounding)) return true;
    }
    return false;
  }

  CheckRequest request_;
  CompileRequest native_;  // the request that native code is compiled from
  std::unique_ptr<CompiledModel> compiled_;
  std::map<std::string, std::map<std::string, loop::Program>> loops_;  // by pass and program
  std::unique_ptr<LoadedModel> reference_;
  CallRequest call_;
  Tensors symbols_;
  std::map<std::string, interpreter::RunResult> results_;  // of the reference, by program
  BisectReport report_;
};

}  // namespace

const BisectReport::Step* BisectReport::culprit() const {
  const auto it = std::find_if(steps.begin(), steps.end(), [](const Step& s) { return !s.pass; });
  return it == steps.end() ? nullptr : &*it;
}

BisectReport bisect_passes(const CheckRequest& request, const std::string& break_pass) {
  return Bisector(request, break_pass).run();
}

namespace {

std::string size_of(double relative) {
  return std::isfinite(relative) ? fmt::format("{:.2g} of its size", relative) : "more than a number says";
}

}  // namespace

std::string render_bisect(const BisectReport& report) {
  std::string text;
  for (const std::string& note : report.notes) text += "note: " + note + "\n";
  for (const BisectReport::Step& s : report.steps)
    text +=
        fmt::format("{:<28}{}\n", s.name,
                    !s.enabled ? "left out"
                    : !s.pass  ? fmt::format("DIFFERS  {} of @{} by {}", s.value, s.program, size_of(s.worst))
                    : s.changed ? fmt::format("agrees   {:.2g}", s.worst)
                                : "changed nothing");
  const BisectReport::Step* culprit = report.culprit();
  if (!culprit) return text + "\nPASS: what every step leaves computes what the model file says\n";
  text += fmt::format("\nFAIL: {} is the first whose result disagrees: {} of @{} by {}\n", culprit->name,
                      culprit->value, culprit->program, size_of(culprit->worst));
  if (culprit->name == kNative)
    text +=
        "  = help: loop IR computes the right values: LLVM, or what is made for it (codegen/), does not\n";
  else
    text += fmt::format("  = help: gradc dump MODEL.nn --diff {} shows what it does\n", culprit->name);
  return text;
}

std::string render_bisect_json(const BisectReport& report) {
  using Json = nlohmann::ordered_json;
  const auto number = [](double x) { return std::isfinite(x) ? Json(x) : Json(nullptr); };
  std::string text;
  for (const std::string& note : report.notes) text += json_text({{"event", "note"}, {"text", note}});
  for (const BisectReport::Step& s : report.steps)
    text += json_text({{"event", "pass"},
                       {"name", s.name},
                       {"enabled", s.enabled},
                       {"changed", s.changed},
                       {"program", s.program},
                       {"value", s.value},
                       {"max_relative", number(s.worst)},
                       {"pass", s.pass}});
  const BisectReport::Step* culprit = report.culprit();
  return text + json_text({{"event", "end"},
                           {"first_wrong", culprit ? Json(culprit->name) : Json(nullptr)},
                           {"pass", culprit == nullptr}});
}

}  // namespace gradc::cli
