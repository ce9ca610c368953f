// Checks names definition by definition, over all branches, without evaluating anything; numbers call sites.
// Knows no values or shapes.
#include <algorithm>
#include <functional>

#include "frontend/builtins.h"
#include "frontend/error_codes.h"
#include "frontend/evaluator.h"
#include "frontend/program.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::frontend {

namespace {

enum class NameKind : uint8_t { given, argument, loop_variable, local, parameter, state };

struct Name {
  Span span;
  NameKind kind = NameKind::local;
  bool used = false;
};

// Numbers unnamed call sites and loops of one scope: a definition's body or a loop's.
struct Ordinals {
  std::map<std::string, int> calls;
  int loops = 0;
};

class Resolver {
 public:
  Resolver(Program& program, Diagnostics& diagnostics) : program_(program), diagnostics_(diagnostics) {}

  void run() {
    for (File& f : program_.prelude)
      for (const auto& d : f.definitions) definition(*d);
    GRADC_CHECK(!diagnostics_.has_errors() || !only_prelude_errors(), "the prelude has errors:\n{}",
                diagnostics_.render());
    for (const auto& d : program_.user.definitions) definition(*d);
    for (const SettingSyntax& s : program_.user.settings) standalone(s.value);
    for (const DataSyntax& d : program_.user.data) {
      for (const Argument& a : d.source->arguments)
        if (a.name != "last" || a.value->kind != ExprKind::name) standalone(a.value);  // last=keep: a word
      for (const FieldSyntax& f : d.fields) {
        for (const ExprPtr& extent : f.type.dims) standalone(extent);
        if (f.from) standalone(f.from);
        if (f.test) standalone(f.test);
      }
      for (const SplitSyntax& s : d.splits) {
        standalone(s.count);
        if (s.folds) standalone(s.folds);
      }
      for (const CurriculumSyntax& c : d.curricula) standalone(c.epochs);
      for (const ExprPtr& seed : d.bootstraps) standalone(seed);
      for (const auto* methods : {&d.normalizations, &d.augmentations})
        for (const MethodSyntax& m : *methods)
          for (const Argument& a : m.method->arguments) standalone(a.value);
    }
    in_train_ = true;
    for (TrainSyntax& t : program_.user.train) {
      definition_ = nullptr;
      body(t.body);
    }
    for (const SettingSyntax& s : program_.user.settings)
      if (!used_settings_.count(s.name) && s.name[0] != '_')
        diagnostics_.error(codes::unused, s.name_span, fmt::format("the setting `{}` is never used", s.name));
    for (const DataSyntax& d : program_.user.data)
      if (!used_data_.count(d.name) && d.name[0] != '_' && !program_.user.train.empty())
        diagnostics_.error(codes::unused, d.name_span, fmt::format("the data `{}` are never used", d.name));
    report_cycles();
  }

 private:
  bool only_prelude_errors() const {
    for (const Diagnostic& d : diagnostics_.all())
      if (program_.in_prelude(d.span)) return true;
    return false;
  }

  // --- scopes
  Name* local(const std::string& name) {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope)
      if (const auto it = scope->find(name); it != scope->end()) return &it->second;
    return nullptr;
  }
  void bind(const std::string& name, Span span, NameKind kind) { scopes_.back()[name] = {span, kind, false}; }
  void pop_scope() {
    static constexpr const char* what[] = {"", "the parameter", "", "", "the parameter", "the state"};
    std::vector<std::pair<std::string, Name>> names(scopes_.back().begin(), scopes_.back().end());
    std::sort(names.begin(), names.end(),
              [](const auto& a, const auto& b) { return a.second.span.begin < b.second.span.begin; });
    for (const auto& [name, info] : names) {
      if (info.used || name[0] == '_' || info.kind == NameKind::given || info.kind == NameKind::loop_variable)
        continue;
      if (misspelt_) continue;  // the unknown name may be this one
      const std::string text = what[static_cast<size_t>(info.kind)];
      diagnostics_
          .error(codes::unused, info.span,
                 fmt::format("{}{}`{}` is never used", text, text.empty() ? "" : " ", name))
          .helps.push_back(fmt::format("remove it, or call it `_{}`", name));
    }
    scopes_.pop_back();
  }

