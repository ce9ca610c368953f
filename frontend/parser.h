// Tokens to the syntax tree by recursive descent, with precedence climbing for expressions; knows nothing of
// meaning. After an error it goes on at the next statement, so that one run reports several.
#pragma once
#include "frontend/lexer.h"
#include "frontend/syntax.h"

namespace gradc::frontend {

inline constexpr int kMaxNesting = 200;  // of blocks, brackets and operands, and the height of one expression

// The tree of the file. It is incomplete, and must not be used, when diagnostics has errors.
File parse(const SourceManager& sources, uint32_t file, Diagnostics& diagnostics);

// One expression in a text of its own (the value of --set), with nothing after it; null after an error.
ExprPtr parse_expression(const SourceManager& sources, uint32_t file, Diagnostics& diagnostics);

}  // namespace gradc::frontend
