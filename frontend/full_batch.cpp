// Full-batch optimizers: the options that the runtime takes from the prelude's definitions, and errors for
// statements of the experiment that they do not support. Knows no algorithm.
#include <fmt/format.h>

#include <algorithm>

#include "frontend/error_codes.h"
#include "frontend/train_statements.h"
#include "ir/tensor/op_def.h"

namespace gradc::frontend {

namespace {

bool looks_at_all(const DefinitionValue& d) {
  static const std::vector<std::string> names = {"gd", "lbfgs", "svrg"};
  return d.definition && d.definition->is_prelude &&
         std::find(names.begin(), names.end(), d.definition->name) != names.end();
}

// Whether an operation combines the examples of a batch, so that its value is not one per example.
bool mixes_batch(const Op& op) {
  return op.is("row_count") || (!op.type.batched && std::any_of(op.operands.begin(), op.operands.end(),
                                                                [](const Op* o) { return o->type.batched; }));
}

const Symbol* changing_state(const Module& module, const Function& train) {
  for (const auto& read : train.symbols) {
    const Symbol* s = module.symbol(read->symbol());
    if (s && s->kind == SymbolKind::state) return s;
  }
  return nullptr;
}

class DriverRules {
 public:
  DriverRules(Evaluator& e, TrainStatements& x, const TrainStatements::Optimizer& o, const Function& train,
              const DataRecord& data)
      : e_(e),
        x_(x),
        o_(o),
        train_(train),
        data_(data),
        name_(o.value->definition->name),
        span_(o.statement->value->span) {}

  void run() {
    alone();
    same_examples();
    whole_loss();
    if (name_ != "svrg") {
      if (x_.record.accumulate != 1 && x_.record.accumulate != 0)
        refuse(x_.seen.at("accumulate"), "makes one update of all examples, whatever `accumulate` says");
      x_.record.accumulate = 0;
    }
    const std::string search = name_ == "svrg" ? "none" : text("line_search");
    x_.moves = name_ == "lbfgs" || search == "armijo";
    if (x_.moves) nothing_bends();
    if (name_ == "gd" && !x_.moves) return;  // compiled as the prelude writes it
    x_.record.full_batch = name_;
    std::map<std::string, double>& options = x_.record.full_batch_options;
    if (name_ != "svrg") options["line_search"] = search == "none" ? 0 : search == "armijo" ? 1 : 2;
    const std::vector<std::string> numbers =
        name_ == "gd" ? std::vector<std::string>{"armijo", "shrink", "trials"}
        : name_ == "lbfgs"
            ? std::vector<std::string>{"history", "max_iter", "tolerance_grad", "tolerance_change"}
            : std::vector<std::string>{"every"};
    for (const std::string& n : numbers)
      if (!e_.to_number(bound_argument(e_, *o_.value, n), span_, "`" + n + "`", options[n])) return;
  }

 private:
  Diagnostic& refuse(Span location, const std::string& why) {
    return e_.error(codes::full_batch, location, fmt::format("`{}` {}", name_, why));
  }

  std::string text(const char* option) {
    const Value v = bound_argument(e_, *o_.value, option);
    return v.is(ValueKind::string) ? v.text : "";
  }

  void alone() {
    for (const TrainStatements::Optimizer& other : x_.optimizers)
      if (&other != &o_) {
        refuse(span_, "moves all parameters together: no other optimizer can be used beside it")
            .related.push_back({other.statement->word_span, "the other is here"});
        return;
      }
    if (!o_.statement->on.empty())
      refuse(o_.statement->on[0].span, "moves all parameters together and takes no `on`")
          .helps.push_back("what shall not be trained is `freeze`");
  }

