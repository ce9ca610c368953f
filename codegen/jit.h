// Loop IR to native code through LLVM, in memory (ORC). Does not expose LLVM's headers.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/loop/loop_ir.h"
#include "runtime/abi.h"

namespace gradc::codegen {

enum class Architecture { x86_64, aarch64 };
const char* name(Architecture architecture);  // "x86-64", "aarch64"
// This machine's. Throws RunError (exit 2) when it is neither.
Architecture host_architecture();

// The processor that code is generated for. vector_width: f32 lanes of one register. registers: vector registers.
struct Target {
  std::string name;  // "native", "x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"
  Architecture architecture = Architecture::x86_64;
  std::string cpu;       // LLVM's CPU name
  std::string features;  // LLVM's feature string
  std::string triple;
  int vector_width = 16;
  int registers = 32;
  std::string required;  // features the processor must have: LLVM's names, separated by commas
};

// Throws RunError (exit 2) with the known names when `name` is unknown, or cannot run on this machine and
// `must_run`.
Target find_target(const std::string& name, bool must_run = true);
std::vector<std::string> target_names();
// The targets of one architecture, from the least demanding on; without "native".
std::vector<std::string> target_names(Architecture architecture);
// The target of a processor by LLVM's name ("znver4", "neoverse-n1"), which need not be the one here. Throws
// RunError (exit 2).
Target find_cpu(const std::string& cpu);

struct CodegenOptions {
  bool debug_info = true;
  bool verify = true;  // LLVM's verifier on the module
  // Programs whose own kernels and entries are in separate modules, in this order, so that a Jit can defer their
  // compilation. The code is the same in any module.
  std::vector<std::string> apart;
  bool profile = false;  // entries write gradc_step_args.profile
  // A prefix of the names of kernels and entries, which then are hidden: for objects that are linked into an executable
  // or a library. Empty: for the JIT, which looks entries up by their programs' names.
  std::string symbol_prefix;
};

// For each program, the names of its calls' functions in generated code: calls of equal kernels share one.
std::vector<std::vector<std::string>> call_symbols(const std::vector<const loop::Program*>& programs,
                                                   const CodegenOptions& options = {});

// Text of the LLVM module after our pass pipeline, and its assembly, for dumps.
std::string emit_llvm(const std::vector<const loop::Program*>& programs, const Target& target,
                      const CodegenOptions& options = {});
std::string emit_assembly(const std::vector<const loop::Program*>& programs, const Target& target,
                          const CodegenOptions& options = {});

// Object files of earlier compilations. A key contains all that determines an object's bytes, in an unspecified form
// and of any length. Several threads call it at once; neither function throws, since code can always be generated
// again.
class ObjectCache {
 public:
  virtual ~ObjectCache() = default;
  virtual std::optional<std::string> load(const std::string& key) noexcept = 0;
  virtual void store(const std::string& key, std::string_view object) noexcept = 0;
};

// Compiled programs; entry points live as long as the object.
class Jit {
 public:
  // With `wait` the compilation of programs in options.apart is deferred to their first entry(): until then they and
  // `cache` (null: none) must exist. Otherwise `cache` is used only by the constructor. Kernel bodies of all other
  // programs are not read again.
  Jit(const std::vector<const loop::Program*>& programs, const Target& target,
      const CodegenOptions& options = {}, ObjectCache* cache = nullptr, bool wait = false);
  ~Jit();
  Jit(const Jit&) = delete;
  // Null when there is none. Thread-safe: one thread compiles a deferred program, the others wait for it. Throws what
  // compiling throws; the next call tries again.
  gradc_entry entry(const std::string& program_name) const;
  // The same, or null where compilation is deferred.
  gradc_entry compiled(const std::string& program_name) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace gradc::codegen
