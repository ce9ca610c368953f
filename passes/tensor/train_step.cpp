// Joins the frontend's functions into the programs that run: @train, its gradients, @gradients and every
// @update.P become @train_step, or, where gradients add up over several batches, @train_step and @update; the
// per-example losses and metrics of @train_step and @eval become sums over the rows.
#include <algorithm>

#include "ir/tensor/op_def.h"
#include "passes/tensor/passes.h"
#include "support/check.h"

namespace gradc::passes {

namespace {

using Values = std::map<std::string, Op*>;

// Whether an output is a layer's value, which stays one an example.
bool is_value(const std::string& output) { return output.rfind("value.", 0) == 0; }

// Replaces a per-example output by its sum over the rows. A term that is not per example (a penalty) counts once a row,
// and is an output of its own where losses have weights.
void sum_outputs(Function& f) {
  Builder b(f);
  Op* penalty = nullptr;
  for (const Output& o : f.outputs)
    if (o.name == "penalty") penalty = o.value;
  std::vector<Output> outputs;
  Op* penalties = nullptr;  // as an output of their own
  for (const Output& o : f.outputs) {
    if (o.name == "penalty") continue;
    b.set_locations(o.value->locations);
    Op* sum = o.value;
    if (is_value(o.name)) {
      outputs.push_back(o);
      continue;
    }
    if (sum->type.batched) sum = b.reduce_sum(sum, {}, /*batch=*/true);
    Op* of_rows = o.name == "loss" && penalty ? b.mul(penalty, b.create("row_count", {})) : nullptr;
    if (of_rows) sum = b.add(sum, of_rows);
    outputs.push_back({o.name, sum, o.divisor});
    if (of_rows && losses_of(f).front().name != "loss") penalties = of_rows;
  }
  if (penalties) outputs.push_back({"loss.penalty", penalties});  // after the parts whose gradients add up
  f.outputs = std::move(outputs);
}

// Inlines `from`: an output of `from` that is one of its inputs is the argument itself.
struct Inlined {
  Inlined(const Function& from, const Values& arguments, Module& module, Builder& b)
      : image(inline_function(from, arguments, module, b)), arguments(arguments) {}
  Op* at(Op* v) const {
    const auto it = image.find(v);
    return it != image.end() ? it->second : arguments.at(v->symbol());
  }
  std::map<const Op*, Op*> image;
  const Values& arguments;
};

class StepMaker {
 public:
  StepMaker(Module& module, bool gradient_outputs)
      : module_(module), train_(*module.function("train")), gradient_outputs_(gradient_outputs) {
    for (const Symbol& s : module_.symbols) sums_ = sums_ || s.kind == SymbolKind::gradient;
  }

  void run() {
    Function& step = module_.add_function("train_step");
    copy_train(step, [](const Output&) { return true; });
    for (const Output& o : step.outputs) penalised_ = penalised_ || o.name == "penalty";
    losses_ = losses_of(step);
    std::vector<Values> gradients;  // of each loss where they add up, else of all
    std::vector<std::map<const Op*, Op*>> of_values;
    for (size_t i = 0; i < (sums_ ? losses_.size() : 1); ++i)
      gradients.push_back(
          differentiate(module_, step, sums_ ? losses_[i].name : "", &of_values.emplace_back()));
    sum_outputs(step);
    add_value_gradients(step, of_values);
    // A step with layers' values has no guard: its values are needed most where the loss is not finite, and its updates
    // are dropped.
    const bool looked_at = std::any_of(step.outputs.begin(), step.outputs.end(),
                                       [](const Output& o) { return is_value(o.name); });
    for (size_t i = 0; i < step.outputs.size(); ++i)
      if (step.outputs[i].name == "loss" && !looked_at) step.guard_output = static_cast<int>(i);
    if (sums_) {
      add_up(step, gradients);
      update(module_.add_function("update"));
    } else {
      finish(step, gradients[0]);
    }
    std::vector<std::string> merged = {"train"};
    for (const auto& f : module_.functions)
      if (f->name == "gradients" || f->name.rfind("update.", 0) == 0) merged.push_back(f->name);
    for (const std::string& name : merged) module_.remove_function(name);
  }

