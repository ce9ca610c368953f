// A plan's modules to object files, several at once, or out of the cache.
#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

#include "codegen/module.h"
#include "support/check.h"

namespace gradc::codegen {
namespace {

// How many modules the plan's kernels make. The machine has no say, so that objects are the same on each;
// more parts than this would gain little where there are more processors.
size_t group_count(const Plan& plan) {
  constexpr size_t worth_a_module = 4, most = 16;  // kernels, modules
  return std::clamp<size_t>(plan.jobs.size() / worth_a_module, 1, most);
}

}  // namespace

std::vector<Object> compile_objects(const Plan& plan, const Target& target, const CodegenOptions& options,
                                    ObjectCache* cache) {
  auto groups = split(plan, group_count(plan));
  // Entries are long and straight, calls and addresses: what LLVM's optimiser takes for them it does not give
  // back.
  groups.insert(groups.begin(), std::vector<size_t>());
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
        const auto machine = make_machine(target, /*quick=*/group == 0);
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

}  // namespace gradc::codegen
