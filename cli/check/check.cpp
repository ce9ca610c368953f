// `gradc check`: runs native code, the interpreter and central differences on the same rows and compares
// them. Knows no operator; the comparison's arithmetic is in compare.cpp and compiler/evaluate_ops.cpp.
#include "cli/check/check.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cli/check/batch.h"
#include "cli/check/checker.h"
#include "compiler/evaluate_ops.h"
#include "ir/tensor/op_def.h"
#include "support/check.h"

namespace gradc::cli {

using interpreter::Tensor;

namespace {

constexpr double kInterpretedFlop = 8e9;  // of a training step, or half of all central differences: seconds
constexpr int64_t kLeastBatch = 40;       // more than a panel of 32
// Examples in central differences: formulas do not depend on their number.
constexpr int64_t kLeastNumericRows = 3, kMostNumericRows = 8;

// Makes one operator's gradient wrong by 1 % while it exists, to test that the check can fail.
class BrokenGradient {
 public:
  explicit BrokenGradient(const std::string& op) {
    if (op.empty()) return;
    const OpDef* def = find_op(op);
    if (!def || !def->gradient) {
      const std::string nearest = nearest_name(op, op_names());
      throw RunError(kExitUsage,
                     fmt::format("--break-gradient: there is no operator '{}' with a gradient{}", op,
                                 nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest)));
    }
    def_ = const_cast<OpDef*>(def);  // the registry's records are not const objects
    original_ = def->gradient;
    def_->gradient = [](Builder& b, Op* at, Op* g) {
      std::vector<Op*> parts = original_(b, at, g);
      for (Op*& part : parts)
        if (part) part = b.mul(part, 1.01);
      return parts;
    };
  }
  ~BrokenGradient() {
    if (def_) def_->gradient = original_;
  }
  BrokenGradient(const BrokenGradient&) = delete;

 private:
  OpDef* def_ = nullptr;
  static inline decltype(OpDef::gradient) original_ = nullptr;
};

// The first `rows` rows of a batch.
Tensors head(const Tensors& batch, int64_t rows) {
  Tensors result;
  for (const auto& [name, t] : batch) {
    Tensor part = interpreter::make_tensor(t.type, rows);
    std::copy_n(t.data.data(), part.data.size(), part.data.data());
    result[name] = std::move(part);
  }
  return result;
}

// The FLOP of interpreting one example's forward pass.
double forward_flop(const Module& module) {
  double flop = 0;
  for (const auto& op : module.function("train")->body) flop += flop_of(*op);
  return flop;
}

// The file's batch, or less where the interpreter would take minutes over it; but more than one panel.
int64_t affordable_batch(const CompileRequest& request) {
  const std::unique_ptr<LoadedModel> loaded = load_model(request);
  const double rows = kInterpretedFlop / (3 * forward_flop(*loaded->model.module) + 1);
  return std::min(loaded->model.experiment.data.batch,
                  std::max(kLeastBatch, static_cast<int64_t>(std::min(rows, 1e9))));
}

}  // namespace

Checker::Checker(const CheckRequest& request)
    : request_(request),
      compiled_(native_request(request)),
      reference_(load_model(request.compile)),
      forward_(load_model(request.compile)),
      caller_(compiled_) {
  GRADC_CHECK(compiled_.complete(), "check needs native code");
  passes::make_train_step(*reference_->model.module, /*gradient_outputs=*/true);
}

CheckReport Checker::run() {
  batch_ = first_batch(compiled_, compiled_.program().batch, report_.notes);
  const int64_t full = rows_of(batch_);
  if (const int64_t batch = forward_->model.experiment.data.batch;
      request_.compile.batch == 0 && compiled_.program().batch < batch)
    report_.notes.push_back(fmt::format(
        "compiled for batches of {} instead of {} to spare the interpreter work (--batch {} for all)",
        compiled_.program().batch, batch, batch));
  check_init();
  warm_up(full);
  // The full batch; a partial one that ends within a panel of examples; and the few rows that central differences use.
  std::set<int64_t, std::greater<>> sizes = {
      full, std::max<int64_t>(1, full * 2 / 3 - (full * 2 / 3 + 1) % 2), numeric_rows()};
  for (const int64_t rows : sizes) check_rows(rows);
  check_as_trained(full);
  check_numeric();
  check_kinks();
  check_zeros();
  return std::move(report_);
}

CompileRequest Checker::native_request(const CheckRequest& request) {
  CompileRequest r = request.compile;
  if (r.batch == 0) r.batch = affordable_batch(r);
  r.passes.keep_all_values = true;
  r.passes.strict_math = true;  // Winograd's rounding is checked product by product: check_as_trained()
  r.passes.gradient_outputs = true;
  return r;
}

int64_t Checker::numeric_rows() const {
  const Module& forward = *forward_->model.module;
  const auto parameters = static_cast<double>(forward.symbols.size());
  const double rows = 2 * kInterpretedFlop / (2 * parameters * forward_flop(forward) + 1);
  return std::min({kMostNumericRows, rows_of(batch_),
                   std::max(kLeastNumericRows, static_cast<int64_t>(std::min(rows, 1e9)))});
}

