// The frontend's entry: from a file to a module, program by program.
#include <fmt/format.h>

#include <algorithm>

#include "frontend/error_codes.h"
#include "frontend/frontend.h"
#include "frontend/parser.h"
#include "frontend/results.h"
#include "frontend/train_statements.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::frontend {

namespace {

class Compiler {
 public:
  Compiler(SourceManager& sources, const Program& program, Diagnostics& diagnostics, const Options& options)
      : sources_(sources),
        program_(program),
        diagnostics_(diagnostics),
        options_(options),
        module_(std::make_unique<Module>()),
        e_(program, diagnostics, *module_) {
    x_.variation = options.variation;
  }

  std::optional<Model> run(const std::map<std::string, std::string>& settings) {
    module_->name = sources_.name(program_.user.file);
    const Span start{program_.user.file, 0, 0};
    Function nothing("nothing");
    Evaluator::Target none;
    none.function = &nothing;
    Experiment record;
    {
      // Settings and data belong to no program: operations emitted here go to `nothing`, and a tensor is an
      // error.
      Evaluator::Redirect redirect(e_, none);
      Evaluator::TopFrame top(e_);
      if (!evaluate_settings(e_, sources_, settings) || !evaluate_data(e_, record.data)) return {};
    }
    data_ = record.data;
    const auto& train = program_.user.train;
    if (train.size() != 1) {
      Diagnostic& d =
          diagnostics_.error(codes::experiment_part, train.empty() ? start : word(train[1]),
                             train.empty() ? "this file has no `train`" : "a file has one `train`");
      if (train.empty()) d.helps.push_back("as in `train { loss ...; optimizer ...; epochs 10 }`");
      return {};
    }
    e_.experiment = &runner_;

    Function& train_function = module_->add_function("train");
    Function& init = module_->add_function("init");
    e_.init_target.function = &init;
    e_.init_target.training = e_.init_target.stochastic = true;
    e_.init_target.next_stream = kInitStreams;
    e_.notes.layer_values = options_.layer_values;
    if (!program(train_function, ProgramKind::train)) return {};
    if (!batches_vary(train_function)) return {};
    e_.notes.layer_values = false;
    e_.late_parameters = true;
    if (!program(module_->add_function("eval"), ProgramKind::eval)) return {};
    if (x_.has_predict && !program(module_->add_function("predict"), ProgramKind::predict)) return {};
    e_.late_parameters = false;  // emit_updates() declares slots
    describe_rates();
    add_averages(e_, x_);
    if (!emit_updates(e_, x_)) return {};
    emit_gradients(e_, x_);
    std::string mixes = why_whole_batches(x_, record.data, *module_, train_function);
    if (options_.micro_batches > 1) {
      GRADC_CHECK(mixes.empty() && record.data.batch % options_.micro_batches == 0,
                  "batches of {} cannot be taken in {} pieces: {}", record.data.batch, options_.micro_batches,
                  mixes);
      record.data.batch /= options_.micro_batches;
      x_.record.accumulate *= options_.micro_batches;
    }
    add_gradient_sums(e_, x_);
    init.remove_dead();
    init.renumber();
    record.train = x_.record;
    for (const std::string& problem : verify(*module_))
      GRADC_CHECK(false, "the frontend made a wrong module: {}\n{}", problem, print(*module_));
    return Model{std::move(module_),       std::move(record),  std::move(index_ranges_), std::move(mixes),
                 std::move(layer_values_), std::move(losses_), std::move(metrics_)};
  }

 private:
  // @init has a range of random streams apart from that of training, so that adding a dropout changes no
  // initial value.
  static constexpr int64_t kInitStreams = int64_t{1} << 20;

  static Span word(const TrainSyntax& t) { return {t.span.file, t.span.begin, t.span.begin + 5}; }

  // The number of training examples where the model file determines it; -1 where the files of the data do.
  int64_t known_examples() const {
    const auto train = data_.options.find("train");
    if (train == data_.options.end() || !data_.splits.empty() || data_.bootstrap) return -1;
    const auto* count = std::get_if<int64_t>(&train->second);
    return count ? *count : -1;
  }

