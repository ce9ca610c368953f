// The list of exclusions, each a name and a predicate on the model's text and module.
#include "tools/random_models/exclusions.h"

#include <vector>

#include "compiler/compile.h"
#include "ir/tensor/op_def.h"

namespace gradc::random_models {

namespace {

struct Subject {
  const std::string& text;
  const Module& module;

  bool says(const char* what) const { return text.find(what) != std::string::npos; }
  template <typename Predicate>
  bool any_op(Predicate&& predicate) const {
    for (const auto& f : module.functions)
      for (const auto& op : f->body)
        if (f->name != "init" && predicate(*op)) return true;
    return false;
  }
};

struct Exclusion {
  const char* name;
  std::string comparison, kind;  // of a finding, "*": any; no comparison: the model is not made
  bool (*applies)(const Subject& subject);
};

const std::vector<Exclusion>& exclusions() {
  static const std::vector<Exclusion> list = {
      // None now.
  };
  return list;
}

const char* first_match(const std::string& text, const std::string& comparison, const std::string& kind) {
  compiler::CompileRequest request;
  request.file = "model.nn";
  request.text = text;
  const auto loaded = compiler::load_model(request);
  const Subject subject{text, *loaded->model.module};
  for (const Exclusion& e : exclusions())
    if ((e.comparison == "*" ? !comparison.empty() : e.comparison == comparison) &&
        (e.kind == "*" || e.kind == kind) && e.applies(subject))
      return e.name;
  return nullptr;
}

}  // namespace

const char* excluded_model(const std::string& text) { return first_match(text, "", ""); }

const char* excluded_finding(const std::string& text, const std::string& comparison,
                             const std::string& kind) {
  return first_match(text, comparison, kind);
}

}  // namespace gradc::random_models
