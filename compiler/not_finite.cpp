// Explains why a loss or an update is not finite: replays a step or its forward pass in double precision with every
// result rounded as in native code. Knows no operator.
#include "compiler/not_finite.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "compiler/evaluate_ops.h"
#include "compiler/tensors.h"
#include "support/check.h"

namespace gradc::compiler {

using interpreter::Tensor;

namespace {

bool finite(const Tensor& t) {
  const double* data = t.data.data();
  return std::all_of(data, data + t.data.size(), [](double x) { return std::isfinite(x); });
}

runtime::ValueRange range_of(const Tensor& t, std::string name = {}) {
  runtime::ValueRange range;
  range.name = std::move(name);
  range.elements = static_cast<int64_t>(t.data.size());
  double low = INFINITY, high = -INFINITY;
  const double* data = t.data.data();
  for (size_t i = 0; i < t.data.size(); ++i) {
    if (std::isnan(data[i])) {
      ++range.nan;
    } else if (std::isinf(data[i])) {
      ++(data[i] > 0 ? range.above : range.below);
    } else {
      low = std::min(low, data[i]);
      high = std::max(high, data[i]);
    }
  }
  constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
  range.low = low > high ? kNone : low;
  range.high = low > high ? kNone : high;
  return range;
}

// The source line of a location with a caret under the column, if that is known; empty when it is in none of the files.
std::string source_line(const SourceManager& sources, const runtime::NotFiniteReport& at) {
  for (uint32_t file = 1; file <= sources.file_count(); ++file) {
    if (sources.name(file) != at.file) continue;
    const std::string number = std::to_string(at.line);
    std::string text = fmt::format("{0:>{1}} |\n{2} | {3}\n", "", number.size(), number,
                                   sources.line(file, static_cast<uint32_t>(at.line)));
    if (at.column > 0) text += fmt::format("{0:>{1}} | {2:>{3}}\n", "", number.size(), "^", at.column);
    return text;
  }
  return "";
}

// The location of an operation in the user's file: the innermost one outside the prelude.
void set_place(const Op& op, runtime::NotFiniteReport& report) {
  for (const Location& l : op.locations) {
    if (!l.valid() || !l.file) continue;
    // FILE:LINE:COLUMN, or FILE:LINE for a call in the user's file that led into the prelude.
    if (const std::string location = user_location(l); location == to_string(l)) {
      report.file = *l.file;
      report.line = l.line;
      report.column = l.column;
    } else {
      const size_t colon = location.rfind(':');
      report.file = location.substr(0, colon);
      report.line = std::stoll(location.substr(colon + 1));
    }
    return;
  }
}

// The operand's kind and its name in the IR.
std::string describe(const Op& op) {
  if (op.is("input")) return fmt::format("input {}", op.symbol());
  if (op.is("symbol")) return fmt::format("parameter {}", op.symbol());
  return fmt::format("%{} {}", op.id, op.name());
}

// Adds the scalars of a step that the function reads.
void add_scalars(const Function& f, const runtime::NotFiniteError& error, interpreter::RunInput& input) {
  static const char* const names[] = GRADC_SCALAR_NAMES;
  const runtime::StepScalars& s = error.scalars;
  const double values[GRADC_SCALAR_COUNT] = {
      static_cast<double>(s.step),  static_cast<double>(s.epoch),
      static_cast<double>(s.total), s.lr_factor,
      0 /* the first batch */,      static_cast<double>(error.examples)};
  for (const auto& op : f.inputs)
    for (int i = 0; i < GRADC_SCALAR_COUNT; ++i)
      if (op->symbol() == names[i] && !input.inputs.count(names[i])) {
        Tensor value = interpreter::make_tensor(op->type, 1);
        value.data.data()[0] = values[i];
        input.inputs[names[i]] = std::move(value);
      }
}

// The step's inputs and the parameters it started from.
interpreter::RunInput input_of(const Module& module, const Function& f, const runtime::Session& session,
                               const runtime::NotFiniteError& error) {
  const gradc_program& program = session.program();
  interpreter::RunInput input;
  std::vector<const void*> inputs;
  for (const std::vector<uint8_t>& bytes : error.inputs) inputs.push_back(bytes.data());
  if (!inputs.empty())
    input.inputs =
        batch_of(error.value == runtime::NotFiniteValue::evaluation ? program.eval : program.train_step,
                 inputs.data(), error.rows);
  add_scalars(f, error, input);
  for (int32_t i = 0; i < program.symbol_count; ++i) {
    const gradc_symbol& s = program.symbols[i];
    const Type type{static_cast<DType>(s.dtype), false, Shape(s.shape, s.shape + s.rank)};
    Tensor value = interpreter::make_tensor(type, 1);
    from_memory(session.data(s), type.dtype, type.elements(), value.data.data());
    input.symbols[s.name] = std::move(value);
  }
  for (const Symbol& s : module.symbols)  // those that no program uses
    if (!input.symbols.count(s.name)) input.symbols[s.name] = interpreter::make_tensor(s.type, 1);
  input.context.rows = error.rows;
  input.context.seed = error.seed;
  input.context.micro_step = error.micro_step;
  input.context.row_offset = error.row_offset;
  input.keep_all = true;
  return input;
}

// The operation that computed the first value that is not finite, among those the loss or an update depends on; null
// when the replay stays finite.
const Op* find_origin(const Function& f, const OpValues& values) {
  const Op* op = nullptr;
  for (const Output& o : f.outputs)
    if ((o.name == "loss" || o.name == "penalty") && !finite(values.at(o.value))) op = op ? op : o.value;
  for (const Update& u : f.updates)
    if (!op && !finite(values.at(u.value))) op = u.value;
  // Walk back from the loss to an operation whose operands are all finite.
  for (bool moved = op != nullptr; moved;) {
    moved = false;
    for (const Op* operand : op->operands)
      if (!finite(values.at(operand))) {
        op = operand;
        moved = true;
        break;
      }
  }
  return op;
}

// Makes @train_step and @update from the frontend's module, as the first passes of compilation do.
void add_gradients(Module& module) {
  passes::PipelineOptions options;
  options.stop_after = "differentiate";
  options.verify = false;
  passes::run_tensor_passes(module, options);
}

std::string render(const runtime::NotFiniteReport& r, const SourceManager& sources) {
  std::string text;
  if (r.operation == "input" || r.operation == "parameter") {
    text = fmt::format("The first value that is not finite is the {} {} ({}): {}", r.operation, r.name,
                       r.type, range_text(r.result));
  } else {
    text = fmt::format("The first value that is not finite is the result of `{}` ({} : {})\n", r.operation,
                       r.name, r.type);
    if (!r.file.empty()) {
      const std::string column = r.column > 0 ? fmt::format(":{}", r.column) : "";
      text += fmt::format("  --> {}:{}{}\n{}", r.file, r.line, column, source_line(sources, r));
    }
    text += fmt::format("  result: {}", range_text(r.result));
  }
  for (const runtime::ValueRange& operand : r.operands)
    text += fmt::format("\n  operand {}: {}", operand.name, range_text(operand));
  for (const std::string& note : r.notes) text += fmt::format("\n  = {}", note);
  for (const std::string& help : r.helps) text += fmt::format("\n  = help: {}", help);
  return text;
}

}  // namespace

std::string range_text(const runtime::ValueRange& range) {
  std::string text = std::isnan(range.low)     ? std::string("no finite value")
                     : range.low == range.high ? fmt::format("{:.6g}", range.low)
                                               : fmt::format("{:.6g} .. {:.6g}", range.low, range.high);
  for (const auto& [count, name] :
       {std::pair{range.nan, "NaN"}, std::pair{range.above, "+inf"}, std::pair{range.below, "-inf"}})
    if (count) text += fmt::format(", {} {}", count, name);
  return text + fmt::format(", of {} element{}", range.elements, range.elements == 1 ? "" : "s");
}

runtime::NotFiniteReport explain_not_finite(const CompileRequest& request, const runtime::Session& session,
                                            const runtime::NotFiniteError& error) {
  runtime::NotFiniteReport report = runtime::unexplained(error);
  if (error.function.empty()) return report;
  CompileRequest same = request;
  same.text = session.program().source;  // the file may have changed since
  const std::unique_ptr<LoadedModel> loaded = load_model(same);
  Module& module = *loaded->model.module;
  if (error.value == runtime::NotFiniteValue::update) add_gradients(module);
  const Function* function = module.function(error.function);
  GRADC_CHECK(function, "the module has no @{}", error.function);
  const interpreter::RunInput input = input_of(module, *function, session, error);
  // Native code overflows at the range of a float.
  OpValues values =
      evaluate_ops(*function, input, [](const Op& op, const std::vector<const Tensor*>&, Tensor& value) {
        if (op.type.dtype != DType::f32) return;
        for (size_t k = 0; k < value.data.size(); ++k)
          value.data.data()[k] = static_cast<float>(value.data.data()[k]);
      });
  for (const auto& op : function->inputs) values[op.get()] = input.inputs.at(op->symbol());
  for (const auto& op : function->symbols) values[op.get()] = input.symbols.at(op->symbol());
  const Op* op = find_origin(*function, values);
  if (!op) {
    report.text +=
        "\nThe interpreter, replaying this step, finds no value that is not finite: native code and "
        "interpreter "
        "differ. Please run\ngradc check on the model and report what it says.";
    return report;
  }
  set_place(*op, report);
  report.type = to_string(op->type);
  report.result = range_of(values.at(op));
  if (op->is("input") || op->is("symbol")) {
    report.operation = op->is("input") ? "input" : "parameter";
    report.name = op->symbol();
    report.helps.emplace_back(op->is("input") ? "the data holds values that are not finite"
                                              : "an earlier update made it so; a smaller learning rate or "
                                                "clipping may prevent that");
    if (op->is("symbol") && error.value == runtime::NotFiniteValue::loss && error.batch >= 0)
      report.helps.emplace_back(
          "the same run with --log-every 1 looks at every update and names the operation that did it");
  } else {
    report.operation = op->name();
    report.name = fmt::format("%{}", op->id);
    for (const Op* operand : op->operands)
      report.operands.push_back(range_of(values.at(operand), describe(*operand)));
    for (const CallSite* call = op->locations.empty() ? nullptr : op->locations.front().call.get(); call;
         call = call->parent.get())
      report.notes.push_back(
          fmt::format("in `{}`{}", call->callee,
                      call->line ? fmt::format(", called at {}:{}", call->file, call->line) : ""));
  }
  report.text += "\n" + render(report, loaded->sources);
  return report;
}

}  // namespace gradc::compiler
