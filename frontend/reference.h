// Everything that a model file can call, with its documentation: the prelude's definitions with the comment
// above each, built-in functions, primitives. All of it is read from the definitions; no name is known here.
#pragma once
#include <string>
#include <vector>

namespace gradc::frontend {

struct ReferenceEntry {
  std::string name;
  std::string kind;       // "optimizer", "built-in function", "primitive"
  std::string group;      // the heading it is listed under: "Optimizers"
  std::string signature;  // "adam(lr=1e-3, beta1=0.9)"
  std::string text;       // what it computes: formula, source, options
  std::string example;    // one line of .nn text, of IR for a primitive
  std::string location;   // "prelude/optimizers.nn:12"; empty: not written in .nn
  std::string source;     // its definition in .nn; empty likewise
};

// All entries, group by group in a fixed order. A name may have two: a definition, and the primitive it
// calls.
const std::vector<ReferenceEntry>& reference();

// A model file that declares the names used in the examples. To compile an example that is an expression,
// replace `EXPRESSION` by it and remove `STATEMENT`; to compile a statement of `train`, replace `STATEMENT`
// by it and `EXPRESSION` by any expression, such as x.
const char* example_model();
// Whether an example is a statement of `train`.
bool is_statement(const std::string& example);

// docs/reference.md.
std::string reference_markdown();

}  // namespace gradc::frontend