CallRequest Checker::call_for(int64_t rows) const {
  CallRequest call;
  call.inputs = head(batch_, rows);
  call.rows = rows;
  call.seed = request_.seed;
  call.micro_step = 7;
  call.scalars[GRADC_SCALAR_STEP] = 7;
  call.scalars[GRADC_SCALAR_EPOCH] = 1;
  call.scalars[GRADC_SCALAR_TOTAL] = 100;
  call.scalars[GRADC_SCALAR_EXAMPLES] = static_cast<double>(rows);
  if (compiled_.program().pieces > 1) call.row_offset = compiled_.program().batch;
  return call;
}

void Checker::add(CheckRow row, const Tensor& native, const Tensor& reference, const Op* op) {
  const Comparison c = compare(native, reference, row.tolerance);
  row.max_absolute = c.max_absolute;
  row.max_relative = c.max_relative;
  row.pass = c.beyond == 0;
  if (!row.pass) doubts_.push_back({report_.rows.size(), op, native, RoundingBound(reference)});
  report_.rows.push_back(std::move(row));
}

void Checker::settle(const Function& f, const interpreter::RunInput& input) {
  for (uint64_t run = 1; run <= kRoundingRuns && !doubts_.empty(); ++run) {
    rounding_run(f, input, run, [&](const Op& op, const Tensor& moved) {
      for (Doubt& d : doubts_)
        if (d.op == &op) d.bound.add_run(moved, rounding_size(run));
    });
    std::erase_if(doubts_, [&](const Doubt& d) {
      CheckRow& row = report_.rows[d.row];
      row.pass = row.rounding = d.bound.covers(d.native, tolerances_.rounding);
      return row.pass;
    });
  }
  doubts_.clear();
}

void Checker::check_init() {
  CallRequest call;
  call.seed = request_.seed;
  caller_.call("init", call);
  initial_ = symbols_now();
  const Function* init = reference_->model.module->function("init");
  GRADC_CHECK(init, "the module has no @init");
  interpreter::RunInput input;
  for (const Symbol& s : reference_->model.module->symbols)
    input.symbols[s.name] = interpreter::make_tensor(s.type, 1);
  input.context.seed = request_.seed;
  const interpreter::RunResult result = interpreter::run(*init, input);
  for (const Update& u : init->updates) {
    if (!has_symbol(u.symbol)) continue;
    add({"init", "init", u.symbol, user_location(u.location), to_string(u.value->type), 1, 0, 0,
         tolerances_.value},
        caller_.symbol(u.symbol), result.updates.at(u.symbol), u.value);
  }
  settle(*init, input);
}

bool Checker::has_symbol(const std::string& name) const {
  return compiled_.lowered().symbol_offsets.count(name) != 0;
}

std::string Checker::symbol_location(const std::string& name) const {
  const Symbol* s = reference_->model.module->symbol(name);
  return s ? user_location(s->location) : "";
}

// Runs a few steps, so that biases, slots and statistics do not have their initial zeros and ones.
void Checker::warm_up(int64_t rows) {
  const Tensors start = caller_.symbols();
  for (uint64_t step = 0; step < 3; ++step) {
    CallRequest call = call_for(rows);
    call.micro_step = step;
    call.scalars[GRADC_SCALAR_STEP] = static_cast<double>(step);
    call.scalars[GRADC_SCALAR_EXAMPLES] = static_cast<double>(rows);
    const bool finite = caller_.call("train_step", call) == 0;
    if (finite && compiled_.program().update.run) caller_.call("update", update_call(call));
    if (!finite) {
      report_.notes.push_back("the loss is not finite within three steps; checked at the initial parameters");
      restore(start);
      break;
    }
  }
  symbols_ = symbols_now();
}

// Symbols that native code does not have are zeros.
Tensors Checker::symbols_now() const {
  Tensors symbols = caller_.symbols();
  for (const Symbol& s : reference_->model.module->symbols)
    if (!symbols.count(s.name)) symbols[s.name] = interpreter::make_tensor(s.type, 1);
  return symbols;
}

void Checker::restore(const Tensors& symbols) {
  for (const auto& [name, value] : symbols)
    if (has_symbol(name)) caller_.set_symbol(name, value);
}

// Adds a failing row, since nothing can be compared.
void Checker::not_finite(const char* kind, const std::string& program, int64_t rows) {
  report_.rows.push_back(
      {kind, program, "loss", "", "", rows, 0, std::numeric_limits<double>::infinity(), 0, false, false});
  report_.notes.push_back(fmt::format("@{}: the loss is not finite", program));
}

bool CheckReport::pass() const {
  return std::all_of(rows.begin(), rows.end(), [](const CheckRow& r) { return r.pass; });
}

CheckReport check_model(const CheckRequest& request) {
  const BrokenGradient broken(request.break_gradient);
  return Checker(request).run();
}

}  // namespace gradc::cli
