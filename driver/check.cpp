// `gradc check`: runs native code, the interpreter and central differences on the same rows and compares
// them. Knows no operator; the comparison's arithmetic is in compare.cpp and evaluate.cpp.
#include "driver/check.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "compiler/evaluate_ops.h"
#include "driver/batch.h"
#include "driver/compare.h"
#include "ir/loop/loop_ir.h"
#include "ir/op_def.h"
#include "support/check.h"
#include "support/philox.h"

namespace gradc::driver {

using interpreter::Tensor;

namespace {

constexpr uint64_t kRoundingRuns = 6;     // most Monte Carlo runs for one comparison
constexpr double kInterpretedFlop = 8e9;  // of a training step, or half of all central differences: seconds
constexpr int64_t kLeastBatch = 40;       // more than a panel of 32
// Examples in central differences: formulas do not depend on their number.
constexpr int64_t kLeastNumericRows = 3, kMostNumericRows = 8;
constexpr double kNumericStep = 1e-5;  // relative to the direction's size

// Makes one operator's gradient wrong by 1 % while it lives. For testing the check: a check that cannot fail
// is none.
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
    def_ = const_cast<OpDef*>(def);  // the registry's records live on the heap and are not const themselves
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

double norm(const Tensor& t) {
  double sum = 0;
  const double* data = t.data.data();
  for (size_t i = 0; i < t.data.size(); ++i) sum += data[i] * data[i];
  return std::sqrt(sum);
}

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (size_t i = 0; i < a.data.size(); ++i) sum += a.data.data()[i] * b.data.data()[i];
  return sum;
}

Tensor scalar(DType dtype, double value) {
  Tensor t = interpreter::make_tensor({dtype, false, {}}, 1);
  t.data.data()[0] = value;
  return t;
}

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

class Checker {
 public:
  explicit Checker(const CheckRequest& request)
      : request_(request),
        compiled_(native_request(request)),
        reference_(load_model(request.compile)),
        forward_(load_model(request.compile)),
        caller_(compiled_) {
    GRADC_CHECK(compiled_.complete(), "check needs native code");
    passes::make_train_step(*reference_->model.module, /*gradient_outputs=*/true);
  }

  CheckReport run() {
    batch_ = first_batch(compiled_, compiled_.program().batch, report_.notes);
    const int64_t full = rows_of(batch_);
    if (const int64_t batch = forward_->model.experiment.data.batch;
        request_.compile.batch == 0 && compiled_.program().batch < batch)
      report_.notes.push_back(fmt::format(
          "compiled for batches of {} instead of {} to spare the interpreter work (--batch {} for all)",
          compiled_.program().batch, batch, batch));
    check_init();
    warm_up(full);
    // The full batch; a part of it that ends within a panel of examples; and the few rows that central
    // differences use.
    std::set<int64_t, std::greater<>> sizes = {
        full, std::max<int64_t>(1, full * 2 / 3 - (full * 2 / 3 + 1) % 2), numeric_rows()};
    for (const int64_t rows : sizes) check_rows(rows);
    check_as_trained(full);
    check_numeric();
    return std::move(report_);
  }

 private:
  static CompileRequest native_request(const CheckRequest& request) {
    CompileRequest r = request.compile;
    if (r.batch == 0) r.batch = affordable_batch(r);
    r.passes.keep_all_values = true;
    r.passes.strict_math = true;  // Winograd's rounding is looked at product by product: check_as_trained()
    r.passes.gradient_outputs = true;
    return r;
  }
  // The interpreter's work on one example, forward.
  static double forward_flop(const Module& module) {
    double flop = 0;
    for (const auto& op : module.function("train")->body)
      flop += op->def->cost ? op->def->cost(*op).flop : static_cast<double>(op->type.elements());
    return flop;
  }

  // The file's batch, or less where the interpreter would take minutes over it; but more than one panel.
  static int64_t affordable_batch(const CompileRequest& request) {
    const std::unique_ptr<LoadedModel> loaded = load_model(request);
    const double rows = kInterpretedFlop / (3 * forward_flop(*loaded->model.module) + 1);
    return std::min(loaded->model.experiment.data.batch,
                    std::max(kLeastBatch, static_cast<int64_t>(std::min(rows, 1e9))));
  }

