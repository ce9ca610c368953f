// Asks CPUID through the compiler's builtin, which wants its names written out.
#include "runtime/processor.h"

#include <map>
#include <sstream>

namespace gradc::runtime {

std::string missing_feature(const std::string& features) {
#if defined(__x86_64__)
  __builtin_cpu_init();
#define GRADC_HAS(name) {name, __builtin_cpu_supports(name) != 0}
  static const std::map<std::string, bool> known = {
      GRADC_HAS("sse3"),         GRADC_HAS("ssse3"),
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
  std::istringstream names(features);
  for (std::string name; std::getline(names, name, ',');)
    if (const auto it = known.find(name); it != known.end() && !it->second) return name;
#else
  (void)features;
#endif
  return "";
}

}  // namespace gradc::runtime