 private:
  // Adds after each layer's value, as "gradient.NAME", the gradient of this batch's mean loss, where there is one.
  void add_value_gradients(Function& step, const std::vector<std::map<const Op*, Op*>>& gradients) const {
    Builder b(step);
    const std::vector<Output> outputs = step.outputs;
    for (const Output& o : outputs) {
      if (!is_value(o.name)) continue;
      b.set_locations(o.value->locations);
      Op* sum = nullptr;
      for (size_t i = 0; i < gradients.size(); ++i) {
        const auto found = gradients[i].find(o.value);
        if (found == gradients[i].end()) continue;
        Op* g = found->second;
        if (sums_)
          g = losses_[i].divisor.empty() ? b.div(g, b.create("row_count", {}))
                                         : mean(b, g, output(step, losses_[i].divisor));
        sum = sum ? b.add(sum, g) : g;
      }
      if (sum) step.outputs.push_back({"gradient." + o.name.substr(o.name.find('.') + 1), sum});
    }
  }

  static Op* output(const Function& f, const std::string& name) {
    for (const Output& o : f.outputs)
      if (o.name == name) return o.value;
    GRADC_CHECK(false, "@{} has no output {}", f.name, name);
  }

  // x / weights, 0 where all weights are 0.
  static Op* mean(Builder& b, Op* x, Op* weights) {
    return b.select(b.compare("gt", weights, b.constant(0)), b.div(x, weights), b.constant(0));
  }

  // The number of the loss whose gradients a symbol adds up: P.grad is of the first, P.grad1 of the second.
  size_t loss_of(const Symbol& sum) const {
    const std::string digits = sum.name.substr(sum.name.rfind('.') + sizeof ".grad" - 1);
    const size_t loss = digits.empty() ? 0 : std::stoul(digits);
    GRADC_CHECK(loss < losses_.size(), "@{} is of loss {} of {}", sum.name, loss, losses_.size());
    return loss;
  }

  template <class Keep>
  void copy_train(Function& f, Keep&& keep) {
    Values inputs;
    for (const auto& input : train_.inputs)
      inputs[input->symbol()] = f.add_input(input->symbol(), input->type);
    Builder b(f);
    const Inlined copy(train_, inputs, module_, b);
    for (const auto& op : train_.body) copy.at(op.get())->id = op->id;  // PassReport tells them from the rest
    for (const Output& o : train_.outputs)
      if (keep(o)) f.outputs.push_back({o.name, copy.at(o.value), o.divisor});
    if (f.name == "train_step")
      for (const Update& u : train_.updates) f.updates.push_back({u.symbol, copy.at(u.value), u.location});
  }

  // A step scalar, added at its first use.
  static Op* scalar(Function& f, const std::string& name) {
    Op* input = f.input(name);
    return input ? input : f.add_input(name, Type{DType::f64, false, {}});
  }

  Op* zero(Builder& b, const Type& type) {
    return b.create("broadcast", {b.constant(0)}, {{"shape", type.shape}, {"batched", false}});
  }

  // P.grad = the first micro-batch's gradient, or P.grad and this one's; likewise the sums of weights.
  void add_up(Function& step, const std::vector<Values>& gradients) {
    Builder b(step);
    Op* later = b.compare("gt", scalar(step, "micro"), b.constant(0, DType::f64));
    for (const Symbol& sum : module_.symbols) {
      if (sum.kind != SymbolKind::gradient && sum.kind != SymbolKind::weights) continue;
      b.set_location(sum.location);
      Op* now = nullptr;
      if (sum.kind == SymbolKind::weights) {
        now = b.cast(output(step, sum.name), sum.type.dtype);
      } else {
        const Values& own = gradients[loss_of(sum)];
        const auto g = own.find(owner(sum));
        now = g != own.end() ? g->second : zero(b, sum.type);
      }
      step.updates.push_back({sum.name, b.select(later, b.add(step.read(sum), now), now), sum.location});
    }
  }

