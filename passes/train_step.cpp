// Joins the frontend's functions into the programs that run: @train and its gradients and every @update.P
// become @train_step; the per-example losses and metrics of @train_step and @eval become sums over the rows.
#include "ir/op_def.h"
#include "passes/passes.h"
#include "passes/pipeline.h"
#include "support/check.h"

namespace gradc::passes {

namespace {

// Replaces a per-example output by its sum over the rows; what an output adds that is not per example (a
// penalty) counts once a row.
void sum_outputs(Function& f) {
  Builder b(f);
  Op* penalty = nullptr;
  for (const Output& o : f.outputs)
    if (o.name == "penalty") penalty = o.value;
  std::vector<Output> outputs;
  for (const Output& o : f.outputs) {
    if (o.name == "penalty") continue;
    b.set_locations(o.value->locations);
    Op* sum = o.value;
    if (sum->type.batched) sum = b.reduce_sum(sum, {}, /*batch=*/true);
    if (o.name == "loss" && penalty) sum = b.add(sum, b.mul(penalty, b.create("row_count", {})));
    outputs.push_back({o.name, sum});
  }
  f.outputs = std::move(outputs);
}

}  // namespace

void make_train_step(Module& module, bool gradient_outputs) {
  Function* train = module.function("train");
  GRADC_CHECK(train, "the module has no @train");
  Function& step = module.add_function("train_step");
  std::map<std::string, Op*> inputs;
  for (const auto& input : train->inputs)
    inputs[input->symbol()] = step.add_input(input->symbol(), input->type);
  {
    Builder b(step);
    const auto image = inline_function(*train, inputs, module, b);
    for (const Output& o : train->outputs) step.outputs.push_back({o.name, image.at(o.value)});
    for (const Update& u : train->updates) step.updates.push_back({u.symbol, image.at(u.value), u.location});
  }
  const std::map<std::string, Op*> gradients = differentiate(module, step);
  sum_outputs(step);
  for (size_t i = 0; i < step.outputs.size(); ++i)
    if (step.outputs[i].name == "loss") step.guard_output = static_cast<int>(i);

  std::map<std::string, Op*> scalars;
  for (const char* name : {"step", "epoch", "total", "lr_factor"})
    scalars[name] = step.add_input(name, Type{DType::f64, false, {}});
  Builder b(step);
  std::vector<std::string> merged;
  Op* rate = nullptr;
  for (const Symbol& symbol : module.symbols) {
    const Function* update = module.function("update." + symbol.name);
    if (!update) continue;
    merged.push_back(update->name);
    std::map<std::string, Op*> arguments = scalars;
    const auto g = gradients.find(symbol.name);
    b.set_location(symbol.location);
    // A parameter the loss does not depend on still decays: its gradient is zero.
    arguments["g"] = g != gradients.end() ? g->second
                                          : b.create("broadcast", {b.constant(0)},
                                                     {{"shape", symbol.type.shape}, {"batched", false}});
    const auto image = inline_function(*update, arguments, module, b);
    const auto at = [&](Op* v) {
      const auto it = image.find(v);
      return it != image.end() ? it->second : arguments.at(v->symbol());
    };
    for (const Update& u : update->updates) step.updates.push_back({u.symbol, at(u.value), u.location});
    for (const Output& o : update->outputs)
      if (o.name == "lr" && !rate) rate = at(o.value);
    if (gradient_outputs) step.outputs.push_back({"grad." + symbol.name, arguments["g"]});
  }
  if (rate) step.outputs.push_back({"lr", rate});
  for (const std::string& name : merged) module.remove_function(name);
  module.remove_function("train");
  if (Function* eval = module.function("eval")) sum_outputs(*eval);
  for (const auto& f : module.functions) f->renumber();
}

}  // namespace gradc::passes