  // The variance over a batch of one example is always 0: normalisation would map the example to 0, and
  // running statistics would move towards that. The record notes that batches need at least 2 rows. False
  // after an error.
  bool batches_vary(const Function& train) {
    const int64_t known = known_examples();
    const bool leaves_one = known > 0 && !data_.drop_last && known % data_.batch == 1;
    for (const auto& op : train.body) {
      if (!op->is("batch_var") || op->operands[0]->type.elements() != op->type.elements()) continue;
      x_.record.least_rows = 2;
      if (data_.batch != 1 && !leaves_one) return true;
      Diagnostic& d = e_.error(
          codes::bad_value, program_.user.data.front().name_span,
          data_.batch == 1
              ? "a batch of 1 example has no variance, which the model takes over the batch"
              : fmt::format("the last of {} examples in batches of {} is alone in its batch, which has no "
                            "variance",
                            known, data_.batch));
      d.expect("at least 2 examples a batch", "1");
      if (!op->locations.empty())
        d.notes.push_back(fmt::format("`batch_var` at {}", user_location(op->locations[0])));
      d.helps.push_back(data_.batch == 1
                            ? "give `batch` at least 2, or normalise each example by itself: `layernorm`"
                            : "leave it out with `last=drop`, or take another `batch`");
      return false;
    }
    return true;
  }

  bool program(Function& f, ProgramKind kind) {
    const size_t errors = diagnostics_.count();
    x_.kind = kind;
    x_.losses.clear();
    x_.metrics.clear();
    x_.predict = nullptr;
    Evaluator::Target target;
    target.function = &f;
    target.training = kind == ProgramKind::train;
    target.stochastic = target.training ? options_.variation.random_layers : options_.stochastic_evaluation;
    e_.notes.functions.clear();
    e_.index_locations.clear();
    Evaluator::Redirect redirect(e_, target);
    Evaluator::TopFrame top(e_);
    e_.run_block(program_.user.train[0].body, false);
    if (kind == ProgramKind::train) require_parts(errors);
    if (diagnostics_.count() != errors) return false;
    if (kind == ProgramKind::predict) {
      f.outputs.push_back({"predict", x_.predict});
    } else {
      outputs(f);
      if (kind == ProgramKind::train && !finish_training(f)) return false;
    }
    for (const Symbol& s : module_->symbols)
      if (const auto it = target.states.find(s.name); it != target.states.end())
        f.updates.push_back(
            {s.name, it->second, it->second->locations.empty() ? s.location : it->second->locations[0]});
    f.remove_dead();
    const auto uses = f.use_counts();
    std::erase_if(f.inputs, [&](const auto& input) {
      const auto it = uses.find(input.get());
      return it == uses.end() || it->second == 0;
    });
    f.renumber();
    index_ranges_[f.name] = index_ranges(f);
    check_index_ranges(e_, index_ranges_[f.name]);
    return diagnostics_.count() == errors;
  }

  // Records optimizers and penalties. emit_updates() reports a rate that is not a number.
  void describe_rates() {
    x_.record.penalised = !x_.penalties.empty();
    x_.record.line_search = x_.moves;
    for (const TrainStatements::Optimizer& o : x_.optimizers) {
      const Value lr = bound_argument(e_, *o.value, "lr");
      x_.record.optimizers.push_back({o.value->name, lr.is_static_number() ? lr.as_number() : 0});
    }
  }

  void require_parts(size_t errors) {
    const Span location = word(program_.user.train[0]);
    const auto missing = [&](const char* word, const char* help) {
      diagnostics_.error(codes::experiment_part, location, fmt::format("this `train` has no `{}`", word))
          .helps.push_back(help);
    };
    if (diagnostics_.count() != errors) return;  // a loss with an error is not missing
    if (x_.losses.empty()) missing("loss", "as in `loss cross_entropy(logits, digits.label)`");
    if (x_.optimizers.empty()) missing("optimizer", "as in `optimizer adam(lr=1e-3)`");
  }

  // The losses that are averaged with one divisor: the number of rows, or the sum of the rows' weights.
  struct Part {
    Op* weight = nullptr;  // of an example; null: equal weights
    Op* total = nullptr;   // of an example: its losses, times their weights
    std::string name, divisor;
  };

