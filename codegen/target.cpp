// Which machines code can be made for, and what this one is; knows nothing of loop IR.
#include <fmt/format.h>

#include <algorithm>
#include <mutex>
#include <new>

#include "codegen/llvm_target.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::codegen {
namespace {

struct Level {
  const char* name;
  int vector_width, registers;
  std::vector<const char*> features;  // what tells it from the level below
};

// The x86-64 psABI's levels; FMA comes with v3, so that code for v2 rounds a product and a sum each.
const std::vector<Level>& levels() {
  static const std::vector<Level> table = {
      {"x86-64-v2", 4, 16, {"cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"}},
      {"x86-64-v3", 8, 16, {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"}},
      {"x86-64-v4", 16, 32, {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}},
  };
  return table;
}

// Levels this machine runs, lowest first: a prefix of levels().
size_t host_levels(const llvm::StringMap<bool>& features) {
  size_t n = 0;
  for (const Level& level : levels()) {
    if (!std::all_of(level.features.begin(), level.features.end(),
                     [&](const char* f) { return features.lookup(f); }))
      break;
    ++n;
  }
  return n;
}

// What the first `count` levels add up to.
std::string required_features(size_t count) {
  std::vector<std::string> all;
  for (size_t i = 0; i < count; ++i)
    all.insert(all.end(), levels()[i].features.begin(), levels()[i].features.end());
  return fmt::format("{}", fmt::join(all, ","));
}

// Thrown through LLVM's frames, which carry unwind tables but no clean-ups: what they held leaks.
void on_fatal_error(void*, const char* reason, bool) { throw InternalError(fmt::format("LLVM: {}", reason)); }
void on_out_of_memory(void*, const char*, bool) { throw std::bad_alloc(); }

}  // namespace

void initialize_llvm() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    llvm::install_fatal_error_handler(on_fatal_error);
    llvm::install_bad_alloc_error_handler(on_out_of_memory);
  });
}

std::string message(llvm::Error error) { return llvm::toString(std::move(error)); }

std::vector<std::string> target_names() {
  std::vector<std::string> names = {"native"};
  for (const Level& level : levels()) names.push_back(level.name);
  return names;
}

Target find_target(const std::string& name, bool must_run) {
  initialize_llvm();
  const std::string triple = llvm::sys::getProcessTriple();
  const bool x86 = llvm::Triple(triple).getArch() == llvm::Triple::x86_64;
  const auto names = target_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    const std::string near = nearest_name(name, names);
    throw RunError(kExitUsage,
                   fmt::format("unknown target `{}`; known are {}{}", name, fmt::join(names, ", "),
                               near.empty() ? "" : fmt::format("; did you mean `{}`?", near)));
  }
  if (!x86)
    throw RunError(kExitUsage,
                   fmt::format("gradc makes code for x86-64 only, and this machine is {}", triple));

  const llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  const size_t runs = host_levels(host);
  if (name == "native") {
    if (runs == 0)
      throw RunError(kExitUsage, "this CPU lacks SSE4.2, which is the least that gradc makes code for");
    const Level& level = levels()[runs - 1];
    llvm::SubtargetFeatures features;
    for (const auto& f : host) features.AddFeature(f.getKey(), f.getValue());
    std::vector<std::string> sorted = features.getFeatures();
    std::vector<std::string> present;
    for (const std::string& f : sorted)
      if (f[0] == '+') present.push_back(f.substr(1));
    std::sort(present.begin(), present.end());
    std::sort(sorted.begin(),
              sorted.end());  // StringMap has no order of its own, and dumps must not change from run to run
    return {name,
            llvm::sys::getHostCPUName().str(),
            fmt::format("{}", fmt::join(sorted, ",")),
            triple,
            level.vector_width,
            level.registers,
            fmt::format("{}", fmt::join(present, ","))};
  }
  for (size_t i = 0; i < levels().size(); ++i) {
    const Level& level = levels()[i];
    if (name != level.name) continue;
    if (must_run && i >= runs) {
      throw RunError(kExitUsage, fmt::format("target `{}` cannot run here: this CPU ({}) reaches {}", name,
                                             llvm::sys::getHostCPUName().str(),
                                             runs == 0 ? "none of the levels" : levels()[runs - 1].name));
    }
    return {name, name, "", triple, level.vector_width, level.registers, required_features(i + 1)};
  }
  GRADC_CHECK(false, "target `{}` has no level", name);
}

