// The syntax tree as indented text, for `gradc dump --stage ast`.
#include <fmt/core.h>

#include "frontend/syntax.h"

namespace gradc::frontend {

namespace {

class Dumper {
 public:
  std::string run(const File& f) {
    for (const SettingSyntax& s : f.settings) tree("set " + s.name, [&] { expr(*s.value); });
    for (const DataSyntax& d : f.data)
      tree("data " + d.name, [&] {
        expr(*d.source);
        for (const FieldSyntax& f : d.fields)
          tree(fmt::format("field {}: {}", f.name, f.type.dtype), [&] {
            for (const ExprPtr& extent : f.type.dims) expr(*extent);
            labelled("from", f.from);
            labelled("test", f.test);
          });
        for (const SplitSyntax& s : d.splits)
          tree(fmt::format("split {} of {}", s.name, s.from), [&] {
            expr(*s.count);
            labelled("folds", s.folds);
          });
        for (const CurriculumSyntax& c : d.curricula) tree("curriculum " + c.field, [&] { expr(*c.epochs); });
        for (const ExprPtr& seed : d.bootstraps) labelled("bootstrap", seed);
        for (const MethodSyntax& m : d.normalizations) tree("normalize " + m.field, [&] { expr(*m.method); });
        for (const MethodSyntax& m : d.augmentations) tree("augment " + m.field, [&] { expr(*m.method); });
      });
    for (const auto& d : f.definitions) definition(*d);
    for (const TrainSyntax& t : f.train) tree("train", [&] { block(t.body); });
    return std::move(out_);
  }

 private:
  template <class F>
  void tree(const std::string& head, F&& children) {
    out_.append(static_cast<size_t>(indent_) * 2, ' ');
    out_ += head + "\n";
    ++indent_;
    children();
    --indent_;
  }
  void leaf(const std::string& text) {
    tree(text, [] {});
  }
  void labelled(const char* label, const ExprPtr& e) {
    if (e) tree(label, [&] { expr(*e); });
  }

  void definition(const Definition& d) {
    tree(fmt::format("{} {}", name(d.kind), d.name), [&] {
      for (const ParameterSyntax& p : d.parameters) {
        std::string head = "parameter " + p.name;
        if (p.type) head += ": " + p.type->dtype;
        tree(head, [&] {
          if (p.type)
            for (const ExprPtr& e : p.type->dims) labelled("extent", e);
          labelled("default", p.default_value);
        });
      }
      block(d.body);
    });
  }

  void block(const Block& b) {
    for (const Statement& s : b) statement(s);
  }

  void patterns(const char* word, const std::vector<Pattern>& list) {
    for (const Pattern& p : list) leaf(fmt::format("{} \"{}\"", word, p.text));
  }

  void statement(const Statement& s) {
    switch (s.kind) {
      case StatementKind::assign: return tree(s.name + " =", [&] { expr(*s.value); });
      case StatementKind::parameter:
      case StatementKind::state:
        return tree(fmt::format("{} {}", s.kind == StatementKind::state ? "state" : "param", s.name), [&] {
          for (const ExprPtr& e : s.dims) labelled("extent", e);
          labelled("first", s.value);
        });
      case StatementKind::return_: return tree("return", [&] { expr(*s.value); });
      case StatementKind::if_:
        tree("if", [&] { expr(*s.value); });
        tree("then", [&] { block(s.body); });
        if (!s.other.empty()) tree("else", [&] { block(s.other); });
        return;
      case StatementKind::for_:
        return tree(fmt::format("for {}{}", s.name, s.label.empty() ? "" : " as " + s.label), [&] {
          expr(*s.value);
          tree("do", [&] { block(s.body); });
        });
      case StatementKind::require:
        return tree(fmt::format("require \"{}\"", s.message), [&] { expr(*s.value); });
      case StatementKind::experiment:
        return tree(s.name.empty() ? s.word : s.word + " " + s.name, [&] {
          if (s.value) expr(*s.value);
          if (!s.mode.empty()) leaf(s.mode);
          labelled("weight", s.weight);
          labelled("keep", s.keep);
          if (!s.monitor.split.empty())
            leaf(fmt::format("{}{}{}.{}", s.monitor.direction, s.monitor.direction.empty() ? "" : " ",
                             s.monitor.split, s.monitor.metric));
          for (const ExprPtr& e : s.chain) labelled("phase", e);
          patterns("on", s.on);
          patterns("no_decay", s.no_decay);
        });
    }
  }

  void expr(const Expr& e) {
    switch (e.kind) {
      case ExprKind::integer:
      case ExprKind::number:
      case ExprKind::name: return leaf(e.text);
      case ExprKind::string: return leaf("\"" + e.text + "\"");
      case ExprKind::boolean: return leaf(e.boolean ? "true" : "false");
      case ExprKind::list: return node("list", e);
      case ExprKind::unary:
      case ExprKind::binary: return node(e.text, e);
      case ExprKind::index: return node("index", e);
      case ExprKind::member: return node("." + e.text, e);
      case ExprKind::choice: return node("if", e);
      case ExprKind::call: {
        std::string head = "call " + (e.qualifier.empty() ? "" : e.qualifier + ".") + e.text;
        if (e.instance.kind != Instance::Kind::none)
          head += (e.instance.kind == Instance::Kind::as ? " as " : " reuse ") + e.instance.name;
        if (e.piped) head += "  (piped)";
        return tree(head, [&] {
          for (const Argument& a : e.arguments) {
            if (a.name.empty())
              expr(*a.value);
            else
              tree(a.name + "=", [&] { expr(*a.value); });
          }
        });
      }
    }
  }
  void node(const std::string& head, const Expr& e) {
    tree(head, [&] {
      for (const ExprPtr& o : e.operands) expr(*o);
    });
  }

  std::string out_;
  int indent_ = 0;
};

}  // namespace

std::string dump(const File& file) { return Dumper().run(file); }

}  // namespace gradc::frontend