  void outputs(Function& f) {
    std::vector<Part> parts;
    std::vector<Output> named;
    Op* sum = nullptr;
    for (TrainStatements::Loss& l : x_.losses) {
      Op* value = l.value;
      if (l.by_example) value = e_.emit("mul", {value, l.by_example}, {}, l.span).tensor;
      Part& part = part_of(parts, l.by_example);
      // With several losses, each named one is an output too, besides their sum.
      if (x_.losses.size() > 1 && !l.name.empty()) named.push_back({l.name, value, part.divisor});
      if (l.weight != 1)
        value = e_.emit("mul", {value, e_.lift(Value::of(l.weight), DType::f32, l.span)}, {}, l.span).tensor;
      const auto add = [&](Op*& to) { to = to ? e_.emit("add", {to, value}, {}, l.span).tensor : value; };
      add(part.total);
      add(sum);
    }
    f.outputs.push_back({"loss", sum});
    if (parts.size() > 1 || parts[0].weight)
      for (const Part& part : parts) {
        f.outputs.push_back({part.name, part.total, part.divisor});
        if (part.weight) f.outputs.push_back({part.divisor, part.weight});
      }
    f.outputs.insert(f.outputs.end(), named.begin(), named.end());
    for (const NamedValue& m : x_.metrics) f.outputs.push_back({m.name, m.value});
  }

  static Part& part_of(std::vector<Part>& parts, Op* weight) {
    for (Part& part : parts)
      if (part.weight == weight) return part;
    Part& part = parts.emplace_back();
    part.weight = weight;
    const auto number = parts.size() - 1;
    part.name = fmt::format("loss.{}", number);
    if (weight) part.divisor = fmt::format("weights.{}", number);
    return part;
  }

  bool finish_training(Function& f) {
    const size_t errors = diagnostics_.count();
    if (!assign_optimizers(e_, x_)) return false;
    resolve_options(e_, x_, data_);
    if (Op* penalty = emit_penalties(e_, x_)) f.outputs.push_back({"penalty", penalty});
    if (diagnostics_.count() == errors) check_weights();
    if (diagnostics_.count() == errors) check_gradients(f);
    if (diagnostics_.count() == errors) resolve_driver(e_, x_, f, data_);
    value_outputs(f);
    if (diagnostics_.count() == errors) describe_results(f);
    return diagnostics_.count() == errors;
  }

  void describe_results(const Function& f) {
    for (const NamedValue& m : x_.metrics)
      if (is_share(f, m.value)) x_.record.shares.push_back(m.name);
    if (!options_.facts) return;
    std::vector<std::vector<const Op*>> scores;
    for (const TrainStatements::Loss& l : x_.losses) {
      scores.push_back(scores_of(f, l.value, e_.notes.functions));
      losses_.push_back({l.name, l.weight, loss_at_equal_scores(f, l.value, scores.back(), data_)});
    }
    const auto& shares = x_.record.shares;
    for (const NamedValue& m : x_.metrics) {
      MetricFacts facts{m.name, std::find(shares.begin(), shares.end(), m.name) != shares.end()};
      for (size_t i = 0; i < scores.size() && !facts.grows_with_loss; ++i)
        facts.grows_with_loss = grows_with_loss(f, m.value, x_.losses[i].value, scores[i], data_);
      metrics_.push_back(facts);
    }
  }

  // Adds the values of layers as outputs; a value that two calls return is listed once, for the inner call.
  void value_outputs(Function& f) {
    std::set<const Op*> known;
    for (const NotedValue& v : e_.notes.values) {
      if (!known.insert(v.op).second) continue;
      const auto& range = v.op->def->range;
      layer_values_.push_back({v.name, v.callee, user_location(e_.location(v.span)), "",
                               range ? range->first : 0, range ? range->second : 0});
      const auto& wanted = options_.layers;
      if (!wanted.empty() && std::none_of(wanted.begin(), wanted.end(),
                                          [&](const std::string& p) { return matches(p, v.name); }))
        continue;
      layer_values_.back().output = kValuePrefix + v.name;
      f.outputs.push_back({layer_values_.back().output, v.op});
    }
  }

