// Reads the prelude and the user's file into one Program.
#include "frontend/error_codes.h"
#include "frontend/parser.h"
#include "frontend/prelude.h"
#include "frontend/program.h"
#include "support/check.h"

namespace gradc::frontend {

namespace {

void add_definitions(File& file, std::map<std::string, Definition*>& table, Diagnostics& diagnostics) {
  for (const auto& d : file.definitions) {
    if (is_reserved(d->name)) {
      diagnostics.error(codes::duplicate, d->name_span,
                        fmt::format("`{}` is given by the language and cannot be defined", d->name));
      continue;
    }
    const auto [it, is_new] = table.emplace(d->name, d.get());
    if (is_new) continue;
    diagnostics.error(codes::duplicate, d->name_span, fmt::format("`{}` is defined twice", d->name))
        .related.push_back({it->second->name_span, "first defined here"});
  }
}

template <class T>
void add_named(const std::vector<T>& list, std::map<std::string, const T*>& table, const char* what,
               Diagnostics& diagnostics) {
  for (const T& item : list) {
    const auto [it, is_new] = table.emplace(item.name, &item);
    if (!is_new)
      diagnostics
          .error(codes::duplicate, item.name_span, fmt::format("{} `{}` is there twice", what, item.name))
          .related.push_back({it->second->name_span, "first here"});
    if (is_reserved(item.name))
      diagnostics.error(codes::duplicate, item.name_span,
                        fmt::format("`{}` is given by the language and cannot be defined", item.name));
  }
}

}  // namespace

bool is_reserved(const std::string& name) {
  return name == "training" || name == "stochastic" || name == "pi" || name == "primitive" ||
         name == "prelude";
}

const std::vector<std::string>& given_names(DefinitionKind kind) {
  static const std::vector<std::string> none, optimizer = {"w", "g", "t", "step", "epoch", "total"},
                                              schedule = {"step", "epoch", "total"};
  return kind == DefinitionKind::optimizer ? optimizer : kind == DefinitionKind::schedule ? schedule : none;
}

const Definition* Program::find(const std::string& name, const std::string& qualifier,
                                bool from_prelude) const {
  if (qualifier.empty() && !from_prelude)
    if (const auto it = user_definitions.find(name); it != user_definitions.end()) return it->second;
  if (qualifier.empty() || qualifier == "prelude")
    if (const auto it = prelude_definitions.find(name); it != prelude_definitions.end()) return it->second;
  return nullptr;
}

Program load(SourceManager& sources, uint32_t file, Diagnostics& diagnostics) {
  Program p;
  {
    Diagnostics own(sources);
    for (const PreludeFile& f : prelude_files()) {
      const uint32_t number = sources.add(f.name, f.text);
      p.prelude_files.insert(number);
      p.prelude.push_back(parse(sources, number, own));
    }
    for (File& f : p.prelude) {
      for (const auto& d : f.definitions) d->is_prelude = true;
      add_definitions(f, p.prelude_definitions, own);
    }
    GRADC_CHECK(!own.has_errors(), "the prelude does not parse:\n{}", own.render());
  }
  p.user = parse(sources, file, diagnostics);
  add_definitions(p.user, p.user_definitions, diagnostics);
  add_named(p.user.settings, p.settings, "the setting", diagnostics);
  add_named(p.user.data, p.data, "the data", diagnostics);
  for (const auto& [name, setting] : p.settings)
    if (const auto it = p.user_definitions.find(name); it != p.user_definitions.end())
      diagnostics
          .error(codes::duplicate, setting->name_span,
                 fmt::format("`{}` is a setting and a definition", name))
          .related.push_back({it->second->name_span, "defined here"});
  return p;
}

}  // namespace gradc::frontend
