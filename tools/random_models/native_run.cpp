// Calls of compiled programs and the comparisons after each; knows no operator.
#include "tools/random_models/native_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "cli/check/batch.h"
#include "cli/check/compare.h"
#include "cli/check/native_call.h"
#include "compiler/evaluate_ops.h"
#include "runtime/execution/session.h"
#include "runtime/threads.h"

namespace gradc::random_models {

using cli::CallRequest;
using cli::NativeCaller;
using cli::update_call;
using interpreter::Tensor;

namespace {

constexpr double kLeastShare = 1e-3;            // of the largest gradient: smaller ones count as this much
constexpr double kLeast = 1e-12, kMost = 1e12;  // beyond, squares leave the range of f32 or its rounding
constexpr uint64_t kWarmUpSteps = 2;  // so that biases, slots and statistics do not have their initial values

bool is_gradient(const std::string& output) { return output.rfind("grad.", 0) == 0; }

// The root mean square.
double size_of(const Tensor& t) {
  double square = 0;
  for (const double v : t.data) square += v * v;
  return std::sqrt(square / static_cast<double>(std::max<size_t>(1, t.data.size())));
}

CompileRequest with_gradients(CompileRequest request) {
  request.passes.gradient_outputs = true;
  request.debug_info = false;
  request.training_first = true;  // programs that the plan does not run are not compiled
  return request;
}

CallRequest call_of(const Tensors& batch, int64_t rows, int64_t micro = 0) {
  CallRequest call;
  for (const auto& [name, t] : batch) {
    Tensor part = interpreter::make_tensor(t.type, rows);
    const size_t begin = static_cast<size_t>(micro) * part.data.size();
    std::copy_n(t.data.data() + begin, part.data.size(), part.data.data());
    call.inputs[name] = std::move(part);
  }
  call.rows = rows;
  call.seed = 3;
  call.micro_step = 7 + static_cast<uint64_t>(micro);
  call.scalars[GRADC_SCALAR_STEP] = 7;
  call.scalars[GRADC_SCALAR_EPOCH] = 1;
  call.scalars[GRADC_SCALAR_TOTAL] = 100;
  call.scalars[GRADC_SCALAR_MICRO] = static_cast<double>(micro);
  call.scalars[GRADC_SCALAR_EXAMPLES] = static_cast<double>(rows);
  return call;
}

// Equal to the bit; two NaN are equal.
std::string first_difference(const Tensors& a, const Tensors& b) {
  for (const auto& [name, t] : a) {
    const Tensor& other = b.at(name);
    for (size_t i = 0; i < t.data.size(); ++i) {
      const double x = t.data.data()[i], y = other.data.data()[i];
      if (std::bit_cast<uint64_t>(x) != std::bit_cast<uint64_t>(y) && !(x != x && y != y))
        return fmt::format("{}, element {}: {:.9g} and {:.9g}", name, i, x, y);
    }
  }
  return "";
}

// Compiled programs, and calls on them by any number of threads.
class Engine {
 public:
  explicit Engine(const CompileRequest& request) : compiled_(request), caller_(compiled_) {}

  const compiler::CompiledModel& compiled() const { return compiled_; }
  NativeCaller& caller() { return caller_; }
  bool has(const std::string& program) const { return compiled_.lowered().programs.count(program) != 0; }

  void use_threads(int threads) {
    if (threads == 1) return caller_.set_engine({}, 1);
    team_ = std::make_unique<runtime::Team>(threads);
    caller_.set_engine(
        [this](const std::string& name, const gradc_step_args& given) {
          gradc_step_args args = given;
          args.barrier = runtime::Team::barrier_of;
          args.team = team_.get();
          const gradc_entry run = runtime::code_of(runtime::entry_called(compiled_.program(), name));
          int32_t status = 0;
          team_->run([&](int thread, int count) {
            const int32_t returned = run(&args, thread, count);
            if (thread == 0) status = returned;
          });
          return status;
        },
        threads);
  }

  void set(const Tensors& symbols) {
    for (const auto& [name, value] : symbols)
      if (compiled_.lowered().symbol_offsets.count(name)) caller_.set_symbol(name, value);
  }
  // From these values of symbols; false: the loss is not finite.
  bool call(const std::string& program, const CallRequest& request, const Tensors& symbols) {
    set(symbols);
    return caller_.call(program, request) == 0;
  }

 private:
  compiler::CompiledModel compiled_;
  NativeCaller caller_;
  std::unique_ptr<runtime::Team> team_;
};

class NativeRun {
 public:
  NativeRun(const CompileRequest& request, const RunPlan& plan)
      : engine_(with_gradients(request)), reference_(with_gradients(request)), plan_(plan) {}

