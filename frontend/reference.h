// What can be called in a model file, with its documentation: the prelude's definitions with the comment
// above each, built-in functions, primitives. Everything comes from the definitions themselves; it knows none
// of them.
#pragma once
#include <string>
#include <vector>

namespace gradc::frontend {

struct ReferenceEntry {
  std::string name;
  std::string kind;       // "optimizer", "built-in function", "primitive"
  std::string group;      // the heading it stands under: "Optimizers"
  std::string signature;  // "adam(lr=1e-3, beta1=0.9)"
  std::string text;       // what it computes: formula, source, options
  std::string example;    // one line of .nn text, of IR for a primitive
  std::string place;      // "prelude/optimizers.nn:12"; empty: not written in .nn
  std::string source;     // its definition in .nn; empty likewise
};

// Everything, group by group in a fixed order. A name may stand for a definition and for the primitive it is
// made of.
const std::vector<ReferenceEntry>& reference();

// What the names in the examples stand for, as declarations and statements of a model file in which
// `EXPRESSION` is to be replaced by an expression, or `STATEMENT` by a statement of `train`; the other of the
// two is to be left out.
const char* example_model();
// Whether an example is a statement of `train`.
bool is_statement(const std::string& example);

// docs/reference.md.
std::string reference_markdown();

}  // namespace gradc::frontend