  // When an update takes several batches, the sum of weights that divides the loss is known only after the
  // last of them. So no gradient can flow through the weights, and the user must make them constants.
  void check_weights() {
    for (const TrainStatements::Loss& l : x_.losses) {
      std::set<const Op*> reached;
      std::vector<const Op*> work;
      if (l.by_example) work.push_back(l.by_example);
      while (!work.empty()) {
        const Op* op = work.back();
        work.pop_back();
        if (!reached.insert(op).second) continue;
        if (op->is("symbol") && x_.governed.count(op->symbol())) {
          e_.error(codes::bad_result, l.span,
                   fmt::format("the weight of an example depends on the parameter `{}`, which is trained",
                               op->symbol()))
              .helps.push_back(
                  "a weight is a constant for the gradient: `weight stop_gradient(...)`; a factor that is to "
                  "be "
                  "differentiated belongs in the loss");
          return;
        }
        if (op->def->gradient) work.insert(work.end(), op->operands.begin(), op->operands.end());
      }
    }
  }

  // Every trained parameter must be reached from the loss or the penalty through differentiable operations.
  void check_gradients(const Function& f) {
    std::set<const Op*> reached;
    std::vector<const Op*> work;
    for (const Output& o : f.outputs)
      if (o.name == "loss" || o.name == "penalty") work.push_back(o.value);
    std::set<std::string> parameters;
    const Op* barrier = nullptr;  // where backpropagation stops, for the message
    while (!work.empty()) {
      const Op* op = work.back();
      work.pop_back();
      if (!reached.insert(op).second) continue;
      if (op->is("symbol")) parameters.insert(op->symbol());
      if (!op->def->gradient) {
        if (!op->operands.empty() && !barrier) barrier = op;
        continue;
      }
      for (const Op* operand : op->operands) work.push_back(operand);
    }
    for (const auto& [name, optimizer] : x_.governed) {
      if (parameters.count(name)) continue;
      const Span span = x_.losses[0].span;
      Diagnostic& d = e_.error(codes::no_gradient, span,
                               fmt::format("no gradient of the loss reaches the parameter `{}`", name));
      if (barrier && parameters.empty())
        d.notes.push_back(fmt::format("the way back ends at `{}` ({}): {}", barrier->name(),
                                      barrier->locations.empty() ? "?" : user_location(barrier->locations[0]),
                                      barrier->def->no_gradient));
      d.helps.push_back(fmt::format("use it, or `freeze \"{}\"`", name));
      return;
    }
  }

  SourceManager& sources_;
  const Program& program_;
  Diagnostics& diagnostics_;
  const Options options_;
  std::unique_ptr<Module> module_;
  Evaluator e_;
  TrainStatements x_;
  TrainRunner runner_{e_, x_};
  DataRecord data_;
  std::vector<LayerValue> layer_values_;
  std::vector<LossFacts> losses_;
  std::vector<MetricFacts> metrics_;
  std::map<std::string, IndexRanges> index_ranges_;
};

}  // namespace

std::optional<Model> compile(SourceManager& sources, uint32_t file,
                             const std::map<std::string, std::string>& settings, Diagnostics& diagnostics,
                             const Options& options) {
  Program program = load(sources, file, diagnostics);
  if (diagnostics.has_errors()) return {};
  resolve(program, diagnostics);
  if (diagnostics.has_errors()) return {};
  try {
    std::optional<Model> model = Compiler(sources, program, diagnostics, options).run(settings);
    GRADC_CHECK(model || diagnostics.has_errors(), "compilation failed without a message");
    if (diagnostics.has_errors()) return {};
    return model;
  } catch (const Evaluator::Abort&) {
    GRADC_CHECK(diagnostics.has_errors(), "compilation stopped without a message");
    return {};
  }
}

std::string dump_ast(SourceManager& sources, uint32_t file, Diagnostics& diagnostics) {
  const File tree = parse(sources, file, diagnostics);
  return diagnostics.has_errors() ? "" : dump(tree);
}

}  // namespace gradc::frontend
