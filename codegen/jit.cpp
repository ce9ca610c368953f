// Compiled programs in this process through ORC, and the same module as text.
#include "codegen/jit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>
#include <set>

#include "codegen/module.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::codegen {
namespace {

// Everything in one module, for dumps.
std::unique_ptr<llvm::Module> whole_module(llvm::LLVMContext& context,
                                           const std::vector<const loop::Program*>& programs,
                                           const Target& target, llvm::TargetMachine& machine,
                                           const CodegenOptions& options) {
  const Plan plan = make_plan(programs, options);
  std::vector<size_t> jobs(plan.jobs.size()), entries(programs.size());
  std::iota(jobs.begin(), jobs.end(), size_t{0});
  std::iota(entries.begin(), entries.end(), size_t{0});
  return build_module(context, plan, jobs, entries, target, machine, options);
}

// The C library's functions that generated code may call, at the addresses linked here: in a program that loads gradc
// as a plug-in, a search of the process may miss them or find others of these names.
llvm::orc::SymbolMap math_library(llvm::orc::LLJIT& jit) {
  using Function = double (*)(double);
  static const std::pair<const char*, Function> functions[] = {
      {"cos", std::cos}, {"erf", std::erf},     {"exp", std::exp}, {"expm1", std::expm1},
      {"log", std::log}, {"log1p", std::log1p}, {"sin", std::sin}, {"tanh", std::tanh}};
  const auto symbol = [](auto* function) {
    return llvm::orc::ExecutorSymbolDef(llvm::orc::ExecutorAddr::fromPtr(function),
                                        llvm::JITSymbolFlags::Exported | llvm::JITSymbolFlags::Callable);
  };
  llvm::orc::SymbolMap symbols;
  for (const auto& [name, function] : functions) symbols[jit.mangleAndIntern(name)] = symbol(function);
  symbols[jit.mangleAndIntern("pow")] = symbol(static_cast<double (*)(double, double)>(std::pow));
  return symbols;
}

}  // namespace

std::vector<std::vector<std::string>> call_symbols(const std::vector<const loop::Program*>& programs,
                                                   const CodegenOptions& options) {
  const Plan plan = make_plan(programs, options);
  std::vector<std::vector<std::string>> result;
  for (const std::vector<size_t>& jobs : plan.calls) {
    std::vector<std::string>& names = result.emplace_back();
    for (const size_t job : jobs) names.push_back(plan.jobs[job].symbol);
  }
  return result;
}

std::string emit_llvm(const std::vector<const loop::Program*>& programs, const Target& target,
                      const CodegenOptions& options) {
  const LlvmScope scope;
  const auto machine = make_machine(target);
  llvm::LLVMContext context;
  const auto module = whole_module(context, programs, target, *machine, options);
  std::string text;
  llvm::raw_string_ostream out(text);
  module->print(out, nullptr);
  return out.str();
}

std::string emit_assembly(const std::vector<const loop::Program*>& programs, const Target& target,
                          const CodegenOptions& options) {
  const LlvmScope scope;
  const auto machine = make_machine(target);
  llvm::LLVMContext context;
  const auto module = whole_module(context, programs, target, *machine, options);
  llvm::SmallString<0> text;
  llvm::raw_svector_ostream out(text);
  llvm::legacy::PassManager passes;
  if (machine->addPassesToEmitFile(passes, out, nullptr, llvm::CodeGenFileType::AssemblyFile))
    throw InternalError(fmt::format("LLVM writes no assembly for {}", target.triple));
  passes.run(*module);
  return text.str().str();
}

// Registers code with debuggers; gdb searches the process for `__jit_debug_register_code`. LLVM's function is passed by
// address, because an executable that links LLVM does not export its functions. A failure affects debuggers only.
void support_debuggers(llvm::orc::LLJIT& jit) {
  auto* layer = llvm::dyn_cast<llvm::orc::ObjectLinkingLayer>(&jit.getObjLinkingLayer());
  if (!layer) return;
  auto registrar = std::make_unique<llvm::orc::EPCDebugObjectRegistrar>(
      jit.getExecutionSession(), llvm::orc::ExecutorAddr::fromPtr(&llvm_orc_registerJITLoaderGDBWrapper));
  layer->addPlugin(std::make_unique<llvm::orc::DebugObjectManagerPlugin>(
      jit.getExecutionSession(), std::move(registrar), /*RequireDebugSections=*/false,
      /*AutoRegisterCode=*/true));
}