  std::optional<Finding> run() {
    std::vector<std::string> notes;
    const int64_t whole = engine_.compiled().program().batch;
    batch_ = cli::first_batch(engine_.compiled(), whole, notes);
    const int64_t have = cli::rows_of(batch_);
    for (const Symbol& s : reference_.module().symbols)
      symbols_[s.name] = interpreter::make_tensor(s.type, 1);
    CallRequest first;
    first.seed = 3;
    if (auto wrong = program("init", first)) return wrong;
    keep_symbols();
    for (uint64_t step = 0; step < kWarmUpSteps; ++step) {
      const CallRequest call = call_of(batch_, have);
      if (!engine_.call("train_step", call, symbols_)) return not_finite("train_step", call, 1);
      keep_symbols();
      if (engine_.has("update")) {
        engine_.call("update", update_call(call_of(batch_, have)), symbols_);
        keep_symbols();
      }
    }
    std::vector<int64_t> sizes = {have};
    for (const int64_t rows : plan_.rows)
      if (rows >= 1 && rows < have) sizes.push_back(rows);
    const Tensors start = symbols_;
    for (const int64_t rows : sizes) {
      symbols_ = start;
      CallRequest call = call_of(batch_, rows);
      if (auto wrong = program("train_step", call)) return wrong;
      if (engine_.has("update")) {
        // A second batch of the same update adds its gradients.
        keep_symbols();
        call.micro_step += 1;
        call.scalars[GRADC_SCALAR_MICRO] = 1;
        call.scalars[GRADC_SCALAR_EXAMPLES] = 2 * static_cast<double>(rows);
        if (auto wrong = program("train_step", call)) return wrong;
        keep_symbols();
        if (auto wrong = program("update", update_call(call))) return wrong;
        keep_symbols();
      }
      call.row_offset = plan_.row_offset;
      for (const std::string& name : plan_.without_training)
        if (engine_.has(name))
          if (auto wrong = program(name, call)) return wrong;
    }
    return std::nullopt;
  }

 private:
  void keep_symbols() {
    for (auto& [name, value] : engine_.caller().symbols()) symbols_[name] = std::move(value);
  }

  // A finding, unless the interpreter's values leave the range of ordinary numbers.
  std::optional<Finding> not_finite(const std::string& name, const CallRequest& call, int threads) const {
    if (reference_.leaves_range(name, reference_.input(name, call, symbols_))) return std::nullopt;
    return Finding{"not finite", fmt::format("@{} on {} rows, {} threads: the loss is not finite", name,
                                             call.rows, threads)};
  }

  // By one thread against the interpreter, then by several against one.
  std::optional<Finding> program(const std::string& name, const CallRequest& call) {
    const auto said = [&](Finding finding, int threads) {
      finding.what = fmt::format("@{} on {} rows, {} threads: {}", name, call.rows, threads, finding.what);
      return finding;
    };
    engine_.use_threads(1);
    if (!engine_.call(name, call, symbols_)) return not_finite(name, call, 1);
    const Tensors outputs = engine_.caller().outputs(), after = engine_.caller().symbols();
    const interpreter::RunInput input = reference_.input(name, call, symbols_);
    if (auto wrong = reference_.compare(name, input, outputs, after)) return said(*wrong, 1);
    for (const int threads : plan_.threads) {
      engine_.use_threads(threads);
      if (!engine_.call(name, call, symbols_)) return said({"bits", "the loss is not finite"}, threads);
      for (const std::string& differs : {first_difference(outputs, engine_.caller().outputs()),
                                         first_difference(after, engine_.caller().symbols())})
        if (!differs.empty()) return said({"bits", "not the bits of one thread: " + differs}, threads);
    }
    // Later calls start from the result of one thread.
    engine_.use_threads(1);
    engine_.call(name, call, symbols_);
    return std::nullopt;
  }