  // Rows of the central differences: two forward runs a parameter.
  int64_t numeric_rows() const {
    const Module& forward = *forward_->model.module;
    const auto parameters = static_cast<double>(forward.symbols.size());
    const double rows = 2 * kInterpretedFlop / (2 * parameters * forward_flop(forward) + 1);
    return std::min({kMostNumericRows, rows_of(batch_),
                     std::max(kLeastNumericRows, static_cast<int64_t>(std::min(rows, 1e9)))});
  }

  CallRequest call_for(int64_t rows) const {
    CallRequest call;
    call.inputs = head(batch_, rows);
    call.rows = rows;
    call.seed = request_.seed;
    call.micro_step = 7;
    call.scalars[GRADC_SCALAR_STEP] = 7;
    call.scalars[GRADC_SCALAR_EPOCH] = 1;
    call.scalars[GRADC_SCALAR_TOTAL] = 100;
    call.scalars[GRADC_SCALAR_EXAMPLES] = static_cast<double>(rows);
    return call;
  }

  interpreter::RunInput interpreter_input(const Function& f, const CallRequest& call, const Tensors& symbols,
                                          const Tensors& more = {}) const {
    interpreter::RunInput input;
    input.inputs = inputs_of(f, call, more);
    input.symbols = symbols;
    input.context.rows = call.rows;
    input.context.row_offset = call.row_offset;
    input.context.seed = call.seed;
    input.context.micro_step = call.micro_step;
    return input;
  }

  // A comparison beyond its tolerance, which f32 rounding may explain.
  struct Doubt {
    size_t row;  // of the report
    const Op* op;
    Tensor native;
    RoundingBound bound;
  };

  // Adds a row; `op` is the reference's operation in the function that settle() will be called for.
  void add(CheckRow row, const Tensor& native, const Tensor& reference, const Op* op) {
    const Comparison c = compare(native, reference, row.tolerance);
    row.max_absolute = c.max_absolute;
    row.max_relative = c.max_relative;
    row.pass = c.beyond == 0;
    if (!row.pass) doubts_.push_back({report_.rows.size(), op, native, RoundingBound(reference)});
    report_.rows.push_back(std::move(row));
  }