  // --- definitions
  void definition(Definition& d) {
    definition_ = &d;
    misspelt_ = false;
    scopes_.emplace_back();
    ordinals_.emplace_back();
    for (const std::string& given : given_names(d.kind)) bind(given, d.name_span, NameKind::given);
    for (ParameterSyntax& p : d.parameters) {
      if (scopes_.back().count(p.name))
        diagnostics_.error(
            codes::duplicate, p.span,
            scopes_.back()[p.name].kind == NameKind::given
                ? fmt::format("`{}` is given in every {} and cannot be a parameter", p.name, name(d.kind))
                : fmt::format("the parameter `{}` is there twice", p.name));
      if (p.default_value) expr(*p.default_value);
      if (p.type)
        for (ExprPtr& e : p.type->dims) expr(*e);
      // The compiler supplies fan_in, fan_out and shape, so an initialiser need not use those that it
      // declares.
      const bool given =
          d.kind == DefinitionKind::init && (p.name == "fan_in" || p.name == "fan_out" || p.name == "shape");
      bind(p.name, p.span, given ? NameKind::given : NameKind::argument);
    }
    check_signature(d);
    block(d.body);
    ordinals_.pop_back();
    pop_scope();
  }

  void check_signature(const Definition& d) {
    const auto has = [&](const char* parameter) {
      return std::any_of(d.parameters.begin(), d.parameters.end(),
                         [&](const ParameterSyntax& p) { return p.name == parameter; });
    };
    if (d.kind == DefinitionKind::schedule && (d.parameters.empty() || d.parameters[0].name != "lr"))
      diagnostics_
          .error(codes::missing_argument, d.name_span,
                 fmt::format("the first parameter of schedule `{}` must be `lr`", d.name))
          .helps.push_back("the optimizer's rate arrives there");
    if (d.kind == DefinitionKind::optimizer && !has("lr"))
      diagnostics_
          .error(codes::missing_argument, d.name_span,
                 fmt::format("optimizer `{}` has no parameter `lr`", d.name))
          .helps.push_back(
              fmt::format("write `optimizer {}(lr=1e-2, ...)`; the scheduled rate arrives there", d.name));
    if (d.kind == DefinitionKind::model &&
        std::none_of(d.parameters.begin(), d.parameters.end(),
                     [](const ParameterSyntax& p) { return p.type.has_value(); }))
      diagnostics_
          .error(codes::missing_argument, d.name_span, fmt::format("model `{}` has no typed input", d.name))
          .helps.push_back(
              fmt::format("write its inputs with types, as in `model {}(image: f32[1, 28, 28])`", d.name));
  }

  // The body of `train`.
  void body(Block& b) {
    misspelt_ = false;
    scopes_.emplace_back();
    ordinals_.emplace_back();
    block(b);
    ordinals_.pop_back();
    pop_scope();
  }

  void standalone(const ExprPtr& e) {
    definition_ = nullptr;
    misspelt_ = false;
    scopes_.emplace_back();
    ordinals_.emplace_back();
    expr(*e);
    ordinals_.pop_back();
    scopes_.pop_back();
  }

  // --- statements
  void block(Block& b) {
    for (size_t i = 0; i < b.size(); ++i) {
      statement(b[i]);
      if (b[i].kind == StatementKind::return_ && i + 1 < b.size()) {
        diagnostics_.error(codes::unreachable, b[i + 1].span, "this can never run: it follows a `return`");
        break;
      }
    }
  }
  void inner_block(Block& b) {
    scopes_.emplace_back();
    block(b);
    pop_scope();
  }

  void statement(Statement& s) {
    switch (s.kind) {
      case StatementKind::assign:
        expr(*s.value);
        assign(s);
        return;
      case StatementKind::parameter:
      case StatementKind::state: return declare(s);
      case StatementKind::return_: return expr(*s.value);
      case StatementKind::require: return expr(*s.value);
      case StatementKind::if_:
        expr(*s.value);
        inner_block(s.body);
        inner_block(s.other);
        return;
      case StatementKind::for_:
        expr(*s.value);
        if (s.label.empty()) s.ordinal = ++ordinals_.back().loops;
        scopes_.emplace_back();
        ordinals_.emplace_back();
        bind(s.name, s.name_span, NameKind::loop_variable);
        block(s.body);
        ordinals_.pop_back();
        pop_scope();
        return;
      case StatementKind::experiment:
        if (s.value) expr(*s.value);
        if (s.weight) expr(*s.weight);
        if (s.keep) expr(*s.keep);
        for (ExprPtr& e : s.chain) expr(*e);
        return;
    }
  }

  void assign(const Statement& s) {
    Name* known = local(s.name);
    const bool is_w = s.name == "w" && definition_ && definition_->kind == DefinitionKind::optimizer;
    if (is_reserved(s.name) || (known && known->kind == NameKind::given && !is_w))
      diagnostics_.error(codes::duplicate, s.name_span,
                         fmt::format("`{}` is given and cannot be assigned", s.name));
    else if (known && known->kind == NameKind::loop_variable)
      diagnostics_.error(codes::duplicate, s.name_span,
                         fmt::format("the loop variable `{}` cannot be assigned", s.name));
    else if (!known)
      bind(s.name, s.name_span, NameKind::local);
  }

