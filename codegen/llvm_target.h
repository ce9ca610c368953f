// LLVM's side of a Target: set-up of the library, the target machine and its features. Private to codegen.
#pragma once
#include <fmt/format.h>

#include "codegen/jit.h"
#include "codegen/llvm_headers.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::codegen {

// Registers the back ends and the handler of LLVM's fatal errors: InternalError, or the end of the process where there
// is no memory (LlvmScope). Cheap after the first call.
void initialize_llvm();

// Throws RunError (exit 2) when LLVM does not know the triple or CPU.
llvm::orc::JITTargetMachineBuilder machine_builder(const Target& target);
// quick: compile fast, without optimising.
std::unique_ptr<llvm::TargetMachine> make_machine(const Target& target, bool quick = false);

inline bool has_neon(const Target& t) { return t.architecture == Architecture::aarch64; }
inline bool has_fma(const Target& t) { return has_neon(t) || t.vector_width >= 8; }
inline bool has_avx512(const Target& t) { return t.vector_width >= 16; }

// The text of an llvm::Error, which it consumes.
std::string message(llvm::Error error);
// Whether a message of LLVM or the system reports that there is no memory: the JIT's layers drop error codes.
bool is_out_of_memory(std::string_view text);

// Throws an InternalError for a failure of LLVM, or a RunError if it ran out of memory; `what` names the attempted
// action.
[[noreturn]] void fail_llvm(const char* what, const std::string& text);

template <class T>
T expect(llvm::Expected<T> value, const char* what) {
  if (!value) fail_llvm(what, message(value.takeError()));
  return std::move(*value);
}

inline void expect(llvm::Error error, const char* what) {
  if (error) fail_llvm(what, message(std::move(error)));
}

// Exists while LLVM's code runs on this thread. LLVM cannot recover from a failed allocation: it is built without
// exception clean-ups, so an exception through its frames leaves locks held and registries incomplete, and the next
// compilation hangs or crashes. So where memory runs out within the scope the process ends at once with kExitRunFailed
// and a message.
class LlvmScope {
 public:
  LlvmScope();
  ~LlvmScope();
  LlvmScope(const LlvmScope&) = delete;
  LlvmScope& operator=(const LlvmScope&) = delete;
};

}  // namespace gradc::codegen
