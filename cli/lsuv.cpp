// `gradc lsuv`: initialisation from the data. Layer-sequential unit variance (Mishkin and Matas 2015): one batch goes
// forward, and each parameter that multiplies it is divided by the standard deviation of its products, so that they
// have unit variance, before the batch goes on. Products are linear in the parameter, so one pass suffices where the
// paper iterates. Knows no operator: multiplications are contractions.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "cli/check/batch.h"
#include "cli/command.h"
#include "compiler/evaluate_ops.h"
#include "frontend/train_statements.h"
#include "ir/tensor/op_def.h"
#include "runtime/execution/checkpoint.h"
#include "runtime/execution/session.h"
#include "runtime/files.h"
#include "support/check.h"
#include "support/diagnostic.h"
#include "support/json_line.h"

namespace gradc::cli {

namespace {

struct LsuvOptions {
  ModelOptions model;
  std::string save;                 // safetensors
  std::vector<std::string> except;  // patterns of parameters that are not scaled
  std::optional<int64_t> seed, rows;
};

using interpreter::Tensor;

struct Scaled {
  std::string parameter;
  double variance = 0;  // of its products before scaling
  double factor = 1;
};

double variance_of(const Tensor& t) {
  const auto count = static_cast<double>(t.data.size());
  double mean = 0, sum = 0;
  for (const double v : t.data) mean += v / count;
  for (const double v : t.data) sum += (v - mean) * (v - mean) / count;
  return sum;
}

// The names of parameters that patterns match. Throws RunError (kExitUsage) for one that matches none.
std::set<std::string> matched(const Module& module, const std::vector<std::string>& patterns) {
  std::set<std::string> result;
  for (const std::string& pattern : patterns) {
    bool any = false;
    std::vector<std::string> names;
    for (const Symbol& s : module.symbols) {
      if (s.kind != SymbolKind::parameter) continue;
      names.push_back(s.name);
      if (!frontend::matches(pattern, s.name)) continue;
      result.insert(s.name);
      any = true;
    }
    if (any) continue;
    const std::string near = nearest_name(pattern, names);
    throw RunError(kExitUsage, fmt::format("lsuv: --except {} matches no parameter{}", pattern,
                                           near.empty() ? "" : fmt::format("; did you mean '{}'?", near)));
  }
  return result;
}

// The parameter that a contraction of the batch multiplies, or null.
const Symbol* multiplied(const Module& module, const Op& op) {
  if (op.def->kind != OpKind::contraction || !op.type.batched || !op.type.is_float()) return nullptr;
  for (const Op* operand : op.operands)
    if (operand->is("symbol"))
      if (const Symbol* s = module.symbol(operand->symbol()); s && s->kind == SymbolKind::parameter) return s;
  return nullptr;
}

// Scales the values of `symbols` in the order in which the batch is multiplied by them.
std::vector<Scaled> unit_variance(const Module& module, const std::set<std::string>& except,
                                  const Tensors& batch, uint64_t seed, Tensors& symbols) {
  const Function* train = module.function("train");
  GRADC_CHECK(train, "the module has no @train");
  interpreter::RunInput input;
  input.context.rows = rows_of(batch);
  input.context.seed = seed;
  input.symbols = symbols;
  for (const auto& field : train->inputs) input.inputs[field->symbol()] = batch.at(field->symbol());
  std::vector<Scaled> scaled;
  std::map<std::string, double> factors;
  evaluate_ops(*train, input, [&](const Op& op, const std::vector<const Tensor*>&, Tensor& result) {
    const Symbol* parameter = multiplied(module, op);
    if (!parameter || except.count(parameter->name)) return;
    const auto [known, is_new] =
        factors.emplace(parameter->name, 1.0);  // a shared one is scaled at its first use
    if (is_new) {
      const double variance = variance_of(result);
      if (variance > 0 && std::isfinite(variance)) known->second = 1 / std::sqrt(variance);
      scaled.push_back({parameter->name, variance, known->second});
    }
    result.data *= known->second;
  });
  for (const auto& [name, factor] : factors) symbols.at(name).data *= factor;
  return scaled;
}

int run_lsuv(const LsuvOptions& options) {
  runtime::check_output_path(options.save, "weights file");
  const CompileRequest request = compile_request(options.model, options.rows.value_or(0));
  const CompiledModel compiled(request);
  if (!compiled.complete()) throw RunError(kExitUsage, "lsuv: --stop-after leaves nothing to run");
  const auto source = load_model(request);
  const Module& module = *source->model.module;
  const std::set<std::string> except = matched(module, options.except);
  const auto seed = static_cast<uint64_t>(options.seed.value_or(source->model.experiment.train.seed));

  runtime::Session session(compiled.program(), options.model.threads);
  session.initialize(seed);
  Tensors symbols;
  const gradc_program& program = compiled.program();
  for (int32_t i = 0; i < program.symbol_count; ++i) {
    const gradc_symbol& s = program.symbols[i];
    const Type type{static_cast<DType>(s.dtype), false, Shape(s.shape, s.shape + s.rank)};
    symbols[s.name] = interpreter::make_tensor(type, 1);
    from_memory(session.data(s), type.dtype, type.elements(), symbols[s.name].data.data());
  }
  const Tensors batch = training_batch(compiled, program.batch);
  const std::vector<Scaled> scaled = unit_variance(module, except, batch, seed, symbols);
  for (int32_t i = 0; i < program.symbol_count; ++i) {
    const gradc_symbol& s = program.symbols[i];
    const Tensor& value = symbols.at(s.name);
    to_memory(value.data.data(), value.type.dtype, value.type.elements(), session.data(s));
  }
  runtime::save_checkpoint(session, options.save, {seed, 0, false});

  if (options.model.json) {
    for (const Scaled& s : scaled)
      fmt::print("{}\n", json_line(nlohmann::ordered_json{{"event", "scaled"},
                                                          {"parameter", s.parameter},
                                                          {"variance", s.variance},
                                                          {"factor", s.factor}}));
    fmt::print("{}\n", json_line(nlohmann::ordered_json{
                           {"event", "end"}, {"examples", rows_of(batch)}, {"saved", options.save}}));
    return kExitOk;
  }
  size_t width = 9;
  for (const Scaled& s : scaled) width = std::max(width, s.parameter.size());
  fmt::print("{:<{}}  {:>12}  {:>10}\n", "parameter", width, "variance", "times");
  for (const Scaled& s : scaled)
    fmt::print("{:<{}}  {:>12.6g}  {:>10.6g}{}\n", s.parameter, width, s.variance, s.factor,
               s.variance > 0 ? "" : "  (left as it is)");
  fmt::print("on {} examples; saved {}; gradc train --init-from {} starts from it\n", rows_of(batch),
             options.save, options.save);
  return kExitOk;
}

}  // namespace

Command add_lsuv(CLI::App& app) {
  const auto o = std::make_shared<LsuvOptions>();
  CLI::App* c = app.add_subcommand(
      "lsuv", "initial values from the data: scale each layer to products of unit variance on one batch");
  add_model_options(c, o->model);
  c->add_option("--save", o->save, "write the parameters here, for gradc train --init-from")
      ->required()
      ->type_name("W.safetensors");
  add_list(c, "--except", o->except,
           "leave the parameters as they are whose names match, such as a small last layer (repeatable)")
      ->type_name("PATTERN");
  c->add_option("--seed", o->seed, "of the values that are scaled (default: the file's)")
      ->check(from_to(0, kMany))
      ->type_name("N");
  c->add_option("--rows", o->rows, "examples in the batch (default: the file's batch)")
      ->check(from_to(2, 65536))
      ->type_name("N");
  add_thread_option(c, o->model.threads);
  add_code_options(c, o->model);
  return {c, [o] { return run_lsuv(*o); }, &o->model.json};
}

}  // namespace gradc::cli
