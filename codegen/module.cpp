// Programs to one LLVM module: equal kernels once, then an entry a program, then the clean-up passes.
#include "codegen/module.h"

#include <fmt/format.h>

#include <algorithm>

#include "codegen/emit.h"
#include "support/check.h"

namespace gradc::codegen {
namespace {

// Bytes [begin, end) of a space; inputs and outputs are whole pointers, each its own range.
struct Range {
  loop::Space space;
  int64_t begin, end;
};

Range range(const loop::Program& p, const loop::Allocation& a) {
  if (a.space == loop::Space::local) return {a.space, a.offset, a.offset + panel_bytes(p, a)};
  if (a.space == loop::Space::arena || a.space == loop::Space::parameter || a.space == loop::Space::scratch)
    return {a.space, a.offset, a.offset + a.elements * loop::bytes(a.scalar)};
  if (a.space == loop::Space::scalars) return {a.space, 0, 1};
  return {a.space, a.offset, a.offset + 1};
}

bool overlap(const loop::Program& p, const loop::Allocation& a, const loop::Allocation& b) {
  const Range x = range(p, a), y = range(p, b);
  return x.space == y.space && x.begin < y.end && y.begin < x.end;
}

void check(const llvm::Module& module, const char* when) {
  std::string text;
  llvm::raw_string_ostream out(text);
  if (llvm::verifyModule(module, &out))
    throw InternalError(fmt::format("LLVM's verifier, {}: {}", when, out.str()));
}

// Whether each of a call's buffers overlaps no other one, except where both are only read.
std::vector<bool> exclusive_buffers(const loop::Program& program, const loop::Call& call) {
  const loop::Kernel& kernel = program.kernels[static_cast<size_t>(call.kernel)];
  const auto allocation = [&](size_t i) -> const loop::Allocation& {
    return program.allocations[static_cast<size_t>(call.buffers[i].allocation)];
  };
  std::vector<bool> exclusive(kernel.buffers.size(), true);
  for (size_t i = 0; i < exclusive.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const bool written =
          kernel.buffers[i]->access != loop::Access::read || kernel.buffers[j]->access != loop::Access::read;
      if (written && (call.buffers[i].allocation == call.buffers[j].allocation ||
                      overlap(program, allocation(i), allocation(j))))
        exclusive[i] = exclusive[j] = false;
    }
  return exclusive;
}

// The clean-ups that loop IR needs and little more: no vectoriser, no unroller, no inliner.
void optimize(llvm::Module& module, llvm::TargetMachine& machine) {
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager components;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(&machine);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(components);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, components, modules);

  llvm::FunctionPassManager passes;
  passes.addPass(llvm::SROAPass(llvm::SROAOptions::ModifyCFG));
  passes.addPass(llvm::EarlyCSEPass(true));
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::SimplifyCFGPass());
  llvm::LoopPassManager loop_passes;
  loop_passes.addPass(llvm::LICMPass(llvm::LICMOptions()));
  passes.addPass(llvm::createFunctionToLoopPassAdaptor(std::move(loop_passes), true));
  passes.addPass(llvm::EarlyCSEPass(true));
  passes.addPass(llvm::DCEPass());
  llvm::ModulePassManager all;
  all.addPass(llvm::createModuleToFunctionPassAdaptor(std::move(passes)));
  all.run(module, modules);
}

}  // namespace

void set_function_attributes(llvm::Function& f, const Target& target) {
  f.addFnAttr(llvm::Attribute::NoUnwind);
  f.addFnAttr("target-cpu", target.cpu);
  if (!target.features.empty()) f.addFnAttr("target-features", target.features);
  f.addFnAttr("denormal-fp-math", "preserve-sign,preserve-sign");  // the entry sets FTZ and DAZ
  if (has_avx512(target)) {  // LLVM prefers 256 bits on many CPUs that have 512
    f.addFnAttr("prefer-vector-width", "512");
    f.addFnAttr("min-legal-vector-width", "512");
  }
}

std::string main_file(const std::vector<const loop::Program*>& programs) {
  for (const loop::Program* p : programs)
    for (const loop::Kernel& k : p->kernels)
      for (const Location& l : k.locations)
        if (l.file && !l.file->starts_with("prelude/")) return *l.file;
  return "model.nn";
}