  // Decides the doubts that comparisons with this function's values left, with as few Monte Carlo runs as
  // that takes.
  void settle(const Function& f, const interpreter::RunInput& input) {
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

  void check_init() {
    CallRequest call;
    call.seed = request_.seed;
    caller_.call("init", call);
    const Function* init = reference_->model.module->function("init");
    GRADC_CHECK(init, "the module has no @init");
    interpreter::RunInput input;
    for (const Symbol& s : reference_->model.module->symbols)
      input.symbols[s.name] = interpreter::make_tensor(s.type, 1);
    input.context.seed = request_.seed;
    const interpreter::RunResult result = interpreter::run(*init, input);
    for (const Update& u : init->updates) {
      if (!has_symbol(u.symbol)) continue;
      add({"init", "init", u.symbol, user_place(u.location), to_string(u.value->type), 1, 0, 0,
           tolerances_.value},
          caller_.symbol(u.symbol), result.updates.at(u.symbol), u.value);
    }
    settle(*init, input);
  }

  bool has_symbol(const std::string& name) const {
    return compiled_.lowered().symbol_offsets.count(name) != 0;
  }

  // A few steps, so that biases, slots and statistics are not the zeros and ones they start from.
  void warm_up(int64_t rows) {
    const Tensors start = caller_.symbols();
    for (uint64_t step = 0; step < 3; ++step) {
      CallRequest call = call_for(rows);
      call.micro_step = step;
      call.scalars[GRADC_SCALAR_STEP] = static_cast<double>(step);
      call.scalars[GRADC_SCALAR_EXAMPLES] = static_cast<double>(rows);
      const bool finite = caller_.call("train_step", call) == 0;
      if (finite && compiled_.program().update.run) caller_.call("update", update_call(call));
      if (!finite) {
        report_.notes.push_back(
            "the loss is not finite within three steps; checked at the initial parameters");
        restore(start);
        break;
      }
    }
    symbols_ = caller_.symbols();
    for (const Symbol& s : reference_->model.module->symbols)
      if (!symbols_.count(s.name)) symbols_[s.name] = interpreter::make_tensor(s.type, 1);
  }

  // The same for @update, which has no rows.
  static CallRequest update_call(CallRequest call) {
    call.inputs.clear();
    call.rows = 1;
    return call;
  }

  void restore(const Tensors& symbols) {
    for (const auto& [name, value] : symbols)
      if (has_symbol(name)) caller_.set_symbol(name, value);
  }

  void check_rows(int64_t rows) {
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

  // Fails the check, since nothing can be compared.
  void not_finite(const char* kind, const std::string& program, int64_t rows) {
    report_.rows.push_back(
        {kind, program, "loss", "", "", rows, 0, std::numeric_limits<double>::infinity(), 0, false, false});
    report_.notes.push_back(fmt::format("@{}: the loss is not finite", program));
  }

  // Every value the native code stored against the interpreter's value of the same operation of the optimised
  // IR.
  void check_values(const std::string& program, const CallRequest& call, const Tensors& symbols) {
    const Function& f = *compiled_.module().function(program);
    const interpreter::RunInput input = interpreter_input(f, call, symbols);
    const passes::LoweredProgram& lowered = compiled_.lowered().programs.at(program);
    std::map<const Op*, const passes::StoredValue*> in_arena;
    for (const passes::StoredValue& stored : lowered.stored)
      if (lowered.program.allocations[static_cast<size_t>(stored.allocation)].space == loop::Space::arena)
        in_arena[stored.op] = &stored;
    // Compared as they come: all values of a large network at once would need its activations many times
    // over.
    evaluate_ops(f, input, [&](const Op& op, const std::vector<const Tensor*>&, Tensor& reference) {
      const auto it = in_arena.find(&op);
      Tensor native;
      if (it == in_arena.end() || !caller_.stored(lowered, *it->second, native)) return;
      add({"value", program, fmt::format("%{} {}", op.id, op.name()), place_of(op), to_string(op.type),
           call.rows, 0, 0, tolerances_.value},
          native, reference, &op);
    });
    settle(f, input);
  }

  // Products that training makes in another way than the definition, each against the interpreter's value of
  // the same operation given the operands that native code stored: through a deep network their rounding
  // would drown what is looked for.
  void check_as_trained(int64_t rows) {
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
    evaluate_ops(f, input, [&](const Op& op, const std::vector<const Tensor*>&, Tensor& value) {
      const auto it = stored.find(&op);
      Tensor native;
      if (it == stored.end() || !caller.stored(lowered, *it->second, native)) return;
      // Sums of a product's epilogue cancel: the definition's are compared, with their rounding known.
      if (products.count(op.kernel) && op.def->kind != OpKind::reduction)
        add({"trained", program, fmt::format("%{} {}", op.id, op.name()), place_of(op), to_string(op.type),
             rows, 0, 0, tolerances_.trained},
            native, value, &op);
      value = std::move(native);
    });
    settle(f, input);
  }

  // Loop IR of one program, without code: it costs a fraction of what compiling does.
  static std::string loop_text(const CompileRequest& request, const std::string& program) {
    const std::unique_ptr<LoadedModel> loaded = load_model(request);
    passes::PipelineOptions options =
        pipeline_options(request, codegen::find_target(request.target), *loaded);
    options.print = nullptr;
    passes::run_tensor_passes(*loaded->model.module, options);
    return loop::print(passes::lower(*loaded->model.module, options).programs.at(program).program);
  }

  static std::string place_of(const Op& op) {
    for (const Location& l : op.locations)
      if (l.valid()) return user_place(l);
    return "";
  }

  // Outputs, gradients and updates against the interpreter on the module as the frontend wrote it,
  // differentiated but not optimised.
  void check_outputs(const std::string& program, const CallRequest& call, const Tensors& symbols,
                     int64_t rows) {
    const Function& f = *reference_->model.module->function(program);
    const interpreter::RunInput input = interpreter_input(f, call, symbols);
    const interpreter::RunResult result = interpreter::run(f, input);
    for (const Output& o : f.outputs) {
      const auto native = caller_.outputs().find(o.name);
      GRADC_CHECK(native != caller_.outputs().end(), "native @{} has no output '{}'", program, o.name);
      const bool gradient = o.name.rfind("grad.", 0) == 0;
      add({gradient ? "gradient" : "output", program, gradient ? o.name.substr(5) : o.name,
           gradient ? symbol_place(o.name.substr(5)) : "", to_string(o.value->type), rows, 0, 0,
           gradient ? tolerances_.gradient : tolerances_.value},
          native->second, result.outputs.at(o.name), o.value);
      if (gradient) {
        if (rows == numeric_rows()) reference_gradient_[o.name.substr(5)] = result.outputs.at(o.name);
        if (rows == numeric_rows()) native_gradient_[o.name.substr(5)] = native->second;
        largest_gradient_ = std::max(largest_gradient_, norm(result.outputs.at(o.name)));
      }
    }
    settle(f, input);
    if (program != "train_step" && program != "update") return;
    // With @update to come, what this leaves is what that starts from.
    if (program == "train_step" && compiled_.program().update.run) {
      with_sums_ = symbols_;
      for (const auto& [name, value] : caller_.symbols()) with_sums_[name] = value;
    }
    // Updates follow from the native gradient: an optimizer that divides by a tiny gradient's own size would
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

  void check_updates(const Function& f, const interpreter::RunInput& input, int64_t rows,
                     std::set<std::string>& done, const interpreter::RunResult* known = nullptr) {
    const interpreter::RunResult result = known ? *known : interpreter::run(f, input);
    for (const Update& u : f.updates) {
      if (!has_symbol(u.symbol) || !done.insert(u.symbol).second) continue;
      add({"update", "train_step", u.symbol, symbol_place(u.symbol), to_string(u.value->type), rows, 0, 0,
           tolerances_.update},
          caller_.symbol(u.symbol), result.updates.at(u.symbol), u.value);
    }
    settle(f, input);
  }

  std::string symbol_place(const std::string& name) const {
    const Symbol* s = reference_->model.module->symbol(name);
    return s ? user_place(s->location) : "";
  }

  // Mean loss over the rows plus the penalties, from the forward function alone.
  double loss(const interpreter::RunInput& input) const {
    const interpreter::RunResult result = interpreter::run(*forward_->model.module->function("train"), input);
    double sum = 0;
    const Tensor& each = result.outputs.at("loss");
    for (size_t i = 0; i < each.data.size(); ++i) sum += each.data.data()[i];
    sum /= static_cast<double>(each.data.size());
    const auto penalty = result.outputs.find("penalty");
    return penalty == result.outputs.end() ? sum : sum + penalty->second.data.data()[0];
  }

  // One random direction a parameter: the loss's slope along it by central differences, with every decision
  // as at the centre, against what the gradients say.
  void check_numeric() {
    if (reference_gradient_.empty() || largest_gradient_ == 0) {
      report_.rows.push_back({"numeric", "train_step", "(all parameters)", "", "", numeric_rows(), 0,
                              std::numeric_limits<double>::infinity(), tolerances_.numeric, false, false});
      report_.notes.push_back("every gradient is zero: nothing would be trained, and nothing can be checked");
      return;
    }
    const CallRequest call = call_for(numeric_rows());
    interpreter::RunInput input =
        interpreter_input(*forward_->model.module->function("train"), call, symbols_);
    interpreter::Decisions decisions;
    decisions.mode = interpreter::Decisions::Mode::record;
    input.context.decisions = &decisions;
    loss(input);
    decisions.mode = interpreter::Decisions::Mode::replay;

    struct Slope {
      std::string name;
      double numeric, reference, native, scale;
    };
    std::vector<Slope> slopes;
    double largest = 0;
    uint32_t stream = 0;
    for (const auto& [name, gradient] : reference_gradient_) {
      const Tensor& w = symbols_.at(name);
      const auto elements = static_cast<double>(w.data.size());
      const double size = std::max(norm(w) / std::sqrt(elements), 1e-2);
      Tensor direction = w;
      ++stream;
      for (size_t i = 0; i < w.data.size(); ++i)
        direction.data.data()[i] =
            size * (2 * uniform_from_word(random_word(request_.seed, 1, stream, i, 0)) - 1);
      double sides[2];
      for (const int side : {0, 1}) {
        Tensor& moved = input.symbols.at(name);
        for (size_t i = 0; i < w.data.size(); ++i)
          moved.data.data()[i] =
              w.data.data()[i] + (side ? kNumericStep : -kNumericStep) * direction.data.data()[i];
        sides[side] = loss(input);
      }
      input.symbols.at(name) = w;
      const double numeric = (sides[1] - sides[0]) / (2 * kNumericStep);
      // A slope may be small by chance: what it is measured against is the size that a gradient of this norm
      // gives on average.
      const double expected = norm(gradient) * norm(direction) / std::sqrt(elements);
      slopes.push_back({name, numeric, dot(gradient, direction), dot(native_gradient_.at(name), direction),
                        std::max(std::fabs(numeric), expected)});
      largest = std::max(largest, slopes.back().scale);
      if (norm(gradient) == 0)
        report_.notes.push_back(fmt::format("the gradient of {} is zero on these rows", name));
    }
    for (const Slope& s : slopes) {
      // A gradient that is zero by its nature (a bias in front of a batchnorm) is nothing but rounding: a
      // thousandth of the largest counts as no less.
      const double scale = std::max(s.scale, 1e-3 * largest);
      const auto row = [&](const char* kind, double value, double tolerance) {
        const double error = std::fabs(value - s.numeric);
        CheckRow r{kind,
                   "train_step",
                   s.name,
                   symbol_place(s.name),
                   to_string(symbols_.at(s.name).type),
                   call.rows,
                   error,
                   error / scale,
                   tolerance};
        r.pass = error / scale <= tolerance;
        report_.rows.push_back(r);
      };
      row("numeric", s.reference, tolerances_.numeric);
      row("native numeric", s.native, tolerances_.native_numeric);
    }
  }

  const CheckRequest& request_;
  const Tolerances tolerances_;
  CompiledModel compiled_;
  std::unique_ptr<LoadedModel> reference_, forward_;
  NativeCaller caller_;
  std::vector<Doubt> doubts_;
  Tensors batch_, symbols_, with_sums_, reference_gradient_, native_gradient_;
  double largest_gradient_ = 0;
  CheckReport report_;
};

}  // namespace

Tensors inputs_of(const Function& f, const CallRequest& call, const Tensors& more) {
  static const char* const scalars[GRADC_SCALAR_COUNT] = GRADC_SCALAR_NAMES;
  Tensors result;
  for (const auto& input : f.inputs) {
    const std::string& name = input->symbol();
    if (const auto it = more.find(name); it != more.end()) {
      result[name] = it->second;
      continue;
    }
    if (const auto it = call.inputs.find(name); it != call.inputs.end() && input->type.batched) {
      result[name] = it->second;
      continue;
    }
    for (int i = 0; i < GRADC_SCALAR_COUNT; ++i)
      if (name == scalars[i]) result[name] = scalar(DType::f64, call.scalars[i]);
    GRADC_CHECK(result.count(name), "no value for the input '{}' of @{}", name, f.name);
  }
  return result;
}

bool CheckReport::pass() const {
  return std::all_of(rows.begin(), rows.end(), [](const CheckRow& r) { return r.pass; });
}

CheckReport check_model(const CheckRequest& request) {
  const BrokenGradient broken(request.break_gradient);
  return Checker(request).run();
}

}  // namespace gradc::driver
