// Checkpoints into a session of a small program that is written by hand: weights alone, a run to go on with,
// the mean of files.
#include <cstring>

#include "runtime/execution/checkpoint.h"
#include "runtime/training/train_state.h"
#include "tests/fuzz/target.h"

namespace gradc::fuzz {
namespace {

constexpr int64_t kMatrix[] = {2, 3}, kVector[] = {2};

int32_t nothing(const gradc_step_args*, int32_t, int32_t) { return 0; }

// A parameter with a slot, an average and a gradient; a state of another type; two outputs of training.
const gradc_program& program() {
  static const gradc_symbol symbols[] = {{"w", GRADC_PARAMETER, GRADC_F32, 2, kMatrix, 0},
                                         {"w.m", GRADC_SLOT, GRADC_F32, 2, kMatrix, 64},
                                         {"w.ema", GRADC_AVERAGE, GRADC_F32, 2, kMatrix, 128},
                                         {"w.grad", GRADC_GRADIENT, GRADC_F32, 2, kMatrix, 192},
                                         {"b", GRADC_PARAMETER, GRADC_F32, 1, kVector, 256},
                                         {"seen", GRADC_STATE, GRADC_I32, 0, nullptr, 320}};
  static const gradc_output outputs[] = {{"loss", GRADC_F32, 0, 0, nullptr},
                                         {"accuracy", GRADC_F32, 0, 0, nullptr}};
  static const gradc_entry_info entry = {nothing, 64, 0, nullptr, 2, outputs, 1, 1, 0, 0, nullptr, nullptr};
  static const gradc_program program = {GRADC_ABI_VERSION, "0",   "x86-64-v2", "",    "fuzz.nn", 4,    384, 6,
                                        symbols,           entry, entry,       entry, {},        "{}", {}};
  return program;
}

void run(Bytes input) {
  static runtime::Session session(program(), 1);
  std::memset(session.parameters(), 0, 384);
  session.data_arrays.clear();
  const bool fits = accepts([&] { runtime::load_checkpoint(session, "fuzz.safetensors", vector_of(input)); });
  const std::string hash = runtime::weights_sha256(session);
  const MemoryFile file(input);
  accepts([&] { runtime::check_checkpoint(program(), file.path()); });
  accepts([&] {
    const runtime::TrainingFile loaded = runtime::load_training(session, file.path());
    require(fits, "a run to go on with has all weights");
    require(runtime::weights_sha256(session) == hash, "both ways load the same weights");
    require(loaded.best.empty() || loaded.best.size() == 384, "the best weights are a whole block");
    const auto state = runtime::TrainState::parse(loaded.training, "fuzz.safetensors");
    require(!state.json().empty(), "a state has a text");
  });
  accepts([&] { runtime::average_checkpoints({file.path(), file.path()}, "/dev/null"); });
}

const Registration registration("checkpoint", run);

}  // namespace
}  // namespace gradc::fuzz
