// The targets that code can be generated for, and this machine's; knows nothing of loop IR.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <mutex>
#include <new>
#include <optional>
#include <thread>

#include "codegen/llvm_target.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::codegen {
namespace {

struct Level {
  Architecture architecture;
  const char* name;
  int vector_width, registers;
  std::vector<const char*> features;  // its features beyond the level below
};

// The x86-64 psABI's levels; FMA comes with v3, so that code for v2 rounds a product and a sum each. For aarch64 the
// features of every processor: NEON, with FMA.
const std::vector<Level>& levels() {
  constexpr auto x86 = Architecture::x86_64, arm = Architecture::aarch64;
  static const std::vector<Level> table = {
      {x86, "x86-64-v2", 4, 16, {"cx16", "sahf", "popcnt", "sse3", "ssse3", "sse4.1", "sse4.2"}},
      {x86, "x86-64-v3", 8, 16, {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave"}},
      {x86, "x86-64-v4", 16, 32, {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}},
      {arm, "aarch64", 4, 32, {"fp-armv8", "neon"}},
  };
  return table;
}

std::vector<Level> levels(Architecture architecture) {
  std::vector<Level> result;
  std::copy_if(levels().begin(), levels().end(), std::back_inserter(result),
               [&](const Level& level) { return level.architecture == architecture; });
  return result;
}

// The highest level of the architecture that a processor with these features supports; none: not even the lowest.
std::optional<Level> reached(Architecture architecture, const llvm::StringMap<bool>& features) {
  std::optional<Level> highest;
  for (const Level& level : levels(architecture)) {
    if (!std::all_of(level.features.begin(), level.features.end(),
                     [&](const char* f) { return features.lookup(f); }))
      break;
    highest = level;
  }
  return highest;
}

// The features of all levels of an architecture up to this one.
std::string required_features(const Level& level) {
  std::vector<std::string> all;
  for (const Level& below : levels(level.architecture)) {
    all.insert(all.end(), below.features.begin(), below.features.end());
    if (std::string_view(below.name) == level.name) break;
  }
  return fmt::format("{}", fmt::join(all, ","));
}

std::string too_little(const std::string& what, Architecture architecture) {
  return fmt::format("{} lacks {}, which is the least that gradc makes code for", what,
                     architecture == Architecture::x86_64 ? "SSE4.2" : "NEON");
}

std::optional<Architecture> architecture_of(const std::string& triple) {
  switch (llvm::Triple(triple).getArch()) {
    case llvm::Triple::x86_64: return Architecture::x86_64;
    case llvm::Triple::aarch64: return Architecture::aarch64;
    default: return std::nullopt;
  }
}

// This machine's own triple where it is of that architecture.
std::string triple_for(Architecture architecture) {
  std::string here = llvm::sys::getProcessTriple();
  if (architecture_of(here) == architecture) return here;
  return architecture == Architecture::x86_64 ? "x86_64-unknown-linux-gnu" : "aarch64-unknown-linux-gnu";
}

thread_local int llvm_scopes = 0;         // alive on this thread
std::new_handler next_handler = nullptr;  // the host's, if it has one

// Allocates nothing, and runs no destructors: other threads are still running.
[[noreturn]] void end_out_of_memory() {
  static std::atomic_flag said;
  while (said.test_and_set()) std::this_thread::sleep_for(std::chrono::seconds(1));  // another is about to
  std::fputs(
      "gradc: out of memory while generating code; give the process more (ulimit -v, the control group), or "
      "compile a smaller model\n",
      stderr);
  std::_Exit(kExitRunFailed);
}

// Called by operator new where it finds no memory.
void on_new_failed() {
  if (llvm_scopes > 0) end_out_of_memory();
  if (!next_handler) throw std::bad_alloc();
  next_handler();
}

// An InternalError passes LLVM's frames, which carry unwind tables but no clean-ups: what they held leaks.
void on_fatal_error(void*, const char* reason, bool) {
  if (is_out_of_memory(reason)) end_out_of_memory();
  throw InternalError(fmt::format("LLVM: {}", reason));
}
void on_out_of_memory(void*, const char*, bool) { end_out_of_memory(); }

}  // namespace

LlvmScope::LlvmScope() {
  ++llvm_scopes;
  initialize_llvm();
}
LlvmScope::~LlvmScope() { --llvm_scopes; }

void initialize_llvm() {
  static std::once_flag once;
  std::call_once(once, [] {
    next_handler = std::set_new_handler(on_new_failed);
#if LLVM_HAS_X86_TARGET
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
#endif
#if LLVM_HAS_AARCH64_TARGET
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64Target();
    LLVMInitializeAArch64TargetMC();
    LLVMInitializeAArch64AsmPrinter();
#endif
    llvm::install_fatal_error_handler(on_fatal_error);
    llvm::install_bad_alloc_error_handler(on_out_of_memory);
  });
}

std::string message(llvm::Error error) { return llvm::toString(std::move(error)); }

bool is_out_of_memory(std::string_view text) {
  for (const char* said :
       {"Cannot allocate memory", "allocate section memory", "out of memory", "Out of memory"})
    if (text.find(said) != text.npos) return true;
  return false;
}

void fail_llvm(const char* what, const std::string& text) {
  if (is_out_of_memory(text))
    throw RunError(kExitRunFailed, fmt::format("out of memory while compiling, {}: {}", what, text));
  throw InternalError(fmt::format("LLVM, {}: {}", what, text));
}

const char* name(Architecture architecture) {
  return architecture == Architecture::x86_64 ? "x86-64" : "aarch64";
}

Architecture host_architecture() {
  const std::string triple = llvm::sys::getProcessTriple();
  if (const auto architecture = architecture_of(triple)) return *architecture;
  throw RunError(kExitUsage,
                 fmt::format("gradc makes code for x86-64 and aarch64, and this machine is {}", triple));
}

std::vector<std::string> target_names() {
  std::vector<std::string> names = {"native"};
  for (const Level& level : levels()) names.emplace_back(level.name);
  return names;
}

std::vector<std::string> target_names(Architecture architecture) {
  std::vector<std::string> names;
  for (const Level& level : levels(architecture)) names.emplace_back(level.name);
  return names;
}

Target find_target(const std::string& name, bool must_run) {
  initialize_llvm();
  const auto names = target_names();
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    const std::string near = nearest_name(name, names);
    throw RunError(kExitUsage,
                   fmt::format("unknown target `{}`; known are {}{}", name, fmt::join(names, ", "),
                               near.empty() ? "" : fmt::format("; did you mean `{}`?", near)));
  }
  if (name == "native") {
    const Architecture here = host_architecture();
    const llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
    const std::optional<Level> level = reached(here, host);
    if (!level) throw RunError(kExitUsage, too_little("this CPU", here));
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
            here,
            llvm::sys::getHostCPUName().str(),
            fmt::format("{}", fmt::join(sorted, ",")),
            triple_for(here),
            level->vector_width,
            level->registers,
            fmt::format("{}", fmt::join(present, ","))};
  }
  const Level& level =
      *std::find_if(levels().begin(), levels().end(), [&](const Level& l) { return name == l.name; });
  if (must_run) {
    const Architecture here = host_architecture();
    if (level.architecture != here)
      throw RunError(kExitUsage, fmt::format("target `{0}` cannot run here: this machine is {1}; `gradc "
                                             "compile MODEL --target {0}` makes a program for such a machine",
                                             name, codegen::name(here)));
    const std::optional<Level> runs = reached(here, llvm::sys::getHostCPUFeatures());
    if (!runs || runs->vector_width < level.vector_width)
      throw RunError(kExitUsage, fmt::format("target `{}` cannot run here: this CPU ({}) reaches {}", name,
                                             llvm::sys::getHostCPUName().str(),
                                             runs ? runs->name : "none of the levels"));
  }
  // LLVM has no aarch64 processor of the level's name.
  const bool arm = level.architecture == Architecture::aarch64;
  return {name,
          level.architecture,
          arm ? "generic" : name,
          "",
          triple_for(level.architecture),
          level.vector_width,
          level.registers,
          required_features(level)};
}

