// Model files through the whole frontend: lexer, parser, names, shapes, evaluation, tensor IR. What it makes
// is sound and survives its own text.
#include "frontend/frontend.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

void run(Bytes input) {
  SourceManager sources;
  Diagnostics diagnostics(sources);
  const uint32_t file = sources.add("fuzz.nn", std::string(text_of(input)));
  const auto model = frontend::compile(sources, file, {}, diagnostics);
  require(model.has_value() == !diagnostics.has_errors(), "a module, or an error");
  if (!model) {
    require(!diagnostics.render().empty(), "an error has a text");
    return;
  }
  const Module& module = *model->module;
  require(verify(module).empty(), "the frontend's module is sound");
  const std::string text = print(module, {.locations = true});
  const ModuleParseResult again = parse_module(text);
  require(again.error.empty(), "the module's text parses: " + again.error);
  require(print(*again.module, {.locations = true}) == text, "the module's text parses to the same module");
}

const Registration registration("model", run);

}  // namespace
}  // namespace gradc::fuzz
