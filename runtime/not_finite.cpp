// Keeps what a failed step was made on.
#include "runtime/not_finite.h"

#include <fmt/format.h>

namespace gradc::runtime {

NonFiniteLoss non_finite_loss(const Session& session, const StepScalars& scalars, int64_t micro,
                              uint64_t seed, int64_t batch, const Batch& rows,
                              const std::string& consequence) {
  const std::string where =
      batch < 0 ? "" : fmt::format(" (epoch {}, batch {})", scalars.epoch + 1, batch + 1);
  NonFiniteLoss error(fmt::format(
      "the loss is not finite in step {}{}: it became NaN or infinite, and the step was not applied{}; try a "
      "smaller learning rate, and look for log, sqrt or division of what can be 0",
      scalars.step + 1, where, consequence));
  error.scalars = scalars;
  error.batch = batch;
  error.micro_step = scalars.first_key() + static_cast<uint64_t>(micro);
  error.seed = seed;
  error.rows = rows.rows;
  const gradc_entry_info& entry = session.program().train_step;
  for (int32_t i = 0; i < entry.input_count; ++i) {
    const gradc_input& input = entry.inputs[i];
    const auto* bytes = static_cast<const uint8_t*>(rows.inputs[i]);
    error.inputs.emplace_back(
        bytes, bytes + rows.rows * element_count(input.rank, input.shape) * dtype_bytes(input.dtype));
  }
  return error;
}

NotFiniteReport unexplained(const NonFiniteLoss& error) {
  NotFiniteReport report;
  report.step = error.scalars.step + 1;
  report.epoch = error.scalars.epoch + 1;
  report.batch = error.batch + 1;
  report.text = error.what();
  return report;
}

}  // namespace gradc::runtime