Target find_cpu(const std::string& cpu) {
  initialize_llvm();
  std::vector<std::string> names;
  for (const Architecture architecture : {Architecture::x86_64, Architecture::aarch64}) {
    const std::string triple = triple_for(architecture);
    std::string error;
    const llvm::Target* known = llvm::TargetRegistry::lookupTarget(triple, error);
    if (!known) throw RunError(kExitUsage, "LLVM: " + error);
    const std::unique_ptr<llvm::MCSubtargetInfo> any(known->createMCSubtargetInfo(triple, "", ""));
    if (!any->isCPUStringValid(cpu)) {
      for (const auto& description : any->getAllProcessorDescriptions()) names.emplace_back(description.Key);
      continue;
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
    const std::optional<Level> level = reached(architecture, features);
    if (!level) throw RunError(kExitUsage, too_little(fmt::format("`{}`", cpu), architecture));
    return {cpu,
            architecture,
            cpu,
            "",
            triple,
            level->vector_width,
            level->registers,
            fmt::format("{}", fmt::join(present, ","))};
  }
  const std::string near = nearest_name(cpu, names);
  throw RunError(
      kExitUsage,
      fmt::format("unknown processor `{}`{}; `clang -mcpu=help --target=x86_64` (or aarch64) lists them", cpu,
                  near.empty() ? "" : fmt::format("; did you mean `{}`?", near)));
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
      llvm::CodeModel::Small);  // the JIT's default, large, computes an address for every constant
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