struct Jit::Impl {
  // Compiles stages, links them and finds their entries.
  void add(const std::set<size_t>& stages, ObjectCache* objects) {
    for (Object& object : compile_objects(plan, target, options, objects, {stages.begin(), stages.end()}))
      expect(jit->addObjectFile(std::move(object)), "adding an object");
    for (size_t p = 0; p < plan.programs.size(); ++p)
      if (stages.count(plan.stages[p])) entries[names[p]] = address_of(names[p]).toPtr<gradc_entry>();
    there.insert(stages.begin(), stages.end());
  }

  // Errors of the compilation go to the session's reporter only; the lookup itself reports just a missing symbol.
  llvm::orc::ExecutorAddr address_of(const std::string& name) {
    llvm::Expected<llvm::orc::ExecutorAddr> found = jit->lookup(name);
    if (found) return *found;
    std::string text = message(found.takeError());
    const std::lock_guard lock(reporting);
    if (!reported.empty()) text = reported + "; " + text;
    fail_llvm("linking", text);
  }

  void report(llvm::Error error) {
    const std::lock_guard lock(reporting);
    reported += (reported.empty() ? "" : "; ") + message(std::move(error));
  }

  // Stages that a program still lacks: its own, and those of kernels that it shares with others.
  std::set<size_t> missing(size_t program) const {
    std::set<size_t> stages = {plan.stages[program]};
    for (const size_t job : plan.calls[program]) stages.insert(plan.jobs[job].stage);
    std::erase_if(stages, [&](size_t stage) { return there.count(stage) > 0; });
    return stages;
  }

  Plan plan;
  std::vector<std::string> names;  // of the plan's programs
  Target target;
  CodegenOptions options;
  ObjectCache* cache = nullptr;
  std::unique_ptr<llvm::orc::LLJIT> jit;
  std::mutex compiling, reporting;
  std::string reported;    // errors of the JIT's session
  std::set<size_t> there;  // stages that are compiled; this and the next under the mutex
  std::map<std::string, gradc_entry> entries;
};

Jit::Jit(const std::vector<const loop::Program*>& programs, const Target& target,
         const CodegenOptions& options, ObjectCache* cache, bool wait)
    : impl_(std::make_unique<Impl>()) {
  const LlvmScope scope;
  impl_->plan = make_plan(programs, options);
  for (const loop::Program* p : programs) impl_->names.push_back(p->name);
  impl_->target = target;
  impl_->options = options;
  impl_->jit = expect(llvm::orc::LLJITBuilder().setJITTargetMachineBuilder(machine_builder(target)).create(),
                      "making a JIT");
  llvm::orc::LLJIT& jit = *impl_->jit;
  jit.getExecutionSession().setErrorReporter(
      [impl = impl_.get()](llvm::Error error) { impl->report(std::move(error)); });
  expect(jit.getMainJITDylib().define(llvm::orc::absoluteSymbols(math_library(jit))),
         "giving it the math library");
  const char prefix = jit.getDataLayout().getGlobalPrefix();
  jit.getMainJITDylib().addGenerator(
      expect(llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(prefix),
             "finding the process's symbols"));
  if (options.debug_info) support_debuggers(jit);
  std::set<size_t> stages = {0};
  if (wait) {
    impl_->cache = cache;
  } else {
    stages.insert(impl_->plan.stages.begin(), impl_->plan.stages.end());
  }
  impl_->add(stages, cache);
}

Jit::~Jit() = default;

gradc_entry Jit::compiled(const std::string& program_name) const {
  const std::lock_guard lock(impl_->compiling);
  const auto known = impl_->entries.find(program_name);
  return known == impl_->entries.end() ? nullptr : known->second;
}

gradc_entry Jit::entry(const std::string& program_name) const {
  const std::lock_guard lock(impl_->compiling);
  const auto known = impl_->entries.find(program_name);
  if (known != impl_->entries.end()) return known->second;
  const auto program = std::find(impl_->names.begin(), impl_->names.end(), program_name);
  if (program == impl_->names.end()) return nullptr;
  const auto number = static_cast<size_t>(program - impl_->names.begin());
  const LlvmScope scope;
  impl_->add(impl_->missing(number), impl_->cache);
  return impl_->entries.at(program_name);
}

}  // namespace gradc::codegen
