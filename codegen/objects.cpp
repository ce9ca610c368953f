// Compiles a plan's modules to object files on several threads, or loads them from the cache.
#include <algorithm>
#include <atomic>
#include <exception>
#include <numeric>
#include <system_error>
#include <thread>

#include "codegen/module.h"
#include "support/check.h"

namespace gradc::codegen {
namespace {

// The number of modules for so many kernels. It does not depend on the machine, so that objects are equal everywhere;
// with more processors, more modules would gain little.
size_t group_count(size_t kernels) {
  constexpr size_t worth_a_module = 4, most = 16;  // kernels, modules
  return std::clamp<size_t>(kernels / worth_a_module, 1, most);
}

// A module that is not compiled yet.
struct PendingModule {
  std::vector<size_t> jobs, entries;  // one of them is empty
  std::string key;
};

// Longest first, as far as is known, so that no thread is left with a long one at the end: kernels that run
// once, then the other kernels by falling weight. Entries are long straight-line code of calls and addresses: LLVM's
// optimiser takes long on them and gains nothing, so they have modules of their own.
void add_modules(const Plan& plan, size_t stage, std::vector<PendingModule>& modules) {
  std::vector<size_t> jobs, entries;
  for (size_t job = 0; job < plan.jobs.size(); ++job)
    if (plan.jobs[job].stage == stage) jobs.push_back(job);
  for (size_t p = 0; p < plan.programs.size(); ++p)
    if (plan.stages[p] == stage) entries.push_back(p);
  if (!jobs.empty())
    for (std::vector<size_t>& group : split(plan, jobs, group_count(jobs.size())))
      if (!group.empty()) modules.push_back({std::move(group), {}, {}});
  if (!entries.empty()) modules.push_back({{}, std::move(entries), {}});
}

}  // namespace

std::vector<Object> compile_objects(const Plan& plan, const Target& target, const CodegenOptions& options,
                                    ObjectCache* cache, std::vector<size_t> stages) {
  if (stages.empty()) {
    stages.resize(options.apart.size() + 1);
    std::iota(stages.begin(), stages.end(), size_t{0});
  }
  std::vector<PendingModule> modules;
  for (const size_t stage : stages) add_modules(plan, stage, modules);
  std::vector<Object> objects(modules.size());
  std::vector<size_t> missing;
  for (size_t i = 0; i < modules.size(); ++i) {
    if (cache) {
      modules[i].key = object_key(plan, modules[i].jobs, modules[i].entries, target, options);
      if (const std::optional<std::string> object = cache->load(modules[i].key))
        objects[i] = llvm::MemoryBuffer::getMemBufferCopy(*object, "gradc");
    }
    if (!objects[i]) missing.push_back(i);
  }

  std::vector<std::exception_ptr> failures(modules.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    const LlvmScope scope;
    for (size_t turn; (turn = next++) < missing.size();) {
      const size_t i = missing[turn];
      const PendingModule& pending = modules[i];
      try {
        const auto machine = make_machine(target, /*quick=*/pending.jobs.empty());
        llvm::LLVMContext context;
        context.setDiscardValueNames(true);  // names are for dumps, which use another module
        const auto module =
            build_module(context, plan, pending.jobs, pending.entries, target, *machine, options);
        objects[i] = expect(llvm::orc::SimpleCompiler(*machine)(*module), "compiling");
        if (cache) cache->store(pending.key, {objects[i]->getBufferStart(), objects[i]->getBufferSize()});
      } catch (...) {
        failures[i] = std::current_exception();
      }
    }
  };
  {
    const size_t cores = std::max(1u, std::thread::hardware_concurrency());
    std::vector<std::jthread> threads;
    try {
      for (size_t t = 1; t < std::min(cores, missing.size()); ++t) threads.emplace_back(work);
    } catch (const std::system_error&) {
      // This thread and those that started do the work; objects do not depend on their number.
    }
    work();
  }
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
  return objects;
}

}  // namespace gradc::codegen
