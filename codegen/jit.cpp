// Compiled programs in this process through ORC, and the same module as text.
#include "codegen/jit.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <map>
#include <thread>

#include "codegen/module.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::codegen {
namespace {

template <class T>
T expect(llvm::Expected<T> value, const char* what) {
  if (!value) throw InternalError(fmt::format("LLVM, {}: {}", what, message(value.takeError())));
  return std::move(*value);
}

void expect(llvm::Error error, const char* what) {
  if (error) throw InternalError(fmt::format("LLVM, {}: {}", what, message(std::move(error))));
}

// Compiling is the one place that may need gigabytes; a user can mend that.
template <class F>
auto within_memory(F&& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    throw RunError(kExitRunFailed, "out of memory while generating code");
  }
}

// Everything in one module, for people to read.
std::unique_ptr<llvm::Module> whole_module(llvm::LLVMContext& context,
                                           const std::vector<const loop::Program*>& programs,
                                           const Target& target, llvm::TargetMachine& machine,
                                           const CodegenOptions& options) {
  const Plan plan = make_plan(programs, options);
  return build_module(context, plan, split(plan, 1)[0], true, target, machine, options);
}

using Object = std::unique_ptr<llvm::MemoryBuffer>;

// How many modules the plan's kernels make. The machine has no say, so that objects are the same on each;
// more parts than this would gain little where there are more processors.
size_t group_count(const Plan& plan) {
  constexpr size_t worth_a_module = 4, most = 16;  // kernels, modules
  return std::clamp<size_t>(plan.jobs.size() / worth_a_module, 1, most);
}

// Kernels are independent of each other, so threads share the modules they are in; each has an LLVM of its
// own. The first module brings the entries.
std::vector<Object> compile(const Plan& plan, const Target& target, const CodegenOptions& options,
                            ObjectCache* cache) {
  const auto groups = split(plan, group_count(plan));
  std::vector<Object> objects(groups.size());
  std::vector<std::string> keys(groups.size());
  std::vector<size_t> missing;
  for (size_t group = 0; group < groups.size(); ++group) {
    if (cache) {
      keys[group] = object_key(plan, groups[group], group == 0, target, options);
      if (const std::optional<std::string> object = cache->load(keys[group]))
        objects[group] = llvm::MemoryBuffer::getMemBufferCopy(*object, "gradc");
    }
    if (!objects[group]) missing.push_back(group);
  }

  std::vector<std::exception_ptr> failures(groups.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t i; (i = next++) < missing.size();) {
      const size_t group = missing[i];
      try {
        const auto machine = make_machine(target);
        llvm::LLVMContext context;
        const auto module = build_module(context, plan, groups[group], group == 0, target, *machine, options);
        objects[group] = expect(llvm::orc::SimpleCompiler(*machine)(*module), "compiling");
        if (cache)
          cache->store(keys[group], {objects[group]->getBufferStart(), objects[group]->getBufferSize()});
      } catch (...) {
        failures[group] = std::current_exception();
      }
    }
  };
  {
    const size_t cores = std::max(1u, std::thread::hardware_concurrency());
    std::vector<std::jthread> threads;  // joins them also when starting one fails
    for (size_t t = 1; t < std::min(cores, missing.size()); ++t) threads.emplace_back(work);
    work();
  }
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
  return objects;
}

}  // namespace

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
    std::vector<Object> objects = compile(plan, target, options, cache);
    impl_->jit =
        expect(llvm::orc::LLJITBuilder().setJITTargetMachineBuilder(machine_builder(target)).create(),
               "making a JIT");
    llvm::orc::LLJIT& jit = *impl_->jit;
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
