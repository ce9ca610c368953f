// The text of tensor IR: parse, verify, print; and what was printed parses to the same.
#include "ir/tensor/module.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

void run(Bytes input) {
  const ModuleParseResult parsed = parse_module(text_of(input));
  require((parsed.module == nullptr) == !parsed.error.empty(), "a module, or an error");
  if (!parsed.module) return;
  const bool sound = verify(*parsed.module).empty();
  for (const bool locations : {false, true}) {
    const std::string text = print(*parsed.module, {.locations = locations});
    const ModuleParseResult again = parse_module(text);
    require(again.error.empty(), "printed IR parses: " + again.error);
    require(print(*again.module, {.locations = locations}) == text, "printed IR parses to the same module");
    require(verify(*again.module).empty() == sound, "printed IR is as sound as before");
  }
}

const Registration registration("ir", run);

}  // namespace
}  // namespace gradc::fuzz
