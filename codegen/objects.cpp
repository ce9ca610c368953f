// A plan's modules to object files, several at once, or out of the cache.
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

// How many modules so many kernels make. The machine has no say, so that objects are the same on each; more
// parts than this would gain little where there are more processors.
size_t group_count(size_t kernels) {
  constexpr size_t worth_a_module = 4, most = 16;  // kernels, modules
  return std::clamp<size_t>(kernels / worth_a_module, 1, most);
}

// One module to be.
struct Part {
  std::vector<size_t> jobs, entries;  // one of them is empty
  std::string key;
};

// Longest first, as far as is known, so that no thread is left with a long one at the end: kernels that run
// once, then the other kernels by falling weight. Entries are long and straight, calls and addresses: what
// LLVM's optimiser takes for them it does not give back, hence modules of their own.
void add_parts(const Plan& plan, size_t stage, std::vector<Part>& parts) {
  std::vector<size_t> jobs, entries;
  for (size_t job = 0; job < plan.jobs.size(); ++job)
    if (plan.jobs[job].stage == stage) jobs.push_back(job);
  for (size_t p = 0; p < plan.programs.size(); ++p)
    if (plan.stages[p] == stage) entries.push_back(p);
  if (!jobs.empty())
    for (std::vector<size_t>& group : split(plan, jobs, group_count(jobs.size())))
      if (!group.empty()) parts.push_back({std::move(group), {}, {}});
  if (!entries.empty()) parts.push_back({{}, std::move(entries), {}});
}

}  // namespace

std::vector<Object> compile_objects(const Plan& plan, const Target& target, const CodegenOptions& options,
                                    ObjectCache* cache, std::vector<size_t> stages) {
  if (stages.empty()) {
    stages.resize(options.apart.size() + 1);
    std::iota(stages.begin(), stages.end(), size_t{0});
  }
  std::vector<Part> parts;
  for (const size_t stage : stages) add_parts(plan, stage, parts);
  std::vector<Object> objects(parts.size());
  std::vector<size_t> missing;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (cache) {
      parts[i].key = object_key(plan, parts[i].jobs, parts[i].entries, target, options);
      if (const std::optional<std::string> object = cache->load(parts[i].key))
        objects[i] = llvm::MemoryBuffer::getMemBufferCopy(*object, "gradc");
    }
    if (!objects[i]) missing.push_back(i);
  }

  std::vector<std::exception_ptr> failures(parts.size());
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    const LlvmScope scope;
    for (size_t turn; (turn = next++) < missing.size();) {
      const size_t i = missing[turn];
      const Part& part = parts[i];
      try {
        const auto machine = make_machine(target, /*quick=*/part.jobs.empty());
        llvm::LLVMContext context;
        context.setDiscardValueNames(true);  // for people, who read another module
        const auto module = build_module(context, plan, part.jobs, part.entries, target, *machine, options);
        objects[i] = expect(llvm::orc::SimpleCompiler(*machine)(*module), "compiling");
        if (cache) cache->store(part.key, {objects[i]->getBufferStart(), objects[i]->getBufferSize()});
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
      // This thread does it with those that there are; objects do not depend on how many.
    }
    work();
  }
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
  return objects;
}

}  // namespace gradc::codegen
