// The text of loop IR: parse, verify, print; and what was printed parses to the same.
#include "ir/loop/loop_ir.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

void run(Bytes input) {
  const loop::ParseResult parsed = loop::parse(text_of(input));
  if (!parsed.error.empty()) return;
  const bool sound = loop::verify(parsed.program).empty();
  for (const bool locations : {false, true}) {
    const std::string text = loop::print(parsed.program, locations);
    const loop::ParseResult again = loop::parse(text);
    require(again.error.empty(), "printed loop IR parses: " + again.error);
    require(loop::print(again.program, locations) == text, "printed loop IR parses to the same program");
    require(loop::verify(again.program).empty() == sound, "printed loop IR is as sound as before");
  }
}

const Registration registration("loop_ir", run);

}  // namespace
}  // namespace gradc::fuzz
