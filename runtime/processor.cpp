// Reads CPUID through the compiler's builtin, which takes only string literals; on aarch64 asks the kernel.
#include "runtime/processor.h"

#include <map>
#include <sstream>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace gradc::runtime {
namespace {

// Features that can be queried, and whether the processor has them.
std::map<std::string, bool> known_features() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#define GRADC_HAS(name) {name, __builtin_cpu_supports(name) != 0}
  return {GRADC_HAS("sse3"),         GRADC_HAS("ssse3"),
          GRADC_HAS("sse4.1"),       GRADC_HAS("sse4.2"),
          GRADC_HAS("popcnt"),       GRADC_HAS("avx"),
          GRADC_HAS("avx2"),         GRADC_HAS("bmi"),
          GRADC_HAS("bmi2"),         GRADC_HAS("fma"),
          GRADC_HAS("f16c"),         GRADC_HAS("lzcnt"),
          GRADC_HAS("movbe"),        GRADC_HAS("avx512f"),
          GRADC_HAS("avx512bw"),     GRADC_HAS("avx512cd"),
          GRADC_HAS("avx512dq"),     GRADC_HAS("avx512vl"),
          GRADC_HAS("avx512vbmi"),   GRADC_HAS("avx512ifma"),
          GRADC_HAS("avx512vbmi2"),  GRADC_HAS("avx512vnni"),
          GRADC_HAS("avx512bitalg"), GRADC_HAS("avx512vpopcntdq"),
          GRADC_HAS("avx512bf16"),   GRADC_HAS("avx512vp2intersect"),
          GRADC_HAS("fma4"),         GRADC_HAS("xop"),
          GRADC_HAS("sse4a"),        GRADC_HAS("gfni"),
          GRADC_HAS("vpclmulqdq"),   GRADC_HAS("avxvnni"),
          GRADC_HAS("avx512fp16")};
#undef GRADC_HAS
#elif defined(__aarch64__) && defined(__linux__)
  // The kernel's hwcaps (Documentation/arm64/elf_hwcaps.rst) of what LLVM may use in generated code.
  const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
#define GRADC_HAS(name, bit) {name, (first & HWCAP_##bit) != 0}
#define GRADC_HAS2(name, bit) {name, (second & HWCAP2_##bit) != 0}
  return {GRADC_HAS("fp-armv8", FP),
          GRADC_HAS("neon", ASIMD),
          GRADC_HAS("aes", AES),
          GRADC_HAS("sha2", SHA2),
          GRADC_HAS("crc", CRC32),
          GRADC_HAS("lse", ATOMICS),
          GRADC_HAS("fullfp16", ASIMDHP),
          GRADC_HAS("rdm", ASIMDRDM),
          GRADC_HAS("jsconv", JSCVT),
          GRADC_HAS("complxnum", FCMA),
          GRADC_HAS("rcpc", LRCPC),
          GRADC_HAS("rcpc-immo", ILRCPC),
          GRADC_HAS("sha3", SHA3),
          GRADC_HAS("sm4", SM4),
          GRADC_HAS("dotprod", ASIMDDP),
          GRADC_HAS("fp16fml", ASIMDFHM),
          GRADC_HAS("flagm", FLAGM),
          GRADC_HAS2("altnzcv", FLAGM2),
          GRADC_HAS("sve", SVE),
          GRADC_HAS2("sve2", SVE2),
          GRADC_HAS2("sve2-aes", SVEAES),
          GRADC_HAS2("sve2-bitperm", SVEBITPERM),
          GRADC_HAS2("sve2-sha3", SVESHA3),
          GRADC_HAS2("sve2-sm4", SVESM4),
          GRADC_HAS2("fptoint", FRINT),
          GRADC_HAS2("i8mm", I8MM),
          GRADC_HAS2("bf16", BF16)};
#undef GRADC_HAS
#undef GRADC_HAS2
#else
  return {};
#endif
}

}  // namespace

std::string missing_feature(const std::string& features) {
  static const std::map<std::string, bool> known = known_features();
  std::istringstream names(features);
  for (std::string name; std::getline(names, name, ',');)
    if (const auto it = known.find(name); it != known.end() && !it->second) return name;
  return "";
}

}  // namespace gradc::runtime
