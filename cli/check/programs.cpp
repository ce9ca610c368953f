// Compares the programs of a model: every value that native code stored, products as training computes them, outputs,
// gradients and updates. Knows no operator.
#include <algorithm>
#include <cmath>

#include "cli/check/checker.h"
#include "compiler/evaluate_ops.h"
#include "ir/loop/loop_ir.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::cli {

using interpreter::Tensor;

namespace {

// Loop IR of one program, without code generation, which takes most of the time of compiling.
std::string loop_text(const CompileRequest& request, const std::string& program) {
  const std::unique_ptr<LoadedModel> loaded = load_model(request);
  passes::PipelineOptions options = pipeline_options(request, codegen::find_target(request.target), *loaded);
  options.print = nullptr;
  passes::run_tensor_passes(*loaded->model.module, options);
  return loop::print(passes::lower(*loaded->model.module, options).programs.at(program).program);
}

double root_mean_square(const Tensor& t) {
  return t.data.size() ? norm(t) / std::sqrt(static_cast<double>(t.data.size())) : 0;
}

// Where an operation decides (relu, x > 0, max) on operands within their own tolerance of a tie, native code may decide
// differently. Where its result fits the other decision, the reference takes that, so that later operations are
// compared with it too.
void follow_ties(const Op& op, const std::vector<const Tensor*>& operands, const Tensor& native,
                 double tolerance, interpreter::Context context, Tensor& reference) {
  if (op.def->kind != OpKind::elementwise) return;
  using Mode = interpreter::Decisions::Mode;
  interpreter::Decisions here, there;
  here.mode = Mode::record;
  context.decisions = &here;
  interpreter::evaluate(op, operands, context);
  if (here.by_op.empty()) return;
  const std::vector<int64_t>& way = here.by_op.begin()->second;
  const bool comparison = op.type.dtype == DType::boolean;
  const double allowed = comparison ? 0 : tolerance * root_mean_square(reference);
  context.decisions = &there;
  for (size_t k = 0; k < operands.size(); ++k) {
    if (!operands[k]->type.is_float()) continue;
    const double size = root_mean_square(*operands[k]);
    for (const double sign : {-1, 1}) {
      Tensor moved = *operands[k];
      for (size_t i = 0; i < moved.data.size(); ++i) {
        double& x = moved.data.data()[i];
        // An exact 0 is the result of an earlier decision, of a relu.
        if (x != 0 || comparison) x += sign * tolerance * std::max(std::fabs(x), size);
      }
      std::vector<const Tensor*> others = operands;
      others[k] = &moved;
      there.mode = Mode::record;
      interpreter::evaluate(op, others, context);
      there.mode = Mode::replay;
      const Tensor other = interpreter::evaluate(op, operands, context);
      const std::vector<int64_t>& other_way = there.by_op.begin()->second;
      for (size_t i = 0; i < way.size() && i < reference.data.size(); ++i) {
        const double got = native.data.data()[i], wanted = other.data.data()[i];
        if (way[i] != other_way[i] &&
            std::fabs(got - wanted) <= std::max(allowed, tolerance * std::fabs(wanted)))
          reference.data.data()[i] = got;
      }
    }
  }
}

}  // namespace

std::string location_of(const Op& op) {
  for (const Location& l : op.locations)
    if (l.valid()) return user_location(l);
  return "";
}

void Checker::check_rows(int64_t rows) {
  const CallRequest full = call_for(rows);
  for (const char* program : {"train_step", "update", "eval", "predict"}) {
    if (!compiled_.lowered().programs.count(program)) continue;
    const bool update = std::string(program) == "update";
    const CallRequest call = update ? update_call(full) : full;
    restore(update ? with_sums_ : symbols_);
    const int32_t status = caller_.call(program, call);
    if (status != 0) {
      not_finite("output", program, rows);
      continue;
    }
    check_values(program, call, update ? with_sums_ : symbols_);
    check_outputs(program, call, update ? with_sums_ : symbols_, rows);
  }
}

// Every value the native code stored against the interpreter's value of the same operation of the optimised
// IR.
void Checker::check_values(const std::string& program, const CallRequest& call, const Tensors& symbols) {
  const Function& f = *compiled_.module().function(program);
  const interpreter::RunInput input = interpreter_input(f, call, symbols);
  const passes::LoweredProgram& lowered = compiled_.lowered().programs.at(program);
  std::map<const Op*, const passes::StoredValue*> in_arena;
  for (const passes::StoredValue& stored : lowered.stored)
    if (lowered.program.allocations[static_cast<size_t>(stored.allocation)].space == loop::Space::arena)
      in_arena[stored.op] = &stored;
  // Compared one by one: all values of a large network at once would take many times the memory of its activations.
  evaluate_ops(f, input, [&](const Op& op, const std::vector<const Tensor*>& operands, Tensor& reference) {
    const auto it = in_arena.find(&op);
    Tensor native;
    if (it == in_arena.end() || !caller_.stored(lowered, *it->second, native)) return;
    follow_ties(op, operands, native, tolerances_.value, input.context, reference);
    add({"value", program, fmt::format("%{} {}", op.id, op.name()), location_of(op), to_string(op.type),
         call.rows, 0, 0, tolerances_.value},
        native, reference, &op);
  });
  settle(f, input);
}