  // @update: the sums over all examples of the update, the penalties' gradients, and what follows.
  void update(Function& f) {
    if (penalised_) copy_train(f, [](const Output& o) { return o.name == "penalty"; });
    Values gradients = differentiate(module_, f);
    f.outputs.clear();
    Builder b(f);
    Op* examples = b.cast(scalar(f, "examples"), DType::f32);
    for (const Symbol& sum : module_.symbols) {
      if (sum.kind != SymbolKind::gradient) continue;
      b.set_location(sum.location);
      const std::string& divisor = losses_[loss_of(sum)].divisor;
      Op* own = divisor.empty() ? b.div(f.read(sum), examples)
                                : mean(b, f.read(sum), b.cast(f.read(*module_.symbol(divisor)), DType::f32));
      Op*& g = gradients[owner(sum)];
      g = g ? b.add(own, g) : own;
    }
    finish(f, gradients);
    f.remove_dead();
    const auto uses = f.use_counts();
    std::erase_if(f.inputs, [&](const auto& input) {
      const auto it = uses.find(input.get());
      return it == uses.end() || it->second == 0;
    });
  }

  // @gradients and every @update.P, after the gradients.
  void finish(Function& f, Values gradients) {
    Builder b(f);
    Values scalars;
    for (const char* name : {"step", "epoch", "total", "lr_factor"}) scalars[name] = scalar(f, name);
    for (const Symbol& symbol : module_.symbols) {
      if (!module_.function("update." + symbol.name)) continue;
      b.set_location(symbol.location);
      Op*& g = gradients[symbol.name];
      // A parameter the loss does not depend on still decays: its gradient is zero.
      if (!g) g = zero(b, symbol.type);
    }
    const Values raw = gradients;
    std::vector<Output> numbers;
    if (const Function* all = module_.function("gradients")) {
      Values arguments = gradients;
      arguments.insert(scalars.begin(), scalars.end());
      const Inlined copy(*all, arguments, module_, b);
      for (const Output& o : all->outputs)
        if (gradients.count(o.name))
          gradients[o.name] = copy.at(o.value);
        else
          numbers.push_back({o.name, copy.at(o.value)});
    }
    Op* rate = nullptr;
    for (const Symbol& symbol : module_.symbols) {
      const Function* update = module_.function("update." + symbol.name);
      if (!update) continue;
      Values arguments = scalars;
      b.set_location(symbol.location);
      arguments["g"] = gradients.at(symbol.name);
      const Inlined copy(*update, arguments, module_, b);
      for (const Update& u : update->updates) f.updates.push_back({u.symbol, copy.at(u.value), u.location});
      for (const Output& o : update->outputs)
        if (o.name == "lr" && !rate) rate = copy.at(o.value);
      if (gradient_outputs_) f.outputs.push_back({"grad." + symbol.name, raw.at(symbol.name)});
    }
    if (rate) f.outputs.push_back({"lr", rate});
    for (const Output& o : numbers) f.outputs.push_back(o);
  }

  static std::string owner(const Symbol& s) { return s.name.substr(0, s.name.rfind('.')); }

  Module& module_;
  const Function& train_;
  const bool gradient_outputs_;
  bool sums_ = false, penalised_ = false;
  std::vector<Output> losses_;  // of each example
};

}  // namespace

void add_train_step(Module& module, bool gradient_outputs) {
  GRADC_CHECK(module.function("train"), "the module has no @train");
  StepMaker(module, gradient_outputs).run();
  if (Function* eval = module.function("eval")) sum_outputs(*eval);
}

}  // namespace gradc::passes