  // Every evaluation of the loss must see the same examples.
  void same_examples() {
    const DataSyntax& d = e_.program().user.data.front();
    if (!data_.augment.empty()) {
      Diagnostic& error = refuse(
          span_, "needs the same examples whenever it looks, but they are augmented differently each epoch");
      error.related.push_back({d.augments.front(), "they are augmented here"});
      error.helps.push_back("leave out `augment`, or take another optimizer, as adam or sgd");
    }
    if (!data_.curriculum.empty()) {
      Diagnostic& error = refuse(
          span_, "needs the same examples whenever it looks, but the curriculum takes others each epoch");
      error.related.push_back({d.name_span, fmt::format("by `{}`, in these data", data_.curriculum)});
      error.helps.push_back("leave out `curriculum`, or take another optimizer, as adam or sgd");
    }
  }

  // The loss must be a function of the parameters that sums over examples, the same whenever it is evaluated.
  void whole_loss() {
    for (const auto& op : train_.body) {
      const bool mixes = mixes_batch(*op);
      if (!op->def->random && !mixes) continue;
      Diagnostic& d = refuse(
          span_, op->def->random ? "needs the same loss whenever it looks, but random numbers are drawn here"
                                 : "adds up its gradient over pieces of the data, but a batch is mixed here");
      if (!op->locations.empty())
        d.notes.push_back(fmt::format("`{}` at {}", op->name(), user_location(op->locations[0])));
      d.helps.push_back(op->def->random
                            ? "leave out dropout and noise layers, or take another optimizer, as adam or sgd"
                            : "take layernorm instead of batchnorm, or another optimizer, as adam or sgd");
      return;
    }
    if (const Symbol* s = changing_state(e_.module(), train_))
      refuse(span_,
             fmt::format("needs the same loss whenever it looks, but the state `{}` changes", s->name));
  }

  // A line search compares losses along a straight line, so no statement may change a step.
  void nothing_bends() {
    const auto bends = [&](Span location, const std::string& what, const char* help) {
      refuse(location, fmt::format("searches along a line, which `{}` would bend", what))
          .helps.push_back(help);
    };
    const char* leave = "leave it out, or take an optimizer without a line search";
    for (const TrainStatements::Clip& c : x_.clips) bends(c.span, "clip", leave);
    if (x_.noise > 0) bends(x_.seen.at("noise"), "noise", leave);
    if (x_.ema > 0) bends(x_.seen.at("ema"), "ema", leave);
    for (const TrainStatements::Penalty& p : x_.projections) bends(p.statement->word_span, "project", leave);
    for (const TrainStatements::Multiplier& m : x_.multipliers)
      bends(m.statement->word_span, m.statement->word, leave);
    if (!bound_argument(e_, *o_.value, "weight_decay").is(ValueKind::none))
      bends(span_, "weight_decay", "`penalty l2(...)` is part of the loss");
  }

  Evaluator& e_;
  TrainStatements& x_;
  const TrainStatements::Optimizer& o_;
  const Function& train_;
  const DataRecord& data_;
  const std::string name_;
  const Span span_;
};

}  // namespace

void resolve_driver(Evaluator& e, TrainStatements& x, const Function& train, const DataRecord& data) {
  for (const TrainStatements::Optimizer& o : x.optimizers) {
    if (!looks_at_all(*o.value)) continue;
    DriverRules(e, x, o, train, data).run();
    return;
  }
}

std::string why_whole_batches(const TrainStatements& x, const DataRecord& data, const Module& module,
                              const Function& train) {
  if (!x.record.full_batch.empty())
    return fmt::format("`{}` goes through the data by itself", x.record.full_batch);
  if (data.drop_last) return "the last, partial batch is dropped (`last=drop`)";
  for (const auto& op : train.body)
    if (mixes_batch(*op))
      return op->locations.empty()
                 ? fmt::format("`{}` mixes a batch", op->name())
                 : fmt::format("`{}` mixes a batch at {}", op->name(), user_location(op->locations[0]));
  if (const Symbol* s = changing_state(module, train))
    return fmt::format("the state `{}` changes once a batch", s->name);
  return "";
}

}  // namespace gradc::frontend
