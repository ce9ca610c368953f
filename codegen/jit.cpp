// Compiled programs in this process through ORC, and the same module as text.
#include "codegen/jit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "codegen/module.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::codegen {
namespace {

// Everything in one module, for people to read.
std::unique_ptr<llvm::Module> whole_module(llvm::LLVMContext& context,
                                           const std::vector<const loop::Program*>& programs,
                                           const Target& target, llvm::TargetMachine& machine,
                                           const CodegenOptions& options) {
  const Plan plan = make_plan(programs, options);
  return build_module(context, plan, split(plan, 1)[0], true, target, machine, options);
}

// The C library's functions that generated code may call, as they are linked here: in a program that loads
// gradc as a plug-in the search of the process need not find them, and may find others of these names.
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
  return within_memory([&] {
    const auto machine = make_machine(target);
    llvm::LLVMContext context;
    const auto module = whole_module(context, programs, target, *machine, options);
    std::string text;
    llvm::raw_string_ostream out(text);
    module->print(out, nullptr);
    return out.str();
  });
}

std::string emit_assembly(const std::vector<const loop::Program*>& programs, const Target& target,
                          const CodegenOptions& options) {
  return within_memory([&] {
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
  });
}

struct Jit::Impl {
  std::unique_ptr<llvm::orc::LLJIT> jit;
  std::map<std::string, gradc_entry> entries;
};

Jit::Jit(const std::vector<const loop::Program*>& programs, const Target& target,
         const CodegenOptions& options, ObjectCache* cache)
    : impl_(std::make_unique<Impl>()) {
  within_memory([&] {
    const Plan plan = make_plan(programs, options);
    std::vector<Object> objects = compile_objects(plan, target, options, cache);
    impl_->jit =
        expect(llvm::orc::LLJITBuilder().setJITTargetMachineBuilder(machine_builder(target)).create(),
               "making a JIT");
    llvm::orc::LLJIT& jit = *impl_->jit;
    expect(jit.getMainJITDylib().define(llvm::orc::absoluteSymbols(math_library(jit))),
           "giving it the math library");
    const char prefix = jit.getDataLayout().getGlobalPrefix();
    jit.getMainJITDylib().addGenerator(
        expect(llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(prefix),
               "finding the process's symbols"));
    if (options.debug_info)
      llvm::consumeError(llvm::orc::enableDebuggerSupport(jit));  // a debugger's comfort, nothing more
    for (Object& object : objects) expect(jit.addObjectFile(std::move(object)), "adding an object");
    for (const loop::Program* p : programs) {
      const llvm::orc::ExecutorAddr address = expect(jit.lookup(p->name), "linking");
      impl_->entries[p->name] = address.toPtr<gradc_entry>();
    }
  });
}

Jit::~Jit() = default;

gradc_entry Jit::entry(const std::string& program_name) const {
  const auto it = impl_->entries.find(program_name);
  return it == impl_->entries.end() ? nullptr : it->second;
}

}  // namespace gradc::codegen
