// Collects the catalogue from frontend::reference(), the prelude's text and the registry of primitives.
#include "tools/random_models/catalogue.h"

#include <algorithm>
#include <map>

#include "frontend/builtins.h"
#include "frontend/parser.h"
#include "frontend/prelude.h"
#include "frontend/reference.h"
#include "support/check.h"

namespace gradc::random_models {

namespace {

// The parameters that have a default value, by definition.
std::map<std::string, std::vector<Option>> prelude_options() {
  std::map<std::string, std::vector<Option>> result;
  SourceManager sources;
  Diagnostics diagnostics(sources);
  for (const frontend::PreludeFile& f : frontend::prelude_files()) {
    const std::string text = f.text;
    const frontend::File file = frontend::parse(sources, sources.add(f.name, text), diagnostics);
    for (const auto& d : file.definitions)
      for (const auto& p : d->parameters)
        if (p.default_value) {
          const Span span = p.default_value->span;
          result[d->name].push_back({p.name, text.substr(span.begin, span.end - span.begin)});
        }
  }
  GRADC_CHECK(!diagnostics.has_errors(), "the prelude does not parse:\n{}", diagnostics.render());
  return result;
}

Catalogue collect() {
  Catalogue c;
  const auto options = prelude_options();
  for (const frontend::ReferenceEntry& e : frontend::reference()) {
    if (e.kind == "primitive") continue;
    Callable callable{e.name, e.kind, e.group, e.example.substr(0, e.example.find('\n')), {}};
    if (const auto it = options.find(e.name); it != options.end()) callable.options = it->second;
    if (frontend::is_statement(callable.example))
      c.statements.push_back(callable);
    else if (e.kind == "initialiser")
      c.initialisers.push_back(callable);
    else if (e.group == "Activations")
      c.activations.push_back(callable);
    else
      c.expressions.push_back(callable);
  }
  for (const OpDef& def : op_defs()) {
    if (!frontend::find_callable_op(def.name, "primitive")) continue;
    for (const OpSample& sample : def.samples) {
      // The language has no f64.
      const bool sayable = std::none_of(sample.operands.begin(), sample.operands.end(),
                                        [](const Type& t) { return t.dtype == DType::f64; });
      // Statistics that must be functions of another operand, as batch_norm's while training: the definition has no
      // gradient for other values.
      const bool own_statistics = sample.attributes.has("training") && sample.attributes.boolean("training");
      if (sayable && !own_statistics) c.samples.push_back({&def, &sample});
    }
  }
  return c;
}

}  // namespace

const Callable* Catalogue::find(const std::string& name) const {
  for (const auto* list : {&expressions, &activations, &initialisers, &statements})
    for (const Callable& c : *list)
      if (c.name == name) return &c;
  return nullptr;
}

std::vector<const Callable*> Catalogue::with_word(const std::string& word) const {
  std::vector<const Callable*> result;
  for (const Callable& c : statements)
    if (c.example.rfind(word + " ", 0) == 0) result.push_back(&c);
  return result;
}

const Catalogue& catalogue() {
  static const Catalogue result = collect();
  return result;
}

}  // namespace gradc::random_models
