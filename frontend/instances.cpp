// Names the instances of layers and models, and finds those that `reuse` names.
#include <fmt/format.h>

#include "frontend/calls.h"
#include "frontend/error_codes.h"

namespace gradc::frontend {

namespace {

// Enters the instance that `reuse` names.
bool enter_known_instance(Emitter& e, CallStack::Frame& f, const Definition& d, const std::string& statics,
                          const Expr& site) {
  const CallStack::Frame& caller = e.frame();
  const auto& instances = e.target().instances;
  const std::string& wanted = site.instance.name;
  // Search this scope, then those of the enclosing loops, up to the caller's instance.
  std::vector<std::string> prefixes = caller.bases;
  prefixes.push_back(caller.prefix);
  std::vector<std::string> known;
  for (auto prefix = prefixes.rbegin(); prefix != prefixes.rend(); ++prefix) {
    for (const auto& [path, instance] : instances)
      if (instance.first && path.compare(0, prefix->size(), *prefix) == 0 &&
          path.find('.', prefix->size()) == std::string::npos)
        known.push_back(path.substr(prefix->size()));
    const auto it = instances.find(*prefix + wanted);
    if (it == instances.end() || !it->second.first) continue;
    const auto& [definition, arguments] = it->second;
    const bool same = definition == &d;
    if (!same || arguments != statics) {
      e.error(codes::reuse, site.instance.span,
              fmt::format("`{}` is {}", wanted,
                          same ? "another call's instance, with other static arguments"
                               : fmt::format("an instance of `{}`, not of `{}`", definition->name, d.name)))
          .helps.push_back(
              same ? fmt::format("it was made with {}", arguments.empty() ? "none" : shortened(arguments))
                   : "only the same definition can share its parameters");
      return false;
    }
    f.prefix = it->first.empty() ? "" : it->first + ".";
    if (e.in_train() && d.kind == DefinitionKind::model && wanted == d.name) f.prefix.clear();
    f.reusing = true;
    return true;
  }
  Diagnostic& error = e.error(codes::reuse, site.instance.span,
                              fmt::format("there is no instance `{}` here to reuse", wanted));
  if (!error.suggest(wanted, known)) error.helps.push_back("name the first call: `y = dense(x, 10) as head`");
  return false;
}

}  // namespace

bool enter_instance(Emitter& e, CallStack::Frame& f, const Definition& d, const std::string& statics,
                    const Expr& site) {
  const CallStack::Frame& caller = e.frame();
  const DefinitionKind caller_kind = caller.definition ? caller.definition->kind : DefinitionKind::layer;
  if (caller_kind != DefinitionKind::layer && caller_kind != DefinitionKind::model) {
    e.error(codes::impure, site.text_span,
            fmt::format("{} `{}` cannot call the layer `{}`", name(caller_kind), caller.definition->name,
                        d.name));
    return false;
  }
  if (site.instance.kind == Instance::Kind::reuse) return enter_known_instance(e, f, d, statics, site);
  const bool named = site.instance.kind == Instance::Kind::as;
  // A model called in `train` without a name and outside loops adds no prefix to its parameters.
  const bool bare = !named && e.in_train() && d.kind == DefinitionKind::model && caller.active.empty();
  const std::string own = named  ? site.instance.name
                          : bare ? d.name
                                 : fmt::format("{}_{}", site.text, site.ordinal);
  const std::string path = caller.prefix + own;
  f.prefix = bare ? caller.prefix : path + ".";
  f.reusing = caller.reusing;
  const bool is_new = e.target().instances.try_emplace(path, &d, statics).second;
  if (is_new || f.reusing) return true;
  Diagnostic& error = e.error(codes::instance_taken, named ? site.instance.span : site.text_span,
                              bare ? fmt::format("the model `{}` is called twice", d.name)
                                   : fmt::format("there are two instances `{}` in this scope", own));
  if (bare)
    error.helps.push_back(fmt::format(
        "give each call a name, `{0}(...) as NAME`, or share parameters with `{0}(...) reuse {0}`", d.name));
  else
    error.helps.push_back(
        "give one of them another name with `as NAME`, or share its parameters with `reuse`");
  return false;
}

}  // namespace gradc::frontend