  Engine engine_;
  const Reference reference_;
  const RunPlan& plan_;
  Tensors batch_, symbols_;
};

}  // namespace

Reference::Reference(const CompileRequest& request) : loaded_(compiler::load_model(request)) {
  passes::make_train_step(*loaded_->model.module, request.passes.gradient_outputs);
}

interpreter::RunInput Reference::input(const std::string& program, const CallRequest& call,
                                       const Tensors& symbols) const {
  return cli::interpreter_input(*module().function(program), call, symbols);
}

bool Reference::is_gradient_sum(const std::string& symbol) const {
  const Symbol* s = module().symbol(symbol);
  return s && s->kind == SymbolKind::gradient;
}

bool Reference::leaves_range(const std::string& program, const interpreter::RunInput& input) const {
  bool leaves = false;
  compiler::evaluate_ops(*module().function(program), input,
                         [&](const Op&, const std::vector<const Tensor*>&, Tensor& value) {
                           for (const double v : value.data)
                             if (v != 0 && !(std::fabs(v) > kLeast && std::fabs(v) < kMost)) leaves = true;
                         });
  return leaves;
}

bool Reference::rounding_explains(const Function& f, const interpreter::RunInput& input, const Op* op,
                                  const Tensor& native, const Tensor& reference) const {
  cli::RoundingBound bound(reference);
  for (uint64_t run = 1; run <= cli::kRoundingRuns; ++run) {
    compiler::rounding_run(f, input, run, [&](const Op& at, const Tensor& moved) {
      if (&at == op) bound.add_run(moved, compiler::rounding_size(run));
    });
    if (bound.covers(native, cli::Tolerances().rounding)) return true;
  }
  return false;
}

std::optional<Finding> Reference::compare(const std::string& program, const interpreter::RunInput& input,
                                          const Tensors& outputs, const Tensors& symbols) const {
  const Function& f = *module().function(program);
  const interpreter::RunResult result = interpreter::run(f, input);
  const cli::Tolerances tolerances;
  // Gradients that are zero mathematically are only rounding: their scale is at least a thousandth of the largest, as
  // for the slopes of `gradc check`. Sums over an update's batches are of another size.
  double largest = 0, largest_sum = 0;
  for (const Output& o : f.outputs)
    if (is_gradient(o.name)) largest = std::max(largest, size_of(result.outputs.at(o.name)));
  for (const Update& u : f.updates)
    if (is_gradient_sum(u.symbol)) largest_sum = std::max(largest_sum, size_of(result.updates.at(u.symbol)));
  const auto differs = [&](const char* kind, const std::string& name, const Op* op, const Tensor& native,
                           const Tensor& expected, double tolerance, double scale) -> std::optional<Finding> {
    const cli::Comparison c = cli::compare(native, expected, tolerance);
    if (c.beyond == 0 || c.max_absolute <= tolerance * kLeastShare * scale) return std::nullopt;
    if (rounding_explains(f, input, op, native, expected)) return std::nullopt;
    return Finding{kind, fmt::format("{} {} is {:.2g} of its size, {:.2g}, from the interpreter's ({:.0g} "
                                     "of its size is allowed)",
                                     kind, name, c.max_relative, c.max_absolute, tolerance)};
  };
  for (const Output& o : f.outputs) {
    const bool gradient = is_gradient(o.name);
    if (auto wrong = differs(gradient ? "gradient" : "output", o.name, o.value, outputs.at(o.name),
                             result.outputs.at(o.name), gradient ? tolerances.gradient : tolerances.value,
                             gradient ? largest : 0))
      return wrong;
  }
  for (const Update& u : f.updates) {
    const auto native = symbols.find(u.symbol);
    if (native == symbols.end()) continue;  // nothing reads it
    if (auto wrong = differs("update", u.symbol, u.value, native->second, result.updates.at(u.symbol),
                             tolerances.gradient, is_gradient_sum(u.symbol) ? largest_sum : 0))
      return wrong;
  }
  return std::nullopt;
}

std::optional<Finding> run_native(const CompileRequest& request, const RunPlan& plan) {
  return NativeRun(request, plan).run();
}

bool can_take_pieces(const CompileRequest& request, int64_t pieces) {
  const auto loaded = compiler::load_model(request);
  return loaded->model.batch_mixes.empty() && loaded->model.experiment.data.batch % pieces == 0;
}

std::optional<Finding> run_pieces(const CompileRequest& request, int64_t pieces) {
  CompileRequest in_pieces = request;
  in_pieces.micro_batches = pieces;
  in_pieces.debug_info = false;
  in_pieces.training_first = true;
  Engine engine(in_pieces);
  const Reference whole(request);
  if (whole.module().function("update")) return std::nullopt;  // the file accumulates: pieces of pieces
  std::vector<std::string> notes;
  const int64_t rows = engine.compiled().program().batch;
  const Tensors batch = cli::first_batch(engine.compiled(), rows * pieces, notes);
  if (cli::rows_of(batch) != rows * pieces) return std::nullopt;
  CallRequest first;
  first.seed = 3;
  engine.call("init", first, {});
  Tensors symbols = engine.caller().symbols();
  for (const Symbol& s : whole.module().symbols)
    if (!symbols.count(s.name)) symbols[s.name] = interpreter::make_tensor(s.type, 1);
  CallRequest all = call_of(batch, rows * pieces);
  const interpreter::RunInput input = whole.input("train_step", all, symbols);
  for (int64_t piece = 0; piece < pieces; ++piece) {
    CallRequest call = call_of(batch, rows, piece);
    call.micro_step = all.micro_step;  // one batch: rows are numbered consecutively
    call.row_offset = piece * rows;
    call.scalars[GRADC_SCALAR_EXAMPLES] = static_cast<double>(rows * pieces);
    if (!engine.call("train_step", call, {}))
      return Finding{"not finite", "the loss of a piece is not finite"};
  }
  all.inputs.clear();
  all.rows = 1;
  engine.call("update", all, {});
  const Tensors after = engine.caller().symbols();
  Tensors compared;
  for (const Symbol& s : whole.module().symbols)
    if (after.count(s.name)) compared[s.name] = after.at(s.name);
  // Outputs are sums over pieces, which the runtime adds: the update tells whether they are right.
  const interpreter::RunResult result = interpreter::run(*whole.module().function("train_step"), input);
  if (auto wrong = whole.compare("train_step", input, result.outputs, compared)) {
    wrong->what = fmt::format("{} pieces of {} rows: {}", pieces, rows, wrong->what);
    return wrong;
  }
  return std::nullopt;
}

}  // namespace gradc::random_models