  void declare(Statement& s) {
    const bool is_state = s.kind == StatementKind::state;
    for (ExprPtr& e : s.dims) expr(*e);
    expr(*s.value);
    const DefinitionKind kind = definition_ ? definition_->kind : DefinitionKind::fn;
    const bool layer = kind == DefinitionKind::layer || kind == DefinitionKind::model;
    const char* what = is_state ? "state" : "a parameter";
    if (!definition_)
      diagnostics_.error(codes::impure, s.span, fmt::format("{} belongs in a layer, not in `train`", what));
    else if (!layer && !(is_state && kind == DefinitionKind::optimizer))
      diagnostics_
          .error(codes::impure, s.span,
                 fmt::format("{} cannot be used in {} `{}`", what, name(kind), definition_->name))
          .helps.push_back(kind == DefinitionKind::fn ? "make it a `layer`" : "only layers own parameters");
    else if (is_state && layer && !s.has_dims)
      diagnostics_
          .error(codes::syntax, s.name_span, fmt::format("the state `{}` of a layer needs a shape", s.name))
          .helps.push_back(fmt::format("as in `state {}[c] = 0`, or `state {}[] = 0` for a single number",
                                       s.name, s.name));
    if (is_reserved(s.name)) {
      diagnostics_.error(codes::duplicate, s.name_span,
                         fmt::format("`{}` is given and cannot be declared", s.name));
      return;
    }
    Name* known = local(s.name);
    if (known && (known->kind == NameKind::parameter || known->kind == NameKind::state ||
                  known->kind == NameKind::given)) {
      Diagnostic& d =
          diagnostics_.error(codes::duplicate, s.name_span, fmt::format("`{}` is declared twice", s.name));
      if (known->kind != NameKind::given) d.related.push_back({known->span, "first here"});
    } else if (known && scopes_.back().count(s.name)) {
      diagnostics_
          .error(codes::duplicate, s.name_span, fmt::format("`{}` already names something else here", s.name))
          .related.push_back({known->span, "bound here"});
    }
    bind(s.name, s.name_span, is_state ? NameKind::state : NameKind::parameter);
  }

  // --- expressions
  void expr(Expr& e) {
    switch (e.kind) {
      case ExprKind::name: return use(e);
      case ExprKind::call: return call(e);
      case ExprKind::member:
        if (e.operands[0]->kind == ExprKind::name && qualifier(*e.operands[0])) {
          known_global(e.text, e.operands[0]->text, e.text_span);
          return;
        }
        break;
      default: break;
    }
    for (ExprPtr& o : e.operands) expr(*o);
  }

  bool qualifier(const Expr& e) { return (e.text == "primitive" || e.text == "prelude") && !local(e.text); }

  void use(const Expr& e) {
    if (Name* n = local(e.text)) {
      n->used = true;
      return;
    }
    if (program_.settings.count(e.text)) {
      if (!definition_ || !definition_->is_prelude) {
        used_settings_.insert(e.text);
        return;
      }
    }
    if (e.text == "training" || e.text == "stochastic" || e.text == "pi") return;
    if (program_.data.count(e.text) && !(definition_ && definition_->is_prelude)) {
      used_data_.insert(e.text);
      if (!in_train_)
        diagnostics_
            .error(codes::unknown_name, e.span,
                   fmt::format("the data `{}` can be read in `train` only", e.text))
            .helps.push_back("pass a field to the model as an input");
      return;
    }
    known_global(e.text, "", e.span);
  }

  // A definition, built-in function or primitive of that name; else an error. Null when it is no definition.
  const Definition* known_global(const std::string& name, const std::string& qualifier, Span span) {
    const bool prelude = definition_ && definition_->is_prelude;
    if (const Definition* d = program_.find(name, qualifier, prelude)) {
      if (definition_) calls_[definition_].emplace_back(d, span);
      return d;
    }
    if (qualifier.empty() && find_builtin(name)) return nullptr;
    if (qualifier != "prelude" && find_callable_op(name, qualifier)) return nullptr;
    misspelt_ = true;
    std::vector<std::string> candidates;
    if (qualifier != "primitive") {
      for (const auto& [known, d] : program_.prelude_definitions) candidates.push_back(known);
    }
    if (qualifier.empty()) {
      for (const auto& [known, d] : program_.user_definitions) candidates.push_back(known);
      for (const auto& scope : scopes_)
        for (const auto& [known, info] : scope) candidates.push_back(known);
      for (const auto& [known, s] : program_.settings) candidates.push_back(known);
      for (const auto& [known, s] : program_.data) candidates.push_back(known);
      for (const Builtin& b : builtins()) candidates.push_back(b.name);
      for (const char* given : {"training", "stochastic", "pi"}) candidates.emplace_back(given);
    }
    if (qualifier != "prelude")
      for (const std::string& op : op_names())
        if (find_callable_op(op, qualifier)) candidates.push_back(op);
    Diagnostic& d = diagnostics_.error(
        codes::unknown_name, span,
        fmt::format("unknown name `{}{}{}`", qualifier, qualifier.empty() ? "" : ".", name));
    d.suggest(name, candidates);
    return nullptr;
  }

