// Why a loss is not finite: replays a step's forward part in double precision with every result rounded as
// native code rounds it. Knows no operator.
#include "driver/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "driver/evaluate.h"
#include "support/check.h"

namespace gradc::driver {

using interpreter::Tensor;

namespace {

bool finite(const Tensor& t) {
  const double* data = t.data.data();
  return std::all_of(data, data + t.data.size(), [](double x) { return std::isfinite(x); });
}

// "0 .. 3.2, 5 NaN, 1 +inf of 1280"
std::string range_text(const Tensor& t) {
  double low = INFINITY, high = -INFINITY;
  size_t nan = 0, above = 0, below = 0;
  const double* data = t.data.data();
  for (size_t i = 0; i < t.data.size(); ++i) {
    if (std::isnan(data[i])) {
      ++nan;
    } else if (std::isinf(data[i])) {
      ++(data[i] > 0 ? above : below);
    } else {
      low = std::min(low, data[i]);
      high = std::max(high, data[i]);
    }
  }
  std::string text = low > high    ? std::string("no finite value")
                     : low == high ? fmt::format("{:.6g}", low)
                                   : fmt::format("{:.6g} .. {:.6g}", low, high);
  for (const auto& [count, name] :
       {std::pair{nan, "NaN"}, std::pair{above, "+inf"}, std::pair{below, "-inf"}})
    if (count) text += fmt::format(", {} {}", count, name);
  return text + fmt::format(", of {} element{}", t.data.size(), t.data.size() == 1 ? "" : "s");
}

// The source line at "mlp.nn:12:5" with a caret under the column, or at "mlp.nn:12"; empty when it is in none
// of the files.
std::string source_line(const SourceManager& sources, const std::string& place) {
  for (uint32_t file = 1; file <= sources.file_count(); ++file) {
    const std::string start = sources.name(file) + ":";
    unsigned line = 0, column = 0;
    if (place.rfind(start, 0) != 0 || std::sscanf(place.c_str() + start.size(), "%u:%u", &line, &column) < 1)
      continue;
    const std::string number = std::to_string(line);
    std::string text =
        fmt::format("{0:>{1}} |\n{2} | {3}\n", "", number.size(), number, sources.line(file, line));
    if (column > 0) text += fmt::format("{0:>{1}} | {2:>{3}}\n", "", number.size(), "^", column);
    return text;
  }
  return "";
}

std::string place_of(const Op& op) {
  for (const Location& l : op.locations)
    if (l.valid()) return user_place(l);
  return "";
}

// The operand's name in the IR, and what it is.
std::string describe(const Op& op) {
  if (op.is("input")) return fmt::format("input {}", op.symbol());
  if (op.is("symbol")) return fmt::format("parameter {}", op.symbol());
  return fmt::format("%{} {}", op.id, op.name());
}

}  // namespace

NotFinite explain_not_finite(const CompileRequest& request, const CallRequest& step, const Tensors& symbols) {
  NotFinite result;
  const std::unique_ptr<LoadedModel> loaded = load_model(request);
  const Function* train = loaded->model.module->function("train");
  GRADC_CHECK(train, "the module has no @train");
  interpreter::RunInput input;
  input.inputs = step.inputs;
  input.symbols = symbols;
  for (const Symbol& s : loaded->model.module->symbols)
    if (!input.symbols.count(s.name)) input.symbols[s.name] = interpreter::make_tensor(s.type, 1);
  input.context.rows = step.rows;
  input.context.row_offset = step.row_offset;
  input.context.seed = step.seed;
  input.context.micro_step = step.micro_step;

  input.keep_all = true;
  // Native code overflows where a float does.
  OpValues values =
      evaluate_ops(*train, input, [](const Op& op, const std::vector<const Tensor*>&, Tensor& value) {
        if (op.type.dtype != DType::f32) return;
        for (size_t k = 0; k < value.data.size(); ++k)
          value.data.data()[k] = static_cast<float>(value.data.data()[k]);
      });
  for (const auto& op : train->inputs) values[op.get()] = input.inputs.at(op->symbol());
  for (const auto& op : train->symbols) values[op.get()] = input.symbols.at(op->symbol());
  const Op* op = nullptr;
  for (const Output& o : train->outputs)
    if ((o.name == "loss" || o.name == "penalty") && !finite(values.at(o.value))) op = op ? op : o.value;
  if (!op) {
    result.text =
        "The interpreter, replaying this step, finds no value that is not finite: native code and "
        "interpreter differ. Please run\n"
        "gradc check on the model and report what it says.\n";
    return result;
  }
  // From the loss back to where all operands are still finite.
  for (bool moved = true; moved;) {
    moved = false;
    for (const Op* operand : op->operands)
      if (!finite(values.at(operand))) {
        op = operand;
        moved = true;
        break;
      }
  }
  result.place = place_of(*op);
  const Tensor& value = values.at(op);
  if (op->is("input") || op->is("symbol")) {
    result.operation = op->is("input") ? "input" : "parameter";
    result.name = op->symbol();
    result.text = fmt::format("The first value that is not finite is the {} {} ({}): {}\n", result.operation,
                              result.name, to_string(op->type), range_text(value));
    result.text += op->is("input") ? "  = help: the data holds values that are not finite\n"
                                   : "  = help: an earlier update made it so; a smaller learning rate or "
                                     "clipping may prevent that\n";
    return result;
  }
  result.operation = op->name();
  result.name = fmt::format("%{}", op->id);
  result.text = fmt::format("The first value that is not finite is the result of `{}` ({} : {})\n",
                            op->name(), result.name, to_string(op->type));
  if (!result.place.empty())
    result.text += fmt::format("  --> {}\n{}", result.place, source_line(loaded->sources, result.place));
  result.text += fmt::format("  result: {}\n", range_text(value));
  for (const Op* operand : op->operands)
    result.text += fmt::format("  operand {}: {}\n", describe(*operand), range_text(values.at(operand)));
  for (const CallSite* call = op->locations.empty() ? nullptr : op->locations.front().call.get(); call;
       call = call->parent.get())
    result.text += fmt::format("  = in `{}`{}\n", call->callee,
                               call->line ? fmt::format(", called at {}:{}", call->file, call->line) : "");
  return result;
}

}  // namespace gradc::driver