Target find_cpu(const std::string& cpu) {
  initialize_llvm();
  const std::string triple = llvm::sys::getProcessTriple();
  std::string error;
  const llvm::Target* known = llvm::TargetRegistry::lookupTarget(triple, error);
  if (!known) throw RunError(kExitUsage, "LLVM: " + error);
  const std::unique_ptr<llvm::MCSubtargetInfo> any(known->createMCSubtargetInfo(triple, "", ""));
  if (!any->isCPUStringValid(cpu)) {
    std::vector<std::string> names;
    for (const auto& description : any->getAllProcessorDescriptions()) names.emplace_back(description.Key);
    const std::string near = nearest_name(cpu, names);
    throw RunError(kExitUsage,
                   fmt::format("unknown processor `{}`{}; `clang -mcpu=help --target=x86_64` lists them", cpu,
                               near.empty() ? "" : fmt::format("; did you mean `{}`?", near)));
  }
  const std::unique_ptr<llvm::MCSubtargetInfo> info(known->createMCSubtargetInfo(triple, cpu, ""));
  llvm::StringMap<bool> features;
  std::vector<std::string> present;
  for (const auto& feature : info->getAllProcessorFeatures()) {
    const bool has = (info->getFeatureBits() & feature.Implies) == feature.Implies &&
                     info->checkFeatures(std::string("+") + feature.Key);
    features[feature.Key] = has;
    if (has) present.emplace_back(feature.Key);
  }
  const size_t runs = host_levels(features);
  if (runs == 0)
    throw RunError(kExitUsage,
                   fmt::format("`{}` lacks SSE4.2, which is the least that gradc makes code for", cpu));
  const Level& level = levels()[runs - 1];
  return {
      cpu, cpu, "", triple, level.vector_width, level.registers, fmt::format("{}", fmt::join(present, ","))};
}

llvm::orc::JITTargetMachineBuilder machine_builder(const Target& target) {
  initialize_llvm();
  std::string error;
  const llvm::Triple triple(target.triple);
  const llvm::Target* known = llvm::TargetRegistry::lookupTarget(target.triple, error);
  if (!known) throw RunError(kExitUsage, "LLVM: " + error);
  // Asked of a machine without a CPU: one with an unknown CPU would print a warning of its own.
  const std::unique_ptr<llvm::MCSubtargetInfo> cpus(known->createMCSubtargetInfo(target.triple, "", ""));
  if (!cpus->isCPUStringValid(target.cpu))
    throw RunError(kExitUsage, fmt::format("target `{}`: LLVM knows no CPU `{}`", target.name, target.cpu));
  llvm::orc::JITTargetMachineBuilder builder(triple);
  builder.setCPU(target.cpu);
  if (!target.features.empty()) {
    llvm::SmallVector<llvm::StringRef, 128> parts;
    llvm::StringRef(target.features).split(parts, ',');
    builder.addFeatures(std::vector<std::string>(parts.begin(), parts.end()));
  }
  builder.setCodeGenOptLevel(llvm::CodeGenOptLevel::Default);
  builder.setRelocationModel(llvm::Reloc::PIC_);
  builder.setCodeModel(
      llvm::CodeModel::Small);  // a JIT would else get the large one: an address computed for every constant
  return builder;
}

std::unique_ptr<llvm::TargetMachine> make_machine(const Target& target, bool quick) {
  auto builder = machine_builder(target);
  if (quick) builder.setCodeGenOptLevel(llvm::CodeGenOptLevel::None);
  auto machine = builder.createTargetMachine();
  if (!machine)
    throw RunError(kExitUsage, fmt::format("target `{}`: {}", target.name, message(machine.takeError())));
  return std::move(*machine);
}

}  // namespace gradc::codegen