// Products that training computes in another way than by the definition (Winograd), each against the interpreter's
// value of the same operation on the operands that native code stored: accumulated over a deep network, their rounding
// would hide errors.
void Checker::check_as_trained(int64_t rows) {
  if (request_.compile.passes.strict_math) return;
  CompileRequest r = native_request(request_);
  r.passes.strict_math = false;
  const std::string program = "train_step";
  if (loop_text(r, program) == loop::print(compiled_.lowered().programs.at(program).program)) return;
  const CompiledModel trained(r);
  const passes::LoweredProgram& lowered = trained.lowered().programs.at(program);
  NativeCaller caller(trained);
  for (const auto& [name, value] : symbols_)
    if (has_symbol(name)) caller.set_symbol(name, value);
  const CallRequest call = call_for(rows);
  if (caller.call(program, call) != 0) return not_finite("trained", program, rows);
  const Function& f = *trained.module().function(program);
  std::map<const Op*, const passes::StoredValue*> stored;
  for (const passes::StoredValue& v : lowered.stored)
    if (lowered.program.allocations[static_cast<size_t>(v.allocation)].space == loop::Space::arena)
      stored[v.op] = &v;
  std::set<int> products;  // kernels
  for (const auto& op : f.body)
    if (op->def->kind == OpKind::contraction) products.insert(op->kernel);
  const interpreter::RunInput input = interpreter_input(f, call, symbols_);
  evaluate_ops(f, input, [&](const Op& op, const std::vector<const Tensor*>& operands, Tensor& value) {
    const auto it = stored.find(&op);
    Tensor native;
    if (it == stored.end() || !caller.stored(lowered, *it->second, native)) return;
    follow_ties(op, operands, native, tolerances_.trained, input.context, value);
    // Sums in a product's epilogue cancel: they are compared with strict_math only, where their rounding is known.
    if (products.count(op.kernel) && op.def->kind != OpKind::reduction)
      add({"trained", program, fmt::format("%{} {}", op.id, op.name()), location_of(op), to_string(op.type),
           rows, 0, 0, tolerances_.trained},
          native, value, &op);
    value = std::move(native);
  });
  settle(f, input);
}

// Outputs, gradients and updates against the interpreter on the module as the frontend wrote it,
// differentiated but not optimised.
void Checker::check_outputs(const std::string& program, const CallRequest& call, const Tensors& symbols,
                            int64_t rows) {
  const Function& f = *reference_->model.module->function(program);
  const interpreter::RunInput input = interpreter_input(f, call, symbols);
  const interpreter::RunResult result = interpreter::run(f, input);
  for (const Output& o : f.outputs) {
    const auto native = caller_.outputs().find(o.name);
    GRADC_CHECK(native != caller_.outputs().end(), "native @{} has no output '{}'", program, o.name);
    const bool gradient = o.name.rfind("grad.", 0) == 0;
    add({gradient ? "gradient" : "output", program, gradient ? o.name.substr(5) : o.name,
         gradient ? symbol_location(o.name.substr(5)) : "", to_string(o.value->type), rows, 0, 0,
         gradient ? tolerances_.gradient : tolerances_.value},
        native->second, result.outputs.at(o.name), o.value);
    if (gradient) {
      if (rows == numeric_rows()) native_gradient_[o.name.substr(5)] = native->second;
      largest_gradient_ = std::max(largest_gradient_, norm(result.outputs.at(o.name)));
    }
  }
  settle(f, input);
  if (program != "train_step" && program != "update") return;
  // If @update follows, it starts from the symbols that this call stored.
  if (program == "train_step" && compiled_.program().update.run) {
    with_sums_ = symbols_;
    for (const auto& [name, value] : caller_.symbols()) with_sums_[name] = value;
  }
  // Updates are computed from the native gradient: an optimizer that divides by the size of a tiny gradient would
  // magnify its rounding.
  std::set<std::string> done;
  const Module& forward = *forward_->model.module;
  Tensors gradients;
  for (const auto& [name, value] : caller_.outputs())
    if (name.rfind("grad.", 0) == 0) gradients[name.substr(5)] = value;
  if (const Function* all = forward.function("gradients"); all && !gradients.empty())
    for (const auto& [name, value] :
         interpreter::run(*all, interpreter_input(*all, call, symbols, gradients)).outputs)
      if (gradients.count(name)) gradients[name] = value;
  for (const auto& update : forward.functions) {
    if (update->name.rfind("update.", 0) != 0) continue;
    const auto g = gradients.find(update->name.substr(7));
    if (g == gradients.end()) continue;
    const interpreter::RunInput with_g = interpreter_input(*update, call, symbols, {{"g", g->second}});
    check_updates(*update, with_g, rows, done);
  }
  check_updates(f, input, rows, done, &result);
}

void Checker::check_updates(const Function& f, const interpreter::RunInput& input, int64_t rows,
                            std::set<std::string>& done, const interpreter::RunResult* known) {
  const interpreter::RunResult result = known ? *known : interpreter::run(f, input);
  for (const Update& u : f.updates) {
    if (!has_symbol(u.symbol) || !done.insert(u.symbol).second) continue;
    add({"update", "train_step", u.symbol, symbol_location(u.symbol), to_string(u.value->type), rows, 0, 0,
         tolerances_.update},
        caller_.symbol(u.symbol), result.updates.at(u.symbol), u.value);
  }
  settle(f, input);
}

}  // namespace gradc::cli