Plan make_plan(const std::vector<const loop::Program*>& programs, const CodegenOptions& options) {
  Plan plan;
  plan.programs = programs;
  std::map<std::string, size_t> known;  // job by structure, panel and aliasing
  std::set<std::string> names;          // of programs and kernels
  for (const loop::Program* program : programs) {
    GRADC_CHECK(names.insert(program->name).second, "two programs are called `{}`", program->name);
    const std::vector<std::string> errors = loop::verify(*program);
    GRADC_CHECK(errors.empty(), "program `{}`: {}", program->name, errors.front());
  }
  for (const loop::Program* program : programs) {
    const auto it = std::find(options.apart.begin(), options.apart.end(), program->name);
    plan.stages.push_back(it == options.apart.end() ? 0
                                                    : static_cast<size_t>(it - options.apart.begin()) + 1);
  }
  for (const loop::Program* program : programs) {
    const size_t stage = plan.stages[plan.calls.size()];
    std::vector<size_t>& calls = plan.calls.emplace_back();
    std::vector<std::string> keys(program->kernels.size());
    for (const loop::Call& call : program->calls) {
      const loop::Kernel& kernel = program->kernels[static_cast<size_t>(call.kernel)];
      std::string& key = keys[static_cast<size_t>(call.kernel)];
      if (key.empty()) key = kernel_key(kernel);
      const std::vector<bool> exclusive = exclusive_buffers(*program, call);
      std::string full = fmt::format("{}{} ", program->panel, program->once ? " once" : "");
      for (const bool e : exclusive) full += e ? '1' : '0';
      const auto [it, fresh] = known.emplace(full + key, plan.jobs.size());
      if (fresh) {
        const std::string base = options.symbol_prefix + program->name + "." + kernel.name;
        std::string symbol = base;
        for (int n = 1; !names.insert(symbol).second; ++n) symbol = fmt::format("{}.{}", base, n);
        plan.jobs.push_back(
            {&kernel, program->panel, exclusive, std::move(symbol), program->once, key.size() + 500, stage});
      }
      KernelJob& job = plan.jobs[it->second];
      if (stage < job.stage) {  // the kernel must exist only until that stage is compiled
        job.stage = stage;
        job.kernel = &kernel;
      }
      calls.push_back(it->second);
    }
  }
  return plan;
}

std::vector<std::vector<size_t>> split(const Plan& plan, const std::vector<size_t>& jobs, size_t groups) {
  struct Piece {
    size_t weight = 0;
    std::vector<size_t> jobs;
  };
  std::vector<Piece> pieces(1);  // the first: what runs once
  for (const size_t job : jobs) {
    Piece& piece = plan.jobs[job].once ? pieces[0] : pieces.emplace_back();
    piece.weight +=
        plan.jobs[job].weight * (plan.jobs[job].once ? 3 : 1);  // initial values draw random numbers
    piece.jobs.push_back(job);
  }
  std::stable_sort(pieces.begin() + 1, pieces.end(),
                   [](const Piece& a, const Piece& b) { return a.weight > b.weight; });
  std::vector<std::vector<size_t>> parts(groups);
  std::vector<size_t> loads(groups);
  for (const Piece& piece : pieces) {  // the heaviest first, each to the group with the least to do
    const auto least = static_cast<size_t>(std::min_element(loads.begin(), loads.end()) - loads.begin());
    parts[least].insert(parts[least].end(), piece.jobs.begin(), piece.jobs.end());
    loads[least] += piece.weight;
  }
  for (auto& part : parts) std::sort(part.begin(), part.end());
  return parts;
}

std::unique_ptr<llvm::Module> build_module(llvm::LLVMContext& context, const Plan& plan,
                                           const std::vector<size_t>& jobs,
                                           const std::vector<size_t>& entries, const Target& target,
                                           llvm::TargetMachine& machine, const CodegenOptions& options) {
  auto module = std::make_unique<llvm::Module>("gradc", context);
  module->setTargetTriple(target.triple);
  module->setDataLayout(machine.createDataLayout());
  std::unique_ptr<DebugInfo> debug;
  if (options.debug_info) debug = std::make_unique<DebugInfo>(*module, main_file(plan.programs));
  EmitContext emit{*module, target, debug.get()};

  const bool all = entries.size() == plan.programs.size() && jobs.size() == plan.jobs.size();
  std::vector<llvm::Function*> functions(plan.jobs.size());
  for (const size_t i : jobs) {
    const KernelJob& job = plan.jobs[i];
    emit.small = job.once;
    functions[i] = emit_kernel(emit, *job.kernel, job.panel, job.exclusive, job.symbol,
                               all ? llvm::GlobalValue::InternalLinkage : llvm::GlobalValue::ExternalLinkage);
  }
  for (const size_t p : entries)
    for (const size_t i : plan.calls[p]) {
      if (functions[i]) continue;
      functions[i] = llvm::Function::Create(kernel_type(context, *plan.jobs[i].kernel),
                                            llvm::GlobalValue::ExternalLinkage, plan.jobs[i].symbol, *module);
    }
  for (llvm::Function* f : functions)
    if (f && !all && !options.symbol_prefix.empty()) f->setVisibility(llvm::GlobalValue::HiddenVisibility);
  for (const size_t p : entries) {
    std::vector<llvm::Function*> callees;
    for (const size_t job : plan.calls[p]) callees.push_back(functions[job]);
    const std::string symbol = options.symbol_prefix + plan.programs[p]->name;
    llvm::Function* f = emit_entry(emit, *plan.programs[p], symbol, callees, options.profile);
    if (!options.symbol_prefix.empty()) f->setVisibility(llvm::GlobalValue::HiddenVisibility);
  }
  if (debug) debug->finish();
  if (options.verify) check(*module, "before the passes");
  if (!jobs.empty()) optimize(*module, machine);
  if (options.verify) check(*module, "after the passes");
  return module;
}

}  // namespace gradc::codegen