  void call(Expr& e) {
    size_t first = 0;
    if (e.piped) expr(*e.arguments[first++].value);
    const Definition* callee = nullptr;
    Name* variable = e.qualifier.empty() ? local(e.text) : nullptr;
    if (variable)
      variable->used = true;
    else if (!e.qualifier.empty() && e.qualifier != "primitive" && e.qualifier != "prelude")
      diagnostics_
          .error(codes::unknown_name, e.text_span,
                 fmt::format("`{}.{}` cannot be called", e.qualifier, e.text))
          .helps.push_back(
              "definitions are called by their names; `primitive.NAME` and `prelude.NAME` exist");
    else if (program_.settings.count(e.text) && e.qualifier.empty() &&
             !(definition_ && definition_->is_prelude))
      diagnostics_.error(codes::wrong_kind, e.text_span,
                         fmt::format("the setting `{}` cannot be called", e.text));
    else
      callee = known_global(e.text, e.qualifier, e.text_span);
    const bool layer =
        callee && (callee->kind == DefinitionKind::layer || callee->kind == DefinitionKind::model);
    if ((layer || variable) && e.instance.kind == Instance::Kind::none)
      e.ordinal = ++ordinals_.back().calls[e.text];
    if (!layer && !variable && e.instance.kind != Instance::Kind::none && callee)
      diagnostics_.error(codes::bad_instance, e.instance.span,
                         fmt::format("`{}` is no layer: it has no instances to name", e.text));
    if (layer && definition_ && definition_->kind != DefinitionKind::layer &&
        definition_->kind != DefinitionKind::model)
      diagnostics_
          .error(codes::impure, e.text_span,
                 fmt::format("{} `{}` cannot call the layer `{}`", name(definition_->kind), definition_->name,
                             e.text))
          .helps.push_back(definition_->kind == DefinitionKind::fn
                               ? fmt::format("make `{}` a `layer`", definition_->name)
                               : "only layers call layers");
    for (; first < e.arguments.size(); ++first) expr(*e.arguments[first].value);
  }

  // --- recursion: depth-first search over the calls between definitions; each cycle is reported once, at the
  // call that closes it.
  void report_cycles() {
    std::map<const Definition*, int> state;  // 1: on the path, 2: done
    std::vector<const Definition*> path;
    std::set<std::pair<const Definition*, const Definition*>> closed;
    const std::function<void(const Definition*)> visit = [&](const Definition* d) {
      state[d] = 1;
      path.push_back(d);
      for (const auto& [callee, span] : calls_[d]) {
        if (path.size() > static_cast<size_t>(kMaxCallDepth)) {
          diagnostics_.error(
              codes::limit, span,
              fmt::format("definitions call each other more than {} deep here", kMaxCallDepth));
          break;
        }
        if (state[callee] == 1) {
          if (!closed.emplace(d, callee).second) continue;
          std::string text;
          for (auto it = std::find(path.begin(), path.end(), callee); it != path.end(); ++it)
            text += fmt::format("`{}` calls ", (*it)->name);
          diagnostics_
              .error(codes::recursion, span, fmt::format("recursive definition: {}`{}`", text, callee->name))
              .helps.push_back(
                  "repeat with `for`: definitions are expanded when compiling and cannot call themselves");
        } else if (state[callee] == 0) {
          visit(callee);
        }
      }
      path.pop_back();
      state[d] = 2;
    };
    for (const auto& d : program_.user.definitions)
      if (state[d.get()] == 0) visit(d.get());
  }

  Program& program_;
  Diagnostics& diagnostics_;
  Definition* definition_ = nullptr;  // null: settings, data, train
  bool in_train_ = false;
  bool misspelt_ = false;  // this definition has an unknown name
  std::vector<std::map<std::string, Name>> scopes_;
  std::vector<Ordinals> ordinals_;
  std::set<std::string> used_settings_, used_data_;
  std::map<const Definition*, std::vector<std::pair<const Definition*, Span>>> calls_;
};

}  // namespace

void resolve(Program& program, Diagnostics& diagnostics) { Resolver(program, diagnostics).run(); }

}  // namespace gradc::frontend
