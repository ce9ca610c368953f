// The syntax of model files: tokens, the tree and its dump; the same text as the value of a setting.
#include "frontend/frontend.h"
#include "frontend/lexer.h"
#include "frontend/parser.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

void run(Bytes input) {
  SourceManager sources;
  const uint32_t file = sources.add("fuzz.nn", std::string(text_of(input)));
  {
    Diagnostics diagnostics(sources);
    const std::vector<frontend::Token> tokens = frontend::tokenize(sources, file, diagnostics);
    require(!tokens.empty() && tokens.back().kind == frontend::TokenKind::end, "tokens end in `end`");
    uint32_t last = 0;
    for (const frontend::Token& t : tokens) {
      require(t.span.begin >= last && t.span.begin <= t.span.end && t.span.end <= input.size(),
              "tokens stand in the file in order");
      last = t.span.end;
    }
  }
  Diagnostics diagnostics(sources);
  const std::string tree = frontend::dump_ast(sources, file, diagnostics);
  require(tree.empty() || !diagnostics.has_errors(), "a tree, or errors");
  require(!diagnostics.has_errors() || !diagnostics.render().empty(), "an error has a text");
  Diagnostics of_setting(sources);
  const frontend::ExprPtr expression = frontend::parse_expression(sources, file, of_setting);
  require((expression != nullptr) == !of_setting.has_errors(), "an expression, or an error");
}

const Registration registration("syntax", run);

}  // namespace
}  // namespace gradc::fuzz
