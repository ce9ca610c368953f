// Records the inputs and scalars of a failed step or evaluation.
#include "runtime/execution/not_finite.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace gradc::runtime {

namespace {

void copy_inputs(const gradc_entry_info& entry, const Batch& batch, NotFiniteError& error) {
  error.rows = batch.rows;
  error.inputs.clear();
  for (int32_t i = 0; i < entry.input_count; ++i) {
    const gradc_input& input = entry.inputs[i];
    const auto* bytes = static_cast<const uint8_t*>(batch.inputs[i]);
    error.inputs.emplace_back(
        bytes, bytes + batch.rows * element_count(input.rank, input.shape) * dtype_bytes(input.dtype));
  }
}

std::string position_text(const StepScalars& scalars, int64_t batch) {
  return batch < 0 ? "" : fmt::format(" (epoch {}, batch {})", scalars.epoch + 1, batch + 1);
}

// "3 of 6 elements of the parameter head.weight"
std::string words(const NotFiniteSymbol& found) {
  static const char* const kinds[] = {"parameter", "state",    "optimizer state",
                                      "average",   "gradient", "sum of weights"};
  const int32_t kind = found.symbol->kind;
  return fmt::format("{} of {} element{} of the {} {}", found.bad, found.elements,
                     found.elements == 1 ? "" : "s", kind >= 0 && kind <= 5 ? kinds[kind] : "symbol",
                     found.symbol->name);
}

}  // namespace

const char* name_of(NotFiniteValue value) {
  switch (value) {
    case NotFiniteValue::loss: return "loss";
    case NotFiniteValue::update: return "update";
    case NotFiniteValue::weights: return "weights";
    case NotFiniteValue::evaluation: return "evaluation";
  }
  return "";
}

NotFiniteError not_finite_loss(const Session& session, const StepScalars& scalars, int64_t micro,
                               uint64_t seed, int64_t batch, const Batch& rows,
                               const std::string& consequence) {
  NotFiniteError error(
      NotFiniteValue::loss,
      fmt::format(
          "the loss is not finite in step {}{}: it became NaN or infinite, and the step was not "
          "applied{}; try a smaller learning rate, and look for log, sqrt or division of what can be 0",
          scalars.step + 1, position_text(scalars, batch), consequence));
  error.function = "train";
  error.scalars = scalars;
  error.batch = batch;
  const CallPosition position = call_position(session.program(), micro);
  error.micro_step = scalars.first_key() + static_cast<uint64_t>(position.batch);
  error.row_offset = position.row_offset;
  error.seed = seed;
  copy_inputs(session.program().train_step, rows, error);
  return error;
}

NotFiniteError not_finite_update(Session& session, const NotFiniteSymbol& found,
                                 const std::vector<uint8_t>& before, const UpdateMade& update,
                                 const std::string& consequence) {
  const StepScalars& scalars = update.scalars;
  const gradc_program& program = session.program();
  const CallPosition begin = call_position(program, update.first);
  NotFiniteError error(
      NotFiniteValue::update,
      fmt::format("step {}{} made {} NaN or infinite, and was not applied{}; try a smaller learning rate or "
                  "`clip norm`, and look for gradients of log, sqrt or division of what can be 0",
                  scalars.step + 1, position_text(scalars, begin.batch), words(found), consequence));
  error.symbol = found.symbol->name;
  error.scalars = scalars;
  error.seed = update.seed;
  error.batch = begin.batch;
  error.micro_step = scalars.first_key();
  for (int64_t i = 0; i < update.count; ++i)
    error.examples += update.reader.rows(update.first + i) - (i == 0 ? 1 : 0);
  const auto put_back = [&] { std::memcpy(session.parameters(), before.data(), before.size()); };
  put_back();
  if (!session.accumulates()) {
    error.function = "train_step";
    copy_inputs(program.train_step, update.reader.batch(update.first), error);
    return error;
  }
  // The first batch whose own gradients are not finite; if there is none, the sums of all are the input of `update`.
  for (int64_t call = update.first; call < update.first + update.count; ++call) {
    const CallPosition position = call_position(program, call);
    StepScalars own = scalars;
    own.micro_step = static_cast<int64_t>(scalars.first_key()) + position.batch - begin.batch;
    const StepResult made = session.gradients(update.reader, call, 1, own, update.seed);
    if (made.finite && !session.find_not_finite(/*gradients=*/true)) continue;
    error.function = "train_step";
    error.batch = position.batch;
    error.micro_step = own.first_key();
    error.row_offset = position.row_offset;
    copy_inputs(program.train_step, update.reader.batch(call), error);
    put_back();  // the replay recomputes that batch's gradients
    return error;
  }
  session.gradients(update.reader, update.first, update.count, scalars, update.seed);
  error.function = "update";
  error.micro_step = scalars.first_key() + static_cast<uint64_t>(batches_of(program, update.count) - 1);
  error.rows = 1;
  return error;
}

NotFiniteError not_finite_weights(const NotFiniteSymbol& found, int64_t step, int64_t checked,
                                  const std::string& consequence) {
  std::string text =
      fmt::format("{} {} NaN or infinite after step {}{}; try a smaller learning rate or `clip norm`",
                  words(found), found.bad == 1 ? "is" : "are", step, consequence);
  if (step - checked > 1)
    text += fmt::format(
        "; an update after step {} did it, and the same run with --log-every 1 looks at each and "
        "names the operation",
        checked);
  NotFiniteError error(NotFiniteValue::weights, text);
  error.symbol = found.symbol->name;
  error.scalars.step = step - 1;
  return error;
}

NotFiniteError not_finite_evaluation(const Session& session, const Split& split, int64_t batch) {
  const gradc_program& program = session.program();
  NotFiniteError error(NotFiniteValue::evaluation,
                       fmt::format("the loss on `{}` is not finite: it is NaN or infinite in batch {} of the "
                                   "evaluation",
                                   split.name, batch + 1));
  error.function = "eval";
  error.split = split.name;
  error.batch = batch;
  BatchReader reader(split, program.eval, std::min(program.batch, split.count));
  reader.assemble(batch, 0, 1);
  copy_inputs(program.eval, reader.batch(batch), error);
  return error;
}

NotFiniteReport unexplained(const NotFiniteError& error) {
  NotFiniteReport report;
  report.value = error.value;
  report.split = error.split;
  const bool of_a_step = error.value != NotFiniteValue::evaluation;
  report.step = of_a_step ? error.scalars.step + 1 : 0;
  report.epoch = of_a_step && error.value != NotFiniteValue::weights ? error.scalars.epoch + 1 : 0;
  report.batch = error.batch + 1;
  report.text = error.what();
  return report;
}

}  // namespace gradc::runtime
