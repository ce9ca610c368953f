// LLVM's side of a Target: set-up of the library, the machine code is made for, and what it can do. Private
// to codegen.
#pragma once
#include <fmt/format.h>

#include "codegen/jit.h"
#include "codegen/llvm_headers.h"
#include "support/check.h"
#include "support/diagnostic.h"

namespace gradc::codegen {

// Registers the back ends and what becomes of LLVM's fatal errors: InternalError, or the end of the process
// where there is no memory (LlvmScope). Cheap after the first call.
void initialize_llvm();

// Throws RunError (exit 2) when LLVM does not know the triple or CPU.
llvm::orc::JITTargetMachineBuilder machine_builder(const Target& target);
// quick: code soon, without optimising it.
std::unique_ptr<llvm::TargetMachine> make_machine(const Target& target, bool quick = false);

inline bool has_neon(const Target& t) { return t.architecture == Architecture::aarch64; }
inline bool has_fma(const Target& t) { return has_neon(t) || t.vector_width >= 8; }
inline bool has_avx512(const Target& t) { return t.vector_width >= 16; }

// The text of an llvm::Error, which it consumes.
std::string message(llvm::Error error);
// Whether a text of LLVM or the system says that there is no memory: error codes do not survive the JIT's
// layers.
bool is_out_of_memory(std::string_view text);

// What LLVM could not do is an InternalError, but for want of memory, which a user can mend: `what` says what
// it was to do.
[[noreturn]] void fail_llvm(const char* what, const std::string& text);

template <class T>
T expect(llvm::Expected<T> value, const char* what) {
  if (!value) fail_llvm(what, message(value.takeError()));
  return std::move(*value);
}

inline void expect(llvm::Error error, const char* what) {
  if (error) fail_llvm(what, message(std::move(error)));
}

// Alive while LLVM's code runs on this thread. LLVM has no way back from an allocation that fails: it is
// built without clean-ups, so an exception through its frames leaves locks held and registries half made, and
// what the process compiles next hangs or crashes. So where memory runs out within the scope the process ends
// at once with kExitRunFailed and a message.
class LlvmScope {
 public:
  LlvmScope();
  ~LlvmScope();
  LlvmScope(const LlvmScope&) = delete;
  LlvmScope& operator=(const LlvmScope&) = delete;
};

}  // namespace gradc::codegen
