// All files of a compilation (the user's and the prelude) with their definitions by name; knows no values.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "frontend/syntax.h"
#include "support/diagnostic.h"

namespace gradc::frontend {

struct Program {
  File user;
  std::vector<File> prelude;
  std::set<uint32_t> prelude_files;  // numbers of its files
  std::map<std::string, Definition*> user_definitions, prelude_definitions;
  std::map<std::string, const SettingSyntax*> settings;
  std::map<std::string, const DataSyntax*> data;

  bool in_prelude(Span s) const { return prelude_files.count(s.file) != 0; }
  // The definition a name means: the user's own first, but the prelude sees only itself, so that redefining a
  // name changes nothing there.
  const Definition* find(const std::string& name, const std::string& qualifier, bool from_prelude) const;
};

// Parses the prelude, which has no errors (GRADC_CHECK), and the user's file.
Program load(SourceManager& sources, uint32_t file, Diagnostics& diagnostics);

// Checks every definition's names without evaluating anything: unknown, unused and doubly defined names,
// recursion, misplaced statements; and numbers the call sites (Expr::ordinal,
// Statement::ordinal).
void resolve(Program& program, Diagnostics& diagnostics);

// Names that the language defines everywhere; a file cannot define them.
bool is_reserved(const std::string& name);
// Names predefined in the body of a kind of definition: w, g, t, ... in optimizers.
const std::vector<std::string>& given_names(DefinitionKind kind);

}  // namespace gradc::frontend
