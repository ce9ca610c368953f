// The key of equal object files: a serialisation of everything that code generation reads. Knows nothing of where
// objects are kept.
#include "codegen/emit.h"
#include "codegen/module.h"
#include "codegen/source_hash.h"

namespace gradc::codegen {
namespace {

// Writes every field with its length before it, so that different lists of fields never give the same text.
class KeyWriter {
 public:
  void add(std::string_view part) {
    add(part.size());
    out_ += part;
  }
  void add(uint64_t number) { out_ += std::to_string(number) + ' '; }
  std::string text() { return std::move(out_); }

 private:
  std::string out_;
};

// The version of the loaded library, which a package update may have replaced since gradc was built.
std::string llvm_version() {
  unsigned major = 0, minor = 0, patch = 0;
  LLVMGetVersion(&major, &minor, &patch);
  return std::to_string(major) + '.' + std::to_string(minor) + '.' + std::to_string(patch);
}

}  // namespace

std::string object_key(const Plan& plan, const std::vector<size_t>& jobs, const std::vector<size_t>& entries,
                       const Target& target, const CodegenOptions& options) {
  KeyWriter key;
  key.add(source_hash);
  key.add(llvm_version());
  key.add(target.triple);
  key.add(target.cpu);
  key.add(target.features);
  key.add(static_cast<uint64_t>(target.vector_width));
  key.add(static_cast<uint64_t>(options.debug_info));
  key.add(static_cast<uint64_t>(options.profile));
  key.add(options.symbol_prefix);
  if (options.debug_info) key.add(main_file(plan.programs));

  // This determines the kernels' linkage.
  key.add(static_cast<uint64_t>(jobs.size() == plan.jobs.size() && entries.size() == plan.programs.size()));
  key.add(jobs.size());
  for (const size_t i : jobs) {
    const KernelJob& job = plan.jobs[i];
    key.add(job.symbol);
    if (options.debug_info) key.add(job.kernel->name);  // the name in a debugger
    key.add(static_cast<uint64_t>(job.panel));
    key.add(static_cast<uint64_t>(job.once));
    key.add(std::string(job.exclusive.begin(), job.exclusive.end()));
    key.add(kernel_key(*job.kernel, options.debug_info));
  }

  key.add(entries.size());
  for (const size_t p : entries) {
    loop::Program calls = *plan.programs[p];  // an entry depends on its kernels' symbols only
    calls.kernels.clear();
    key.add(loop::print(calls));
    for (const size_t job : plan.calls[p]) {
      key.add(plan.jobs[job].symbol);
      key.add(plan.jobs[job].kernel->buffers.size());
    }
  }
  return key.text();
}

}  // namespace gradc::codegen
